// SPDX-License-Identifier: LGPL-2.1-or-later
// A thread for what may take long: other hosts, other people's files, libvirt.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "service/event.h"

namespace vfioap {

class Worker {
  public:
    Worker();
    /// Waits for the job that runs; others are not begun.
    ~Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    Worker(Worker&&) = delete;
    Worker& operator=(Worker&&) = delete;

    /// `job` runs in the thread; what it returns runs in the service's own thread, by finish().
    using Finish = std::function<void()>;
    void add(std::function<Finish()> job);
    /// Readable when there is something to finish.
    [[nodiscard]] int fd() const { return event_.fd(); }
    void finish();

  private:
    void run();

    Event event_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<Finish()>> jobs_;
    std::deque<Finish> done_;
    bool stop_ = false;
    std::thread thread_;
};

}  // namespace vfioap
