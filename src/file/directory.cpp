// SPDX-License-Identifier: LGPL-2.1-or-later
#include "file/directory.h"

#include "ap/error.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

namespace vfioap {
namespace {

struct CloseDirectory {
    void operator()(DIR* stream) const { ::closedir(stream); }
};

/// Takes over `fd`.
std::vector<std::string> names_of_open(int fd, const std::string& path) {
    const std::unique_ptr<DIR, CloseDirectory> stream{::fdopendir(fd)};
    if (stream == nullptr) {
        const int number = errno;
        ::close(fd);
        throw SystemError{"read directory", path, number};
    }
    std::vector<std::string> names;
    while (true) {
        // The end and an error look the same but for errno, which readdir leaves alone at the end.
        errno = 0;
        const dirent* const entry = ::readdir(stream.get());  // NOLINT(concurrency-mt-unsafe): own stream
        if (entry == nullptr) break;
        const std::string_view name = entry->d_name;
        if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) throw SystemError{"read directory", path, errno};
    std::sort(names.begin(), names.end());
    return names;
}

}  // namespace

std::vector<std::string> list_directory(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return {};
    if (fd < 0) throw SystemError{"read directory", path, errno};
    return names_of_open(fd, path);
}

std::vector<std::string> list_directory(int fd, const std::string& path) {
    // Opened anew, since closedir closes what it was given, and a copy would share its position.
    const int copy = ::openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (copy < 0) throw SystemError{"read directory", path, errno};
    return names_of_open(copy, path);
}

}  // namespace vfioap
