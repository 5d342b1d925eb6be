// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/event.h"

#include "ap/error.h"

#include <cerrno>
#include <cstdint>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace vfioap {

Event::Event() : fd_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {
    if (fd_ < 0) throw SystemError{"create", "eventfd", errno};
}

Event::~Event() {
    ::close(fd_);
}

void Event::raise() const {
    const std::uint64_t one = 1;
    // Full only where nobody has looked for 2^64 times.
    static_cast<void>(!::write(fd_, &one, sizeof one));
}

void Event::lower() const {
    std::uint64_t count = 0;
    static_cast<void>(!::read(fd_, &count, sizeof count));
}

bool Event::wait(std::chrono::milliseconds most) const {
    pollfd event{fd_, POLLIN, 0};
    return ::poll(&event, 1, static_cast<int>(most.count())) > 0;
}

}  // namespace vfioap
