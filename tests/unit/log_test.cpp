// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/log.h"

#include <array>
#include <new>
#include <stdexcept>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfioap {
namespace {

TEST(Log, has_a_priority_where_the_journal_reads) {
    EXPECT_EQ(log_line(LogLevel::error, "no bus", true), "<3>vfioapd: no bus\n");
    EXPECT_EQ(log_line(LogLevel::warning, "no libvirt", true), "<4>vfioapd: no libvirt\n");
    EXPECT_EQ(log_line(LogLevel::notice, "plan of guest a, apply: done", true),
              "<5>vfioapd: plan of guest a, apply: done\n");
}

TEST(Log, is_plain_elsewhere) {
    for (const auto level : {LogLevel::error, LogLevel::warning, LogLevel::notice})
        EXPECT_EQ(log_line(level, "no libvirt", false), "vfioapd: no libvirt\n");
}

TEST(Log, is_one_line_however_many_somebody_else_writes) {
    const auto line = log_line(LogLevel::notice, "guest a\n<3>b\x1b[31m", true);
    EXPECT_EQ(line.find('\n'), line.size() - 1);
    EXPECT_EQ(line.find('\x1b'), std::string::npos);
}

TEST(Log, knows_the_journal_by_device_and_inode) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    struct stat info {};
    ASSERT_EQ(::fstat(ends[1], &info), 0);
    const auto named = fmt::format("{}:{}", info.st_dev, info.st_ino);
    EXPECT_TRUE(is_journal_stream(ends[1], named.c_str()));
    EXPECT_FALSE(is_journal_stream(ends[1], nullptr));
    for (const std::string& other :
         {std::string{}, named + "0", fmt::format("{}:{}", info.st_dev, info.st_ino + 1), std::string{"x"}})
        EXPECT_FALSE(is_journal_stream(ends[1], other.c_str())) << other;
    ::close(ends[0]);
    ::close(ends[1]);
    EXPECT_FALSE(is_journal_stream(ends[1], named.c_str()));
}

TEST(Log, says_what_was_thrown) {
    EXPECT_EQ(error_text(std::make_exception_ptr(std::runtime_error{"a reason"})), "a reason");
    EXPECT_EQ(error_text(std::make_exception_ptr(std::bad_alloc{})), "out of memory");
    EXPECT_EQ(error_text(std::make_exception_ptr(5)), "unknown exception");
}

}  // namespace
}  // namespace vfioap
