// SPDX-License-Identifier: LGPL-2.1-or-later
// Remedies are carried out on fake roots, whose kernel refuses what a real one refuses: what is mended has to
// be gone from the next report.
#include "compat/remedies.h"

#include "host/sysfs.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/example_hosts.h"
#include "support/fake_kernel.h"
#include "support/fake_root.h"
#include "support/move.h"

namespace vfioap {
namespace {

using test::FakeKernel;
using test::FakeRoot;
using test::findings_of;
using test::HostBuilder;
using test::Kernel;
using test::mdev_of;
using test::Move;
using test::queue_of;
using test::summary;
using test::World;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

/// A host as a directory, with the kernel behind it, once a command is to be carried out there.
class Host {
  public:
    explicit Host(Inventory inventory) : inventory_{std::move(inventory)} {}

    [[nodiscard]] Inventory inventory() const {
        if (!live_) return inventory_;
        auto now = SysfsRoot{live_->root.path()}.read_all(Depth::full);
        now.location = inventory_.location;
        return now;
    }
    FakeKernel& kernel() {
        if (!live_) live_ = std::make_unique<Live>(inventory_);
        return live_->kernel;
    }

  private:
    struct Live {
        explicit Live(const Inventory& host) : root{host}, kernel{root.path()} {}
        FakeRoot root;
        FakeKernel kernel;
    };
    Inventory inventory_;
    std::unique_ptr<Live> live_;
};

class Site {
  public:
    Site(Guest guest, Inventory left, Inventory right, const CheckOptions& options)
        : guest_{std::move(guest)}, options_{options}, left_{std::move(left)}, right_{std::move(right)} {}

    [[nodiscard]] Report check() const {
        return test::check(guest_, left_.inventory(), right_.inventory(), options_);
    }

    /// Carries out the commands; each must work.
    void mend(const Finding& finding) {
        for (const auto& remedy : finding.remedies) {
            for (const auto& command : remedy.commands) {
                const auto answer = (remedy.host == Side::source ? left_ : right_).kernel().run(command);
                EXPECT_EQ(answer.status, 0) << command << '\n' << answer.message;
            }
        }
    }

  private:
    Guest guest_;
    CheckOptions options_;
    Host left_;
    Host right_;
};

Site site_of(const Move& move) {
    return {move.guest, move.left(), move.right(), move.options};
}

bool has_commands(const Finding& finding) {
    return std::any_of(finding.remedies.begin(), finding.remedies.end(),
                       [](const Remedy& remedy) { return !remedy.commands.empty(); });
}

std::vector<std::string> commands_of(const Report& report, RuleId id) {
    std::vector<std::string> commands;
    for (const auto& finding : findings_of(report, id)) {
        for (const auto& remedy : finding.remedies)
            commands.insert(commands.end(), remedy.commands.begin(), remedy.commands.end());
    }
    return commands;
}

/// All commands of the report, in its order.
void mend_all(Site& site) {
    const auto before = site.check();
    SCOPED_TRACE(summary(before));
    for (const auto& finding : before.findings)
        site.mend(finding);
}

/// One thing is wrong, and its commands alone mend it.
struct Fault {
    std::string name;
    RuleId rule;
    World world;
    std::function<void(Move&)> make;
};

HostBuilder::Numbers range(unsigned first, unsigned count) {
    HostBuilder::Numbers numbers;
    for (unsigned i = 0; i < count; ++i)
        numbers.push_back(static_cast<std::uint8_t>(first + i));
    return numbers;
}

/// 8 adapters and 5 domains: more than anybody wants to write one by one.
void make_wide(Move& move) {
    for (auto* const host : {&move.source, &move.destination})
        host->cards(range(0x10, 8), "CEX8A").domains(range(0x20, 5));
    move.adapters = range(0x10, 8);
    move.domains = move.free = range(0x20, 5);
    move.control_domains = {0x20};
    move.there = Move::Assigned{move.adapters, move.domains, {0x20}};
}

/// No kernel before the one with ap_config.
void without_ap_config(Move& move) {
    move.edit_destination = [](Inventory& host) {
        host.vfio_ap->features.reset();
        for (auto& mdev : host.mdevs) {
            mdev.ap_config = false;
            mdev.guest_matrix.reset();
        }
    };
}

std::vector<Fault> faults() {
    std::vector<Fault> all;
    const auto add = [&all](const std::string& name, RuleId rule, std::vector<World> worlds,
                            const std::function<void(Move&)>& make) {
        for (const auto world : worlds)
            all.push_back({fmt::format("{}, {}", name, to_text(world)), rule, world, make});
    };
    const std::vector<World> everywhere{World::compare, World::restore, World::detached};
    const std::vector<World> set_up_beforehand{World::compare, World::detached};

    add("a domain is the host's", RuleId::queue_not_bound, everywhere, [](Move& move) {
        move.free = {4};
        move.there.reset();
    });
    add("everything is the host's", RuleId::queue_not_bound, everywhere, [](Move& move) {
        move.free = {};
        move.there.reset();
    });
    add("a queue was unbound by hand", RuleId::queue_not_bound, everywhere, [](Move& move) {
        move.edit_destination = [](Inventory& host) {
            queue_of(host, {5, 4}).driver = "";
            queue_of(host, {5, 4}).status = QueueStatus::absent;
            mdev_of(host, test::example_mdev).guest_matrix = {{6, 4}, {6, 0x47}};
        };
    });
    add("no mdev", RuleId::mdev_missing, everywhere, [](Move& move) { move.there.reset(); });
    add("no mdev for many queues", RuleId::mdev_missing, everywhere, [](Move& move) {
        make_wide(move);
        move.there.reset();
    });
    add("no mdev for many queues, no ap_config", RuleId::mdev_missing, {World::detached}, [](Move& move) {
        make_wide(move);
        move.there.reset();
        without_ap_config(move);
    });
    add("the driver is not loaded", RuleId::kernel_no_vfio_ap, {World::detached}, [](Move& move) {
        move.destination.without_vfio_ap();
        move.there.reset();
    });
    add("a card is deconfigured", RuleId::queue_deconfigured, everywhere,
        [](Move& move) { move.destination.deconfigure(5).deconfigure(6); });
    add("an idle mdev has a queue", RuleId::queue_assigned_elsewhere, everywhere, [](Move& move) {
        move.there = Move::Assigned{};
        move.neighbour = Move::Assigned{{5}, {4}, {}};
    });
    add("an mdev has a domain across adapters", RuleId::queue_assigned_elsewhere, everywhere, [](Move& move) {
        move.there = Move::Assigned{};
        move.neighbour = Move::Assigned{{5, 6, 7}, {4}, {4}};
    });
    add("an mdev has many of them", RuleId::queue_assigned_elsewhere, everywhere, [](Move& move) {
        make_wide(move);
        move.there = Move::Assigned{};
        move.neighbour = Move::Assigned{range(0x10, 8), range(0x20, 5), {0x21}};
    });
    add("an adapter is not assigned", RuleId::queue_not_assigned, set_up_beforehand,
        [](Move& move) { move.there->adapters = {5}; });
    add("nothing is assigned", RuleId::queue_not_assigned, set_up_beforehand,
        [](Move& move) { move.there = Move::Assigned{}; });
    add("none of many are assigned", RuleId::queue_not_assigned, set_up_beforehand, [](Move& move) {
        make_wide(move);
        move.there = Move::Assigned{};
    });
    add("none of many are assigned, no ap_config", RuleId::queue_not_assigned, {World::detached},
        [](Move& move) {
            make_wide(move);
            move.there = Move::Assigned{};
            without_ap_config(move);
        });
    add("another adapter is assigned", RuleId::queue_not_assigned, set_up_beforehand, [](Move& move) {
        move.there->adapters = {5, 7};
    });
    add("an adapter cannot be assigned beside a domain that is the host's", RuleId::queue_not_assigned,
        {World::detached}, [](Move& move) {
            move.destination.domains({4, 0x47, 0x54});
            move.there = Move::Assigned{{5}, {4, 0x54}, {4}};
            move.edit_destination = [](Inventory& host) {
                // 05.0054 is overridden, 06.0054 is not.
                auto& queue = queue_of(host, {5, 0x54});
                queue.driver = "vfio_ap";
                queue.online.reset();
                queue.status = QueueStatus::assigned;
                queue.detail = queue_of(host, {5, 4}).detail;
                mdev_of(host, test::example_mdev).guest_matrix = {{5, 4}, {5, 0x54}};
            };
        });
    add("too much is assigned", RuleId::queue_count, set_up_beforehand, [](Move& move) {
        move.destination.domains({4, 0x47, 0x54});
        move.free = {4, 0x47, 0x54};
        move.there = Move::Assigned{{5, 6, 7}, {4, 0x47, 0x54}, {4}};
    });
    add("far too much is assigned", RuleId::queue_count, set_up_beforehand, [](Move& move) {
        make_wide(move);
        move.adapters = {0x10};
        move.domains = {0x20};
    });
    add("a foreign queue is missing", RuleId::config_filtered, set_up_beforehand, [](Move& move) {
        move.destination.domains({4, 0x47, 0x54}).vanish({5, 0x54});
        move.free = {4, 0x47, 0x54};
        move.there->domains = {4, 0x47, 0x54};
    });
    add("a foreign queue was unbound", RuleId::config_filtered, set_up_beforehand, [](Move& move) {
        move.destination.domains({4, 0x47, 0x54});
        move.free = {4, 0x47, 0x54};
        move.there->domains = {4, 0x47, 0x54};
        move.edit_destination = [](Inventory& host) {
            auto& queue = queue_of(host, {5, 0x54});
            queue.driver = "";
            queue.status = QueueStatus::absent;
            mdev_of(host, test::example_mdev).guest_matrix = {{6, 4}, {6, 0x47}, {6, 0x54}};
        };
    });
    add("a control domain is not assigned", RuleId::control_domain_missing, set_up_beforehand,
        [](Move& move) { move.there->control_domains = {}; });
    add("many control domains are not assigned", RuleId::control_domain_missing, set_up_beforehand,
        [](Move& move) {
            for (auto* const host : {&move.source, &move.destination})
                host->control_domains(range(0, 60));
            move.control_domains = range(0, 60);
        });
    add("a control domain too many", RuleId::control_domain_extra, set_up_beforehand, [](Move& move) {
        move.there->control_domains = {4, 0x47};
    });
    add("migration is switched off", RuleId::mdev_not_migratable, {World::compare}, [](Move& move) {
        move.edit_source = [](Inventory& host) { mdev_of(host, test::example_mdev).migratable = false; };
    });
    return all;
}

class Remedies : public testing::TestWithParam<Fault> {};

TEST_P(Remedies, mend_what_they_are_for_and_together_make_the_move_possible) {
    const auto& fault = GetParam();
    SCOPED_TRACE(fault.name);
    Move move{fault.world};
    fault.make(move);
    auto site = site_of(move);
    const auto before = site.check();
    SCOPED_TRACE(summary(before));
    const auto found = findings_of(before, fault.rule);
    ASSERT_THAT(found, Not(IsEmpty()));
    // What has to be mended first comes first.
    for (const auto& finding : before.findings) {
        if (finding.rule > fault.rule || !has_commands(finding)) continue;
        site.mend(finding);
    }
    const auto mended = site.check();
    EXPECT_THAT(findings_of(mended, fault.rule), IsEmpty()) << summary(mended);
    // The rest of the same report, not of a new one.
    for (const auto& finding : before.findings) {
        if (finding.rule > fault.rule) site.mend(finding);
    }
    const auto after = site.check();
    EXPECT_EQ(after.verdict, Verdict::compatible) << summary(after);
    for (const auto& finding : after.findings)
        EXPECT_FALSE(has_commands(finding)) << "more to do\n" << summary(after);
}

INSTANTIATE_TEST_SUITE_P(Each, Remedies, testing::ValuesIn(faults()), [](const auto& param) {
    std::string name = param.param.name;
    std::replace_if(
        name.begin(), name.end(), [](char c) { return std::isalnum(c) == 0; }, '_');
    return name;
});

TEST(ManyRemedies, make_the_move_possible) {
    // Everything at once that commands can mend, for each way of keeping queues and of moving.
    for (const auto world : {World::compare, World::restore, World::detached}) {
        SCOPED_TRACE(to_text(world));
        Move move{world};
        move.free = {4};
        move.there = Move::Assigned{{7}, {4}, {0x47}};
        move.neighbour = Move::Assigned{{5, 6}, {4}, {}};
        move.destination.deconfigure(6);
        auto site = site_of(move);
        const auto before = site.check();
        EXPECT_EQ(before.verdict, Verdict::incompatible);
        mend_all(site);
        const auto after = site.check();
        EXPECT_EQ(after.verdict, Verdict::compatible) << summary(before) << summary(after);
    }
}

TEST(ManyRemedies, for_wide_guests_do_not_undo_each_other) {
    for (const auto world : {World::compare, World::detached}) {
        for (const bool ap_config : {true, false}) {
            SCOPED_TRACE(fmt::format("{}, {}", to_text(world), ap_config));
            Move move{world};
            make_wide(move);
            for (auto* const host : {&move.source, &move.destination})
                host->control_domains(range(0, 60));
            move.control_domains = range(0, 30);
            // Other halves of everything, and adapters that the guest did not have.
            move.destination.cards(range(0x30, 13), "CEX8A");
            move.there = Move::Assigned{range(0x30, 13), range(0x20, 2), range(30, 30)};
            if (!ap_config && world == World::detached) without_ap_config(move);
            auto site = site_of(move);
            mend_all(site);
            const auto after = site.check();
            EXPECT_EQ(after.verdict, Verdict::compatible) << summary(after);
            EXPECT_EQ(after.count(Severity::warning), 0U) << summary(after);
        }
    }
}

TEST(Reservation, names_the_mechanism_that_the_host_uses) {
    for (const auto world : {World::compare, World::detached}) {
        Move move{world};
        move.free = {4};
        move.adapters = {5, 6, 7};
        move.there.reset();
        const auto commands = commands_of(move.report(), RuleId::queue_not_bound);
        if (world == World::compare) {
            EXPECT_THAT(commands, ElementsAre("echo -0x05,-0x06,-0x07 > /sys/bus/ap/apmask",
                                              "chzdev -t ap apmask=-5,-6,-7"));
        } else {
            EXPECT_THAT(commands, Contains("echo vfio_ap > /sys/devices/ap/card05/05.0047/driver_override"));
            EXPECT_THAT(commands, Contains("driverctl --bus ap set-override 05.0047 vfio_ap"));
            EXPECT_THAT(commands, Not(Contains(HasSubstr("mask"))));
        }
    }
}

TEST(BindRemedy, takes_few_queues_from_the_host_and_says_how_many) {
    const auto remedy_of = [](HostBuilder host, const std::vector<Apqn>& queues) {
        return bind_queues(host.build(), queues).front();
    };
    const auto host = HostBuilder{"h"}.cards({5, 6, 7}, "CEX8C").domains({4, 0x47});
    // By adapter 1 more would go, by domain 2.
    auto remedy = remedy_of(host, {{5, 4}});
    EXPECT_THAT(remedy.commands, ElementsAre("echo -0x05 > /sys/bus/ap/apmask"));
    EXPECT_THAT(remedy.text, HasSubstr("takes 1 other queue from"));
    remedy = remedy_of(host, {{5, 4}, {6, 4}, {7, 4}});
    EXPECT_THAT(remedy.commands, ElementsAre("echo -0x04 > /sys/bus/ap/aqmask"));
    EXPECT_THAT(remedy.text, Not(HasSubstr("other queue")));
    remedy = remedy_of(host, {{5, 4}, {6, 4}});
    EXPECT_THAT(remedy.commands, ElementsAre("echo -0x04 > /sys/bus/ap/aqmask"));
    EXPECT_THAT(remedy.text, HasSubstr("takes 1 other queue from"));
}

TEST(TakingRemedy, takes_little_from_the_owner_and_says_how_much) {
    Move move{World::restore};
    move.there = Move::Assigned{};
    move.neighbour = Move::Assigned{{5, 6, 7}, {4}, {}};
    const auto found = findings_of(move.report(), RuleId::queue_assigned_elsewhere);
    ASSERT_THAT(found, SizeIs(1));
    EXPECT_THAT(found.front().remedies.front().commands, SizeIs(2));
    EXPECT_THAT(found.front().remedies.front().commands, Each(HasSubstr("/unassign_adapter")));
    EXPECT_THAT(found.front().remedies.front().text, HasSubstr("if its guest can do without them"));
}

TEST(ExchangeRemedy, takes_away_before_it_gives) {
    Mdev mdev{test::uuid(test::example_mdev)};
    const auto remedies =
        exchange(mdev, {Mask::of({7}), {}, {}}, {Mask::of({5}), Mask::of({4}), {}}, nullptr);
    const auto path = "/sys/devices/vfio_ap/matrix/" + std::string{test::example_mdev};
    EXPECT_THAT(remedies.front().commands, ElementsAre("echo 0x07 > " + path + "/unassign_adapter",
                                                       "echo 0x05 > " + path + "/assign_adapter",
                                                       "echo 0x04 > " + path + "/assign_domain"));
}

TEST(Remedy, of_the_masks_and_of_mdevs_also_lasts) {
    for (const auto world : {World::compare, World::detached}) {
        Move move{world};
        move.free = {4};
        move.there.reset();
        const auto report = move.report();
        for (const auto id : {RuleId::queue_not_bound, RuleId::mdev_missing}) {
            const auto found = findings_of(report, id);
            ASSERT_THAT(found, SizeIs(1));
            EXPECT_THAT(found.front().remedies.back().text, StartsWith("keep it so after a reboot"));
        }
    }
}

TEST(Remedy, commands_carry_no_more_than_numbers_and_names_of_ours) {
    // They are meant to be pasted into a root shell.
    Move move{World::detached};
    move.free = {4};
    move.there.reset();
    move.guest.name = "guest; rm -rf $HOME";
    move.edit_destination = [](Inventory& host) { host.name = "$(reboot)"; };
    for (const auto& finding : move.report().findings) {
        for (const auto& remedy : finding.remedies) {
            for (const auto& command : remedy.commands) {
                EXPECT_EQ(command.find_first_of(";$`\\\"'(){}*"), std::string::npos) << command;
            }
        }
    }
}

TEST(Examples, are_mended_by_their_remedies_where_the_hardware_is_there) {
    std::vector<Inventory> hosts = test::example_hosts();
    const auto find = [&](std::string_view name) {
        return *std::find_if(hosts.begin(), hosts.end(), [&](const auto& host) { return host.name == name; });
    };
    Guest guest;
    guest.name = "guest1";
    guest.mdevs = {test::uuid(test::example_mdev)};
    Site site{guest, find("lpar-a"), find("lpar-b"), {}};
    EXPECT_EQ(site.check().verdict, Verdict::incompatible);
    mend_all(site);
    EXPECT_EQ(site.check().verdict, Verdict::compatible) << summary(site.check());
}

}  // namespace
}  // namespace vfioap
