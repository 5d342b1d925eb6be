// SPDX-License-Identifier: LGPL-2.1-or-later
#include "file/replace_file.h"

#include "ap/error.h"
#include "file/descriptor.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfioap {
namespace {

bool write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const auto count = ::write(fd, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
}

}  // namespace

void replace_file(const std::string& path, std::string_view bytes, mode_t mode) {
    const auto slash = path.rfind('/');
    const std::string base = slash == std::string::npos ? path : path.substr(slash + 1);
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    if (base.empty() || base == "." || base == "..") throw SystemError{"write", path, EISDIR};
    const Descriptor directory{::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!directory.valid()) throw SystemError{"write", path, errno};

    std::uint64_t random = 0;
    if (::getrandom(&random, sizeof random, 0) != static_cast<ssize_t>(sizeof random))
        throw SystemError{"name a temporary file for", path, errno};
    // The base is cut, for it may itself be as long as a name can be.
    const auto temporary = fmt::format(".{}.{:016x}", base.substr(0, 200), random);
    Descriptor file{::openat(directory.get(), temporary.c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode)};
    if (!file.valid()) throw SystemError{"create", path, errno};
    const bool written = write_all(file.get(), bytes) && ::fsync(file.get()) == 0 && file.close();
    if (!written || ::renameat(directory.get(), temporary.c_str(), directory.get(), base.c_str()) != 0) {
        const int error = errno;
        ::unlinkat(directory.get(), temporary.c_str(), 0);
        throw SystemError{written ? "replace" : "write", path, error};
    }
    // The file is whole and in its place; only a crash of the machine could still lose it.
    if (::fsync(directory.get()) != 0 && errno != EINVAL) throw SystemError{"flush", path, errno};
}

std::optional<std::string> read_file(const std::string& path, std::size_t max_bytes) {
    // Non-blocking, for opening a pipe waits for a writer.
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
    if (!file.valid() && errno == ENOENT) return {};
    if (!file.valid()) throw SystemError{"open", path, errno};
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) throw SystemError{"read", path, errno};
    if (S_ISDIR(status.st_mode)) throw SystemError{"read", path, EISDIR};
    if (!S_ISREG(status.st_mode)) throw SystemError{"read", path, EINVAL};
    std::string bytes;
    while (true) {
        const auto used = bytes.size();
        const auto piece = std::clamp(used, std::size_t{4} * 1024, std::size_t{64} * 1024);
        bytes.resize(used + piece);
        const auto got = ::read(file.get(), bytes.data() + used, piece);
        const int error = errno;
        bytes.resize(used + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
        if (got < 0 && error != EINTR) throw SystemError{"read", path, error};
        if (got == 0) return bytes;
        if (bytes.size() > max_bytes) throw SystemError{"read", path, EFBIG};
    }
}

}  // namespace vfioap
