// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/worker.h"

#include <exception>
#include <utility>

namespace vfioap {

Worker::Worker() {
    thread_ = std::thread{[this] { run(); }};
}

Worker::~Worker() {
    {
        const std::lock_guard lock{mutex_};
        stop_ = true;
    }
    changed_.notify_one();
    thread_.join();
}

void Worker::add(std::function<Finish()> job) {
    {
        const std::lock_guard lock{mutex_};
        jobs_.push_back(std::move(job));
    }
    changed_.notify_one();
}

void Worker::run() {
    while (true) {
        std::function<Finish()> job;
        {
            std::unique_lock lock{mutex_};
            changed_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
            if (stop_) return;
            job = std::move(jobs_.front());
            jobs_.pop_front();
        }
        Finish finish;
        try {
            finish = job();
        } catch (const std::exception&) {
            // A job answers for its own errors; one that does not must not end the service.
            continue;
        }
        {
            const std::lock_guard lock{mutex_};
            done_.push_back(std::move(finish));
        }
        event_.raise();
    }
}

void Worker::finish() {
    event_.lower();
    std::deque<Finish> done;
    {
        const std::lock_guard lock{mutex_};
        done.swap(done_);
    }
    for (const auto& each : done)
        if (each) each();
}

}  // namespace vfioap
