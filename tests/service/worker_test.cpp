// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/worker.h"

#include "service/event.h"
#include "service/log.h"

#include <atomic>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

namespace vfioap {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Clock = Worker::Clock;

class JobsOfAWorker : public testing::Test {
  protected:
    /// Takes what is ready until `count` ends were called, 20 s at most.
    void finish(std::size_t count, std::chrono::milliseconds ahead = 0ms) {
        const auto deadline = Clock::now() + 20s;
        while (ended.size() + reported.size() < count && Clock::now() < deadline) {
            pollfd fd{worker.fd(), POLLIN, 0};
            ::poll(&fd, 1, 10);
            worker.finish(Clock::now() + ahead);
        }
    }
    /// How it ended, in a word or two.
    template <typename T>
    void note(std::future<T> result) {
        try {
            ended.push_back(std::to_string(result.get()));
        } catch (...) {
            ended.push_back(error_text(std::current_exception()));
        }
    }
    auto noted() {
        return [this](std::future<int> result) { note(std::move(result)); };
    }

    std::vector<std::string> ended;
    std::vector<std::string> reported;
    Worker worker{{.name = "libvirt", .patience = 50ms},
                  [this](const auto& error) { reported.push_back(error_text(error)); }};
};

TEST_F(JobsOfAWorker, are_done_in_their_order) {
    for (int i = 0; i < 3; ++i)
        worker.add([i] { return i; }, noted());
    finish(3);
    EXPECT_THAT(ended, ElementsAre("0", "1", "2"));
    EXPECT_EQ(worker.next(), Clock::time_point::max());
}

TEST_F(JobsOfAWorker, end_whatever_they_throw) {
    worker.add([]() -> int { throw Error{"ours"}; }, noted());
    worker.add([]() -> int { throw std::bad_alloc{}; }, noted());
    worker.add([]() -> int { throw std::system_error{std::make_error_code(std::errc::io_error)}; }, noted());
    worker.add([]() -> int { throw 5; }, noted());  // NOLINT(hicpp-exception-baseclass): on purpose
    worker.add([] { return 1; }, noted());
    finish(5);
    EXPECT_THAT(ended, ElementsAre("ours", "out of memory", HasSubstr("rror"), "unknown exception", "1"));
    EXPECT_THAT(reported, IsEmpty());
}

TEST_F(JobsOfAWorker, let_go_of_what_their_end_holds) {
    const auto underway = std::make_shared<char>();
    const std::weak_ptr<char> watched = underway;
    worker.add([]() -> int { throw std::bad_alloc{}; },
               [this, held = underway](std::future<int> result) { note(std::move(result)); });
    worker.add([] { return 1; }, [held = underway](std::future<int>) { throw std::logic_error{"an end"}; });
    EXPECT_GT(watched.use_count(), 1);
    finish(2);
    EXPECT_EQ(watched.use_count(), 1);
}

TEST_F(JobsOfAWorker, are_reported_where_their_end_throws) {
    worker.add([]() -> int { throw std::bad_alloc{}; }, [](std::future<int> result) { result.get(); });
    worker.add([] { return 1; }, [](std::future<int>) { throw std::logic_error{"an end"}; });
    worker.add([] { return 2; }, noted());
    finish(3);
    EXPECT_THAT(reported, ElementsAre("out of memory", "an end"));
    EXPECT_THAT(ended, ElementsAre("2"));
}

TEST_F(JobsOfAWorker, that_take_too_long_end_without_it) {
    // Both live on in the thread that is left behind.
    const auto release = std::make_shared<const Event>();
    const auto begun = std::make_shared<std::atomic<int>>(0);
    const auto hang = [release, begun] {
        ++*begun;
        return static_cast<int>(release->wait(20s));
    };
    worker.add(hang, noted(), 1000ms);
    worker.add(hang, noted(), 2000ms);
    const auto first = worker.next();
    EXPECT_LE(first, Clock::now() + 1000ms);
    while (*begun == 0)
        std::this_thread::yield();
    worker.finish(first - 1ms);
    EXPECT_THAT(ended, IsEmpty());
    finish(1, 1500ms);
    EXPECT_THAT(ended, ElementsAre("libvirt did not answer within 1 s"));
    EXPECT_GT(worker.next(), first);
    finish(2, 5s);
    EXPECT_THAT(ended, ElementsAre("libvirt did not answer within 1 s", "libvirt did not answer within 2 s"));
    // It answers again: what is late is lost, and what was not begun in time never is.
    release->raise();
    worker.add([] { return 3; }, noted(), 20s);
    finish(3);
    EXPECT_EQ(ended.back(), "3");
    EXPECT_EQ(ended.size(), 3U);
    EXPECT_EQ(*begun, 1);
}

TEST(Worker, that_is_stuck_holds_up_nobody_at_its_end) {
    const auto release = std::make_shared<const Event>();
    const auto left = std::make_shared<const Event>();
    bool ended = false;
    const auto begin = Clock::now();
    {
        Worker worker{{.name = "libvirt", .patience = 50ms}, [](const auto&) {}};
        const auto begun = std::make_shared<const Event>();
        worker.add(
            [=] {
                begun->raise();
                const bool released = release->wait(20s);
                left->raise();
                return released;
            },
            [&](std::future<bool>) { ended = true; });
        ASSERT_TRUE(begun->wait(20s));
    }
    EXPECT_LT(Clock::now() - begin, 10s);
    release->raise();
    EXPECT_TRUE(left->wait(20s));
    EXPECT_FALSE(ended);
}

}  // namespace
}  // namespace vfioap
