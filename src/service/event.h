// SPDX-License-Identifier: LGPL-2.1-or-later
// Wakes a thread that polls.
#pragma once

#include <chrono>

namespace vfioap {

/// An eventfd: raised by one thread, lowered by another.
class Event {
  public:
    Event();
    ~Event();
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    Event(Event&&) = delete;
    Event& operator=(Event&&) = delete;
    [[nodiscard]] int fd() const { return fd_; }
    void raise() const;
    void lower() const;
    /// Until it is raised; false: that long it was not.
    [[nodiscard]] bool wait(std::chrono::milliseconds most) const;

  private:
    int fd_;
};

}  // namespace vfioap
