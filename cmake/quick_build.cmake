# SPDX-License-Identifier: LGPL-2.1-or-later
# Ways to a quick build from scratch: VFIOAP_UNITY, VFIOAP_PCH, VFIOAP_LLD; and ccache where it is installed.
if(VFIOAP_LLD AND NOT CMAKE_CROSSCOMPILING)
    find_program(VFIOAP_LLD_PROGRAM ld.lld)
    if(VFIOAP_LLD_PROGRAM)
        add_link_options(-fuse-ld=lld)
    endif()
endif()
find_program(VFIOAP_CCACHE ccache)
if(VFIOAP_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    # A precompiled header is looked at by its content, too.
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${VFIOAP_CCACHE})
endif()
# What clang wrote into a precompiled header of the time it was made would make every build another one for ccache.
if(VFIOAP_PCH AND CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    add_compile_options("SHELL:-Xclang -fno-pch-timestamp")
endif()

# vfioap_quick_build(TARGET [HEADER...]): of HEADERs this target's files have many.
function(vfioap_quick_build target)
    if(VFIOAP_PCH)
        target_precompile_headers(${target} PRIVATE <algorithm> <array> <cstdint> <functional> <map> <memory> <optional> <set>
                                  <span> <string> <string_view> <utility> <variant> <vector> <fmt/format.h> ${ARGN})
    endif()
    if(VFIOAP_UNITY)
        # A folder is a file: within one, a name means one thing, in unnamed namespaces, too.
        set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
        get_target_property(sources ${target} SOURCES)
        foreach(source ${sources})
            cmake_path(ABSOLUTE_PATH source)
            cmake_path(GET source PARENT_PATH folder)
            cmake_path(GET folder FILENAME folder)
            set_source_files_properties(${source} PROPERTIES UNITY_GROUP ${folder})
        endforeach()
    endif()
endfunction()
