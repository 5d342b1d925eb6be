// SPDX-License-Identifier: LGPL-2.1-or-later
// A file descriptor that closes itself.
#pragma once

#include <utility>

#include <unistd.h>

namespace vfioap {

class Descriptor {
  public:
    /// Takes it over; one below 0 is none.
    explicit Descriptor(int fd) : fd_{fd} {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    Descriptor(Descriptor&&) = delete;
    Descriptor& operator=(Descriptor&&) = delete;

    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] bool valid() const { return fd_ >= 0; }
    /// Closes what it has, and takes over another.
    void reset(int fd) {
        if (const int before = std::exchange(fd_, fd); before >= 0) ::close(before);
    }
    /// False: not everything that was written has arrived; errno tells.
    [[nodiscard]] bool close() { return ::close(std::exchange(fd_, -1)) == 0; }

  private:
    int fd_;
};

}  // namespace vfioap
