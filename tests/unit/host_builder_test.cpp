// SPDX-License-Identifier: LGPL-2.1-or-later
// The hosts that other tests trust must agree with themselves.
#include "support/host_builder.h"

#include "host/guest_matrix.h"

#include <algorithm>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/example_hosts.h"

namespace vfioap {
namespace {

using test::HostBuilder;
using test::Kernel;
using ::testing::HasSubstr;

TEST(HostBuilder, gives_a_queue_to_guests_when_its_adapter_or_its_domain_bit_is_0) {
    const auto host = HostBuilder{"h"}
                          .cards({5, 6}, "CEX8C")
                          .domains({4, 0x47})
                          .free_adapters({5})
                          .free_domains({4})
                          .build();
    EXPECT_EQ(host.find_queue({5, 4})->driver, "vfio_ap");
    EXPECT_EQ(host.find_queue({5, 0x47})->driver, "vfio_ap");
    EXPECT_EQ(host.find_queue({6, 4})->driver, "vfio_ap");
    EXPECT_EQ(host.find_queue({6, 0x47})->driver, "cex4queue");
    EXPECT_FALSE(host.ap->apmask->test(5));
    EXPECT_FALSE(host.ap->aqmask->test(4));
    EXPECT_EQ(host.ap->bindings, "4/4 (complete)");
}

TEST(HostBuilder, makes_example_hosts_that_agree_with_themselves) {
    for (const auto& host : test::example_hosts()) {
        for (const auto& queue : host.queues) {
            const auto where = host.name + " " + queue.apqn.to_string();
            const auto* const card = host.find_card(queue.apqn.apid());
            ASSERT_NE(card, nullptr) << where;
            EXPECT_TRUE(host.ap->ap_adapter_mask.mask.test(queue.apqn.apid())) << where;
            EXPECT_TRUE(host.ap->ap_usage_domain_mask.mask.test(queue.apqn.apqi())) << where;
            const bool free =
                !host.ap->apmask->test(queue.apqn.apid()) || !host.ap->aqmask->test(queue.apqn.apqi());
            const bool for_guests = free || queue.driver_override() == "vfio_ap";
            EXPECT_EQ(queue.bound_to_vfio_ap(), for_guests) << where;
            EXPECT_EQ(queue.status != QueueStatus::absent, queue.bound_to_vfio_ap()) << where;
            EXPECT_EQ(queue.online.has_value(), queue.driver == "cex4queue") << where;
            const bool assigned = std::any_of(host.mdevs.begin(), host.mdevs.end(),
                                              [&](const Mdev& mdev) { return mdev.assigned(queue.apqn); });
            if (!queue.bound_to_vfio_ap()) continue;
            EXPECT_EQ(queue.status != QueueStatus::unassigned, assigned) << where;
        }
        for (const auto& mdev : host.mdevs) {
            if (!mdev.guest_matrix) continue;
            // By the rule as the kernel has it, and as the library has it: two that were written apart.
            auto computed = mdev;
            computed.guest_matrix.reset();
            EXPECT_EQ(*mdev.guest_matrix, guest_matrix_of(host, computed).queues)
                << host.name << ' ' << mdev.uuid.to_string();
        }
    }
}

TEST(HostBuilder, filters_a_whole_adapter_for_one_missing_queue) {
    const auto host = HostBuilder{"h"}
                          .cards({5, 6}, "CEX8C")
                          .domains({4, 0x47})
                          .free_domains({4, 0x47})
                          .vanish({6, 0x47})
                          .mdev(test::example_mdev)
                          .assign({5, 6}, {4, 0x47})
                          .in_use()
                          .build();
    EXPECT_EQ(host.find_queue({6, 0x47}), nullptr);
    EXPECT_THAT(*host.mdevs[0].guest_matrix, ::testing::ElementsAre(Apqn{5, 4}, Apqn{5, 0x47}));
    EXPECT_EQ(host.find_queue({5, 4})->status, QueueStatus::in_use);
    EXPECT_EQ(host.find_queue({6, 4})->status, QueueStatus::assigned);
}

TEST(HostBuilder, refuses_what_no_kernel_does) {
    const auto newest = [] { return HostBuilder{"h"}.kernel(Kernel::newest).card(5, "CEX8C").domains({4}); };
    EXPECT_THROW(newest().free_adapters({5}).bind_to_vfio_ap(), std::logic_error);
    EXPECT_THROW(newest().bind_to_vfio_ap().free_adapters({5}), std::logic_error);
    EXPECT_THROW(newest().bind_to_host({5, 4}), std::logic_error);
    EXPECT_THROW(HostBuilder{"h"}.bind_to_vfio_ap(Apqn{5, 4}), std::logic_error);
    EXPECT_THROW(HostBuilder{"h"}.bind_state({5, 4}, 1), std::logic_error);
    EXPECT_THROW(HostBuilder{"h"}.card(5, "CEX8"), std::logic_error);
    EXPECT_THROW(HostBuilder{"h"}.card(5, "CEX3C"), std::logic_error);
    EXPECT_THROW(HostBuilder{"h"}.card(5, "CEX8C").card(5, "CEX8P"), std::logic_error);
    EXPECT_THROW(HostBuilder{"h"}.assign({5}, {4}), std::logic_error);
    EXPECT_THROW(HostBuilder{"h"}.mdev("guest1"), std::logic_error);
    EXPECT_THROW(HostBuilder{"h"}
                     .mdev(test::example_mdev)
                     .assign({5}, {4})
                     .mdev("00000000-0000-0000-0000-000000000000")
                     .assign({5, 6}, {4}),
                 std::logic_error);
    EXPECT_THROW(HostBuilder{"h"}.mdev(test::example_mdev).migratable(true), std::logic_error);
    EXPECT_THROW((void)HostBuilder{"h"}.without_vfio_ap().mdev(test::example_mdev).build(), std::logic_error);
}

TEST(HostBuilder, treats_a_card_newer_than_the_kernel_as_the_newest_it_knows) {
    const auto host = HostBuilder{"h"}.card(5, "CEX9C").domains({4}).build();
    EXPECT_EQ(host.cards[0].hwtype, 14U);
    EXPECT_EQ(host.cards[0].raw_hwtype, 15U);
    EXPECT_EQ(host.cards[0].type, "CEX8C");
    EXPECT_EQ(hwinfo_of(host.queues[0], host.cards.data())->at(), 15U);
}

TEST(HostBuilder, replaces_one_register_of_the_master_keys) {
    const auto keys = test::with_register(test::cca_keys(1), "AES NEW: full 0x5aa5c33c0ff05aa5");
    EXPECT_EQ(keys.find("AES", "NEW")->state, "full");
    EXPECT_EQ(keys.find("AES", "CUR")->pattern, test::cca_keys(1).find("AES", "CUR")->pattern);
    EXPECT_NE(keys.find("AES", "CUR")->pattern, test::cca_keys(2).find("AES", "CUR")->pattern);
    EXPECT_THROW(test::with_register(keys, "WK CUR: invalid -"), std::logic_error);
    EXPECT_EQ(test::unknown_cca_keys().find("ASYM", "OLD")->state, "-");
}

}  // namespace
}  // namespace vfioap
