// SPDX-License-Identifier: LGPL-2.1-or-later
// Programs that end, hang, say too much, are not there, and what they inherit.
#include "file/process.h"

#include "ap/error.h"
#include "file/descriptor.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace vfioap {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using Stream = ProcessOrder::Stream;
using Ending = ProcessResult::Ending;
using Clock = std::chrono::steady_clock;

constexpr ProcessLimits generous{60s, 1'000'000};

ProcessOrder piped(std::vector<std::string> words) {
    ProcessOrder order{std::move(words)};
    order.input = order.output = Stream::piped;
    return order;
}

ProcessOrder shell(const std::string& script) {
    return piped({"/bin/sh", "-c", script});
}

TEST(Process, says_how_it_ended) {
    EXPECT_TRUE(run_process({{"true"}}, generous).ok());
    EXPECT_EQ(run_process(shell("exit 3"), generous).end, (ProcessEnd{true, 3}));
    EXPECT_EQ(run_process(shell("kill -9 $$"), generous).end, (ProcessEnd{false, SIGKILL}));
    const auto result = run_process(shell("echo this; echo that >&2; exit 1"), generous);
    EXPECT_EQ(result.output, "this\n");
    EXPECT_EQ(result.ending, Ending::ended);
    EXPECT_FALSE(result.ok());
}

TEST(Process, takes_words_as_they_are) {
    EXPECT_EQ(run_process(piped({"printf", "%s|", "a b", "$(id)", ""}), generous).output, "a b|$(id)||");
}

TEST(Process, reads_what_it_is_given) {
    EXPECT_EQ(run_process(shell("read a; read b; echo $b$a"), generous, "x\ny\n").output, "yx\n");
    // More than a pipe holds, to one that reads it, and to one that ends without.
    const std::string much(500'000, 'x');
    EXPECT_EQ(run_process(piped({"head", "-c", "500000"}), generous, much).output, much);
    EXPECT_TRUE(run_process(shell("exit 0"), generous, much).ok());
    EXPECT_EQ(run_process({{"cat"}}, generous).end, (ProcessEnd{true, 0})) << "nothing to read is an end";
}

TEST(Process, inherits_neither_an_ignored_sigpipe_nor_blocked_signals) {
    auto* const before = std::signal(SIGPIPE, SIG_IGN);
    sigset_t blocked;
    sigset_t mask;
    ::sigemptyset(&blocked);
    ::sigaddset(&blocked, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &blocked, &mask);
    const auto told = run_process(piped({"grep", "^Sig", "/proc/self/status"}), generous).output;
    const auto ended = run_process(shell("kill -PIPE $$; echo not ended"), generous);
    ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
    std::signal(SIGPIPE, before);
    EXPECT_THAT(told, HasSubstr("SigBlk:\t0000000000000000\n"));
    EXPECT_THAT(told, testing::ContainsRegex("SigIgn:\t[0-9a-f]*[02468ace][0-9a-f][0-9a-f][0-9a-f]\n"));
    EXPECT_EQ(ended.end, (ProcessEnd{false, SIGPIPE}));
}

TEST(Process, inherits_no_descriptor_of_ours_and_the_environment_that_it_is_given) {
    const Descriptor ours{::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100)};
    ASSERT_TRUE(ours.valid());
    auto order = shell(fmt::format("[ -e /proc/self/fd/{} ] || echo $HOME$ONLY", ours.get()));
    order.environment = {"PATH=/usr/bin:/bin", "ONLY=this"};
    EXPECT_EQ(run_process(order, generous).output, "this\n");
}

/// It has ended, if need be as a zombie that nobody has reaped yet.
bool has_ended(pid_t pid) {
    std::ifstream in{fmt::format("/proc/{}/stat", pid)};
    const std::string text{std::istreambuf_iterator<char>{in}, {}};
    return text.empty() || text.find(") Z") != std::string::npos || text.find(") X") != std::string::npos;
}

TEST(Process, is_killed_when_its_time_is_over_with_all_that_it_started) {
    const auto begin = Clock::now();
    auto order = shell("sleep 1000 & echo $!; sleep 1000");
    order.own_group = true;
    const auto result = run_process(order, {500ms, 1000});
    EXPECT_LT(Clock::now() - begin, 30s);
    EXPECT_EQ(result.ending, Ending::too_long);
    EXPECT_EQ(result.end, (ProcessEnd{false, SIGKILL}));
    EXPECT_FALSE(result.ok());
    // What it had said is there.
    const auto started = static_cast<pid_t>(std::stol(result.output));
    for (int i = 0; i < 1000 && !has_ended(started); ++i)
        ::usleep(10'000);
    EXPECT_TRUE(has_ended(started));
}

TEST(Process, that_closes_its_output_has_no_more_time) {
    const auto begin = Clock::now();
    EXPECT_EQ(run_process(shell("echo x; exec >&-; sleep 1000"), {300ms, 1000}).ending, Ending::too_long);
    EXPECT_LT(Clock::now() - begin, 30s);
}

TEST(Process, is_not_waited_for_where_only_what_it_left_has_its_output) {
    const auto begin = Clock::now();
    const auto result = run_process(shell("sleep 20 & echo x"), generous);
    EXPECT_LT(Clock::now() - begin, 15s);
    EXPECT_EQ(result.output, "x\n");
    EXPECT_TRUE(result.ok());
}

TEST(Process, is_killed_when_it_says_too_much) {
    const auto result = run_process(piped({"yes"}), {60s, 100'000});
    EXPECT_EQ(result.ending, Ending::too_much);
    EXPECT_EQ(result.output.size(), 100'000U);
    EXPECT_EQ(run_process(shell("printf 12345"), {60s, 5}).ending, Ending::ended);
    EXPECT_EQ(run_process(shell("printf 123456"), {60s, 5}).output, "12345");
}

TEST(Process, that_is_not_there_is_an_error) {
    for (const auto* name : {"no-such-program-here", "/no/such/program"}) {
        try {
            run_process({{name}}, generous);
            ADD_FAILURE() << name;
        } catch (const SystemError& error) {
            EXPECT_EQ(error.number(), ENOENT);
            EXPECT_EQ(std::string{error.what()},
                      std::string{name} + ": cannot run: No such file or directory");
        }
    }
    EXPECT_THROW(run_process({{"/dev/null"}}, generous), SystemError);
}

TEST(Process, that_still_runs_is_killed_with_its_object) {
    pid_t pid = 0;
    {
        const Process process{shell("echo $$; exec sleep 1000")};
        std::string line(20, '\0');
        line.resize(static_cast<std::size_t>(::read(process.output(), line.data(), line.size())));
        pid = static_cast<pid_t>(std::stol(line));
        EXPECT_EQ(::kill(pid, 0), 0);
    }
    EXPECT_EQ(::kill(pid, 0), -1);
}

}  // namespace
}  // namespace vfioap
