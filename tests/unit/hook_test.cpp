// SPDX-License-Identifier: LGPL-2.1-or-later
// What the hook answers libvirt: every operation, every kind of guest, every policy.
#include "hook.h"

#include "ap/error.h"
#include "compat/state.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syslog.h>

#include "support/example_hosts.h"
#include "support/move.h"
#include "told.h"

namespace vfioap {
namespace {

using test::Move;
using test::World;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr std::string_view device =
    "<devices><hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address "
    "uuid='62177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev></devices>";

Uuid mdev() {
    return test::uuid(test::example_mdev);
}

std::string domain(std::string_view inside) {
    return "<domain type='kvm'><name>guest1</name>" + std::string{inside} + "</domain>";
}

std::string with_state(const DomainState& state, bool attached = true) {
    return domain("<metadata>" + state_element(state) + "</metadata>" +
                  (attached ? std::string{device} : std::string{}));
}

std::string compatible_guest() {
    return with_state(state_of(Move{World::restore}.left(), mdev()));
}

std::string detached_guest() {
    auto state = state_of(Move{World::restore}.left(), mdev());
    state.detached = true;
    return with_state(state, false);
}

/// Guests that have nothing to do with vfio-ap, whatever they speak of.
std::vector<std::string> plain_guests() {
    return {domain(""), domain("<!-- " + std::string{device} + " vfioap -->"),
            domain("<title>vfio-ap</title><description>model='vfio-ap'</description>"),
            domain("<metadata><notes xmlns='urn:x'>" + std::string{device} + "</notes></metadata>"),
            domain("<devices><hostdev mode='subsystem' type='mdev' model='vfio-ccw'><source><address "
                   "uuid='62177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev></devices>"),
            // Its state says nothing of a device that is away: it is left over.
            with_state(state_of(Move{World::restore}.left(), mdev()), false)};
}

/// A host that is read, and how often that was.
struct Host {
    explicit Host(Inventory host) : inventory{std::move(host)} {}
    Inventory inventory;
    int reads = 0;
    std::string failure;

    HookHost hook() {
        return {[this](const Uuid&, const std::vector<Apqn>&) {
            ++reads;
            if (!failure.empty()) throw SystemError{"open", failure, 5};
            return inventory;
        }};
    }
};

HookAnswer ask(const std::string& operation, const std::string& xml, Host& host, GuestSettings settings = {},
               const std::string& part = "begin") {
    return answer_hook({"guest1", operation, part, "-"}, xml, settings, host.hook());
}

/// A destination where two queues of the guest are missing.
Inventory broken_host() {
    Move move{World::restore};
    move.destination.vanish({6, 0x47}).vanish({5, 4});
    return move.right();
}

Inventory without_mdev() {
    Move move{World::restore};
    move.there.reset();
    return move.right();
}

Inventory in_use_host() {
    Move move{World::restore};
    move.in_use_there = true;
    return move.right();
}

GuestSettings deny() {
    GuestSettings settings;
    settings.unknown = UnknownPolicy::deny;
    return settings;
}

GuestSettings policy(Policy policy) {
    GuestSettings settings;
    settings.policy = policy;
    return settings;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream in{text};
    for (std::string line; std::getline(in, line);)
        lines.push_back(line);
    return lines;
}

std::string words(const std::string& text) {
    std::istringstream in{text};
    std::string all;
    for (std::string word; in >> word;)
        all += (all.empty() ? "" : " ") + word;
    return all;
}

/// What a person at a terminal gets to see.
void expect_readable(const std::string& error) {
    const auto lines = lines_of(error);
    EXPECT_LE(lines.size(), 30U) << error;
    ASSERT_FALSE(lines.empty());
    EXPECT_EQ(lines.front(), "") << "libvirt's own words end with a blank: ours begin a line";
    EXPECT_EQ(error.back(), '\n');
    for (const auto c : error)
        EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << static_cast<int>(c);
}

// Every operation of libvirt, docs/hooks.rst, and some of no libvirt.

struct Operation {
    const char* name;
    const char* part;
    bool may_refuse;
    bool concerns;
};

constexpr Operation operations[] = {
    {"migrate", "begin", true, true},
    {"restore", "begin", true, true},
    {"prepare", "begin", true, true},
    {"start", "begin", false, false},
    {"started", "begin", false, true},
    {"stopped", "end", false, true},
    {"release", "end", false, true},
    {"reconnect", "begin", false, false},
    {"attach", "begin", false, false},
    {"migrate", "end", false, true},
    {"prepare", "end", false, true},
    {"teleport", "begin", false, false},
    {"", "", false, false},
    {"migrate ", "begin", false, false},
    {"MIGRATE", "begin", false, false},
    {"reconnect", "end", false, false},
};

TEST(HookOperations, only_three_can_refuse_and_only_a_guest_with_the_device) {
    for (const auto& operation : operations) {
        SCOPED_TRACE(std::string{operation.name} + ' ' + operation.part);
        EXPECT_EQ(concerns({"guest1", operation.name, operation.part, "-"}), operation.concerns);
        for (const auto& inventory : {broken_host(), without_mdev(), in_use_host()}) {
            Host host{inventory};
            for (const auto& plain : plain_guests()) {
                const auto answer = ask(operation.name, plain, host, deny(), operation.part);
                EXPECT_EQ(answer.exit_code, 0) << plain;
                EXPECT_EQ(answer.error, "");
                EXPECT_THAT(answer.log, IsEmpty());
                EXPECT_FALSE(answer.mdev);
            }
            EXPECT_EQ(host.reads, 0) << "of a host without need";
        }
        // The worst of hosts, and the worst of guests.
        Host none{without_mdev()};
        for (const auto& guest : {compatible_guest(), domain(device), detached_guest()}) {
            const auto answer = ask(operation.name, guest, none, deny(), operation.part);
            // A guest whose device is away starts without it.
            const bool later = std::string{operation.name} == "prepare" && guest == detached_guest();
            EXPECT_EQ(answer.exit_code, operation.may_refuse && !later ? 1 : 0) << guest;
            EXPECT_EQ(answer.error.empty(), answer.exit_code == 0);
            EXPECT_EQ(answer.mdev.has_value(), operation.concerns);
        }
        // What is no domain at all.
        for (const std::string garbage : {"", "<", "vfio-ap", "<domain/>", "\xff\xfe"}) {
            const auto answer = ask(operation.name, garbage, none, deny(), operation.part);
            EXPECT_EQ(answer.exit_code, operation.may_refuse ? 1 : 0) << garbage;
            EXPECT_EQ(ask(operation.name, garbage, none, {}, operation.part).exit_code, 0) << garbage;
        }
    }
}

TEST(HookArrival, of_a_compatible_guest_passes_with_a_line_in_the_log) {
    for (const char* const operation : {"migrate", "restore"}) {
        for (const auto& guest : {compatible_guest(), detached_guest()}) {
            Host host{Move{World::restore}.right()};
            const auto answer = ask(operation, guest, host, deny());
            EXPECT_EQ(answer.exit_code, 0) << answer.error;
            EXPECT_EQ(answer.error, "");
            EXPECT_EQ(answer.mdev, mdev());
            ASSERT_EQ(answer.log.size(), 1U);
            EXPECT_EQ(answer.log.front().verdict, "compatible");
            EXPECT_THAT(answer.log.front().message,
                        StartsWith("COMPATIBLE: guest1 can move from left to right"));
        }
    }
}

TEST(HookArrival, of_an_incompatible_guest_is_decided_by_the_policy) {
    for (const auto& guest : {compatible_guest(), detached_guest()}) {
        Host host{broken_host()};
        auto answer = ask("migrate", guest, host);
        EXPECT_EQ(answer.exit_code, 1);
        expect_readable(answer.error);
        EXPECT_THAT(answer.error, HasSubstr("INCOMPATIBLE: guest1 cannot move from left to right"));
        EXPECT_THAT(answer.error, HasSubstr("05.0004 06.0047"));
        EXPECT_EQ(lines_of(answer.error).back(), "The whole report, on right: journalctl -t vfioap-hook");
        ASSERT_EQ(answer.log.size(), 1U);
        EXPECT_EQ(answer.log.front().priority, LOG_ERR);
        EXPECT_EQ(answer.log.front().verdict, "incompatible");
        EXPECT_THAT(answer.log.front().rules, Contains("queue.missing"));
        EXPECT_THAT(answer.log.front().message, StartsWith("refused: INCOMPATIBLE"));

        answer = ask("migrate", guest, host, policy(Policy::warn));
        EXPECT_EQ(answer.exit_code, 0);
        EXPECT_EQ(answer.error, "");
        ASSERT_EQ(answer.log.size(), 1U);
        EXPECT_EQ(answer.log.front().priority, LOG_WARNING);
        EXPECT_THAT(answer.log.front().message, StartsWith("let in, since the policy is warn: INCOMPATIBLE"));

        host.reads = 0;
        answer = ask("migrate", guest, host, policy(Policy::off));
        EXPECT_EQ(answer.exit_code, 0);
        EXPECT_THAT(answer.log, IsEmpty());
        EXPECT_EQ(host.reads, 0);
        EXPECT_EQ(answer.mdev, mdev()) << "the service wants to know all the same";
    }
}

TEST(HookArrival, with_the_mdev_made_on_demand_does_not_ask_for_it) {
    GuestSettings settings;
    settings.mdev = MdevPolicy::on_demand;
    Host host{without_mdev()};
    for (const char* const operation : {"migrate", "restore", "prepare"}) {
        EXPECT_EQ(ask(operation, compatible_guest(), host).exit_code, 1) << operation;
        const auto answer = ask(operation, compatible_guest(), host, settings);
        EXPECT_EQ(answer.exit_code, 0) << operation << answer.error;
        ASSERT_EQ(answer.log.size(), 1U);
        EXPECT_THAT(answer.log.front().rules, Contains("mdev.missing"));
    }
}

TEST(HookArrival, is_judged_by_the_profile_that_is_set) {
    Move move{World::restore};
    move.there = Move::Assigned{};
    Host host{move.right()};
    // The later drivers fill the mdev, the first ones compare.
    EXPECT_EQ(ask("migrate", compatible_guest(), host).exit_code, 0);
    GuestSettings compare;
    compare.profile = Profile::compare;
    EXPECT_EQ(ask("migrate", compatible_guest(), host, compare).exit_code, 1);
}

TEST(HookArrival, of_a_guest_by_its_own_settings) {
    const auto loaded = parse_settings("unknown = deny\n[guest guest1]\npolicy = warn\n", "x");
    Host host{broken_host()};
    EXPECT_EQ(ask("migrate", compatible_guest(), host, loaded.settings.of_guest("guest1")).exit_code, 0);
    EXPECT_EQ(ask("migrate", compatible_guest(), host, loaded.settings.of_guest("other")).exit_code, 1);
    // What is broken in a configuration counts as if it were not there.
    const auto broken = parse_settings("policy = of\nunknown\n[guest\n[guest guest1]\npolicy = no\n", "x");
    EXPECT_EQ(ask("migrate", compatible_guest(), host, broken.settings.of_guest("guest1")).exit_code, 1);
    EXPECT_FALSE(broken.messages.empty());
}

// States that nobody should believe.

TEST(HookState, that_is_no_use_is_unknown) {
    auto other = state_of(Move{World::restore}.left(), mdev());
    other.mdev = test::uuid(test::neighbour_mdev);
    const auto good = state_element(state_of(Move{World::restore}.left(), mdev()));
    const auto in_metadata = [](const std::string& text) {
        return domain("<metadata>" + text + "</metadata>" + std::string{device});
    };
    auto bad_queue = good;
    bad_queue.replace(bad_queue.find("05.0004"), 7, "05.00zz");
    auto escapes = good;
    escapes.replace(escapes.find("host=\"left\""), 11, "host=\"left&#x9b;31m&#10;x\"");
    const std::vector<std::pair<std::string, std::string>> rows{
        {"missing", domain(device)},
        {"empty", in_metadata("<c:config xmlns:c='urn:vfioap:domain:1'/>")},
        {"malformed", in_metadata(bad_queue)},
        {"two", in_metadata(good + good)},
        {"another mdev", with_state(other)},
        {"control characters", in_metadata(escapes)},
        {"oversized", in_metadata("<c:config xmlns:c='urn:vfioap:domain:1' mdev='" +
                                  std::string{test::example_mdev} + "' host='h' layout='l3'><c:queues>" +
                                  std::string(2'000'000, ' ') + "</c:queues></c:config>")},
    };
    for (const auto& [name, xml] : rows) {
        SCOPED_TRACE(name);
        Host host{Move{World::restore}.right()};
        auto answer = ask("migrate", xml, host);
        EXPECT_EQ(answer.exit_code, 0) << answer.error;
        ASSERT_EQ(answer.log.size(), 1U);
        EXPECT_EQ(answer.log.front().priority, LOG_WARNING);
        EXPECT_THAT(answer.log.front().message, StartsWith("let in, since unknown is allow: UNDETERMINED"));
        EXPECT_EQ(answer.log.front().verdict, "undetermined");
        EXPECT_THAT(answer.log.front().rules, Contains("guest.state-missing"));

        answer = ask("migrate", xml, host, deny());
        EXPECT_EQ(answer.exit_code, 1);
        expect_readable(answer.error);
        EXPECT_THAT(words(answer.error), HasSubstr("UNDETERMINED: whether guest1 can move from "));
        EXPECT_THAT(answer.error, HasSubstr("guest.state-missing"));
        EXPECT_THAT(answer.error, Not(HasSubstr("0 queues"))) << "how many is not known";
        EXPECT_EQ(ask("migrate", xml, host, policy(Policy::warn)).exit_code, 0);
        // What is certain is certain without a state, too.
        Host none{without_mdev()};
        EXPECT_EQ(ask("migrate", xml, none).exit_code, 1);
    }
}

TEST(HookState, that_is_forged_and_huge_is_answered_shortly) {
    const auto xml = domain("<metadata><c:config xmlns:c='urn:vfioap:domain:1' mdev='" +
                            std::string{test::example_mdev} + "' host='" + std::string(256, 'h') +
                            "' layout='l3'><c:queues tapq='0x928000000e000000'>00-ff.0000-00ff</c:queues>"
                            "<c:control-domains>0000-00ff</c:control-domains></c:config></metadata>" +
                            std::string{device});
    Host host{Move{World::restore}.right()};
    const auto answer = ask("migrate", xml, host);
    EXPECT_EQ(answer.exit_code, 1);
    expect_readable(answer.error);
    EXPECT_LT(answer.error.size(), 8000U);
}

TEST(HookState, that_was_written_here_is_compared_with_what_is_there_now) {
    Move move{World::restore};
    auto here = move.left();
    const auto xml = with_state(state_of(here, mdev()));
    here.location = "/sys";
    for (auto& queue : here.queues) {
        if (queue.status == QueueStatus::in_use) queue.status = QueueStatus::assigned;
    }
    Host same{here};
    auto answer = ask("restore", xml, same);
    EXPECT_EQ(answer.exit_code, 0) << answer.error;
    ASSERT_EQ(answer.log.size(), 1U);
    EXPECT_THAT(answer.log.front().rules, Not(Contains("config.changed")));

    auto& changed = test::mdev_of(here, test::example_mdev);
    changed.domains.set(0x47, false);
    changed.guest_matrix = {{Apqn{5, 4}, Apqn{6, 4}}};
    Host other{here};
    answer = ask("restore", xml, other);
    EXPECT_EQ(answer.exit_code, 0) << "a warning: what was meant is meant";
    ASSERT_EQ(answer.log.size(), 1U);
    EXPECT_EQ(answer.log.front().priority, LOG_WARNING);
    EXPECT_THAT(answer.log.front().rules, Contains("config.changed"));
}

HookAnswer ask_saved(const std::string& operation, const std::string& xml, Host& host,
                     GuestSettings settings = {}) {
    return answer_hook({"guest1", operation, "begin", "-", true}, xml, settings, host.hook());
}

TEST(HookManagedSave, is_never_refused_at_restore_since_libvirt_would_remove_it) {
    Host host{without_mdev()};
    for (const auto& guest : {compatible_guest(), detached_guest(), domain(device)}) {
        const auto answer = ask_saved("restore", guest, host, deny());
        EXPECT_EQ(answer.exit_code, 0);
        EXPECT_EQ(answer.error, "");
        EXPECT_THAT(answer.log, IsEmpty());
        EXPECT_EQ(answer.mdev, mdev()) << "the service wants to know all the same";
    }
    EXPECT_EQ(host.reads, 0);
    EXPECT_EQ(ask_saved("restore", "<", host, deny()).exit_code, 0);
    EXPECT_EQ(answer_unknown({"guest1", "restore", "begin", "-", true}, deny(), "late").exit_code, 0);
    // Not what comes from elsewhere.
    EXPECT_EQ(ask_saved("migrate", compatible_guest(), host).exit_code, 1);
}

TEST(HookManagedSave, is_judged_by_its_state_when_it_is_prepared) {
    for (const auto& guest : {compatible_guest(), detached_guest()}) {
        Host broken{broken_host()};
        auto answer = ask_saved("prepare", guest, broken);
        EXPECT_EQ(answer.exit_code, 1);
        expect_readable(answer.error);
        EXPECT_THAT(answer.error,
                    HasSubstr("INCOMPATIBLE: guest1, saved on left, cannot be restored on right"));
        EXPECT_THAT(answer.log.front().rules, Contains("queue.missing"));
        EXPECT_EQ(ask("prepare", guest, broken).exit_code, 0) << "without a file it starts anew";
        EXPECT_EQ(ask_saved("prepare", guest, broken, policy(Policy::warn)).exit_code, 0);
        EXPECT_THAT(ask_saved("prepare", guest, broken, policy(Policy::off)).log, IsEmpty());

        Host fine{Move{World::restore}.right()};
        answer = ask_saved("prepare", guest, fine, deny());
        EXPECT_EQ(answer.exit_code, 0) << answer.error;
        ASSERT_FALSE(answer.log.empty());
        EXPECT_EQ(answer.log.front().verdict, "compatible");
        EXPECT_EQ(answer.mdev, mdev());
    }
    Host fine{Move{World::restore}.right()};
    EXPECT_EQ(ask_saved("prepare", domain(device), fine).exit_code, 0);
    EXPECT_EQ(ask_saved("prepare", domain(device), fine, deny()).exit_code, 1) << "it has no state";
    // What a start is refused for: the restore is, too.
    Host in_use{in_use_host()};
    EXPECT_EQ(ask_saved("prepare", compatible_guest(), in_use).exit_code, 1);
    // What is only noticed when a guest starts, beside what is said of its arrival.
    Move unbound{World::restore};
    unbound.free = {4};
    Host filtered{unbound.right()};
    const auto answer = ask_saved("prepare", compatible_guest(), filtered, policy(Policy::warn));
    ASSERT_EQ(answer.log.size(), 2U);
    EXPECT_THAT(answer.log.back().message, StartsWith("starts with mdev "));
}

TEST(HookHostFailure, is_unknown) {
    Host host{Move{World::restore}.right()};
    host.failure = "/sys/bus\x1b[2J";
    for (const char* const operation : {"migrate", "restore", "prepare"}) {
        SCOPED_TRACE(operation);
        auto answer = ask(operation, compatible_guest(), host);
        EXPECT_EQ(answer.exit_code, 0);
        ASSERT_EQ(answer.log.size(), 1U);
        EXPECT_EQ(answer.log.front().priority, LOG_WARNING);
        EXPECT_THAT(answer.log.front().message, StartsWith("let in, since unknown is allow: "));
        answer = ask(operation, compatible_guest(), host, deny());
        EXPECT_EQ(answer.exit_code, 1);
        expect_readable(answer.error);
        EXPECT_THAT(answer.error, HasSubstr("UNDETERMINED: whether guest guest1 can "));
        EXPECT_THAT(answer.error, HasSubstr("/sys/bus?[2J"));
        EXPECT_EQ(answer.log.front().verdict, "undetermined");
        EXPECT_EQ(ask(operation, compatible_guest(), host, policy(Policy::off)).exit_code, 0);
    }
    // With sysfs gone, nothing that does not ask it is held up.
    for (const char* const operation : {"started", "stopped", "release", "reconnect"})
        EXPECT_EQ(ask(operation, compatible_guest(), host, deny()).exit_code, 0) << operation;
}

TEST(HookHostFailure, of_a_part_is_unknown_as_far_as_it_matters) {
    auto right = Move{World::restore}.right();
    right.unreadable.push_back({"devices/ap/card05/05.0004/ap_functions", 5, ""});
    Host host{right};
    EXPECT_EQ(ask("migrate", compatible_guest(), host).exit_code, 0);
    const auto answer = ask("migrate", compatible_guest(), host, deny());
    EXPECT_EQ(answer.exit_code, 1);
    EXPECT_THAT(answer.error, HasSubstr("host.unreadable"));
}

// The start.

TEST(HookStart, wants_the_mdev_and_nobody_else_in_it) {
    struct Row {
        Inventory inventory;
        const char* rule;
    };
    auto no_driver = Move{World::restore}.right();
    no_driver.vfio_ap.reset();
    no_driver.mdevs.clear();
    const Row rows[]{
        {without_mdev(), "mdev.missing"}, {in_use_host(), "mdev.in-use"}, {no_driver, "kernel.no-vfio-ap"}};
    for (const auto& row : rows) {
        SCOPED_TRACE(row.rule);
        Host host{row.inventory};
        // A state is none of its business: a guest that starts anew has none.
        for (const auto& guest : {compatible_guest(), domain(device)}) {
            auto answer = ask("prepare", guest, host);
            EXPECT_EQ(answer.exit_code, 1);
            expect_readable(answer.error);
            EXPECT_THAT(answer.error, HasSubstr("guest1 cannot start on right"));
            EXPECT_THAT(answer.error, HasSubstr(row.rule));
            EXPECT_THAT(answer.error, HasSubstr("  do "));
            ASSERT_FALSE(answer.log.empty());
            EXPECT_THAT(answer.log.back().rules, Contains(row.rule));
            EXPECT_THAT(answer.log.back().message, StartsWith("refused: "));
            EXPECT_EQ(ask("prepare", guest, host, policy(Policy::warn)).exit_code, 0);
            EXPECT_EQ(ask("prepare", guest, host, policy(Policy::off)).exit_code, 0);
        }
    }
}

TEST(HookStart, of_what_the_kernel_would_keep_from_the_guest_only_tells) {
    Move empty{World::restore};
    empty.there = Move::Assigned{};
    Move over{World::restore};
    over.there->adapters.push_back(0x63);
    Move unbound{World::restore};
    unbound.free = {4};
    for (const auto* const move : {&empty, &over, &unbound}) {
        Host host{move->right()};
        const auto answer = ask("prepare", domain(device), host, deny());
        EXPECT_EQ(answer.exit_code, 0) << answer.error;
        EXPECT_EQ(answer.error, "");
        if (move == &over) continue;
        ASSERT_EQ(answer.log.size(), 1U);
        EXPECT_EQ(answer.log.front().priority, LOG_NOTICE);
        EXPECT_THAT(answer.log.front().message,
                    StartsWith("starts with mdev 62177883-f1bb-47f0-914d-32a22e3a8804\n"));
    }
    Host fine{Move{World::restore}.right()};
    EXPECT_THAT(ask("prepare", domain(device), fine, deny()).log, IsEmpty());
}

// Golden texts.

TEST(HookMessage, is_as_recorded) {
    const auto hosts = test::example_hosts();
    const auto host_named = [&](std::string_view name) {
        auto found =
            *std::find_if(hosts.begin(), hosts.end(), [&](const auto& each) { return each.name == name; });
        found.location = "/sys";
        return found;
    };
    auto state = state_of(host_named("lpar-a"), mdev());
    const auto attached = with_state(state);
    state.detached = true;
    const auto detached = with_state(state, false);
    struct Row {
        const char* name;
        const char* operation;
        std::string xml;
        const char* host;
    };
    const Row rows[]{{"hook-migrate", "migrate", detached, "lpar-b"},
                     {"hook-migrate-hopeless", "migrate", attached, "lpar-c"},
                     {"hook-migrate-unknown", "migrate", domain(device), "z16-migratable"},
                     {"hook-restore", "restore", attached, "z15-no-vfio-ap"},
                     {"hook-prepare", "prepare", attached, "lpar-b"}};
    for (const auto& row : rows) {
        SCOPED_TRACE(row.name);
        Host host{host_named(row.host)};
        const auto answer = ask(row.operation, row.xml, host, deny());
        EXPECT_EQ(answer.exit_code, 1);
        expect_readable(answer.error);
        const std::string path = std::string{VFIOAP_TEST_DATA} + "/golden/" + row.name + ".txt";
        if (std::getenv("VFIOAP_UPDATE_GOLDEN") != nullptr) {
            std::ofstream{path, std::ios::binary} << answer.error;
            continue;
        }
        std::ifstream in{path, std::ios::binary};
        std::stringstream expected;
        expected << in.rdbuf();
        EXPECT_EQ(answer.error, expected.str())
            << path << ": if the new text is right, run the tests once with VFIOAP_UPDATE_GOLDEN=1";
    }
}

TEST(Told, arrives_as_it_was_sent) {
    const Told told{{"guest\n1", "migrate", "begin", {}},
                    Uuid::parse("62177883-f1bb-47f0-914d-32a22e3a8804"),
                    {{LOG_ERR, "refused:\nwhy", "incompatible", {"queue.missing", "mdev.missing"}},
                     {LOG_WARNING, "also", {}, {}}},
                    true};
    const auto back = told_from_json(to_json(told));
    EXPECT_EQ(back.call.guest, told.call.guest);
    EXPECT_EQ(back.call.operation, "migrate");
    EXPECT_EQ(back.call.part, "begin");
    EXPECT_EQ(back.mdev, told.mdev);
    EXPECT_TRUE(back.service);
    ASSERT_EQ(back.log.size(), 2U);
    EXPECT_EQ(back.log[0].priority, LOG_ERR);
    EXPECT_EQ(back.log[0].message, told.log[0].message);
    EXPECT_EQ(back.log[0].verdict, "incompatible");
    EXPECT_EQ(back.log[0].rules, told.log[0].rules);
    EXPECT_EQ(back.log[1].message, "also");
    EXPECT_THAT(back.log[1].rules, IsEmpty());
}

TEST(Told, of_a_guest_without_a_device_and_of_a_name_that_is_no_text) {
    const auto back = told_from_json(to_json({{"a\xff", "start", "begin", {}}, {}, {}, false}));
    EXPECT_EQ(back.call.guest, "a\xef\xbf\xbd");
    EXPECT_FALSE(back.mdev);
    EXPECT_FALSE(back.service);
}

TEST(Told, is_nothing_else) {
    for (const char* text : {"", "[]", "{}", "{\"guest\": 1}", "{\"guest\": \"a\"} "})
        EXPECT_THROW(told_from_json(text), InputError) << text;
}

}  // namespace
}  // namespace vfioap
