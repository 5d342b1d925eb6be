// SPDX-License-Identifier: LGPL-2.1-or-later
// The fake kernel that remedies are tried on must refuse and follow as the real one does.
#include "support/fake_kernel.h"

#include "host/sysfs.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/example_hosts.h"
#include "support/fake_root.h"
#include "support/host_builder.h"

namespace vfioap {
namespace {

using test::FakeKernel;
using test::FakeRoot;
using test::HostBuilder;
using test::Kernel;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pointee;

constexpr std::string_view mdev = test::example_mdev;
constexpr std::string_view other = "11111111-2222-3333-4444-555555555555";

/// A fake root and its kernel.
struct Host {
    explicit Host(const Inventory& inventory) : root{inventory}, kernel{root.path()} {}

    /// What the kernel said; empty: it did it.
    std::string run(const std::string& command) {
        const auto answer = kernel.run(command);
        EXPECT_EQ(answer.status == 0, answer.message.empty());
        return answer.message;
    }
    std::string assign(std::string_view uuid, const std::string& attribute, const std::string& value) {
        return run(fmt::format("echo {} > /sys/devices/vfio_ap/matrix/{}/{}", value, uuid, attribute));
    }
    [[nodiscard]] Inventory inventory() const { return SysfsRoot{root.path()}.read_all(Depth::full); }
    [[nodiscard]] std::string driver(Apqn apqn) const { return inventory().find_queue(apqn)->driver; }
    [[nodiscard]] std::vector<Apqn> passed(std::string_view uuid) const {
        return inventory().find_mdev(test::uuid(uuid))->guest_matrix.value();
    }

    FakeRoot root;
    FakeKernel kernel;
};

HostBuilder two_cards() {
    return HostBuilder{"lpar1"}.cards({5, 6}, "CEX8C").domains({4, 0x47});
}

HostBuilder one_guest() {
    return two_cards().free_domains({4}).mdev(mdev).assign({5}, {4}, {4});
}

std::string refused(std::string_view uuid, const std::string& attribute, const std::string& error) {
    return fmt::format("devices/vfio_ap/matrix/{}/{}: {}", uuid, attribute, error);
}

TEST(FakeKernel, leaves_no_trace_of_what_it_refuses) {
    for (const auto& example : test::example_hosts()) {
        if (example.queues.size() > 100) continue;  // nothing new in them, and thousands of files
        Host host{example};
        EXPECT_EQ(host.run("echo 1 > /sys/bus/ap/features"), "bus/ap/features: EACCES");
        EXPECT_TRUE(host.inventory() == example) << example.name << '\n'
                                                 << test::differences(host.inventory(), example);
    }
}

TEST(FakeKernel, gives_a_queue_to_vfio_ap_when_a_mask_leaves_it) {
    Host host{two_cards().build()};
    EXPECT_EQ(host.run("echo -0x47 > /sys/bus/ap/aqmask"), "");
    EXPECT_EQ(host.driver({5, 0x47}), "vfio_ap");
    EXPECT_EQ(host.driver({6, 0x47}), "vfio_ap");
    EXPECT_EQ(host.driver({5, 4}), "cex4queue");
    EXPECT_EQ(host.inventory().find_queue({5, 0x47})->status, QueueStatus::unassigned);
    EXPECT_FALSE(host.inventory().find_queue({5, 0x47})->online);
    EXPECT_EQ(host.run("echo -5 > /sys/bus/ap/apmask"), "");
    EXPECT_EQ(host.driver({5, 4}), "vfio_ap");
    EXPECT_EQ(host.run("echo +5,-6 > /sys/bus/ap/apmask"), "");
    EXPECT_EQ(host.driver({5, 4}), "cex4queue");
    EXPECT_EQ(host.driver({6, 4}), "vfio_ap");
    EXPECT_TRUE(host.inventory() == two_cards().free_domains({0x47}).free_adapters({6}).build());
}

TEST(FakeKernel, reserves_no_queue_that_an_mdev_has) {
    Host host{one_guest().build()};
    const auto before = host.inventory();
    EXPECT_EQ(host.run("echo +4 > /sys/bus/ap/aqmask"), "bus/ap/aqmask: EBUSY");
    EXPECT_TRUE(host.inventory() == before);
    EXPECT_EQ(host.run("echo 4 > /sys/bus/ap/aqmask"), "");  // a whole mask: domain 1 of 256 is left
    EXPECT_EQ(host.run("echo x > /sys/bus/ap/apmask"), "bus/ap/apmask: EINVAL");
}

TEST(FakeKernel, moves_single_queues_by_override) {
    Host host{HostBuilder{"h"}
                  .kernel(Kernel::newest)
                  .cards({5}, "CEX8C")
                  .domains({4, 0x47})
                  .bind_to_vfio_ap({5, 4})
                  .build()};
    const std::string queue = "/sys/devices/ap/card05/05.0047";
    EXPECT_EQ(host.run("echo 05.0047 > /sys/bus/ap/drivers_probe"), "");
    EXPECT_EQ(host.driver({5, 0x47}), "cex4queue") << "it was bound already";
    EXPECT_EQ(host.run("echo vfio_ap > " + queue + "/driver_override"), "");
    EXPECT_EQ(host.driver({5, 0x47}), "cex4queue") << "an override waits for the next probe";
    EXPECT_EQ(host.run("echo 05.0047 > " + queue + "/driver/unbind"), "");
    EXPECT_EQ(host.driver({5, 0x47}), "");
    EXPECT_EQ(host.inventory().ap->bindings, "1/2");
    EXPECT_EQ(host.run("echo 05.0047 > /sys/bus/ap/drivers_probe"), "");
    EXPECT_EQ(host.driver({5, 0x47}), "vfio_ap");
    EXPECT_EQ(host.run("echo 05.0099 > /sys/bus/ap/drivers_probe"), "bus/ap/drivers_probe: ENODEV");
    EXPECT_EQ(host.run("echo -5 > /sys/bus/ap/apmask"), "bus/ap/apmask: EINVAL");
}

TEST(FakeKernel, refuses_overrides_while_a_mask_is_not_all_ones) {
    Host host{HostBuilder{"h"}
                  .kernel(Kernel::newest)
                  .card(5, "CEX8C")
                  .domains({4, 0x47})
                  .free_domains({4})
                  .build()};
    EXPECT_EQ(host.run("echo vfio_ap > /sys/devices/ap/card05/05.0047/driver_override"),
              "devices/ap/card05/05.0047/driver_override: EINVAL");
}

TEST(FakeKernel, has_no_attributes_that_the_kernel_lacks) {
    Host host{HostBuilder{"h"}.z14().card(5, "CEX6C").domains({4}).mdev(mdev).assign({}, {}).build()};
    EXPECT_EQ(host.assign(mdev, "ap_config", "0x0,0x0,0x0"), refused(mdev, "ap_config", "EACCES"));
    EXPECT_EQ(host.assign(mdev, "migratable", "1"), refused(mdev, "migratable", "EACCES"));
    EXPECT_EQ(host.run("echo vfio_ap > /sys/devices/ap/card05/05.0004/driver_override"),
              "devices/ap/card05/05.0004/driver_override: EACCES");
    EXPECT_EQ(host.assign(mdev, "matrix", "05.0004"), refused(mdev, "matrix", "EACCES"));
    EXPECT_EQ(host.root.read("devices/vfio_ap/matrix/" + std::string{mdev} + "/matrix"), "");
    EXPECT_NE(host.run("(echo 1 > /sys/devices/vfio_ap/matrix/nothing/remove) 2>/dev/null"), "");
}

TEST(FakeKernel, creates_and_removes_mdevs) {
    Host host{one_guest().build()};
    const std::string create =
        " > /sys/devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create";
    EXPECT_EQ(host.run(fmt::format("echo {}{}", other, create)), "");
    EXPECT_TRUE(host.inventory() == one_guest().mdev(other).build())
        << test::differences(host.inventory(), one_guest().mdev(other).build());
    EXPECT_EQ(host.run(fmt::format("echo {}{}", other, create)),
              "devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create: EEXIST");
    EXPECT_EQ(host.assign(other, "remove", "1"), "");
    EXPECT_TRUE(host.inventory() == one_guest().build());
}

TEST(FakeKernel, keeps_an_mdev_that_a_guest_uses) {
    Host host{one_guest().in_use().build()};
    EXPECT_EQ(host.assign(mdev, "remove", "1"), refused(mdev, "remove", "EBUSY"));
    EXPECT_EQ(host.assign(mdev, "unassign_adapter", "5"), "");
    EXPECT_EQ(host.inventory().find_queue({5, 4})->status, QueueStatus::unassigned);
    EXPECT_EQ(host.assign(mdev, "assign_adapter", "6"), "");
    EXPECT_EQ(host.inventory().find_queue({6, 4})->status, QueueStatus::in_use);
}

TEST(FakeKernel, assigns_what_is_free) {
    Host host{one_guest().mdev(other).build()};
    EXPECT_EQ(host.assign(other, "assign_domain", "0x04"), "");
    EXPECT_EQ(host.assign(other, "assign_adapter", "0x06"), "");
    EXPECT_EQ(host.assign(other, "assign_control_domain", "0x47"), "");
    EXPECT_TRUE(host.inventory() == one_guest().mdev(other).assign({6}, {4}, {0x47}).build());
    EXPECT_EQ(host.assign(other, "unassign_control_domain", "0x47"), "");
    EXPECT_THAT(host.inventory().find_mdev(test::uuid(other))->control_domains->bits(), IsEmpty());
}

TEST(FakeKernel, refuses_what_cannot_be_assigned) {
    Host host{one_guest().mdev(other).assign({}, {4}).build()};
    EXPECT_EQ(host.assign(other, "assign_adapter", "256"), refused(other, "assign_adapter", "ENODEV"));
    EXPECT_EQ(host.assign(other, "assign_domain", "0x55"), refused(other, "assign_domain", "ENODEV"));
    EXPECT_EQ(host.assign(other, "assign_adapter", "six"), refused(other, "assign_adapter", "EINVAL"));
    EXPECT_EQ(host.assign(other, "assign_adapter", "5"), refused(other, "assign_adapter", "EADDRINUSE"));
    EXPECT_EQ(host.assign(mdev, "assign_domain", "0x47"), refused(mdev, "assign_domain", "EADDRNOTAVAIL"));
    EXPECT_THAT(host.passed(mdev), ElementsAre(Apqn{5, 4}));
}

TEST(FakeKernel, takes_a_whole_configuration_at_once) {
    Host host{one_guest().free_domains({0x47}).mdev(other).build()};
    const auto config = [](const Mask& adapters, const Mask& domains, const Mask& control_domains) {
        return adapters.to_string() + ',' + domains.to_string() + ',' + control_domains.to_string();
    };
    EXPECT_EQ(host.assign(other, "ap_config", config(Mask::of({6}), Mask::of({4, 0x47}), Mask::of({4}))), "");
    EXPECT_THAT(host.passed(other), ElementsAre(Apqn{6, 4}, Apqn{6, 0x47}));
    EXPECT_EQ(host.assign(other, "ap_config", config(Mask::of({5, 6}), Mask::of({4, 0x47}), {})),
              refused(other, "ap_config", "EADDRINUSE"));
    EXPECT_EQ(host.assign(other, "ap_config", config(Mask::of({6}), Mask::of({200}), {})),
              refused(other, "ap_config", "ENODEV"));
    EXPECT_EQ(host.assign(other, "ap_config", "0x0,0x0"), refused(other, "ap_config", "EINVAL"));
    EXPECT_EQ(host.inventory().find_mdev(test::uuid(other))->control_domains, Mask::of({4}));
}

TEST(FakeKernel, withholds_an_adapter_of_which_a_queue_is_unbound) {
    Host host{two_cards().free_domains({4, 0x47}).mdev(mdev).assign({5, 6}, {4, 0x47}).in_use().build()};
    EXPECT_EQ(host.run("echo 06.0047 > /sys/devices/ap/card06/06.0047/driver/unbind"), "");
    EXPECT_THAT(host.passed(mdev), ElementsAre(Apqn{5, 4}, Apqn{5, 0x47}));
    EXPECT_EQ(host.inventory().find_queue({6, 4})->status, QueueStatus::assigned);
    EXPECT_EQ(host.run("echo 06.0047 > /sys/bus/ap/drivers_probe"), "");
    EXPECT_EQ(host.passed(mdev).size(), 4U);
}

TEST(FakeKernel, configures_a_card_with_its_queues) {
    Host host{two_cards().deconfigure(5).build()};
    EXPECT_EQ(host.run("echo 1 > /sys/devices/ap/card05/config"), "");
    EXPECT_EQ(host.inventory().find_card(5)->config, true);
    EXPECT_EQ(host.inventory().find_queue({5, 4})->config, true);
}

TEST(FakeKernel, switches_migration_on) {
    Host host{one_guest().kernel(Kernel::series_v1).build()};
    EXPECT_EQ(host.assign(mdev, "migratable", "1"), "");
    EXPECT_EQ(host.inventory().find_mdev(test::uuid(mdev))->migratable, true);
}

TEST(FakeKernel, loads_vfio_ap) {
    Host host{two_cards().free_domains({4}).without_vfio_ap().build()};
    EXPECT_EQ(host.driver({5, 4}), "");
    EXPECT_EQ(host.run("modprobe vfio_ap"), "");
    EXPECT_EQ(host.run("modprobe vfio_ap"), "");
    EXPECT_TRUE(host.inventory() == two_cards().free_domains({4}).build())
        << test::differences(host.inventory(), two_cards().free_domains({4}).build());
    Host without{HostBuilder{"h"}.without_ap_bus().build()};
    EXPECT_NE(without.run("modprobe vfio_ap 2>/dev/null"), "");
}

TEST(FakeKernel, keeps_commands_away_from_the_machine) {
    Host host{one_guest().build()};
    EXPECT_EQ(host.run("echo vfio_ap > /etc/modules-load.d/vfio_ap.conf"), "");
    EXPECT_EQ(host.run("chzdev -t ap aqmask=-71"), "");
    EXPECT_EQ(host.run("chzdev -t ap aqmask=-71"), "");
    EXPECT_FALSE(host.inventory().ap->aqmask->test(0x47));
    EXPECT_EQ(host.run(fmt::format("mdevctl define --auto --uuid {}", mdev)), "");
    EXPECT_NE(host.run(fmt::format("mdevctl define --auto --uuid {} 2>/dev/null", mdev)), "")
        << "it is defined already";
    EXPECT_NE(host.run(fmt::format("mdevctl define --auto --uuid {}", other)), "") << "there is no such mdev";
    EXPECT_EQ(host.run("driverctl --bus ap set-override 05.0004 vfio_ap"), "");
    EXPECT_THAT(host.kernel.recorded(), ElementsAre("chzdev -t ap aqmask=-71", "chzdev -t ap aqmask=-71",
                                                    fmt::format("mdevctl define --auto --uuid {}", mdev),
                                                    fmt::format("mdevctl define --auto --uuid {}", mdev),
                                                    fmt::format("mdevctl define --auto --uuid {}", other),
                                                    "driverctl --bus ap set-override 05.0004 vfio_ap"));
}

TEST(FakeKernel, tells_that_a_command_failed) {
    Host host{one_guest().build()};
    EXPECT_EQ(host.run("exit 3"), "exit 3: exit status 3");
    EXPECT_EQ(host.kernel.run("exit 3").status, 3);
}

TEST(FakeKernel, leaves_what_cannot_be_read_as_it_is) {
    FakeRoot root{one_guest().build()};
    root.write("devices/ap/card06/hwtype", "fourteen\n");
    root.make_unreadable("devices/ap/card06/06.0047/chkstop");
    FakeKernel kernel{root.path()};
    EXPECT_EQ(kernel.run("echo -0x47 > /sys/bus/ap/aqmask").message, "");
    EXPECT_EQ(kernel.run("echo 0 > /sys/devices/ap/card06/config").message, "");
    EXPECT_EQ(root.read("devices/ap/card06/hwtype"), "fourteen\n");
    const auto host = SysfsRoot{root.path()}.read_all(Depth::full);
    EXPECT_NE(host.find_unreadable("devices/ap/card06/06.0047/chkstop"), nullptr);
    EXPECT_TRUE(host.find_queue({6, 0x47})->bound_to_vfio_ap());
}

}  // namespace
}  // namespace vfioap
