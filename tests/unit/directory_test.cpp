// SPDX-License-Identifier: LGPL-2.1-or-later
// Directories that are there, are not, and cannot be read.
#include "file/directory.h"

#include "ap/error.h"
#include "file/descriptor.h"

#include <cerrno>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/temporary_directory.h"

namespace vfioap {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

/// errno of the SystemError that it throws; 0: none.
template <typename Work>
int error_of(Work work, std::string& text) {
    try {
        work();
    } catch (const SystemError& error) {
        text = error.what();
        return error.number();
    }
    return 0;
}

TEST(ListDirectory, gives_names_sorted) {
    const test::TemporaryDirectory directory;
    EXPECT_THAT(list_directory(directory.path()), IsEmpty());
    for (const auto* name : {"b", ".hidden", "a"})
        std::ofstream{directory.path() + '/' + name} << "x";
    std::filesystem::create_directory(directory.path() + "/c");
    EXPECT_THAT(list_directory(directory.path()), ElementsAre(".hidden", "a", "b", "c"));
    const Descriptor open{::open(directory.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    // Twice: its position stays.
    for (int i = 0; i < 2; ++i)
        EXPECT_THAT(list_directory(open.get(), directory.path()), ElementsAre(".hidden", "a", "b", "c"));
}

TEST(ListDirectory, takes_only_what_is_not_there_for_empty) {
    const test::TemporaryDirectory directory;
    EXPECT_THAT(list_directory(directory.path() + "/none"), IsEmpty());
    EXPECT_THAT(list_directory(directory.path() + "/none/below"), IsEmpty());
    const auto file = directory.path() + "/file";
    std::ofstream{file} << "x";
    const auto link = directory.path() + "/link";
    std::filesystem::create_symlink(link, link);
    std::string text;
    EXPECT_EQ(error_of([&] { list_directory(file); }, text), ENOTDIR);
    EXPECT_EQ(text, file + ": cannot read directory: Not a directory");
    EXPECT_EQ(error_of([&] { list_directory(link); }, text), ELOOP);
    const Descriptor open{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
    EXPECT_EQ(error_of([&] { list_directory(open.get(), "its name"); }, text), ENOTDIR);
    EXPECT_EQ(text, "its name: cannot read directory: Not a directory");
}

TEST(ListDirectory, says_which_may_not_be_read) {
    const test::TemporaryDirectory directory;
    const auto closed = directory.path() + "/closed";
    ASSERT_EQ(::mkdir(closed.c_str(), 0), 0);
    ASSERT_EQ(::chmod(directory.path().c_str(), 0755), 0);
    // Root may read all: a child that is not root tries.
    const auto child = ::fork();
    if (child == 0) {
        if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(1);
        std::string text;
        const int error = error_of([&] { list_directory(closed); }, text);
        ::_exit(error == EACCES && text == closed + ": cannot read directory: Permission denied" ? 0 : 2);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace vfioap
