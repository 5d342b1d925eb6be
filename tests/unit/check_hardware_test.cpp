// SPDX-License-Identifier: LGPL-2.1-or-later
// Rules (a) to (d) of the live migration chapter as truth tables, and what drivers make of them.
#include "compat/check.h"

#include <array>
#include <bit>
#include <cerrno>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/example_hosts.h"
#include "support/move.h"

namespace vfioap {
namespace {

using test::card_of;
using test::findings_of;
using test::Move;
using test::queue_of;
using test::summary;
using test::World;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::array<World, 3> worlds{World::compare, World::restore, World::detached};

constexpr std::uint32_t bit(unsigned number) {
    return std::uint32_t{1} << (31U - number);
}

/// The queue 05.0004 alone, with these functions and types.
struct Hardware {
    std::uint32_t functions = test::cca_functions;
    unsigned type = 14;
};

Report move_between(World world, Hardware source, Hardware destination) {
    Move move{world};
    move.adapters = {5};
    move.domains = {4};
    move.control_domains = {};
    move.there = Move::Assigned{{5}, {4}, {}};
    const auto edit = [](Hardware hardware) {
        return [hardware](Inventory& host) {
            card_of(host, 5).raw_hwtype = hardware.type;
            queue_of(host, {5, 4}).ap_functions = hardware.functions;
        };
    };
    move.edit_source = edit(source);
    move.edit_destination = edit(destination);
    return move.report();
}

std::optional<Severity> severity_of(const Report& report, RuleId id) {
    const auto found = findings_of(report, id);
    EXPECT_LE(found.size(), 1U) << summary(report);
    if (found.empty()) return {};
    return found.front().severity;
}

/// An error where a kernel compares, a warning where only the guest may notice.
Severity usual(World world) {
    return world == World::detached ? Severity::warning : Severity::error;
}

TEST(Facilities, must_be_equal_in_both_directions) {
    const std::array<std::pair<unsigned, RuleId>, 5> facilities{{{0, RuleId::queue_apsc},
                                                                 {1, RuleId::queue_ap4km},
                                                                 {2, RuleId::queue_ap4kc},
                                                                 {6, RuleId::queue_apxa},
                                                                 {7, RuleId::queue_slcf}}};
    for (const auto world : worlds) {
        for (const auto& [number, id] : facilities) {
            for (const bool ours : {false, true}) {
                for (const bool theirs : {false, true}) {
                    SCOPED_TRACE(fmt::format("{} {}: {} to {}", to_text(world), rule(id).name, ours, theirs));
                    const auto functions = test::cca_functions & ~bit(number);
                    const auto report = move_between(world, {functions | (ours ? bit(number) : 0U)},
                                                     {functions | (theirs ? bit(number) : 0U)});
                    const auto expected = ours == theirs ? std::nullopt : std::optional{usual(world)};
                    EXPECT_EQ(severity_of(report, id), expected) << summary(report);
                    for (const auto& [other, other_id] : facilities) {
                        if (other == number) continue;
                        EXPECT_FALSE(severity_of(report, other_id)) << summary(report);
                    }
                }
            }
        }
    }
}

TEST(Mode, must_be_equal_in_all_three_bits) {
    constexpr std::uint32_t without = test::cca_functions & ~(7U << 26U);
    for (const auto world : worlds) {
        for (std::uint32_t ours = 0; ours < 8; ++ours) {
            for (std::uint32_t theirs = 0; theirs < 8; ++theirs) {
                SCOPED_TRACE(fmt::format("{}: {} to {}", to_text(world), ours, theirs));
                const auto report = move_between(world, {without | ours << 26U}, {without | theirs << 26U});
                const auto expected = ours == theirs ? std::nullopt : std::optional{Severity::error};
                EXPECT_EQ(severity_of(report, RuleId::queue_mode), expected) << summary(report);
                if (ours == theirs) continue;
                // A key of one mode is lost in another, whatever the patterns say.
                EXPECT_THAT(findings_of(report, RuleId::masterkey_mismatch), IsEmpty());
                EXPECT_THAT(findings_of(report, RuleId::masterkey_unknown), IsEmpty());
                const auto lines = kernel_messages(findings_of(report, RuleId::queue_mode).front());
                const auto differing = static_cast<std::size_t>(std::popcount(ours ^ theirs));
                const std::size_t types = world == World::compare ? 1 : 0;
                EXPECT_EQ(lines.size(), world == World::detached ? 0 : 1 + 2 * differing + types);
            }
        }
    }
}

TEST(Class, may_only_grow_from_stateless_to_native) {
    // Bit 8 full native, bit 9 stateless only, and classes that are neither.
    constexpr std::array<std::uint32_t, 5> classes{0x80, 0x40, 0x00, 0x20, 0xa0};
    constexpr std::uint32_t without = test::cca_functions & 0xff00ffffU;
    for (const auto world : worlds) {
        for (const auto ours : classes) {
            for (const auto theirs : classes) {
                SCOPED_TRACE(fmt::format("{}: {:02x} to {:02x}", to_text(world), ours, theirs));
                const auto report = move_between(world, {without | ours << 16U}, {without | theirs << 16U});
                const bool grows = ours == 0x40 && (theirs & 0x80U) != 0;
                const bool allowed = ours == theirs || grows;
                const auto expected = allowed ? std::nullopt : std::optional{usual(world)};
                EXPECT_EQ(severity_of(report, RuleId::queue_class), expected) << summary(report);
                // What the rule allows, v1 to v4 refuse: v1 and v2 are all there is of profile compare.
                const auto stricter = !grows                    ? std::nullopt
                                      : world == World::compare ? std::optional{Severity::error}
                                      : world == World::restore ? std::optional{Severity::warning}
                                                                : std::nullopt;
                EXPECT_EQ(severity_of(report, RuleId::driver_stricter), stricter) << summary(report);
            }
        }
    }
}

TEST(BindState, must_be_0_on_both_sides) {
    for (const auto world : worlds) {
        for (std::uint32_t ours = 0; ours < 4; ++ours) {
            for (std::uint32_t theirs = 0; theirs < 4; ++theirs) {
                SCOPED_TRACE(fmt::format("{}: {} to {}", to_text(world), ours, theirs));
                const auto report = move_between(world, {test::cca_functions | ours << 14U},
                                                 {test::cca_functions | theirs << 14U});
                std::optional<Severity> expected;
                if (ours != 0 || theirs != 0) {
                    // Attached anew, the guest sees only the destination's queue.
                    const bool harmless = world == World::detached && theirs == 0;
                    expected = harmless ? Severity::warning : Severity::error;
                }
                EXPECT_EQ(severity_of(report, RuleId::queue_bs), expected) << summary(report);
                // v1 and v2 look at the card, which has no such state; v3 and v4 let equal ones pass.
                const bool passes =
                    expected && (world == World::compare || (world == World::restore && ours == theirs));
                EXPECT_EQ(severity_of(report, RuleId::driver_laxer),
                          passes ? std::optional{Severity::info} : std::nullopt)
                    << summary(report);
            }
        }
    }
}

TEST(Type, may_only_grow) {
    for (const auto world : worlds) {
        for (unsigned ours = 10; ours < 17; ++ours) {
            for (unsigned theirs = 10; theirs < 17; ++theirs) {
                SCOPED_TRACE(fmt::format("{}: {} to {}", to_text(world), ours, theirs));
                const auto report =
                    move_between(world, {test::cca_functions, ours}, {test::cca_functions, theirs});
                const auto expected = theirs >= ours ? std::nullopt : std::optional{usual(world)};
                EXPECT_EQ(severity_of(report, RuleId::queue_type), expected) << summary(report);
                EXPECT_EQ(report.verdict == Verdict::compatible, expected != Severity::error);
            }
        }
    }
}

TEST(Type, is_what_the_card_says_not_what_the_kernel_treats_it_as) {
    Move move{World::restore};
    move.edit_source = [](Inventory& host) {
        card_of(host, 5).raw_hwtype = 15;
        card_of(host, 5).hwtype = 14;
    };
    auto found = findings_of(move.report(), RuleId::queue_type);
    ASSERT_THAT(found, SizeIs(1));
    EXPECT_EQ(found.front().source, "type 15");
    EXPECT_EQ(found.front().destination, "CEX8");
    move.edit_destination = move.edit_source;
    EXPECT_THAT(findings_of(move.report(), RuleId::queue_type), IsEmpty());
    // An old kernel shows only what it treats the card as.
    move.edit_source = move.edit_destination = [](Inventory& host) { card_of(host, 5).raw_hwtype.reset(); };
    EXPECT_EQ(move.report().verdict, Verdict::compatible);
}

TEST(OtherFunctions, are_compared_by_drivers_alone) {
    for (const auto number : {18U, 25U, 31U}) {
        const Hardware other{test::cca_functions | bit(number)};
        const auto compare = move_between(World::compare, {}, other);
        EXPECT_EQ(severity_of(compare, RuleId::driver_stricter), Severity::error) << summary(compare);
        EXPECT_EQ(compare.prediction.error, EFAULT);
        const auto found = findings_of(compare, RuleId::driver_stricter).front();
        EXPECT_NE(found.source, found.destination);
        const auto restore = move_between(World::restore, {}, other);
        EXPECT_EQ(severity_of(restore, RuleId::driver_stricter), Severity::warning) << summary(restore);
        EXPECT_EQ(restore.verdict, Verdict::compatible);
        EXPECT_THAT(move_between(World::detached, {}, other).findings, IsEmpty());
    }
}

TEST(HardwareFindings, join_queues_with_the_same_values) {
    Move move{World::restore};
    move.edit_destination = [](Inventory& host) {
        for (auto& card : host.cards)
            card.raw_hwtype = 13;
    };
    const auto report = move.report();
    const auto found = findings_of(report, RuleId::queue_type);
    ASSERT_THAT(found, SizeIs(1)) << summary(report);
    EXPECT_THAT(found.front().queues, ElementsAre(Apqn{5, 4}, Apqn{5, 0x47}, Apqn{6, 4}, Apqn{6, 0x47}));
}

TEST(HardwareFindings, keep_queues_with_other_values_apart) {
    Move move{World::restore};
    move.edit_destination = [](Inventory& host) {
        card_of(host, 5).raw_hwtype = 13;
        card_of(host, 6).raw_hwtype = 12;
    };
    const auto report = move.report();
    const auto found = findings_of(report, RuleId::queue_type);
    ASSERT_THAT(found, SizeIs(2)) << summary(report);
    EXPECT_EQ(found[0].destination, "CEX7");
    EXPECT_THAT(found[0].queues, ElementsAre(Apqn{5, 4}, Apqn{5, 0x47}));
    EXPECT_EQ(found[1].destination, "CEX6");
    EXPECT_THAT(found[1].queues, ElementsAre(Apqn{6, 4}, Apqn{6, 0x47}));
}

TEST(HardwareFindings, join_alternating_values) {
    Move move{World::restore};
    move.edit_destination = [](Inventory& host) {
        for (auto& queue : host.queues) {
            if (queue.apqn.apqi() == 4) queue.ap_functions = *queue.ap_functions ^ bit(7);
        }
    };
    const auto found = findings_of(move.report(), RuleId::queue_slcf);
    ASSERT_THAT(found, SizeIs(1));
    EXPECT_THAT(found.front().queues, ElementsAre(Apqn{5, 4}, Apqn{6, 4}));
}

TEST(HardwareFindings, name_every_difference_of_a_queue) {
    const auto report = move_between(World::restore, {0xff000000, 14}, {0x00004000, 10});
    for (const auto id : {RuleId::queue_apsc, RuleId::queue_ap4km, RuleId::queue_ap4kc, RuleId::queue_mode,
                          RuleId::queue_apxa, RuleId::queue_slcf, RuleId::queue_type, RuleId::queue_bs}) {
        EXPECT_EQ(severity_of(report, id), Severity::error) << rule(id).name << '\n' << summary(report);
    }
}

/// Profile compare logs the types with every queue. One finding has one wording for all its queues, so the
/// line is left out rather than wrong where they have several.
TEST(HardwareFindings, name_no_types_where_queues_have_several) {
    for (const bool several : {false, true}) {
        Move move{World::compare};
        move.edit_source = [several](Inventory& host) { card_of(host, 6).raw_hwtype = several ? 13 : 14; };
        move.edit_destination = [several](Inventory& host) {
            card_of(host, 6).raw_hwtype = several ? 13 : 14;
            for (auto& card : host.cards)
                *card.ap_functions ^= bit(7);
        };
        const auto report = move.report();
        const auto found = findings_of(report, RuleId::queue_slcf);
        ASSERT_THAT(found, SizeIs(1)) << summary(report);
        EXPECT_EQ(found.front().kernel_lines.size(), several ? 3U : 4U);
    }
}

}  // namespace
}  // namespace vfioap
