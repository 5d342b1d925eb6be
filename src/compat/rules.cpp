// SPDX-License-Identifier: LGPL-2.1-or-later
#include "compat/rules.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace vfioap {
namespace {

constexpr auto error = Severity::error;
constexpr auto warning = Severity::warning;
constexpr auto info = Severity::info;
constexpr std::optional<Severity> silent{};

constexpr std::array<Rule, 43> rule_table{{
    {RuleId::guest_no_vfio_ap, "guest.no-vfio-ap", info, info, "the guest has a vfio-ap device",
     "Without crypto devices there is nothing here that could stop the move.", info},
    {RuleId::guest_multiple_vfio_ap, "guest.multiple-vfio-ap", error, error,
     "the guest has only one vfio-ap device",
     "A guest has one AP configuration, so only one mdev can give it.", error},
    {RuleId::guest_secure_execution, "guest.secure-execution", error, error,
     "the guest does not run in Secure Execution",
     "The memory of such a guest is encrypted, and its state cannot be saved.", error},
    {RuleId::guest_state_missing, "guest.state-missing", error, error,
     "the domain carries the guest's AP configuration",
     "Nothing else tells the destination what the guest has on the source."},
    {RuleId::host_secure_execution, "host.secure-execution", error, error,
     "the host is not itself a Secure Execution guest",
     "The driver refuses to migrate from or to a Secure Execution guest."},
    {RuleId::host_unreadable, "host.unreadable", error, error, "what a rule needs can be read",
     "Without it the verdict would be a guess."},
    {RuleId::kernel_no_vfio_ap, "kernel.no-vfio-ap", error, error, "the host has the vfio_ap driver",
     "Without the driver no guest can have AP queues."},
    {RuleId::kernel_no_migration, "kernel.no-migration", error, silent,
     "the kernel can migrate a vfio-ap device",
     "A kernel whose vfio_ap driver does not say migratable refuses to migrate an attached device."},
    {RuleId::qemu_no_migration, "qemu.no-migration", error, silent, "QEMU can migrate a vfio-ap device",
     "QEMU marks a device that it cannot migrate as a blocker of every migration."},
    {RuleId::config_truncated, "config.truncated", error, error,
     "the guest's configuration can be read whole",
     "The kernel cuts the list of queues at one page without a word."},
    {RuleId::config_changed, "config.changed", warning, warning, "the guest's configuration is what it was",
     "What was judged, or kept for the guest, is not what it gets now."},
    {RuleId::queue_missing, "queue.missing", error, error, "the queue exists at the destination",
     "The guest would lose the queue: its number must exist at the destination."},
    {RuleId::queue_deconfigured, "queue.deconfigured", warning, error, "the queue is configured",
     "A deconfigured queue answers no request."},
    {RuleId::queue_checkstopped, "queue.checkstopped", warning, error, "the queue is not in checkstop",
     "A queue in checkstop answers no request."},
    {RuleId::queue_not_bound, "queue.not-bound", error, error, "the queue is bound to vfio_ap",
     "Only queues bound to vfio_ap can be given to a guest."},
    {RuleId::queue_assigned_elsewhere, "queue.assigned-elsewhere", error, error,
     "the queue is not assigned to another mdev", "A queue belongs to one mdev at a time."},
    {RuleId::mdev_missing, "mdev.missing", error, error, "the mdev exists",
     "The guest's definition names its mdev by UUID, and libvirt looks for that very one."},
    {RuleId::mdev_in_use, "mdev.in-use", error, error, "the mdev is not used by another guest",
     "An mdev serves one guest at a time."},
    {RuleId::mdev_not_migratable, "mdev.not-migratable", error, silent, "the mdev allows migration",
     "The driver of patch version v1 migrates only what is marked migratable."},
    {RuleId::queue_count, "queue.count", error, warning, "the mdev has as many queues as the guest",
     "The guest must have the same queues as before, neither fewer nor more."},
    {RuleId::queue_not_assigned, "queue.not-assigned", error, error, "the queue is assigned to the mdev",
     "The guest gets what its mdev at the destination holds."},
    {RuleId::config_filtered, "config.filtered", error, error, "what is assigned is passed through",
     "If one queue of an adapter cannot be given to the guest, the kernel withholds the whole adapter."},
    {RuleId::control_domain_missing, "control-domain.missing", error, error,
     "the control domain is available at the destination",
     "The guest could no longer administer the domain."},
    {RuleId::control_domain_extra, "control-domain.extra", warning, warning,
     "the mdev has no control domain that the guest had not",
     "The guest could administer a domain that it had no access to before."},
    {RuleId::queue_mode, "queue.mode", error, error, "mode of the queue: CCA, accelerator, EP11",
     "Keys and requests of one mode mean nothing to a card in another."},
    {RuleId::queue_type, "queue.type", error, warning, "AP type of the card",
     "An older card lacks functions that the guest may be using."},
    {RuleId::queue_class, "queue.class", error, warning, "functional class: native, stateless only",
     "The guest may be using functions that the other class does not have."},
    {RuleId::queue_bs, "queue.bs", error, error, "Secure Execution bind and associate state",
     "A queue bound to a Secure Execution guest is not usable by this one."},
    {RuleId::queue_apsc, "queue.apsc", error, warning, "AP special command facility (APSC)",
     "The guest has seen the facility and may rely on it."},
    {RuleId::queue_ap4km, "queue.ap4km", error, warning, "4096-bit modular exponentiation (AP4KM)",
     "The guest has seen the facility and may rely on it."},
    {RuleId::queue_ap4kc, "queue.ap4kc", error, warning, "4096-bit CRT (AP4KC)",
     "The guest has seen the facility and may rely on it."},
    {RuleId::queue_apxa, "queue.apxa", error, warning, "AP extended addressing (APXA)",
     "It decides how adapters and domains are addressed."},
    {RuleId::queue_slcf, "queue.slcf", error, warning, "stateless command filtering (SLCF)",
     "The guest has seen the facility and may rely on it."},
    {RuleId::masterkey_mismatch, "masterkey.mismatch", error, error, "master keys are the same",
     "Secure keys are wrapped by the master key of the domain; with another one they are useless."},
    {RuleId::masterkey_pending, "masterkey.pending", warning, warning, "no master key change is under way",
     "The keys may differ by the time the guest arrives."},
    {RuleId::masterkey_unknown, "masterkey.unknown", warning, warning, "master keys are known",
     "No kernel compares them, and a difference shows only after the move."},
    {RuleId::driver_stricter, "driver.stricter", warning, silent, "the driver allows what the rule allows",
     "What the rule allows, some versions of the driver refuse."},
    {RuleId::driver_laxer, "driver.laxer", info, silent, "the driver refuses what the rule refuses",
     "What the rule forbids, some versions of the driver let pass."},
    {RuleId::kernel_layout, "kernel.layout", info, silent, "both drivers use one stream layout",
     "Drivers of different patch versions do not understand each other's stream."},
    {RuleId::live_update_iommufd, "live-update.iommufd", silent, silent, "the device is attached by iommufd",
     "Of an mdev in a legacy container the mappings would be invalid for a moment, which it cannot bear.",
     error},
    {RuleId::live_update_memory, "live-update.memory", silent, silent, "the guest's memory can be shared",
     "The new QEMU takes over the memory by its file, and iommufd maps it by that.", error},
    {RuleId::live_update_qemu, "live-update.qemu", silent, silent, "QEMU can hand a vfio device over",
     "The old and the new QEMU pass the device's descriptors on, from 10.1 on.", error},
    {RuleId::live_update_kernel, "live-update.kernel", silent, silent, "the kernel's iommufd can hand over",
     "It must map memory by file and change the owner of mappings.", error},
}};

constexpr bool in_order() {
    for (std::size_t i = 0; i < rule_table.size(); ++i) {
        if (static_cast<std::size_t>(rule_table[i].id) != i) return false;
    }
    return true;
}
static_assert(in_order(), "the table is indexed by RuleId");

}  // namespace

std::span<const Rule> rules() {
    return rule_table;
}

const Rule& rule(RuleId id) {
    return rule_table[static_cast<std::size_t>(id)];
}

std::optional<RuleId> parse_rule(std::string_view name) {
    const auto* const found =
        std::find_if(rule_table.begin(), rule_table.end(), [&](const Rule& r) { return r.name == name; });
    if (found == rule_table.end()) return {};
    return found->id;
}

std::string_view to_text(Severity severity) {
    switch (severity) {
        case Severity::error:
            return "error";
        case Severity::warning:
            return "warning";
        case Severity::info:
            return "info";
    }
    return {};
}

std::string_view to_text(Side side) {
    switch (side) {
        case Side::source:
            return "source";
        case Side::destination:
            return "destination";
        case Side::both:
            return "both";
    }
    return {};
}

std::string_view to_text(Mode mode) {
    switch (mode) {
        case Mode::automatic:
            return "auto";
        case Mode::native:
            return "native";
        case Mode::detached:
            return "detached";
        case Mode::live_update:
            return "live-update";
    }
    return {};
}

std::string_view to_text(Profile profile) {
    switch (profile) {
        case Profile::automatic:
            return "auto";
        case Profile::compare:
            return "compare";
        case Profile::restore:
            return "restore";
    }
    return {};
}

std::string_view to_text(Verdict verdict) {
    switch (verdict) {
        case Verdict::compatible:
            return "compatible";
        case Verdict::incompatible:
            return "incompatible";
        case Verdict::undetermined:
            return "undetermined";
    }
    return {};
}

std::optional<Mode> parse_mode(std::string_view text) {
    for (const auto mode : {Mode::automatic, Mode::native, Mode::detached, Mode::live_update}) {
        if (to_text(mode) == text) return mode;
    }
    return {};
}

std::optional<Profile> parse_profile(std::string_view text) {
    for (const auto profile : {Profile::automatic, Profile::compare, Profile::restore}) {
        if (to_text(profile) == text) return profile;
    }
    return {};
}

}  // namespace vfioap
