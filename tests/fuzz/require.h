// SPDX-License-Identifier: LGPL-2.1-or-later
// What a fuzz target asserts.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace vfioap::fuzz {

/// A property that does not hold is a crash, which says where: not every machine has a symbolizer. Not
/// assert(), which a build type may take away.
inline void require(bool holds, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    if (holds) return;
    std::fprintf(stderr, "%s:%d: the property does not hold\n", file, line);
    std::abort();
}

}  // namespace vfioap::fuzz
