// SPDX-License-Identifier: LGPL-2.1-or-later
// The rules: for each, in each way of moving, a case that raises it and one beside it that does not. What is
// expected comes from the kernel's documentation and from what the drivers of the patch versions log.
#include "compat/check.h"

#include "compat/state.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <map>
#include <optional>
#include <set>
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
using test::HostBuilder;
using test::Kernel;
using test::mdev_of;
using test::Move;
using test::queue_of;
using test::summary;
using test::World;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

using Lines = std::vector<std::string>;

const std::string uuid{test::example_mdev};
const std::string kernel_prefix = "vfio_ap_mdev " + uuid + ": ";

std::string incompatible_line(const std::string& queue) {
    return kernel_prefix + "Migration failed: Source and target queues (" + queue + ") are not compatible";
}

std::string unavailable_line(const std::string& queue) {
    return kernel_prefix + "Queue " + queue + " not available to vfio_ap driver on target host";
}

std::string unassigned_line(const std::string& queue) {
    return kernel_prefix + "migration failed: queue " + queue + " not assigned to guest matrix";
}

std::string load_failed(const std::string& why) {
    return "error: operation failed: job 'migration in' failed: load of migration failed: " + why;
}

std::string refused(const std::string& why) {
    return "error: Requested operation is not valid: cannot migrate domain: " + why;
}

/// What a rule says in one world.
struct Expected {
    Severity severity = Severity::error;
    Side host = Side::destination;
    Lines queues{};
    std::vector<unsigned> control_domains{};
    std::string source{};
    std::string destination{};
    Lines kernel{};
    std::optional<int> error{};          ///< of the prediction
    std::optional<std::string> virsh{};  ///< of the prediction
    Verdict verdict = Verdict::incompatible;
};

constexpr Severity error = Severity::error;
constexpr Severity warning = Severity::warning;
constexpr Severity info = Severity::info;

using Change = std::function<void(Move&)>;

/// A rule in a situation. A world without an entry is one where the rule is silent.
struct Row {
    RuleId rule;
    std::string situation;
    Change raise;
    Change beside;  ///< nearly the same; the rule has nothing to say
    std::map<World, Expected> expected;
};

void nothing(Move&) {}

/// A queue's functions in all kernels: where the queue does not tell them, the card does.
void set_functions(Inventory& host, unsigned apid, std::uint32_t functions) {
    card_of(host, apid).ap_functions = functions;
    for (auto& queue : host.queues) {
        if (queue.apqn.apid() == apid && queue.ap_functions) queue.ap_functions = functions;
    }
}

constexpr std::uint32_t bit(unsigned number) {
    return std::uint32_t{1} << (31U - number);
}

/// The destination's adapter 05 differs from the source's in the bits `flip`.
Change flipped(std::uint32_t flip) {
    return [flip](Move& move) {
        move.edit_destination = [flip](Inventory& host) {
            set_functions(host, 5, test::cca_functions ^ flip);
        };
    };
}

/// As `flipped`, the other way round.
Change flipped_at_source(std::uint32_t flip) {
    return [flip](Move& move) {
        move.edit_source = [flip](Inventory& host) { set_functions(host, 5, test::cca_functions ^ flip); };
    };
}

void same_on_both_sides(Move& move, std::uint32_t functions) {
    const auto edit = [functions](Inventory& host) { set_functions(host, 5, functions); };
    move.edit_source = edit;
    move.edit_destination = edit;
}

const Lines all_queues{"05.0004", "05.0047", "06.0004", "06.0047"};
const Lines queues_of_05{"05.0004", "05.0047"};

/// The lines of a hardware finding, for each queue in turn. `source` and `target` in `{}` stand for
/// themselves.
Lines per_queue(const Lines& queues, const std::function<Lines(const std::string&)>& lines) {
    Lines all;
    for (const auto& queue : queues) {
        all.push_back(incompatible_line(queue));
        for (const auto& line : lines(queue))
            all.push_back(kernel_prefix + line);
    }
    return all;
}

/// Profile compare prints the types with every queue.
const std::string same_types = "AP type of source (0e) not compatible with target (0e)";

Row facility_row(RuleId rule, unsigned number, const std::string& name, const std::string& installed) {
    const bool cca_has = (test::cca_functions & bit(number)) != 0;
    const auto text = [installed](bool has) { return (has ? "" : "not ") + installed; };
    const auto lines = [=](bool types) {
        return per_queue(queues_of_05, [=](const std::string& queue) {
            Lines all{fmt::format("{} {} in source queue {}", name, text(cca_has), queue),
                      fmt::format("{} {} in target queue {}", name, text(!cca_has), queue)};
            if (types) all.push_back(same_types);
            return all;
        });
    };
    Expected compare{.queues = queues_of_05,
                     .source = text(cca_has),
                     .destination = text(!cca_has),
                     .kernel = lines(true),
                     .error = EFAULT,
                     .virsh = load_failed("Bad address")};
    Expected restore = compare;
    restore.kernel = lines(false);
    restore.error = EINVAL;
    restore.virsh = load_failed("Invalid argument");
    Expected detached = compare;
    detached.severity = warning;
    detached.kernel = {};
    detached.error = {};
    detached.virsh = {};
    detached.verdict = Verdict::compatible;
    return {rule,
            "the facility is on one side only",
            flipped(bit(number)),
            [number](Move& move) { same_on_both_sides(move, test::cca_functions ^ bit(number)); },
            {{World::compare, compare}, {World::restore, restore}, {World::detached, detached}}};
}

/// The same in all worlds.
std::map<World, Expected> everywhere(const Expected& expected) {
    return {{World::compare, expected}, {World::restore, expected}, {World::detached, expected}};
}

std::map<World, Expected> natively(const Expected& expected) {
    return {{World::compare, expected}, {World::restore, expected}};
}

/// The domain as it stands at the destination, without a state.
DomainXml domain_of(const Move& move) {
    DomainXml domain;
    domain.name = move.guest.name;
    domain.vfio_ap = {{move.guest.mdevs.front(), "", 1}};
    return domain;
}

DomainXml domain_with_state(const Move& move) {
    auto domain = domain_of(move);
    domain.state = state_of(move.left(), move.guest.mdevs.front());
    return domain;
}

std::vector<Row> guest_and_host_rows() {
    return {
        {RuleId::guest_no_vfio_ap, "a guest without crypto", [](Move& move) { move.guest.mdevs.clear(); },
         nothing, everywhere({.severity = info, .host = Side::source, .verdict = Verdict::compatible})},
        {RuleId::guest_multiple_vfio_ap, "a guest with two vfio-ap devices",
         [](Move& move) { move.guest.mdevs.push_back(test::uuid(test::neighbour_mdev)); }, nothing,
         everywhere({.host = Side::source})},
        {RuleId::guest_secure_execution, "a guest in Secure Execution",
         [](Move& move) { move.guest.secure_execution = true; }, nothing,
         everywhere({.host = Side::source, .virsh = refused("protected VMs are currently not migratable.")})},
        {RuleId::guest_state_missing, "a guest without a state",
         [](Move& move) { move.domain = domain_of(move); },
         [](Move& move) { move.domain = domain_with_state(move); },
         everywhere({.host = Side::source, .verdict = Verdict::undetermined})},
        {RuleId::guest_state_missing, "a state that cannot be read",
         [](Move& move) {
             move.domain = domain_of(move);
             move.domain->state_error = "line 7, column 5: a second state; expected one";
         },
         nothing, everywhere({.host = Side::source, .verdict = Verdict::undetermined})},
        {RuleId::guest_state_missing, "a state of another mdev",
         [](Move& move) {
             move.domain = domain_with_state(move);
             move.domain->state->mdev = test::uuid(test::neighbour_mdev);
         },
         nothing, everywhere({.host = Side::source, .verdict = Verdict::undetermined})},
        {RuleId::config_changed, "a state that was written here, before the mdev was changed",
         [](Move& move) {
             move.domain = domain_with_state(move);
             move.domain->state->host = move.right().name;
             move.domain->state->configuration.control_domains = {};
         },
         [](Move& move) {
             move.domain = domain_with_state(move);
             move.domain->state->host = move.right().name;
         },
         everywhere({.severity = warning,
                     .control_domains = {4},
                     .source = "4 queues",
                     .destination = "4 queues",
                     .verdict = Verdict::compatible})},
        {RuleId::host_secure_execution,
         "the destination is itself a guest in Secure Execution",
         [](Move& move) { move.edit_destination = [](Inventory& host) { host.prot_virt_guest = true; }; },
         // That it can run such guests is no obstacle.
         [](Move& move) { move.edit_destination = [](Inventory& host) { host.prot_virt_host = true; }; },
         {{World::compare,
           {.kernel = {"Migration not allowed from or to a Secure Execution guest"}, .error = EPERM}},
          {World::restore,
           {.kernel = {"Migration not allowed from or to a Secure Execution guest"}, .error = EPERM}},
          {World::detached, {}}}},
        {RuleId::host_secure_execution,
         "the source is itself a guest in Secure Execution",
         [](Move& move) { move.edit_source = [](Inventory& host) { host.prot_virt_guest = true; }; },
         [](Move& move) { move.edit_source = [](Inventory& host) { host.prot_virt_guest.reset(); }; },
         {{World::compare,
           {.host = Side::source,
            .kernel = {"Migration not allowed from or to a Secure Execution guest"},
            .error = EPERM}},
          {World::restore,
           {.host = Side::source,
            .kernel = {"Migration not allowed from or to a Secure Execution guest"},
            .error = EPERM}},
          {World::detached, {.host = Side::source}}}},
        {RuleId::host_secure_execution,
         "both are",
         [](Move& move) {
             move.edit_source = [](Inventory& host) { host.prot_virt_guest = true; };
             move.edit_destination = [](Inventory& host) { host.prot_virt_guest = true; };
         },
         nothing,
         {{World::compare,
           {.host = Side::both,
            .kernel = {"Migration not allowed from or to a Secure Execution guest"},
            .error = EPERM}},
          {World::restore,
           {.host = Side::both,
            .kernel = {"Migration not allowed from or to a Secure Execution guest"},
            .error = EPERM}},
          {World::detached, {.host = Side::both}}}},
        {RuleId::host_unreadable, "the type of a card that the guest needs",
         [](Move& move) {
             move.edit_destination = [](Inventory& host) {
                 card_of(host, 5).raw_hwtype.reset();
                 card_of(host, 5).hwtype.reset();
                 host.unreadable.push_back({"devices/ap/card05/raw_hwtype", EIO, ""});
             };
         },
         // The type of a card that it does not need.
         [](Move& move) {
             move.edit_destination = [](Inventory& host) {
                 card_of(host, 7).raw_hwtype.reset();
                 host.unreadable.push_back({"devices/ap/card07/raw_hwtype", EIO, ""});
             };
         },
         everywhere({.destination = "EIO", .verdict = Verdict::undetermined})},
        {RuleId::kernel_no_vfio_ap, "vfio_ap is not loaded at the destination",
         [](Move& move) {
             move.destination.without_vfio_ap();
             move.there.reset();
         },
         nothing, everywhere({.virsh = "error: device not found: mediated device '" + uuid + "' not found"})},
        {RuleId::kernel_no_vfio_ap, "the destination has no AP bus",
         [](Move& move) {
             move.destination.without_ap_bus();
             move.there.reset();
         },
         nothing, everywhere({.virsh = "error: device not found: mediated device '" + uuid + "' not found"})},
        {RuleId::kernel_no_migration, "both kernels are released ones",
         [](Move& move) {
             move.world = World::detached;
             move.source.kernel(Kernel::newest);
             move.destination.kernel(Kernel::newest);
         },
         nothing,
         natively(
             {.host = Side::both, .virsh = refused(uuid + ": VFIO migration is not supported in kernel")})},
        {RuleId::kernel_no_migration, "the destination's kernel is a released one",
         [](Move& move) {
             move.edit_destination = [](Inventory& host) {
                 host.vfio_ap->features = {"guest_matrix", "hotplug", "ap_config"};
                 for (auto& mdev : host.mdevs)
                     mdev.migratable.reset();
             };
         },
         nothing, natively({})},
        {RuleId::qemu_no_migration, "the source's QEMU marks the device as unmigratable",
         [](Move& move) { move.source.qemu("10.0.2", false); }, nothing,
         natively({.host = Side::source, .virsh = refused("non-migratable device: /1/vfio-ap")})},
        {RuleId::qemu_no_migration, "neither QEMU is known",
         [](Move& move) {
             move.edit_source = [](Inventory& host) { host.qemu.reset(); };
             move.edit_destination = [](Inventory& host) { host.qemu.reset(); };
         },
         nothing, natively({.severity = warning, .host = Side::both, .verdict = Verdict::compatible})},
    };
}

/// 2 adapters with `domains` domains each on both sides, for a kernel that cuts what it prints.
void make_large(Move& move, unsigned domains, bool ap_config) {
    HostBuilder::Numbers numbers;
    for (unsigned i = 0; i < domains; ++i)
        numbers.push_back(static_cast<std::uint8_t>(i));
    move.source.domains(numbers);
    move.destination.domains(numbers);
    move.domains = move.free = numbers;
    move.there = Move::Assigned{move.adapters, numbers, {4}};
    move.edit_source = [ap_config](Inventory& host) {
        auto& mdev = mdev_of(host, test::example_mdev);
        mdev.ap_config = ap_config;
        mdev.matrix_truncated = !ap_config && mdev.guest_matrix_truncated();
    };
}

std::vector<Row> queue_and_mdev_rows() {
    const std::string no_mdev = "error: device not found: mediated device '" + uuid + "' not found";
    const std::string fewer = "migration failed: source guest's AP config size (72) larger than target's (";
    const auto neighbour = std::string{test::neighbour_mdev};
    return {
        {RuleId::config_truncated, "the source shows 512 queues and no ap_config",
         [](Move& move) { make_large(move, 256, false); }, [](Move& move) { make_large(move, 255, false); },
         everywhere({.host = Side::source, .verdict = Verdict::undetermined})},
        {RuleId::config_truncated, "the source shows 512 queues and has ap_config",
         [](Move& move) { make_large(move, 256, true); }, [](Move& move) { make_large(move, 255, true); },
         everywhere({.severity = info, .host = Side::source, .verdict = Verdict::compatible})},
        {RuleId::queue_missing,
         "one queue does not exist",
         [](Move& move) {
             move.destination.vanish({6, 0x47});
         },
         [](Move& move) {
             move.destination.vanish({7, 0x47});
         },
         {{World::compare,
           {.queues = {"06.0047"},
            .kernel = {unassigned_line("06.0047")},
            .error = EIO,
            .virsh = load_failed("Input/output error")}},
          {World::restore,
           {.queues = {"06.0047"},
            .kernel = {unavailable_line("06.0047")},
            .error = ENODEV,
            .virsh = load_failed("No such device")}},
          {World::detached, {.queues = {"06.0047"}}}}},
        {RuleId::queue_deconfigured,
         "a card is deconfigured",
         [](Move& move) { move.destination.deconfigure(5); },
         [](Move& move) { move.destination.deconfigure(7); },
         {{World::compare, {.severity = warning, .queues = queues_of_05, .verdict = Verdict::compatible}},
          {World::restore, {.severity = warning, .queues = queues_of_05, .verdict = Verdict::compatible}},
          {World::detached, {.queues = queues_of_05}}}},
        {RuleId::queue_deconfigured,
         "only the card says so",
         [](Move& move) { move.edit_destination = [](Inventory& host) { card_of(host, 6).config = false; }; },
         nothing,
         {{World::compare,
           {.severity = warning, .queues = {"06.0004", "06.0047"}, .verdict = Verdict::compatible}},
          {World::restore,
           {.severity = warning, .queues = {"06.0004", "06.0047"}, .verdict = Verdict::compatible}},
          {World::detached, {.queues = {"06.0004", "06.0047"}}}}},
        {RuleId::queue_checkstopped,
         "a queue is in checkstop",
         [](Move& move) {
             move.destination.check_stop(Apqn{5, 0x47});
         },
         [](Move& move) {
             move.destination.check_stop(Apqn{7, 0x47});
         },
         {{World::compare, {.severity = warning, .queues = {"05.0047"}, .verdict = Verdict::compatible}},
          {World::restore, {.severity = warning, .queues = {"05.0047"}, .verdict = Verdict::compatible}},
          {World::detached, {.queues = {"05.0047"}}}}},
        {RuleId::queue_checkstopped,
         "a card is in checkstop",
         [](Move& move) { move.destination.check_stop(std::uint8_t{5}); },
         [](Move& move) { move.destination.check_stop(std::uint8_t{7}); },
         {{World::compare, {.severity = warning, .queues = queues_of_05, .verdict = Verdict::compatible}},
          {World::restore, {.severity = warning, .queues = queues_of_05, .verdict = Verdict::compatible}},
          {World::detached, {.queues = queues_of_05}}}},
        {RuleId::queue_not_bound,
         "the host's own drivers have a domain",
         [](Move& move) {
             move.free = {4};
             move.there.reset();
         },
         nothing,
         {{World::compare, {.queues = {"05.0047", "06.0047"}, .destination = "cex4queue", .virsh = no_mdev}},
          {World::restore,
           {.queues = {"05.0047", "06.0047"},
            .destination = "cex4queue",
            .kernel = {unavailable_line("05.0047"), unavailable_line("06.0047")},
            .virsh = no_mdev}},
          {World::detached,
           {.queues = {"05.0047", "06.0047"}, .destination = "cex4queue", .virsh = no_mdev}}}},
        {RuleId::queue_not_bound,
         "an assigned queue was unbound by hand",
         [](Move& move) {
             move.edit_destination = [](Inventory& host) {
                 queue_of(host, {5, 4}).driver = "";
                 mdev_of(host, test::example_mdev).guest_matrix = {{6, 4}, {6, 0x47}};
             };
         },
         nothing,
         {{World::compare,
           {.queues = {"05.0004"},
            .destination = "no driver",
            .kernel = {unassigned_line("05.0004")},
            .error = EIO,
            .virsh = load_failed("Input/output error")}},
          {World::restore,
           {.queues = {"05.0004"},
            .destination = "no driver",
            .kernel = {unavailable_line("05.0004")},
            .error = ENODEV,
            .virsh = load_failed("No such device")}},
          {World::detached, {.queues = {"05.0004"}, .destination = "no driver"}}}},
        {RuleId::queue_not_bound,
         "as many queues reach the mdev, but not this one",
         [](Move& move) {
             move.adapters = {5};
             move.there->adapters = {5, 7};
             move.edit_destination = [](Inventory& host) {
                 queue_of(host, {5, 4}).driver = "";
                 mdev_of(host, test::example_mdev).guest_matrix = {{7, 4}, {7, 0x47}};
             };
         },
         nothing,
         {{World::compare,
           {.queues = {"05.0004"},
            .destination = "no driver",
            .kernel = {unassigned_line("05.0004")},
            .error = ENODEV,
            .virsh = load_failed("No such device")}},
          {World::restore,
           {.queues = {"05.0004"},
            .destination = "no driver",
            .kernel = {unavailable_line("05.0004")},
            .error = ENODEV,
            .virsh = load_failed("No such device")}},
          {World::detached, {.queues = {"05.0004"}, .destination = "no driver"}}}},
        {RuleId::queue_assigned_elsewhere,
         "another mdev has a queue",
         [=](Move& move) {
             move.there = Move::Assigned{};
             move.neighbour = Move::Assigned{{5, 7}, {4}, {}};
         },
         [](Move& move) {
             move.neighbour = Move::Assigned{{7}, {4, 0x47}, {4}};
         },
         {{World::compare,
           {.queues = {"05.0004"},
            .destination = neighbour,
            .error = EIO,
            .virsh = load_failed("Input/output error")}},
          {World::restore,
           {.queues = {"05.0004"},
            .destination = neighbour,
            .kernel = {kernel_prefix +
                       "Userspace may not assign queue 05.0004 to mdev: already assigned to " + neighbour},
            .error = EADDRINUSE,
            .virsh = load_failed("Address already in use")}},
          {World::detached, {.queues = {"05.0004"}, .destination = neighbour}}}},
        {RuleId::mdev_missing, "the destination has no such mdev", [](Move& move) { move.there.reset(); },
         nothing, everywhere({.virsh = no_mdev})},
        {RuleId::mdev_missing, "the source has no such mdev, so that its configuration is not known",
         [](Move& move) {
             move.edit_source = [](Inventory& host) {
                 mdev_of(host, test::example_mdev).uuid = test::uuid(test::neighbour_mdev);
             };
         },
         nothing, everywhere({.host = Side::source})},
        {RuleId::mdev_in_use, "another guest runs with it at the destination",
         [](Move& move) { move.in_use_there = true; },
         // The same host: it is this very guest.
         [](Move& move) {
             move.in_use_there = true;
             move.edit_destination = [](Inventory& host) { host.location = "test:left"; };
         },
         everywhere({.destination = "in use"})},
        {RuleId::mdev_not_migratable, "migration of the mdev is switched off",
         [](Move& move) {
             move.edit_source = [](Inventory& host) { mdev_of(host, test::example_mdev).migratable = false; };
         },
         // At the destination it does not matter.
         [](Move& move) {
             move.edit_destination = [](Inventory& host) {
                 if (!host.mdevs.empty() && host.mdevs.front().migratable)
                     host.mdevs.front().migratable = false;
             };
         },
         natively({.host = Side::source,
                   .source = "0",
                   .virsh = refused(uuid + ": Migration is disabled for VFIO device")})},
        {RuleId::queue_count,
         "the mdev has an adapter more",
         [](Move& move) {
             move.there->adapters = {5, 6, 7};
         },
         nothing,
         {{World::compare,
           {.queues = {"07.0004", "07.0047"},
            .source = "4",
            .destination = "6",
            .kernel = {kernel_prefix +
                       "migration failed: number of queues on source (4) and target (6) guests differ"},
            .error = ENODEV,
            .virsh = load_failed("No such device")}},
          {World::detached,
           {.severity = warning,
            .queues = {"07.0004", "07.0047"},
            .source = "4",
            .destination = "6",
            .verdict = Verdict::compatible}}}},
        {RuleId::queue_count,
         "the mdev has a domain less",
         [](Move& move) { move.there->domains = {4}; },
         nothing,
         {{World::compare,
           {.source = "4",
            .destination = "2",
            .kernel = {kernel_prefix + fewer + "40)"},
            .error = EIO,
            .virsh = load_failed("Input/output error")}}}},
        {RuleId::queue_not_assigned,
         "an adapter is not assigned",
         [](Move& move) { move.there->adapters = {5}; },
         nothing,
         {{World::compare,
           {.queues = {"06.0004", "06.0047"},
            .kernel = {unassigned_line("06.0004"), unassigned_line("06.0047")},
            .error = EIO,
            .virsh = load_failed("Input/output error")}},
          {World::detached, {.queues = {"06.0004", "06.0047"}}}}},
        {RuleId::queue_not_assigned,
         "as many are assigned, but others",
         [](Move& move) {
             move.there->adapters = {5, 7};
         },
         nothing,
         {{World::compare,
           {.queues = {"06.0004", "06.0047"},
            .kernel = {unassigned_line("06.0004"), unassigned_line("06.0047")},
            .error = ENODEV,
            .virsh = load_failed("No such device")}},
          {World::detached, {.queues = {"06.0004", "06.0047"}}}}},
        {RuleId::config_filtered,
         "a queue that the guest does not need is missing",
         [](Move& move) {
             move.destination.domains({4, 0x47, 0x54}).vanish({5, 0x54});
             move.free = {4, 0x47, 0x54};
             move.there->domains = {4, 0x47, 0x54};
         },
         // What nobody assigned may be missing.
         [](Move& move) {
             move.destination.domains({4, 0x47, 0x54}).vanish({5, 0x54});
             move.free = {4, 0x47, 0x54};
         },
         {{World::compare,
           {.queues = queues_of_05,
            .kernel = {unassigned_line("05.0004"), unassigned_line("05.0047")},
            .error = EIO,
            .virsh = load_failed("Input/output error")}},
          {World::detached, {.queues = queues_of_05}}}},
        {RuleId::control_domain_missing,
         "the destination has not got the control domain",
         [](Move& move) { move.destination.control_domains({0x47}); },
         [](Move& move) {
             move.destination.control_domains({0x47});
             move.control_domains = {};
             move.there->control_domains = {};
         },
         {{World::compare, {.control_domains = {4}}},
          {World::restore,
           {.control_domains = {4},
            .kernel = {"vfio_ap_mdev: " + uuid +
                       ": Control domain 0004 not available on the destination host"},
            .error = ENODEV,
            .virsh = load_failed("No such device")}},
          {World::detached, {.control_domains = {4}}}}},
        {RuleId::control_domain_missing,
         "the control domain is not assigned to the mdev",
         [](Move& move) { move.there->control_domains = {}; },
         nothing,
         {{World::compare, {.control_domains = {4}}}, {World::detached, {.control_domains = {4}}}}},
        {RuleId::control_domain_extra,
         "the mdev has a control domain more",
         [](Move& move) {
             move.there->control_domains = {4, 0x47};
         },
         // One that the host has not got does not reach the guest.
         [](Move& move) {
             move.there->control_domains = {4, 0x99};
         },
         {{World::compare, {.severity = warning, .control_domains = {0x47}, .verdict = Verdict::compatible}},
          {World::detached,
           {.severity = warning, .control_domains = {0x47}, .verdict = Verdict::compatible}}}},
    };
}

Row mode_row() {
    const auto lines = [](bool compare) {
        return per_queue(queues_of_05, [compare](const std::string& queue) {
            if (!compare) {
                return Lines{"Coprocessor-mode facility installed in source queue " + queue,
                             "Coprocessor-mode facility not installed in target queue " + queue,
                             "XCP-mode facility not installed in source queue " + queue,
                             "XCP-mode facility installed in target queue " + queue};
            }
            // The wording of v1 and v2, two blanks and all.
            return Lines{"Coprocessor-mode facility installed in source queue " + queue,
                         "Coprocessor-mode  facility not installed target queue " + queue,
                         "XCP-mode facility not installed source queue " + queue,
                         "XCP-mode facility installed target queue " + queue, same_types};
        });
    };
    Expected detached{.queues = queues_of_05, .source = "CCA coprocessor", .destination = "EP11 coprocessor"};
    Expected compare = detached;
    compare.kernel = lines(true);
    compare.error = EFAULT;
    compare.virsh = load_failed("Bad address");
    Expected restore = detached;
    restore.kernel = lines(false);
    restore.error = EINVAL;
    restore.virsh = load_failed("Invalid argument");
    return {RuleId::queue_mode,
            "CCA here, EP11 there",
            flipped(bit(3) | bit(5)),
            [](Move& move) { same_on_both_sides(move, test::cca_functions ^ (bit(3) | bit(5))); },
            {{World::compare, compare}, {World::restore, restore}, {World::detached, detached}}};
}

Row type_row() {
    const auto lines = per_queue(queues_of_05, [](const std::string&) {
        return Lines{"AP type of source (0e) not compatible with target (0d)"};
    });
    const auto card = [](unsigned type) {
        return [type](Move& move) {
            move.edit_destination = [type](Inventory& host) { card_of(host, 5).raw_hwtype = type; };
        };
    };
    return {RuleId::queue_type,
            "an older card",
            card(13),
            card(15),
            {{World::compare,
              {.queues = queues_of_05,
               .source = "CEX8",
               .destination = "CEX7",
               .kernel = lines,
               .error = EFAULT,
               .virsh = load_failed("Bad address")}},
             {World::restore,
              {.queues = queues_of_05,
               .source = "CEX8",
               .destination = "CEX7",
               .kernel = lines,
               .error = EINVAL,
               .virsh = load_failed("Invalid argument")}},
             {World::detached,
              {.severity = warning,
               .queues = queues_of_05,
               .source = "CEX8",
               .destination = "CEX7",
               .verdict = Verdict::compatible}}}};
}

Row class_row() {
    const auto lines = [](bool compare) {
        return per_queue(queues_of_05, [compare](const std::string& queue) {
            Lines all{"Full native card function available on source queue " + queue,
                      "Only stateless functions available on target queue " + queue};
            if (compare) all.push_back(same_types);
            return all;
        });
    };
    return {RuleId::queue_class,
            "native here, stateless only there",
            flipped(bit(8) | bit(9)),
            [](Move& move) { same_on_both_sides(move, test::cca_functions ^ (bit(8) | bit(9))); },
            {{World::compare,
              {.queues = queues_of_05,
               .source = "native",
               .destination = "stateless only",
               .kernel = lines(true),
               .error = EFAULT,
               .virsh = load_failed("Bad address")}},
             {World::restore,
              {.queues = queues_of_05,
               .source = "native",
               .destination = "stateless only",
               .kernel = lines(false),
               .error = EINVAL,
               .virsh = load_failed("Invalid argument")}},
             {World::detached,
              {.severity = warning,
               .queues = queues_of_05,
               .source = "native",
               .destination = "stateless only",
               .verdict = Verdict::compatible}}}};
}

/// The bind and associate state of one queue.
Change bind_states(unsigned source, unsigned destination) {
    return [=](Move& move) {
        const auto edit = [](unsigned bs) {
            return [bs](Inventory& host) {
                queue_of(host, {5, 4}).ap_functions = test::cca_functions | bs << 14U;
            };
        };
        move.edit_source = edit(source);
        move.edit_destination = edit(destination);
        move.control_domains = {};
        move.there->control_domains = {};
    };
}

std::vector<Row> bind_state_rows() {
    const auto line = [](unsigned source, unsigned target) {
        return per_queue({"05.0004"}, [=](const std::string& queue) {
            return Lines{
                fmt::format("Bind/associate state for source ({:x}) and target ({:x}) queue {} must be 0",
                            source, target, queue)};
        });
    };
    const auto restore = [&](Side host, unsigned source, unsigned target) {
        return Expected{.host = host,
                        .queues = {"05.0004"},
                        .source = std::to_string(source),
                        .destination = std::to_string(target),
                        .kernel = line(source, target),
                        .error = EINVAL,
                        .virsh = load_failed("Invalid argument")};
    };
    // Profile compare looks at the card and sees no bind state: no line, no failure.
    const auto without_kernel = [](Expected expected) {
        expected.kernel = {};
        expected.error = {};
        expected.virsh = {};
        return expected;
    };
    const auto row = [&](const std::string& situation, Side host, unsigned source, unsigned destination) {
        const auto native = restore(host, source, destination);
        auto detached = without_kernel(native);
        if (destination == 0) {
            detached.severity = warning;
            detached.verdict = Verdict::compatible;
        }
        return Row{RuleId::queue_bs,
                   situation,
                   bind_states(source, destination),
                   bind_states(0, 0),
                   {{World::compare, without_kernel(native)},
                    {World::restore, native},
                    {World::detached, detached}}};
    };
    return {row("bound at the destination", Side::destination, 0, 1),
            row("bound at the source", Side::source, 3, 0),
            row("bound on both sides alike", Side::both, 1, 1),
            row("bound on both sides, not alike", Side::both, 2, 1)};
}

std::vector<Row> driver_rows() {
    // Stateless at the source and native at the destination, which rule (c) allows.
    const auto stateless = flipped_at_source(bit(8) | bit(9));
    // The class byte, as the drivers compare it with everything else of the upper half.
    const std::string ours = "0x92400000";
    const std::string theirs = "0x92800000";
    const auto both_bound = bind_states(1, 1);
    return {
        {RuleId::driver_stricter,
         "the rule allows stateless to native, drivers do not",
         stateless,
         [](Move& move) { same_on_both_sides(move, test::cca_functions ^ (bit(8) | bit(9))); },
         {{World::compare,
           {.queues = queues_of_05,
            .source = ours,
            .destination = theirs,
            .kernel = per_queue(queues_of_05, [](const std::string&) { return Lines{same_types}; }),
            .error = EFAULT,
            .virsh = load_failed("Bad address")}},
          {World::restore,
           {.severity = warning,
            .queues = queues_of_05,
            .source = ours,
            .destination = theirs,
            .verdict = Verdict::compatible}}}},
        {RuleId::driver_laxer,
         "equal bind states pass some drivers",
         both_bound,
         bind_states(0, 0),
         {{World::compare, {.severity = info, .queues = {"05.0004"}, .source = "1", .destination = "1"}},
          {World::restore,
           {.severity = info,
            .queues = {"05.0004"},
            .source = "1",
            .destination = "1",
            .error = EINVAL,
            .virsh = load_failed("Invalid argument")}}}},
        {RuleId::kernel_layout, "two kernels that migrate", nothing,
         [](Move& move) {
             move.world = World::detached;
             move.source.kernel(Kernel::newest);
             move.destination.kernel(Kernel::newest);
         },
         natively({.severity = info,
                   .host = Side::both,
                   .source = "unknown",
                   .destination = "unknown",
                   .verdict = Verdict::compatible})},
    };
}

/// `aes` at the destination instead of the source's key.
Change other_aes_key(const std::string& line) {
    return
        [line](Move& move) { move.destination.master_keys(5, test::with_register(test::cca_keys(5), line)); };
}

std::vector<Row> key_rows() {
    const auto current = "0x" + test::cca_keys(5).find("AES", "CUR")->pattern;
    return {
        {RuleId::masterkey_mismatch, "another current AES key",
         other_aes_key("AES CUR: valid 0x1111111111111111"),
         // An old key that differs does not matter.
         other_aes_key("AES OLD: valid 0x1111111111111111"),
         everywhere({.queues = queues_of_05, .source = current, .destination = "0x1111111111111111"})},
        {RuleId::masterkey_mismatch, "no AES key at the destination",
         other_aes_key("AES CUR: invalid 0x0000000000000000"), nothing,
         everywhere({.queues = queues_of_05, .source = current, .destination = "invalid"})},
        {RuleId::masterkey_mismatch, "another EP11 wrapping key",
         [](Move& move) { move.destination.master_keys(6, test::ep11_keys(7)); }, nothing,
         everywhere({.queues = {"06.0004", "06.0047"},
                     .source = "0x" + test::ep11_keys(6).find("WK", "CUR")->pattern,
                     .destination = "0x" + test::ep11_keys(7).find("WK", "CUR")->pattern})},
        {RuleId::masterkey_mismatch, "the source's key is the destination's old one",
         [current](Move& move) {
             move.destination.master_keys(
                 5, test::with_register(test::with_register(test::cca_keys(5), "AES OLD: valid " + current),
                                        "AES CUR: valid 0x1111111111111111"));
         },
         nothing,
         everywhere({.severity = warning,
                     .queues = queues_of_05,
                     .source = current,
                     .destination = "0x1111111111111111",
                     .verdict = Verdict::compatible})},
        {RuleId::masterkey_mismatch, "no key is set at the source, so that nothing depends on it",
         [](Move& move) {
             move.source.master_keys(
                 5, test::with_register(test::cca_keys(5), "APKA CUR: invalid 0x0000000000000000"));
         },
         // Set on neither side.
         [](Move& move) {
             const auto keys = test::with_register(test::cca_keys(5), "APKA CUR: invalid 0x0000000000000000");
             move.source.master_keys(5, keys);
             move.destination.master_keys(5, keys);
         },
         everywhere({.severity = warning,
                     .queues = queues_of_05,
                     .source = "invalid",
                     .destination = "0x" + test::cca_keys(5).find("APKA", "CUR")->pattern,
                     .verdict = Verdict::compatible})},
        {RuleId::masterkey_pending, "a new AES key is loaded at the destination",
         other_aes_key("AES NEW: full 0x2222222222222222"), nothing,
         everywhere({.severity = warning,
                     .queues = queues_of_05,
                     .destination = "full",
                     .verdict = Verdict::compatible})},
        {RuleId::masterkey_pending, "a new ASYM key is half entered at the source",
         [](Move& move) {
             move.source.master_keys(
                 5, test::with_register(test::cca_keys(5),
                                        "ASYM NEW: partial 0x22222222222222222222222222222222"));
         },
         nothing,
         everywhere({.severity = warning,
                     .host = Side::source,
                     .queues = queues_of_05,
                     .source = "partial",
                     .verdict = Verdict::compatible})},
        {RuleId::masterkey_pending, "a new wrapping key waits at the destination",
         [](Move& move) {
             move.destination.master_keys(
                 6, test::with_register(test::ep11_keys(6), "WK NEW: uncommitted 0x" + std::string(64, '2')));
         },
         nothing,
         everywhere({.severity = warning,
                     .queues = {"06.0004", "06.0047"},
                     .destination = "uncommitted",
                     .verdict = Verdict::compatible})},
        {RuleId::masterkey_unknown, "nobody remembers the destination's",
         [](Move& move) {
             move.edit_destination = [](Inventory& host) { queue_of(host, {5, 4}).detail.reset(); };
         },
         // An accelerator has none.
         [](Move& move) {
             move.edit_destination = [](Inventory& host) { queue_of(host, {7, 4}).detail.reset(); };
         },
         everywhere({.severity = warning, .queues = {"05.0004"}, .verdict = Verdict::compatible})},
        {RuleId::masterkey_unknown, "nobody remembers the source's",
         [](Move& move) {
             move.edit_source = [](Inventory& host) { queue_of(host, {6, 0x47}).detail.reset(); };
         },
         nothing,
         everywhere({.severity = warning,
                     .host = Side::source,
                     .queues = {"06.0047"},
                     .verdict = Verdict::compatible})},
        {RuleId::masterkey_unknown, "the card did not answer on either side",
         [](Move& move) {
             move.source.master_keys(5, test::unknown_cca_keys());
             move.destination.master_keys(5, test::unknown_cca_keys());
         },
         nothing,
         everywhere({.severity = warning,
                     .host = Side::both,
                     .queues = queues_of_05,
                     .verdict = Verdict::compatible})},
    };
}

const std::vector<Row>& rows() {
    static const std::vector<Row> all = [] {
        auto rows = guest_and_host_rows();
        const auto append = [&rows](std::vector<Row> more) {
            std::move(more.begin(), more.end(), std::back_inserter(rows));
        };
        append(queue_and_mdev_rows());
        append({mode_row(), type_row(), class_row()});
        append(bind_state_rows());
        append({facility_row(RuleId::queue_apsc, 0, "APSC facility", "installed"),
                facility_row(RuleId::queue_ap4km, 1, "mex4k facility", "installed"),
                facility_row(RuleId::queue_ap4kc, 2, "crt4k facility", "installed"),
                facility_row(RuleId::queue_apxa, 6, "AP-extended-addressing (APXA) facility", "installed"),
                facility_row(RuleId::queue_slcf, 7, "Stateless-command-filtering (SLCF)", "available")});
        append(driver_rows());
        append(key_rows());
        return rows;
    }();
    return all;
}

Lines names(const std::vector<Apqn>& queues) {
    Lines result;
    for (const auto apqn : queues)
        result.push_back(apqn.to_string());
    return result;
}

class RuleRow : public testing::TestWithParam<std::tuple<std::size_t, World>> {
  protected:
    [[nodiscard]] const Row& row() const { return rows()[std::get<0>(GetParam())]; }
    [[nodiscard]] World world() const { return std::get<1>(GetParam()); }
    [[nodiscard]] Report after(const Change& change) const {
        Move move{world()};
        change(move);
        return move.report();
    }
};

TEST_P(RuleRow, says_what_it_should_and_nothing_beside_it) {
    SCOPED_TRACE(fmt::format("{}: {}, {}", rule(row().rule).name, row().situation, to_text(world())));
    const auto report = after(row().raise);
    const auto found = findings_of(report, row().rule);
    const auto expected = row().expected.find(world());
    if (expected == row().expected.end()) {
        EXPECT_THAT(found, IsEmpty()) << summary(report);
    } else {
        const auto& wanted = expected->second;
        ASSERT_THAT(found, SizeIs(1)) << summary(report);
        const auto& finding = found.front();
        EXPECT_EQ(to_text(finding.severity), to_text(wanted.severity));
        EXPECT_EQ(to_text(finding.host), to_text(wanted.host));
        EXPECT_THAT(names(finding.queues), ElementsAreArray(wanted.queues));
        EXPECT_THAT(finding.control_domains, ElementsAreArray(wanted.control_domains));
        EXPECT_EQ(finding.source, wanted.source);
        EXPECT_EQ(finding.destination, wanted.destination);
        EXPECT_THAT(kernel_messages(finding), ElementsAreArray(wanted.kernel));
        EXPECT_NE(finding.message, "");
        EXPECT_TRUE(finding.severity == info || !finding.remedies.empty()) << "what is to be done?";
        EXPECT_EQ(to_text(report.verdict), to_text(wanted.verdict)) << summary(report);
        EXPECT_EQ(report.prediction.error, wanted.error) << summary(report);
        EXPECT_EQ(report.prediction.virsh, wanted.virsh) << summary(report);
    }
    const auto beside = after(row().beside);
    EXPECT_THAT(findings_of(beside, row().rule), IsEmpty()) << summary(beside);
}

std::string row_name(const testing::TestParamInfo<std::tuple<std::size_t, World>>& param) {
    const auto [index, world] = param.param;
    std::string name = fmt::format("{}_{}_{:02}", rule(rows()[index].rule).name, to_text(world), index);
    std::replace_if(
        name.begin(), name.end(), [](char c) { return c == '.' || c == '-'; }, '_');
    return name;
}

INSTANTIATE_TEST_SUITE_P(Rules, RuleRow,
                         testing::Combine(testing::Range(std::size_t{0}, rows().size()),
                                          testing::Values(World::compare, World::restore, World::detached)),
                         row_name);

TEST(Rules, have_a_row_each) {
    for (const auto& entry : rules()) {
        // Those of live update have their rows in live_update_test.cpp.
        if (!entry.native && !entry.detached) continue;
        const auto covers = [&](const Row& row) { return row.rule == entry.id; };
        EXPECT_TRUE(std::any_of(rows().begin(), rows().end(), covers)) << entry.name;
        for (const auto world : {World::compare, World::restore, World::detached}) {
            const auto severity = world == World::detached ? entry.detached : entry.native;
            const bool spoken = std::any_of(rows().begin(), rows().end(), [&](const Row& row) {
                return row.rule == entry.id && row.expected.contains(world);
            });
            EXPECT_TRUE(!spoken || severity) << entry.name << " speaks in " << to_text(world);
        }
    }
}

TEST(Rules, are_found_by_their_names) {
    std::set<std::string_view> names;
    for (const auto& entry : rules()) {
        EXPECT_EQ(parse_rule(entry.name), entry.id);
        EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
        EXPECT_FALSE(entry.title.empty() || entry.why.empty()) << entry.name;
        EXPECT_TRUE(entry.native || entry.detached || entry.live_update) << entry.name;
    }
    EXPECT_FALSE(parse_rule("queue.colour"));
}

TEST(Check, finds_nothing_to_do_where_everything_fits) {
    for (const auto world : {World::compare, World::restore, World::detached}) {
        const auto report = Move{world}.report();
        EXPECT_EQ(report.verdict, Verdict::compatible) << summary(report);
        EXPECT_EQ(report.count(error) + report.count(warning), 0U) << summary(report);
        EXPECT_FALSE(report.prediction.error);
        EXPECT_FALSE(report.prediction.virsh);
        EXPECT_THAT(names(report.queues), ElementsAreArray(all_queues));
    }
}

TEST(Check, has_nothing_against_a_guest_without_vfio_ap) {
    for (const auto world : {World::compare, World::restore, World::detached}) {
        Move move{world};
        move.guest.mdevs.clear();
        // Whatever else may keep it here is not for these rules to say.
        move.guest.secure_execution = true;
        move.destination.without_ap_bus();
        move.there.reset();
        move.options.strict = true;
        const auto report = move.report();
        EXPECT_EQ(report.verdict, Verdict::compatible) << summary(report);
        EXPECT_THAT(report.findings, SizeIs(1));
    }
}

TEST(AutomaticMode, is_native_where_both_sides_are_known_to_be_able) {
    Move move{World::restore};
    move.options = {};
    const auto native = move.report();
    EXPECT_EQ(native.mode, Mode::native);
    EXPECT_EQ(native.profile, Profile::restore);
    EXPECT_EQ(native.verdict, Verdict::compatible) << summary(native);
    EXPECT_THAT(native.mode_reason, HasSubstr("both"));

    const auto detached_because = [](const Move& changed, const std::string& reason) {
        const auto report = changed.report();
        EXPECT_EQ(report.mode, Mode::detached);
        EXPECT_FALSE(report.profile) << "no driver compares";
        EXPECT_EQ(report.verdict, Verdict::compatible) << summary(report);
        EXPECT_THAT(report.mode_reason, HasSubstr(reason));
    };
    auto old_source = move;
    old_source.source.kernel(Kernel::newest);
    detached_because(old_source, "kernel of left");
    auto old_destination = move;
    old_destination.destination.kernel(Kernel::newest);
    detached_because(old_destination, "kernel of right");
    auto old_qemu = move;
    old_qemu.destination.qemu("10.0.2", false);
    detached_because(old_qemu, "QEMU");
    auto unknown_qemu = move;
    unknown_qemu.edit_source = [](Inventory& host) { host.qemu.reset(); };
    detached_because(unknown_qemu, "QEMU is not known");
}

TEST(AutomaticMode, gives_no_reason_where_the_mode_was_asked_for) {
    for (const auto world : {World::restore, World::detached})
        EXPECT_EQ(Move{world}.report().mode_reason, "");
}

TEST(AutomaticProfile, is_compare_where_mdevs_have_the_attribute_migratable) {
    Move move{World::compare};
    move.options = {};
    EXPECT_EQ(move.report().profile, Profile::compare);
    // Any mdev at the destination tells.
    move.there.reset();
    move.neighbour = Move::Assigned{};
    EXPECT_EQ(move.report().profile, Profile::compare);
}

TEST(AutomaticProfile, goes_by_the_source_where_the_destination_has_no_mdev) {
    Move move{World::compare};
    move.options.profile = Profile::automatic;
    move.there.reset();
    EXPECT_EQ(move.report().profile, Profile::compare);
    Move later{World::restore};
    later.options.profile = Profile::automatic;
    later.there.reset();
    EXPECT_EQ(later.report().profile, Profile::restore);
}

TEST(AutomaticProfile, goes_by_the_destination_where_the_two_differ) {
    Move move{World::compare};
    move.options.profile = Profile::automatic;
    move.edit_destination = [](Inventory& host) {
        host.vfio_ap->features->emplace_back(feature_migratable);
        for (auto& mdev : host.mdevs)
            mdev.migratable.reset();
    };
    EXPECT_EQ(move.report().profile, Profile::restore);
}

TEST(AutomaticProfile, is_none_where_no_driver_compares) {
    Move move{World::detached};
    move.options.profile = Profile::compare;
    EXPECT_FALSE(move.report().profile);
}

TEST(Source, that_has_more_assigned_than_there_is_moves_what_the_guest_has) {
    for (const auto world : {World::compare, World::restore, World::detached}) {
        Move move{world};
        move.edit_source = [](Inventory& host) {
            auto& mdev = mdev_of(host, test::example_mdev);
            mdev.adapters.set(0x63);
            mdev.domains.set(0xab);
            mdev.control_domains->set(0xcd);
        };
        const auto report = move.report();
        EXPECT_EQ(report.verdict, Verdict::compatible) << summary(report);
        EXPECT_THAT(names(report.queues), ElementsAreArray(all_queues));
        EXPECT_EQ(report.control_domains, Mask::of({4}));
        // It is told, but it is no obstacle.
        const auto filtered = findings_of(report, RuleId::config_filtered);
        ASSERT_THAT(filtered, SizeIs(1));
        EXPECT_EQ(filtered.front().severity, info);
        EXPECT_EQ(filtered.front().host, Side::source);
    }
}

TEST(Source, that_lost_an_adapter_to_the_filter_moves_the_rest) {
    for (const auto world : {World::compare, World::restore, World::detached}) {
        Move move{world};
        move.source.vanish({6, 0x47});
        move.there->adapters = {5};
        const auto report = move.report();
        EXPECT_EQ(report.verdict, Verdict::compatible) << summary(report);
        EXPECT_THAT(names(report.queues), ElementsAreArray(queues_of_05));
        EXPECT_THAT(findings_of(report, RuleId::config_filtered).front().message, HasSubstr("adapter 06"));
    }
}

TEST(Source, with_an_empty_configuration_can_go_anywhere_with_an_empty_mdev) {
    for (const auto world : {World::compare, World::restore, World::detached}) {
        Move move{world};
        move.adapters = move.domains = move.control_domains = {};
        move.there = Move::Assigned{};
        const auto report = move.report();
        EXPECT_EQ(report.verdict, Verdict::compatible) << summary(report);
        EXPECT_EQ(report.count(warning), 0U);
    }
}

TEST(Source, without_vfio_ap_or_ap_bus_is_an_error_of_the_source) {
    for (const bool bus : {false, true}) {
        Move move{World::detached};
        move.edit_source = [bus](Inventory& host) {
            host.vfio_ap.reset();
            host.mdevs.clear();
            if (!bus) host.ap.reset();
        };
        const auto found = findings_of(move.report(), RuleId::kernel_no_vfio_ap);
        ASSERT_THAT(found, SizeIs(1));
        EXPECT_EQ(found.front().host, Side::source);
        EXPECT_EQ(found.front().severity, error);
        EXPECT_THAT(found.front().message, HasSubstr(bus ? "not loaded" : "no AP bus"));
    }
}

TEST(Source, whose_page_is_full_is_rebuilt_from_ap_config) {
    Move move{World::detached};
    make_large(move, 256, true);
    move.source.card(8, "CEX8C");
    move.destination.card(8, "CEX8C");
    move.adapters = move.there->adapters = {5, 6, 8};
    const auto report = move.report();
    EXPECT_EQ(report.queues.size(), 768U) << "512 fit the page";
    EXPECT_EQ(report.count(error), 0U) << summary(report);
}

TEST(Destination, of_which_the_page_is_full_is_truncated_only_where_its_mdev_matters) {
    for (const auto world : {World::compare, World::restore, World::detached}) {
        Move move{world};
        make_large(move, 256, true);
        move.edit_destination = [](Inventory& host) {
            mdev_of(host, test::example_mdev).ap_config = false;
            mdev_of(host, test::example_mdev).matrix_truncated = true;
        };
        const auto report = move.report();
        const auto found = findings_of(report, RuleId::config_truncated);
        const auto at_destination = [](const Finding& finding) { return finding.host == Side::destination; };
        EXPECT_EQ(std::count_if(found.begin(), found.end(), at_destination), world == World::restore ? 0 : 1);
        EXPECT_EQ(report.verdict, world == World::restore ? Verdict::compatible : Verdict::undetermined)
            << summary(report);
    }
}

TEST(Destination, is_told_everything_at_once) {
    Move move{World::detached};
    move.guest.mdevs.push_back(test::uuid(test::neighbour_mdev));
    move.free = {4};
    move.there = Move::Assigned{{6}, {4}, {}};
    move.neighbour = Move::Assigned{{5}, {4}, {}};
    move.destination.control_domains({0x47}).master_keys(6, test::ep11_keys(7)).check_stop(Apqn{6, 4});
    move.edit_destination = [](Inventory& host) {
        card_of(host, 5).raw_hwtype = 13;
        set_functions(host, 6, test::ep11_functions ^ bit(0));
        host.prot_virt_guest = true;
    };
    const auto report = move.report();
    for (const auto id :
         {RuleId::guest_multiple_vfio_ap, RuleId::host_secure_execution, RuleId::queue_checkstopped,
          RuleId::queue_not_bound, RuleId::queue_assigned_elsewhere, RuleId::queue_not_assigned,
          RuleId::control_domain_missing, RuleId::queue_type, RuleId::queue_apsc,
          RuleId::masterkey_mismatch}) {
        EXPECT_THAT(findings_of(report, id), Not(IsEmpty())) << rule(id).name << '\n' << summary(report);
    }
    // Errors first, then by what has to be mended first.
    EXPECT_TRUE(std::is_sorted(report.findings.begin(), report.findings.end(),
                               [](const Finding& a, const Finding& b) {
                                   return std::tie(a.severity, a.rule) < std::tie(b.severity, b.rule);
                               }));
}

TEST(MasterKeys, of_the_same_values_are_one_finding_and_others_another) {
    Move move{World::detached};
    move.destination.master_keys(Apqn{5, 4},
                                 test::with_register(test::cca_keys(5), "AES CUR: valid 0x1111111111111111"));
    move.destination.master_keys(Apqn{5, 0x47},
                                 test::with_register(test::cca_keys(5), "AES CUR: valid 0x2222222222222222"));
    const auto found = findings_of(move.report(), RuleId::masterkey_mismatch);
    ASSERT_THAT(found, SizeIs(2));
    EXPECT_THAT(names(found[0].queues), ElementsAre("05.0004"));
    EXPECT_THAT(names(found[1].queues), ElementsAre("05.0047"));
}

TEST(MasterKeys, that_differ_in_one_register_are_compared_though_another_is_unknown) {
    Move move{World::detached};
    auto keys = test::with_register(test::cca_keys(5), "AES CUR: valid 0x1111111111111111");
    keys = test::with_register(keys, "ASYM CUR: - -");
    move.destination.master_keys(5, keys);
    const auto report = move.report();
    EXPECT_THAT(findings_of(report, RuleId::masterkey_mismatch), SizeIs(1)) << summary(report);
    EXPECT_THAT(findings_of(report, RuleId::masterkey_unknown), SizeIs(1)) << summary(report);
}

TEST(MasterKeys, of_accelerators_are_not_asked_for) {
    Move move{World::detached};
    move.adapters = {7};
    move.there->adapters = {7};
    const auto report = move.report();
    EXPECT_THAT(report.findings, IsEmpty()) << summary(report);
}

TEST(StrictCheck, takes_warnings_for_errors) {
    Move move{World::detached};
    move.destination.master_keys(5, test::unknown_cca_keys());
    EXPECT_EQ(move.report().verdict, Verdict::compatible);
    move.options.strict = true;
    const auto report = move.report();
    EXPECT_EQ(report.verdict, Verdict::incompatible);
    EXPECT_EQ(report.count(warning), 0U);
    EXPECT_EQ(findings_of(report, RuleId::masterkey_unknown).front().severity, error);
}

TEST(StrictCheck, leaves_infos_alone) {
    Move move{World::restore};
    move.options.strict = true;
    const auto report = move.report();
    EXPECT_EQ(report.verdict, Verdict::compatible) << summary(report);
    EXPECT_GT(report.count(info), 0U);
}

TEST(StrictCheck, predicts_the_same) {
    for (const bool strict : {false, true}) {
        Move move{World::restore};
        move.options.strict = strict;
        move.edit_source = [](Inventory& host) { host.qemu.reset(); };
        move.destination.vanish({6, 0x47});
        const auto report = move.report();
        EXPECT_EQ(report.prediction.error, ENODEV) << "that a QEMU is not known stops no migration";
        EXPECT_THAT(predicted_kernel_log(report), ElementsAre(unavailable_line("06.0047")));
    }
}

struct UnreadableCase {
    std::string path;
    int error;
    std::optional<Severity> source;       ///< its host.unreadable, when it is the source's
    std::optional<Severity> destination;  ///< when it is the destination's
};

/// In mode detached, where the destination's mdev has to be set up.
TEST(Unreadable, makes_a_check_undetermined_only_where_a_rule_needs_it) {
    const std::string mdev = "devices/vfio_ap/matrix/" + uuid;
    const std::string other = "devices/vfio_ap/matrix/" + std::string{test::neighbour_mdev};
    const std::vector<UnreadableCase> cases{
        {"devices/ap/card05/05.0004/ap_functions", EIO, error, error},
        {"devices/ap/card05/05.0004/driver", EIO, error, error},
        {"devices/ap/card05/05.0004/config", EIO, info, error},
        {"devices/ap/card05/05.0004/chkstop", EIO, info, error},
        {"devices/ap/card05/05.0004/mkvps", EIO, info, info},
        {"devices/ap/card05/raw_hwtype", 0, error, error},
        {"devices/ap/card05/ap_functions", EIO, error, error},
        {"devices/ap/card05", EACCES, error, error},
        {"devices/ap/card05/serialnr", EIO, info, info},
        // Cards and queues of others.
        {"devices/ap/card07/07.0004/ap_functions", EIO, {}, {}},
        {"devices/ap/card07/raw_hwtype", EIO, {}, {}},
        {"devices/ap/card07", EACCES, {}, {}},
        {mdev + "/matrix", EIO, error, error},
        {mdev + "/guest_matrix", EIO, error, error},
        {mdev + "/control_domains", EIO, error, error},
        {mdev, EACCES, error, error},
        {mdev + "/mdev_type/device_api", EIO, info, info},
        {mdev + "/ap_config", 0, info, info},
        {"devices/vfio_ap/matrix", EACCES, error, error},
        {"devices/vfio_ap/matrix/features", EIO, info, info},
        {"devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/available_instances", EIO, info,
         info},
        // What another mdev has may be the guest's queues; the rest of it is its own affair.
        {other + "/matrix", EIO, {}, error},
        {other, EACCES, {}, error},
        {other, ENOENT, info, info},
        {other + "/guest_matrix", EIO, {}, {}},
        {"bus/ap", EACCES, error, error},
        {"devices/ap", EACCES, error, error},
        {"bus/ap/drivers", EACCES, error, error},
        {"bus/ap/drivers/vfio_ap", EACCES, error, error},
        {"bus/ap/ap_control_domain_mask", EIO, error, error},
        {"bus/ap/ap_usage_domain_mask", EIO, info, info},
        {"bus/ap/apmask", EIO, info, info},
        {"bus/ap/scans", 0, info, info},
        {"firmware/uv/prot_virt_guest", EIO, error, error},
        {"firmware/uv/prot_virt_host", EIO, info, info},
        {"vfioap-host.json", 0, info, info},
    };
    for (const auto& entry : cases) {
        for (const auto side : {Side::source, Side::destination}) {
            SCOPED_TRACE(fmt::format("{} at {}", entry.path, to_text(side)));
            Move move{World::detached};
            (side == Side::source ? move.edit_source : move.edit_destination) = [&](Inventory& host) {
                host.unreadable.push_back({entry.path, entry.error, "what was found"});
            };
            const auto report = move.report();
            const auto found = findings_of(report, RuleId::host_unreadable);
            const auto expected = side == Side::source ? entry.source : entry.destination;
            ASSERT_EQ(found.size(), expected ? 1U : 0U) << summary(report);
            EXPECT_EQ(report.verdict, expected == error ? Verdict::undetermined : Verdict::compatible)
                << summary(report);
            if (!expected) continue;
            EXPECT_EQ(found.front().severity, *expected);
            EXPECT_EQ(found.front().host, side);
            EXPECT_THAT(found.front().message, HasSubstr(entry.path));
        }
    }
}

TEST(Unreadable, has_a_text_for_an_errno_without_a_name) {
    for (const int number : {524, 4711}) {
        Move move{World::detached};
        move.edit_destination = [number](Inventory& host) {
            host.unreadable.push_back({"devices/ap/card05/05.0004/ap_functions", number, ""});
        };
        const auto report = move.report();
        const auto found = findings_of(report, RuleId::host_unreadable);
        ASSERT_EQ(found.size(), 1U) << summary(report);
        EXPECT_EQ(found.front().destination, fmt::format("errno {}", number));
        EXPECT_THAT(found.front().message, HasSubstr(fmt::format("Unknown error {}", number)));
        EXPECT_EQ(report.verdict, Verdict::undetermined);
    }
}

TEST(Unreadable, masks_matter_where_the_guest_matrix_is_made_from_them) {
    Move move{World::detached};
    move.edit_source = [](Inventory& host) {
        host.unreadable.push_back({"bus/ap/ap_usage_domain_mask", EIO, ""});
        mdev_of(host, test::example_mdev).guest_matrix.reset();
    };
    EXPECT_EQ(move.report().verdict, Verdict::undetermined) << summary(move.report());
}

TEST(Unreadable, queues_that_do_not_answer_are_one_finding) {
    Move move{World::restore};
    for (const auto apqn : {Apqn{5, 4}, Apqn{5, 0x47}, Apqn{6, 4}})
        move.destination.no_answer(apqn);
    const auto report = move.report();
    const auto found = findings_of(report, RuleId::host_unreadable);
    ASSERT_THAT(found, SizeIs(1)) << summary(report);
    EXPECT_THAT(names(found.front().queues), ElementsAre("05.0004", "05.0047", "06.0004"));
    EXPECT_EQ(report.verdict, Verdict::undetermined);
}

TEST(Unreadable, does_not_hide_that_the_guest_cannot_move) {
    Move move{World::restore};
    move.destination.no_answer({5, 4}).vanish({6, 4});
    EXPECT_EQ(move.report().verdict, Verdict::incompatible);
}

TEST(Unreadable, features_leave_open_whether_the_kernel_migrates) {
    Move move{World::restore};
    move.edit_destination = [](Inventory& host) {
        host.vfio_ap->features.reset();
        host.unreadable.push_back({"devices/vfio_ap/matrix/features", EIO, ""});
    };
    const auto report = move.report();
    EXPECT_EQ(report.verdict, Verdict::undetermined) << summary(report);
    EXPECT_THAT(findings_of(report, RuleId::kernel_no_migration), IsEmpty());
}

TEST(Prediction, puts_no_words_into_a_driver_that_cannot_migrate) {
    Move move{World::restore};
    flipped(bit(0))(move);
    EXPECT_EQ(move.report().prediction.error, EINVAL);
    move.destination.qemu("10.0.2", false);
    EXPECT_FALSE(move.report().prediction.error);
    EXPECT_FALSE(move.report().prediction.virsh);
    move.destination.qemu("12.0.0", true).kernel(Kernel::newest);
    EXPECT_FALSE(move.report().prediction.error);
    EXPECT_THAT(predicted_kernel_log(move.report()), IsEmpty());
}

TEST(Prediction, goes_by_the_first_obstacle) {
    // From the last one to the first, in the order in which libvirt, QEMU and the driver meet them.
    Move move{World::restore};
    move.there.reset();
    move.neighbour = Move::Assigned{{5}, {4}, {}};
    const auto with_mdev = [&] {
        auto there = move;
        there.there = Move::Assigned{};
        return there.report().prediction;
    };
    EXPECT_EQ(with_mdev().error, EADDRINUSE);
    move.edit_destination = [](Inventory& host) { card_of(host, 6).raw_hwtype = 13; };
    EXPECT_EQ(with_mdev().error, EINVAL);
    move.destination.control_domains({0x47});
    EXPECT_EQ(with_mdev().error, ENODEV);
    move.destination.vanish({6, 0x47});
    EXPECT_EQ(with_mdev().error, ENODEV);
    auto there = move;
    there.there = Move::Assigned{};
    EXPECT_THAT(predicted_kernel_log(there.report()), ElementsAre(unavailable_line("06.0047")));
    move.edit_destination = [](Inventory& host) { host.prot_virt_guest = true; };
    EXPECT_EQ(with_mdev().error, EPERM);
    EXPECT_EQ(move.report().prediction.virsh,
              "error: device not found: mediated device '" + uuid + "' not found");
    move.source.kernel(Kernel::newest);
    EXPECT_EQ(move.report().prediction.virsh, refused(uuid + ": VFIO migration is not supported in kernel"));
    move.source.qemu("10.0.2", false);
    EXPECT_EQ(move.report().prediction.virsh, refused("non-migratable device: /1/vfio-ap"));
    move.guest.secure_execution = true;
    EXPECT_EQ(move.report().prediction.virsh, refused("protected VMs are currently not migratable."));
}

TEST(Prediction, of_profile_compare_goes_by_the_first_obstacle) {
    Move move{World::compare};
    const auto edit = [](Inventory& host) {
        set_functions(host, 5, test::cca_functions ^ bit(0));
        set_functions(host, 6, test::ep11_functions ^ bit(0));
    };
    move.edit_destination = edit;
    EXPECT_EQ(move.report().prediction.error, EFAULT);
    // Up to the first bad queue only, with everything that differs on it.
    EXPECT_THAT(predicted_kernel_log(move.report()),
                ElementsAre(incompatible_line("05.0004"),
                            kernel_prefix + "APSC facility installed in source queue 05.0004",
                            kernel_prefix + "APSC facility not installed in target queue 05.0004",
                            kernel_prefix + same_types));
    move.there->domains = {4, 0x54};
    move.destination.domains({4, 0x47, 0x54});
    move.free = {4, 0x47, 0x54};
    EXPECT_EQ(move.report().prediction.error, ENODEV);
    EXPECT_THAT(predicted_kernel_log(move.report()), ElementsAre(unassigned_line("05.0047")));
    move.there->domains = {4, 0x47, 0x54};
    EXPECT_EQ(move.report().prediction.error, ENODEV);
    EXPECT_THAT(predicted_kernel_log(move.report()),
                ElementsAre(kernel_prefix +
                            "migration failed: number of queues on source (4) and target (6) guests differ"));
    move.there->domains = {4};
    EXPECT_EQ(move.report().prediction.error, EIO);
    EXPECT_THAT(
        predicted_kernel_log(move.report()),
        ElementsAre(kernel_prefix +
                    "migration failed: source guest's AP config size (72) larger than target's (40)"));
}

TEST(Prediction, of_profile_restore_logs_all_hardware) {
    Move move{World::restore};
    move.edit_destination = [](Inventory& host) {
        set_functions(host, 5, test::cca_functions ^ (bit(0) | bit(7)));
        card_of(host, 5).raw_hwtype = 13;
        set_functions(host, 6, test::ep11_functions ^ bit(0));
    };
    EXPECT_THAT(
        predicted_kernel_log(move.report()),
        ElementsAreArray(
            {incompatible_line("05.0004"), kernel_prefix + "APSC facility installed in source queue 05.0004",
             kernel_prefix + "APSC facility not installed in target queue 05.0004",
             kernel_prefix + "Stateless-command-filtering (SLCF) not available in source queue 05.0004",
             kernel_prefix + "Stateless-command-filtering (SLCF) available in target queue 05.0004",
             kernel_prefix + "AP type of source (0e) not compatible with target (0d)",
             incompatible_line("05.0047"), kernel_prefix + "APSC facility installed in source queue 05.0047",
             kernel_prefix + "APSC facility not installed in target queue 05.0047",
             kernel_prefix + "Stateless-command-filtering (SLCF) not available in source queue 05.0047",
             kernel_prefix + "Stateless-command-filtering (SLCF) available in target queue 05.0047",
             kernel_prefix + "AP type of source (0e) not compatible with target (0d)",
             incompatible_line("06.0004"),
             kernel_prefix + "APSC facility not installed in source queue 06.0004",
             kernel_prefix + "APSC facility installed in target queue 06.0004", incompatible_line("06.0047"),
             kernel_prefix + "APSC facility not installed in source queue 06.0047",
             kernel_prefix + "APSC facility installed in target queue 06.0047"}));
}

}  // namespace
}  // namespace vfioap
