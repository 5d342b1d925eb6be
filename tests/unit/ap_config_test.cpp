// SPDX-License-Identifier: LGPL-2.1-or-later
// All of an mdev at once: written whole, or as it was before.
#include "host/ap_config.h"

#include "host/inventory.h"

#include <cerrno>
#include <csignal>
#include <string>

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "support/example_hosts.h"
#include "support/fake_root.h"
#include "support/move.h"

namespace vfioap {
namespace {

using test::FakeRoot;
using test::Move;
using test::World;

const Uuid mdev = test::uuid(test::example_mdev);
const std::string directory = mdev_path(mdev) + "/";
const std::string attribute = directory + "ap_config";
const MdevContents held{Mask::of({5, 6}), Mask::of({4, 0x47}), Mask::of({4})};
const MdevContents wanted{Mask::of({5}), Mask::of({4}), Mask::of({4, 0x47})};

/// Files of this process cannot grow beyond it while it lives.
class FileLimit {
  public:
    explicit FileLimit(rlim_t bytes) : signal_{std::signal(SIGXFSZ, SIG_IGN)} {
        ::getrlimit(RLIMIT_FSIZE, &before_);
        const rlimit now{bytes, before_.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &now);
    }
    ~FileLimit() {
        ::setrlimit(RLIMIT_FSIZE, &before_);
        static_cast<void>(std::signal(SIGXFSZ, signal_));
    }
    FileLimit(const FileLimit&) = delete;
    FileLimit& operator=(const FileLimit&) = delete;

  private:
    rlimit before_{};
    void (*signal_)(int);
};

TEST(MdevContents, has_the_form_of_ap_config) {
    const auto text = held.to_string();
    EXPECT_EQ(text, "0x06" + std::string(62, '0') + ",0x08" + std::string(14, '0') + "01" +
                        std::string(46, '0') + ",0x08" + std::string(62, '0'));
    EXPECT_EQ(MdevContents::parse(text), held);
    EXPECT_EQ(MdevContents::parse("0x8,0x4,2"), (MdevContents{Mask::of({0}), Mask::of({1}), Mask::of({2})}));
    for (const auto* const bad : {"", ",", ",,", "0x1", "0x1,0x2", "0x1,0x2,", "0x1,,0x3", "0x1,0x2,0x3,",
                                  "0x1,0x2,0x3,0x4", "0x1, 0x2,0x3", "0xg,0x2,0x3", "not supported,0x2,0x3"})
        EXPECT_FALSE(MdevContents::parse(bad)) << bad;
}

TEST(ApConfig, is_written_whole) {
    const FakeRoot root{Move{World::restore}.right()};
    write_ap_config(root.path(), mdev, wanted, {{5, 4}});
    EXPECT_EQ(root.read(attribute), wanted.to_string() + '\n');
    write_ap_config(root.path(), mdev, wanted, {{5, 4}});
    EXPECT_EQ(root.read(attribute), wanted.to_string() + '\n');
}

TEST(ApConfig, is_put_back_when_the_kernel_does_not_take_it) {
    const FakeRoot root{Move{World::restore}.right()};
    const FileLimit limit{0};
    try {
        write_ap_config(root.path(), mdev, wanted, {{5, 4}});
        FAIL();
    } catch (const ApConfigError& error) {
        EXPECT_EQ(error.number(), EFBIG);
        EXPECT_TRUE(error.undone());
        EXPECT_EQ(std::string{error.what()},
                  root.path() + "/" + attribute +
                      ": cannot write (what it held before is there again): File too large");
    }
    EXPECT_EQ(root.read(attribute), held.to_string() + '\n');
}

TEST(ApConfig, says_when_it_cannot_be_put_back) {
    const FakeRoot root{Move{World::restore}.right()};
    const FileLimit limit{4};
    try {
        write_ap_config(root.path(), mdev, {Mask::of({0}), {}, {}}, {});
        FAIL();
    } catch (const ApConfigError& error) {
        EXPECT_EQ(error.number(), EIO);
        EXPECT_FALSE(error.undone());
        EXPECT_NE(std::string{error.what()}.find("could not be written again"), std::string::npos);
    }
}

TEST(ApConfig, is_put_back_when_the_kernel_withholds_queues) {
    // What acts on the attribute is played by one who has done it before: only the control domains change.
    Move move{World::restore};
    FakeRoot root{move.right()};
    MdevContents other = held;
    other.control_domains = Mask::of({4, 0x47});
    root.write(directory + "control_domains", "0004\n0047\n");
    root.write(directory + "guest_matrix", "05.0004\n05.0047\n");
    try {
        write_ap_config(root.path(), mdev, other, {{5, 4}, {5, 0x47}, {6, 4}, {6, 0x47}});
        FAIL();
    } catch (const ApConfigError& error) {
        EXPECT_EQ(error.number(), ENODEV);
        EXPECT_TRUE(error.undone());
    }
    EXPECT_EQ(root.read(attribute), held.to_string() + '\n');
    root.write(directory + "guest_matrix", "05.0004\n05.0047\n06.0004\n06.0047\n");
    write_ap_config(root.path(), mdev, other, {{5, 4}, {5, 0x47}, {6, 4}, {6, 0x47}});
    EXPECT_EQ(root.read(attribute), other.to_string() + '\n');
}

TEST(ApConfig, is_not_written_where_it_is_not_understood) {
    FakeRoot root{Move{World::restore}.right()};
    root.write(attribute, "0x1,0x2\n");
    EXPECT_THROW(write_ap_config(root.path(), mdev, wanted, {}), InputError);
    EXPECT_EQ(root.read(attribute), "0x1,0x2\n");
    root.remove(attribute);
    EXPECT_THROW(write_ap_config(root.path(), mdev, wanted, {}), SystemError);
}

}  // namespace
}  // namespace vfioap
