// SPDX-License-Identifier: LGPL-2.1-or-later
// Hosts that change while a guest is on its way from one to the other.
#include "move/drift_watch.h"

#include "ap/error.h"
#include "compat/state.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/example_hosts.h"
#include "support/fake_kernel.h"
#include "support/fake_root.h"
#include "support/host_builder.h"

namespace vfioap {
namespace {

using namespace std::chrono_literals;
using test::FakeKernel;
using test::FakeRoot;
using test::HostBuilder;
using test::Kernel;
using testing::HasSubstr;
using testing::IsEmpty;

const Uuid mdev = test::uuid(test::example_mdev);
const std::string mdev_sysfs = "/sys/" + mdev_path(mdev) + '/';
/// Far more than a look takes.
constexpr auto patience = 60s;

HostBuilder host(const char* name, Kernel kernel) {
    HostBuilder builder{name};
    builder.z16().kernel(kernel).cards({0x05, 0x06}, "CEX8C").domains({0x04, 0x47});
    builder.bind_to_vfio_ap().mdev(test::example_mdev).assign({0x05, 0x06}, {0x04, 0x47}, {0x04});
    return builder;
}

HostLocation at(const FakeRoot& root) {
    return {HostLocation::Kind::sysfs, root.path()};
}

class DriftWatchTest : public testing::Test {
  protected:
    explicit DriftWatchTest(Kernel kernel = Kernel::current)
        : source_host{host("lpar-a", kernel).in_use().build()},
          source{source_host},
          destination{host("lpar-b", kernel).build()} {}

    [[nodiscard]] JudgedMove judged(Mode mode) const {
        const auto guest = guest_with(mdev);
        return {guest, describe_source(guest, source_host), state_of(source_host, mdev), mode,
                Profile::automatic};
    }
    [[nodiscard]] std::unique_ptr<DriftWatch> watch(Mode mode) const {
        const auto from = mode == Mode::native ? std::optional{at(source)} : std::nullopt;
        return std::make_unique<DriftWatch>(at(destination), from, judged(mode));
    }
    static void run(const FakeRoot& root, const std::string& command) {
        ASSERT_EQ(FakeKernel{root.path()}.run(command).message, "") << command;
    }

    Inventory source_host;
    FakeRoot source;
    FakeRoot destination;
};

class NativeDriftTest : public DriftWatchTest {
  protected:
    NativeDriftTest() : DriftWatchTest{Kernel::restore} {}
};

TEST_F(DriftWatchTest, finds_nothing_where_nothing_changes) {
    const auto watching = watch(Mode::detached);
    EXPECT_FALSE(watching->found(0ms));
    EXPECT_FALSE(watching->found(patience));
    EXPECT_THAT(watching->take_problems(), IsEmpty());
}

TEST_F(DriftWatchTest, finds_what_the_destination_loses) {
    const auto watching = watch(Mode::detached);
    EXPECT_FALSE(watching->found(patience));
    run(destination, "echo 0x47 > " + mdev_sysfs + "unassign_domain");
    const auto found = watching->found(patience);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->rule, "queue.not-assigned");
    EXPECT_THAT(found->detail, HasSubstr("lpar-b"));
    EXPECT_THAT(found->detail, HasSubstr("05.0047 06.0047"));
    // It stays found, whatever comes.
    run(destination, "echo 0x47 > " + mdev_sysfs + "assign_domain");
    EXPECT_TRUE(watching->found(patience));
}

TEST_F(DriftWatchTest, finds_what_has_changed_before_it_began) {
    run(destination, "echo 0x47 > " + mdev_sysfs + "unassign_domain");
    EXPECT_TRUE(watch(Mode::detached)->found(0ms));
}

TEST_F(DriftWatchTest, does_not_take_the_arrival_for_a_change) {
    const auto watching = watch(Mode::detached);
    for (const auto* queue : {"05.0004", "05.0047", "06.0004", "06.0047"})
        destination.write(fmt::format("devices/ap/card{:.2}/{}/status", queue, queue), "in use\n");
    // Something that is looked at changes with it.
    run(destination, "echo 0x47 > " + mdev_sysfs + "assign_control_domain");
    EXPECT_FALSE(watching->found(patience));
    EXPECT_THAT(watching->take_problems(), IsEmpty());
}

TEST_F(DriftWatchTest, does_not_mind_the_source_of_a_device_that_is_away) {
    const auto watching = watch(Mode::detached);
    run(source, "echo 0x47 > " + mdev_sysfs + "unassign_domain");
    EXPECT_FALSE(watching->found(patience));
}

TEST_F(NativeDriftTest, finds_what_the_source_loses) {
    const auto watching = watch(Mode::native);
    EXPECT_FALSE(watching->found(patience));
    run(source, "echo 0x47 > " + mdev_sysfs + "unassign_domain");
    const auto found = watching->found(patience);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->rule, "config.changed");
    EXPECT_THAT(found->detail, HasSubstr("lpar-a: mdev"));
    EXPECT_THAT(found->detail, HasSubstr("it has 2 queues instead of 4"));
}

TEST_F(NativeDriftTest, finds_that_the_mdev_of_the_source_is_gone) {
    const auto watching = watch(Mode::native);
    source.remove(mdev_path(mdev));
    source.remove("bus/mdev/devices/" + mdev.to_string());
    const auto found = watching->found(patience);
    ASSERT_TRUE(found);
    EXPECT_THAT(found->detail, HasSubstr("is not there any more"));
}

TEST_F(NativeDriftTest, lets_the_destination_take_what_the_guest_brings) {
    const auto watching = watch(Mode::native);
    run(destination, "echo 0x47 > " + mdev_sysfs + "unassign_domain");
    EXPECT_FALSE(watching->found(patience));
    run(destination, "echo 0x47 > " + mdev_sysfs + "assign_domain");
    EXPECT_FALSE(watching->found(patience));
}

TEST_F(NativeDriftTest, finds_a_queue_that_the_destination_loses) {
    const auto watching = watch(Mode::native);
    destination.remove("bus/ap/drivers/vfio_ap/06.0047");
    destination.remove("bus/ap/devices/06.0047");
    destination.remove("devices/ap/card06/06.0047");
    const auto found = watching->found(patience);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->rule, "queue.missing");
    EXPECT_THAT(found->detail, HasSubstr("06.0047"));
}

TEST_F(DriftWatchTest, tells_once_that_it_cannot_see) {
    const auto watching = watch(Mode::detached);
    destination.make_unreadable(mdev_path(mdev) + "/matrix");
    destination.make_unreadable(mdev_path(mdev) + "/guest_matrix");
    const auto found = watching->found(patience);
    EXPECT_FALSE(found) << found->rule << ": " << found->detail;
    EXPECT_THAT(watching->take_problems(), testing::SizeIs(1));
    EXPECT_FALSE(watching->found(patience));
    EXPECT_THAT(watching->take_problems(), IsEmpty());
}

TEST_F(DriftWatchTest, says_that_a_host_cannot_be_read) {
    EXPECT_THROW(
        DriftWatch({HostLocation::Kind::sysfs, destination.path() + "/nowhere"}, {}, judged(Mode::detached)),
        SystemError);
}

TEST(Difference, says_how_a_configuration_differs) {
    GuestConfiguration before{{{{0x05, 0x04}, {}, {}}, {{0x05, 0x47}, {}, {}}}, {}};
    EXPECT_EQ(difference(before, before), "");
    auto now = before;
    now.queues.pop_back();
    EXPECT_EQ(difference(before, now), "1 queues instead of 2");
    now.queues.push_back({{0x06, 0x47}, {}, {}});
    EXPECT_EQ(difference(before, now), "other queues than before");
    now = before;
    now.control_domains.set(4);
    EXPECT_EQ(difference(before, now), "other control domains than before");
}

}  // namespace
}  // namespace vfioap
