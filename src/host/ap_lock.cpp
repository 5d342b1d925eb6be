// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/ap_lock.h"

#include "ap/error.h"
#include "file/descriptor.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <string_view>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfioap {
namespace {

using namespace std::chrono_literals;

constexpr auto between_tries = 100ms;
/// In seconds: by then its maker has written down who he is.
constexpr long nobodys = 120;

/// The holder as the file says; 0: it says none.
pid_t holder_of(int fd) {
    std::array<char, 40> text{};
    const auto size = ::pread(fd, text.data(), text.size(), 0);
    pid_t holder = 0;
    if (size > 0) std::from_chars(text.data(), text.data() + size, holder);
    return holder > 0 ? holder : 0;
}

bool is_same(const struct stat& a, const struct stat& b) {
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// Takes the file away if nobody holds the lock by it; gives who holds it, 0: nobody, or not known.
pid_t clear_stale(const std::string& path) {
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
    struct stat opened {};
    if (!file.valid() || ::fstat(file.get(), &opened) != 0) return 0;
    const auto holder = holder_of(file.get());
    const bool stale =
        holder != 0 ? ::kill(holder, 0) != 0 && errno == ESRCH : ::time(nullptr) - opened.st_mtime > nobodys;
    struct stat now {};
    if (stale && ::lstat(path.c_str(), &now) == 0 && is_same(opened, now)) ::unlink(path.c_str());
    return stale ? 0 : holder;
}

/// A file of its own with this process's id, for as long as it takes to link it.
class Ticket {
  public:
    explicit Ticket(const std::string& lock) {
        std::uint64_t random = 0;
        if (::getrandom(&random, sizeof random, 0) != static_cast<ssize_t>(sizeof random))
            throw SystemError{"lock", lock, errno};
        path_ = fmt::format("{}.{:016x}", lock, random);
        Descriptor file{::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644)};
        if (!file.valid()) throw SystemError{"lock", lock, errno};
        const auto text = fmt::format("{}\n", ::getpid());
        const bool written =
            ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
        if (written && file.close()) return;
        const int error = errno;
        ::unlink(path_.c_str());
        throw SystemError{"lock", lock, error};
    }
    ~Ticket() { ::unlink(path_.c_str()); }
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    Ticket(Ticket&&) = delete;
    Ticket& operator=(Ticket&&) = delete;
    [[nodiscard]] const char* path() const { return path_.c_str(); }

  private:
    std::string path_;
};

}  // namespace

ApLock::ApLock(std::string path, std::chrono::milliseconds patience, const std::function<bool()>& cancelled)
    : path_{std::move(path)} {
    const Ticket ticket{path_};
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (::link(ticket.path(), path_.c_str()) != 0) {
        if (errno != EEXIST) throw SystemError{"lock", path_, errno};
        const auto holder = clear_stale(path_);
        if (cancelled()) throw Error{"it was cancelled"};
        if (std::chrono::steady_clock::now() >= deadline) {
            throw Error{fmt::format("{}: {} changes the AP configuration of this host for {} s already",
                                    path_, holder != 0 ? fmt::format("process {}", holder) : "somebody",
                                    std::chrono::duration_cast<std::chrono::seconds>(patience).count())};
        }
        std::this_thread::sleep_for(between_tries);
    }
}

ApLock::~ApLock() {
    // Who believed this process dead has taken it; then it is not this process's any more.
    const Descriptor file{::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
    if (file.valid() && holder_of(file.get()) == ::getpid()) ::unlink(path_.c_str());
}

}  // namespace vfioap
