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

constexpr std::array<Rule, 37> table{{
    {RuleId::guest_no_vfio_ap, "guest.no-vfio-ap", info, info, "the guest has a vfio-ap device"},
    {RuleId::guest_multiple_vfio_ap, "guest.multiple-vfio-ap", error, error,
     "the guest has only one vfio-ap device"},
    {RuleId::guest_secure_execution, "guest.secure-execution", error, error,
     "the guest does not run in Secure Execution"},
    {RuleId::host_secure_execution, "host.secure-execution", error, error,
     "the host is not itself a Secure Execution guest"},
    {RuleId::host_unreadable, "host.unreadable", error, error, "what a rule needs can be read"},
    {RuleId::kernel_no_vfio_ap, "kernel.no-vfio-ap", error, error, "the host has the vfio_ap driver"},
    {RuleId::kernel_no_migration, "kernel.no-migration", error, silent,
     "the kernel can migrate a vfio-ap device"},
    {RuleId::qemu_no_migration, "qemu.no-migration", error, silent, "QEMU can migrate a vfio-ap device"},
    {RuleId::config_truncated, "config.truncated", error, error,
     "the guest's configuration can be read whole"},
    {RuleId::queue_missing, "queue.missing", error, error, "the queue exists at the destination"},
    {RuleId::queue_deconfigured, "queue.deconfigured", warning, error, "the queue is configured"},
    {RuleId::queue_checkstopped, "queue.checkstopped", warning, error, "the queue is not in checkstop"},
    {RuleId::queue_not_bound, "queue.not-bound", error, error, "the queue is bound to vfio_ap"},
    {RuleId::queue_assigned_elsewhere, "queue.assigned-elsewhere", error, error,
     "the queue is not assigned to another mdev"},
    {RuleId::mdev_missing, "mdev.missing", error, error, "the mdev exists"},
    {RuleId::mdev_in_use, "mdev.in-use", error, error, "the mdev is not used by another guest"},
    {RuleId::mdev_not_migratable, "mdev.not-migratable", error, silent, "the mdev allows migration"},
    {RuleId::queue_count, "queue.count", error, warning, "the mdev has as many queues as the guest"},
    {RuleId::queue_not_assigned, "queue.not-assigned", error, error, "the queue is assigned to the mdev"},
    {RuleId::config_filtered, "config.filtered", error, error, "what is assigned is passed through"},
    {RuleId::control_domain_missing, "control-domain.missing", error, error,
     "the control domain is available at the destination"},
    {RuleId::control_domain_extra, "control-domain.extra", warning, warning,
     "the mdev has no control domain that the guest had not"},
    {RuleId::queue_mode, "queue.mode", error, error, "mode of the queue: CCA, accelerator, EP11"},
    {RuleId::queue_type, "queue.type", error, warning, "AP type of the card"},
    {RuleId::queue_class, "queue.class", error, warning, "functional class: native, stateless only"},
    {RuleId::queue_bs, "queue.bs", error, error, "Secure Execution bind and associate state"},
    {RuleId::queue_apsc, "queue.apsc", error, warning, "AP special command facility (APSC)"},
    {RuleId::queue_ap4km, "queue.ap4km", error, warning, "4096-bit modular exponentiation (AP4KM)"},
    {RuleId::queue_ap4kc, "queue.ap4kc", error, warning, "4096-bit CRT (AP4KC)"},
    {RuleId::queue_apxa, "queue.apxa", error, warning, "AP extended addressing (APXA)"},
    {RuleId::queue_slcf, "queue.slcf", error, warning, "stateless command filtering (SLCF)"},
    {RuleId::masterkey_mismatch, "masterkey.mismatch", error, error, "master keys are the same"},
    {RuleId::masterkey_pending, "masterkey.pending", warning, warning, "no master key change is under way"},
    {RuleId::masterkey_unknown, "masterkey.unknown", warning, warning, "master keys are known"},
    {RuleId::driver_stricter, "driver.stricter", warning, silent, "the driver allows what the rule allows"},
    {RuleId::driver_laxer, "driver.laxer", info, silent, "the driver refuses what the rule refuses"},
    {RuleId::kernel_layout, "kernel.layout", info, silent, "both drivers use one stream layout"},
}};

constexpr bool in_order() {
    for (std::size_t i = 0; i < table.size(); ++i) {
        if (static_cast<std::size_t>(table[i].id) != i) return false;
    }
    return true;
}
static_assert(in_order(), "the table is indexed by RuleId");

}  // namespace

std::span<const Rule> rules() {
    return table;
}

const Rule& rule(RuleId id) {
    return table[static_cast<std::size_t>(id)];
}

std::optional<RuleId> parse_rule(std::string_view name) {
    const auto* const found =
        std::find_if(table.begin(), table.end(), [&](const Rule& r) { return r.name == name; });
    if (found == table.end()) return {};
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
    for (const auto mode : {Mode::automatic, Mode::native, Mode::detached}) {
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
