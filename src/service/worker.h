// SPDX-License-Identifier: LGPL-2.1-or-later
// A thread for what may take long: other hosts, other people's files, libvirt.
#pragma once

#include "ap/error.h"

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

namespace vfioap {

/// A job was not done within its time.
class TimedOutError : public Error {
    using Error::Error;
};

/// One thread, and a queue of jobs for it. For one thread, its owner's, in which nothing here ever waits but
/// the destructor.
///
/// Every job has an end: it is called once, in the owner's thread, with what the job returned or with what it
/// threw, whatever that is; only when the worker goes first it is not called. A job shares nothing with its
/// owner, since it may outlive both: what it needs it has by value or by shared pointers.
class Worker {
  public:
    using Clock = std::chrono::steady_clock;
    struct Options {
        /// Of what does the work, as a message about a job that takes too long begins: "libvirt".
        std::string name = "the worker";
        /// How long the destructor waits for the job that runs.
        std::chrono::milliseconds patience{1000};
    };

    /// `report` is called in the owner's thread with what an end throws. Throws SystemError where there are
    /// no descriptors left, and std::system_error where there are no threads.
    Worker(Options options, std::function<void(std::exception_ptr)> report);
    /// Jobs that wait are not begun. One that does not return within the patience is left behind: its thread
    /// ends when it returns.
    ~Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    Worker(Worker&&) = delete;
    Worker& operator=(Worker&&) = delete;

    /// Has `job` run in the thread, and then `end` in the owner's, by finish(), with a std::future of what
    /// the job returns, which is ready. Where that takes longer than `limit`, from now on, the future has a
    /// TimedOutError, and what the job does later is lost; if it was not begun it never is.
    template <typename Job, typename End>
    void add(Job job, End end, std::optional<std::chrono::milliseconds> limit = {}) {
        using Returned = std::invoke_result_t<Job&>;
        const auto promise = std::make_shared<std::promise<Returned>>();
        put(
            [promise, job = std::move(job)]() mutable {
                try {
                    promise->set_value(job());
                } catch (...) {
                    promise->set_exception(std::current_exception());
                }
            },
            [promise, end = std::move(end)](const std::exception_ptr& late) mutable {
                if (!late) return end(promise->get_future());
                std::promise<Returned> none;
                none.set_exception(late);
                end(none.get_future());
            },
            limit);
    }

    /// Readable when there is something to finish.
    [[nodiscard]] int fd() const;
    /// When there is something to finish though fd() is not readable; never: Clock::time_point::max().
    [[nodiscard]] Clock::time_point next() const;
    /// Calls the ends of jobs that are done, or that should be. One that throws keeps none from being called.
    void finish(Clock::time_point now);

  private:
    class Shared;
    struct Waiting {
        std::function<void(const std::exception_ptr& late)> end;
        Clock::time_point limit;
        std::chrono::milliseconds allowed;
    };
    void put(std::function<void()> job, std::function<void(const std::exception_ptr& late)> end,
             std::optional<std::chrono::milliseconds> limit);
    void end(std::uint64_t number, const std::exception_ptr& late);

    Options options_;
    std::function<void(std::exception_ptr)> report_;
    std::shared_ptr<Shared> shared_;
    std::map<std::uint64_t, Waiting> waiting_;
    std::uint64_t next_number_ = 0;
    std::thread thread_;
};

}  // namespace vfioap
