// SPDX-License-Identifier: LGPL-2.1-or-later
// The way of a state: from the source's inventory through the text in the domain to the verdict at the
// destination, which must be that of a check that sees both hosts.
#include "ap/error.h"
#include "compat/state.h"
#include "report/json.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/example_hosts.h"
#include "support/move.h"

namespace vfioap {
namespace {

using test::findings_of;
using test::HostBuilder;
using test::Kernel;
using test::Move;
using test::summary;
using test::World;
using testing::HasSubstr;

Uuid mdev() {
    return test::uuid(test::example_mdev);
}

/// The domain as the destination gets it: as text.
DomainXml carried(const DomainState& state, bool with_device) {
    const std::string device =
        "<devices><hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address "
        "uuid='" +
        std::string{test::example_mdev} + "'/></source></hostdev></devices>";
    return parse_domain_xml("<domain type='kvm'><name>guest1</name><metadata>" + state_element(state) +
                                "</metadata>" + (with_device ? device : "") + "</domain>",
                            "x");
}

/// Rules, severities and queues; not where the source's description differs in nothing but words.
std::vector<std::string> essence(const Report& report) {
    std::vector<std::string> lines{std::string{to_text(report.verdict)} + ' ' +
                                   std::string{to_text(report.mode)}};
    for (const auto& finding : report.findings) {
        std::string line = std::string{to_text(finding.severity)} + ' ' +
                           std::string{rule(finding.rule).name} + ' ' + finding.source + ' ' +
                           finding.destination;
        for (const auto apqn : finding.queues)
            line += ' ' + apqn.to_string();
        lines.push_back(std::move(line));
    }
    return lines;
}

TEST(StateOf, a_guest_is_what_the_source_describes) {
    for (const auto& host : test::example_hosts()) {
        for (const auto& entry : host.mdevs) {
            SCOPED_TRACE(host.name + ' ' + entry.uuid.to_string());
            const auto source = describe_source(Guest{"g", {}, {entry.uuid}}, host);
            if (!source.configuration_known) {
                EXPECT_THROW(state_of(host, entry.uuid), InputError);
                continue;
            }
            const auto state = state_of(host, entry.uuid);
            EXPECT_EQ(state, (DomainState{entry.uuid, host.name, state.layout, false, source.configuration}));
            EXPECT_EQ(state.layout, host.name == "z16-v1" ? "l1" : "l3");
            EXPECT_EQ(parse_state(state_element(state), "x"), state);
        }
    }
}

TEST(StateOf, a_guest_that_is_not_there_is_an_error) {
    const Move move{World::detached};
    EXPECT_THROW(state_of(move.left(), test::uuid(test::neighbour_mdev)), InputError);
    auto host = move.left();
    test::mdev_of(host, test::example_mdev).control_domains.reset();
    EXPECT_THROW(state_of(host, mdev()), InputError);
}

TEST(StateCheck, says_what_a_check_of_both_hosts_says) {
    auto hosts = test::example_hosts();
    for (auto& host : hosts)
        host.location = "test:" + host.name;
    std::size_t checks = 0;
    for (const auto& source : hosts) {
        if (source.find_mdev(mdev()) == nullptr) continue;
        const Guest guest{"guest1", {}, {mdev()}};
        const auto described = describe_source(guest, source);
        // What could not be read of the source is said only there.
        if (!described.configuration_known || !described.findings.empty()) continue;
        const auto domain = carried(state_of(source, mdev()), true);
        for (const auto& destination : hosts) {
            if (source.name == destination.name) continue;
            CheckOptions options;
            options.mode = Mode::detached;
            EXPECT_EQ(essence(check(guest_of(domain), describe_state(domain, false), destination, options)),
                      essence(check(guest, described, destination, options)))
                << source.name << " to " << destination.name;
            ++checks;
        }
    }
    EXPECT_GT(checks, 10U);
}

TEST(StateCheck, of_a_guest_that_arrives_with_its_device_is_native) {
    for (const auto world : {World::compare, World::restore}) {
        Move move{world};
        move.options.mode = Mode::automatic;
        move.options.profile = Profile::automatic;
        move.domain = carried(state_of(move.left(), mdev()), true);
        const auto report = move.report();
        EXPECT_EQ(report.mode, Mode::native);
        EXPECT_EQ(report.mode_reason, "the guest comes with its device");
        EXPECT_EQ(report.verdict, Verdict::compatible) << summary(report);
        EXPECT_EQ(to_text(*report.profile), to_text(world));
        EXPECT_EQ(report.source.name, "left");
    }
}

TEST(StateCheck, of_a_guest_that_arrives_with_its_device_where_no_kernel_takes_it_says_so) {
    Move move{World::detached};
    move.options.mode = Mode::automatic;
    move.domain = carried(state_of(move.left(), mdev()), true);
    const auto report = move.report();
    EXPECT_EQ(report.verdict, Verdict::incompatible);
    EXPECT_EQ(findings_of(report, RuleId::kernel_no_migration).size(), 1U) << summary(report);
}

TEST(StateCheck, of_a_guest_whose_device_is_away_judges_the_device) {
    Move move{World::detached};
    move.options.mode = Mode::automatic;
    auto state = state_of(move.left(), mdev());
    move.domain = carried(state, false);
    // Not away for a move: the guest has no device.
    EXPECT_EQ(findings_of(move.report(), RuleId::guest_no_vfio_ap).size(), 1U);
    state.detached = true;
    move.domain = carried(state, false);
    auto report = move.report();
    EXPECT_EQ(report.mode, Mode::detached);
    EXPECT_EQ(report.mode_reason, "the guest comes without its device");
    EXPECT_EQ(report.guest.mdev, mdev());
    EXPECT_EQ(report.queues.size(), 4U);
    EXPECT_EQ(report.verdict, Verdict::compatible) << summary(report);
    move.destination.vanish(Apqn{6, 4});
    report = move.report();
    EXPECT_EQ(report.verdict, Verdict::incompatible);
    EXPECT_EQ(findings_of(report, RuleId::queue_missing).size(), 1U) << summary(report);
}

TEST(StateCheck, asked_beforehand_does_not_take_the_source_for_able) {
    Move move{World::restore};
    const auto domain = carried(state_of(move.left(), mdev()), true);
    auto report = check(guest_of(domain), describe_state(domain, false), move.right(), {});
    EXPECT_EQ(report.mode, Mode::detached);
    EXPECT_EQ(report.mode_reason, "the kernel of left is not known to migrate a vfio-ap device");
    CheckOptions native;
    native.mode = Mode::native;
    report = check(guest_of(domain), describe_state(domain, false), move.right(), native);
    EXPECT_EQ(report.verdict, Verdict::undetermined) << summary(report);
}

TEST(StateCheck, compares_the_master_keys_that_travel) {
    Move move{World::detached};
    move.destination.master_keys(6, test::ep11_keys(7));
    move.domain = carried(state_of(move.left(), mdev()), true);
    auto report = move.report();
    const auto found = findings_of(report, RuleId::masterkey_mismatch);
    ASSERT_EQ(found.size(), 1U) << summary(report);
    EXPECT_EQ(found.front().queues, (std::vector<Apqn>{Apqn{6, 4}, Apqn{6, 0x47}}));
    EXPECT_EQ(report.verdict, Verdict::incompatible);
}

TEST(StateCheck, wants_the_hardware_to_be_known) {
    Move move{World::detached};
    auto state = state_of(move.left(), mdev());
    state.configuration.queues.front().hwinfo.reset();
    move.domain = carried(state, true);
    const auto report = move.report();
    EXPECT_EQ(report.verdict, Verdict::undetermined);
    const auto found = findings_of(report, RuleId::host_unreadable);
    ASSERT_EQ(found.size(), 1U) << summary(report);
    EXPECT_EQ(found.front().queues, std::vector<Apqn>{(Apqn{5, 4})});
}

TEST(StateCheck, without_a_state_still_says_what_can_be_said) {
    Move move{World::detached};
    move.there.reset();
    DomainXml domain;
    domain.name = "guest1";
    domain.vfio_ap = {{mdev(), "", 1}};
    move.domain = domain;
    const auto report = move.report();
    EXPECT_EQ(report.verdict, Verdict::incompatible);
    EXPECT_EQ(findings_of(report, RuleId::mdev_missing).size(), 1U) << summary(report);
    const auto missing = findings_of(report, RuleId::guest_state_missing);
    ASSERT_EQ(missing.size(), 1U);
    EXPECT_THAT(missing.front().message, HasSubstr("no state in its metadata"));
}

}  // namespace
}  // namespace vfioap
