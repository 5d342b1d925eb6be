// SPDX-License-Identifier: LGPL-2.1-or-later
// What the kernel's model knows beyond the commands of remedies: hardware that goes and comes back, keys that
// are seen only by zcrypt, guests that run.
#include "support/kernel_model.h"

#include <cerrno>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/example_hosts.h"
#include "support/fake_root.h"
#include "support/host_builder.h"
#include "support/kernel_filter.h"
#include "support/move.h"

namespace vfioap {
namespace {

using test::Hidden;
using test::HostBuilder;
using test::KernelModel;
using testing::ElementsAre;
using testing::IsEmpty;

const HostBuilder::Numbers both{5, 6};

HostBuilder one_guest(test::Kernel kernel = test::Kernel::current) {
    return HostBuilder{"h"}
        .z16()
        .kernel(kernel)
        .cards(both, "CEX8C")
        .domains({4, 0x47})
        .master_keys(5, test::cca_keys(1))
        .free_domains({4})
        .mdev(test::example_mdev)
        .assign(both, {4}, {4});
}

/// A host and its kernel.
struct Machine {
    explicit Machine(const Inventory& inventory) : host{inventory}, kernel{host, hidden} {
        kernel.hide_keys();
        kernel.settle();
    }
    /// The errno of what is done, and all that follows from it.
    int after(const std::function<void(KernelModel&)>& what) {
        try {
            what(kernel);
        } catch (const test::Refusal& refusal) {
            return refusal.error;
        }
        kernel.settle();
        return 0;
    }
    int write(const std::string& path, const std::string& text) {
        return after([&](KernelModel& model) { model.write(path, text); });
    }
    int mdev(const std::string& attribute, const std::string& text) {
        return write(mdev_path(test::uuid(test::example_mdev)) + '/' + attribute, text);
    }
    [[nodiscard]] std::vector<Apqn> passed() const {
        return *host.find_mdev(test::uuid(test::example_mdev))->guest_matrix;
    }

    Inventory host;
    Hidden hidden;
    KernelModel kernel;
};

TEST(KernelModel, shows_keys_only_while_zcrypt_has_the_queue) {
    Machine machine{one_guest().build()};
    EXPECT_EQ(machine.host.find_queue({5, 4})->mkvps(), nullptr) << "remembered, but not to be read";
    ASSERT_NE(machine.host.find_queue({5, 0x47})->mkvps(), nullptr);
    EXPECT_EQ(machine.write("bus/ap/aqmask", "-0x47"), 0);
    EXPECT_EQ(machine.host.find_queue({5, 0x47})->mkvps(), nullptr);
    EXPECT_EQ(machine.mdev("unassign_domain", "4"), 0);
    EXPECT_EQ(machine.write("bus/ap/aqmask", "0xff"), 0);
    EXPECT_EQ(machine.write("bus/ap/aqmask", "+0-255"), 0);
    ASSERT_NE(machine.host.find_queue({5, 4})->mkvps(), nullptr);
    EXPECT_TRUE(*machine.host.find_queue({5, 4})->mkvps() == test::cca_keys(1));
}

TEST(KernelModel, takes_a_card_with_its_queues_and_brings_all_of_it_back) {
    Machine machine{one_guest().build()};
    const auto before = machine.host;
    EXPECT_EQ(machine.after([](KernelModel& kernel) { kernel.take_card(6); }), 0);
    EXPECT_EQ(machine.host.cards.size(), 1U);
    EXPECT_EQ(machine.host.queues.size(), 2U);
    EXPECT_EQ(machine.host.ap->bindings, "2/2 (complete)");
    EXPECT_THAT(machine.passed(), ElementsAre(Apqn{5, 4}));
    EXPECT_EQ(machine.after([](KernelModel& kernel) { kernel.take_card(6); }), ENODEV);
    EXPECT_EQ(machine.after([](KernelModel& kernel) {
        kernel.return_queue({6, 4});
    }),
              ENODEV)
        << "without its card";
    EXPECT_EQ(machine.after([](KernelModel& kernel) { kernel.return_card(6); }), 0);
    EXPECT_TRUE(machine.host == before) << test::differences(machine.host, before);
}

TEST(KernelModel, drops_the_adapter_of_a_queue_that_is_gone) {
    Machine machine{one_guest().build()};
    const auto before = machine.host;
    EXPECT_EQ(machine.after([](KernelModel& kernel) { kernel.take_queue({5, 4}); }), 0);
    EXPECT_THAT(machine.passed(), ElementsAre(Apqn{6, 4}));
    EXPECT_EQ(machine.after([](KernelModel& kernel) { kernel.return_queue({5, 4}); }), 0);
    EXPECT_TRUE(machine.host == before);
}

TEST(KernelModel, drops_the_adapter_of_a_queue_that_failed_its_reset_until_it_is_bound_again) {
    Machine machine{one_guest().in_use().build()};
    const auto before = machine.host;
    const auto fail = [](Apqn apqn) { return [apqn](KernelModel& kernel) { kernel.fail_reset(apqn); }; };
    EXPECT_EQ(machine.after(fail({5, 0x47})), ENODEV) << "the host has it";
    EXPECT_EQ(machine.after(fail({5, 4})), 0);
    EXPECT_THAT(machine.passed(), ElementsAre(Apqn{6, 4}));
    EXPECT_EQ(machine.host.find_queue({5, 4})->status, QueueStatus::assigned);
    EXPECT_EQ(machine.write("bus/ap/drivers/vfio_ap/unbind", "05.0004"), 0);
    EXPECT_EQ(machine.write("bus/ap/drivers/vfio_ap/bind", "05.0004"), 0);
    EXPECT_TRUE(machine.host == before) << test::differences(machine.host, before);
}

TEST(KernelModel, passes_control_domains_that_the_machine_gives) {
    Machine machine{one_guest().build()};
    const auto uuid = test::uuid(test::example_mdev);
    machine.host.ap->ap_control_domain_mask.mask = Mask::of({4});
    EXPECT_EQ(machine.mdev("assign_control_domain", "0x47"), 0) << "more than there is may be assigned";
    EXPECT_EQ(test::guest_masks(machine.host, *machine.host.find_mdev(uuid)).control_domains, Mask::of({4}));
}

TEST(KernelModel, keeps_the_mdev_of_a_guest_that_runs) {
    Machine machine{one_guest().build()};
    const auto uuid = test::uuid(test::example_mdev);
    EXPECT_EQ(machine.after([&](KernelModel& kernel) { kernel.use(uuid, true); }), 0);
    EXPECT_EQ(machine.after([&](KernelModel& kernel) { kernel.use(uuid, true); }), EBUSY);
    EXPECT_EQ(machine.host.find_queue({5, 4})->status, QueueStatus::in_use);
    EXPECT_EQ(machine.mdev("remove", "1"), EBUSY);
    EXPECT_EQ(machine.mdev("unassign_adapter", "5"), 0) << "what the guest has can be changed";
    EXPECT_EQ(machine.after([&](KernelModel& kernel) { kernel.use(uuid, false); }), 0);
    EXPECT_EQ(machine.mdev("remove", "1"), 0);
    EXPECT_THAT(machine.host.mdevs, IsEmpty());
    EXPECT_EQ(machine.after([&](KernelModel& kernel) { kernel.use(uuid, true); }), ENODEV);
}

TEST(KernelModel, lets_nobody_change_a_running_guest_before_it_could_plug) {
    Machine machine{one_guest(test::Kernel::old).in_use().build()};
    EXPECT_EQ(machine.mdev("unassign_adapter", "5"), EBUSY);
    EXPECT_EQ(machine.after([](KernelModel& kernel) { kernel.use(test::uuid(test::example_mdev), false); }),
              0);
    EXPECT_EQ(machine.mdev("unassign_adapter", "5"), 0);
}

TEST(KernelModel, binds_by_hand_only_what_masks_allow) {
    Machine machine{one_guest().build()};
    EXPECT_EQ(machine.write("bus/ap/drivers/vfio_ap/bind", "05.0047"), ENODEV) << "it has a driver";
    EXPECT_EQ(machine.write("devices/ap/card05/05.0047/driver/unbind", "05.0047"), 0);
    EXPECT_EQ(machine.host.ap->bindings, "3/4");
    EXPECT_EQ(machine.write("devices/ap/card05/05.0047/driver/unbind", "05.0047"), ENOENT);
    EXPECT_EQ(machine.write("bus/ap/drivers/vfio_ap/bind", "05.0047"), ENODEV)
        << "the masks keep it for the host";
    EXPECT_EQ(machine.write("bus/ap/drivers/cex4queue/bind", "05.0047"), 0);
    EXPECT_EQ(machine.host.ap->bindings, "4/4 (complete)");
}

}  // namespace
}  // namespace vfioap
