// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/jobs.h"

#include <string>

#include <gtest/gtest.h>

namespace vfioap {
namespace {

struct JobsOfClients : testing::Test {
    void ask(const std::string& client, const std::string& name) {
        EXPECT_TRUE(jobs.add(client, [this, name] { done += name; }));
    }
    void run_all() {
        while (jobs.run_one()) {
        }
    }
    Jobs jobs;
    std::string done;
};

TEST_F(JobsOfClients, are_done_one_of_each_in_turn) {
    for (const auto* const name : {"a", "b", "c"})
        ask(":1.1", name);
    ask(":1.2", "x");
    ask(":1.3", "1");
    ask(":1.2", "y");
    run_all();
    EXPECT_EQ(done, "ax1byc");
    EXPECT_TRUE(jobs.empty());
}

TEST_F(JobsOfClients, are_refused_when_one_has_too_many) {
    for (std::size_t i = 0; i < Jobs::most_of_one; ++i)
        ask(":1.1", "a");
    EXPECT_FALSE(jobs.add(":1.1", [] {}));
    ask(":1.2", "x");
    EXPECT_TRUE(jobs.run_one());
    ask(":1.1", "b");
    run_all();
    EXPECT_EQ(done.size(), Jobs::most_of_one + 2);
}

TEST_F(JobsOfClients, are_refused_when_all_have_too_many) {
    std::size_t added = 0;
    for (unsigned client = 0; added < Jobs::most; ++client) {
        for (std::size_t i = 0; i < Jobs::most_of_one; ++i)
            added += jobs.add(":1." + std::to_string(client), [] {}) ? 1 : 0;
    }
    EXPECT_FALSE(jobs.add(":2.1", [] {}));
    jobs.forget(":1.0");
    EXPECT_TRUE(jobs.add(":2.1", [] {}));
}

TEST_F(JobsOfClients, are_forgotten_with_their_client) {
    ask(":1.1", "a");
    ask(":1.2", "x");
    ask(":1.1", "b");
    jobs.forget(":1.1");
    jobs.forget(":1.9");
    run_all();
    EXPECT_EQ(done, "x");
}

TEST_F(JobsOfClients, may_ask_for_more_and_forget_while_they_are_done) {
    EXPECT_TRUE(jobs.add(":1.1", [this] {
        done += "a";
        ask(":1.1", "b");
        jobs.forget(":1.2");
    }));
    ask(":1.2", "x");
    run_all();
    EXPECT_EQ(done, "ab");
}

}  // namespace
}  // namespace vfioap
