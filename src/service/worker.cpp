// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/worker.h"

#include "service/event.h"

#include <algorithm>
#include <condition_variable>
#include <list>
#include <mutex>
#include <vector>

#include <fmt/format.h>

namespace vfioap {

/// What both threads have. The thread may outlive the worker.
class Worker::Shared {
  public:
    Event done_there;

    /// Moved from list to list: what is done can be told of whatever memory is left.
    using Numbered = std::pair<std::uint64_t, std::function<void()>>;
    using JobList = std::list<Numbered>;

    void add(std::uint64_t number, std::function<void()> job) {
        JobList added;
        added.emplace_back(number, std::move(job));
        {
            const std::lock_guard lock{mutex_};
            jobs_.splice(jobs_.end(), added);
        }
        changed_.notify_all();
    }
    /// If it was not begun yet.
    void drop(std::uint64_t number) {
        JobList dropped;
        const std::lock_guard lock{mutex_};
        const auto found =
            std::find_if(jobs_.begin(), jobs_.end(), [&](const auto& job) { return job.first == number; });
        if (found != jobs_.end()) dropped.splice(dropped.end(), jobs_, found);
    }
    JobList take_done() {
        done_there.lower();
        const std::lock_guard lock{mutex_};
        return std::exchange(done_, {});
    }
    void stop() {
        {
            const std::lock_guard lock{mutex_};
            stop_ = true;
        }
        changed_.notify_all();
    }
    /// False: it has not ended in that time.
    bool wait_for_end(std::chrono::milliseconds patience) {
        std::unique_lock lock{mutex_};
        return changed_.wait_for(lock, patience, [this] { return ended_; });
    }

    /// In the thread.
    void run() {
        for (auto job = take(); !job.empty(); job = take()) {
            job.front().second();
            // What the job has is gone before it counts as done.
            job.front().second = nullptr;
            {
                const std::lock_guard lock{mutex_};
                done_.splice(done_.end(), job);
            }
            done_there.raise();
        }
        const std::lock_guard lock{mutex_};
        ended_ = true;
        changed_.notify_all();
    }

  private:
    /// The next one; none: it is to end.
    JobList take() {
        JobList next;
        std::unique_lock lock{mutex_};
        changed_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
        if (!stop_) next.splice(next.end(), jobs_, jobs_.begin());
        return next;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    JobList jobs_;
    JobList done_;
    bool stop_ = false;
    bool ended_ = false;
};

Worker::Worker(Options options, std::function<void(std::exception_ptr)> report)
    : options_{std::move(options)},
      report_{std::move(report)},
      shared_{std::make_shared<Shared>()},
      thread_{[shared = shared_] { shared->run(); }} {}

Worker::~Worker() {
    shared_->stop();
    if (shared_->wait_for_end(options_.patience))
        thread_.join();
    else
        thread_.detach();
}

void Worker::put(std::function<void()> job, std::function<void(const std::exception_ptr& late)> end,
                 std::optional<std::chrono::milliseconds> limit) {
    const auto number = next_number_++;
    const auto allowed = limit.value_or(std::chrono::milliseconds::max());
    const auto until = limit ? Clock::now() + *limit : Clock::time_point::max();
    waiting_.emplace(number, Waiting{std::move(end), until, allowed});
    try {
        shared_->add(number, std::move(job));
    } catch (...) {
        waiting_.erase(number);
        throw;
    }
}

int Worker::fd() const {
    return shared_->done_there.fd();
}

Worker::Clock::time_point Worker::next() const {
    auto next = Clock::time_point::max();
    for (const auto& [number, waiting] : waiting_)
        next = std::min(next, waiting.limit);
    return next;
}

void Worker::finish(Clock::time_point now) {
    for (const auto& [number, job] : shared_->take_done())
        end(number, nullptr);
    std::vector<std::uint64_t> late;
    for (const auto& [number, waiting] : waiting_) {
        if (waiting.limit <= now) late.push_back(number);
    }
    for (const auto number : late) {
        shared_->drop(number);
        const auto allowed = std::chrono::duration<double>{waiting_.at(number).allowed};
        end(number, std::make_exception_ptr(TimedOutError{
                        fmt::format("{} did not answer within {:g} s", options_.name, allowed.count())}));
    }
}

void Worker::end(std::uint64_t number, const std::exception_ptr& late) {
    auto waiting = waiting_.extract(number);
    // It was too late, and somebody has been told so.
    if (!waiting) return;
    try {
        waiting.mapped().end(late);
    } catch (...) {
        report_(std::current_exception());
    }
}

}  // namespace vfioap
