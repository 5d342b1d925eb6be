// SPDX-License-Identifier: LGPL-2.1-or-later
// The rules, each written once: its id, its severity in each mode, and what it means.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace vfioap {

enum class Severity : std::uint8_t { error, warning, info };
/// The host that a finding is about.
enum class Side : std::uint8_t { source, destination, both };
/// How the guest moves. native: the kernel migrates the attached device. detached: detach, migrate, attach.
/// live_update: a new QEMU on the same host.
enum class Mode : std::uint8_t { automatic, native, detached, live_update };
/// What the destination's driver does with the source's configuration: compare it with its own (patch series
/// v1, v2) or restore it (v3 on).
enum class Profile : std::uint8_t { automatic, compare, restore };
enum class Verdict : std::uint8_t { compatible, incompatible, undetermined };

std::string_view to_text(Severity severity);
std::string_view to_text(Side side);
std::string_view to_text(Mode mode);
std::string_view to_text(Profile profile);
std::string_view to_text(Verdict verdict);
std::optional<Mode> parse_mode(std::string_view text);
std::optional<Profile> parse_profile(std::string_view text);

/// In the order in which findings of one severity are reported: what has to be mended first comes first.
enum class RuleId : std::uint8_t {
    guest_no_vfio_ap,
    guest_multiple_vfio_ap,
    guest_secure_execution,
    guest_state_missing,
    host_secure_execution,
    host_unreadable,
    kernel_no_vfio_ap,
    kernel_no_migration,
    qemu_no_migration,
    config_truncated,
    config_changed,
    queue_missing,
    queue_deconfigured,
    queue_checkstopped,
    queue_not_bound,
    queue_assigned_elsewhere,
    mdev_missing,
    mdev_in_use,
    mdev_not_migratable,
    queue_count,
    queue_not_assigned,
    config_filtered,
    control_domain_missing,
    control_domain_extra,
    queue_mode,
    queue_type,
    queue_class,
    queue_bs,
    queue_apsc,
    queue_ap4km,
    queue_ap4kc,
    queue_apxa,
    queue_slcf,
    masterkey_mismatch,
    masterkey_pending,
    masterkey_unknown,
    driver_stricter,
    driver_laxer,
    kernel_layout,
    live_update_iommufd,
    live_update_memory,
    live_update_qemu,
    live_update_kernel,
};

struct Rule {
    RuleId id;
    std::string_view name;  ///< the word in text, JSON, D-Bus, logs and man 7 vfioap-rules
    /// The usual severity in each mode; empty: the rule says nothing there. A rule may deviate where its
    /// finding says why: see man 7 vfioap-rules.
    std::optional<Severity> native;
    std::optional<Severity> detached;
    std::string_view title;  ///< what is compared or asked, in a few words
    std::string_view why;    ///< why it matters; one sentence
    /// The usual severity in mode live-update.
    std::optional<Severity> live_update{};
};

/// All rules, in the order of RuleId.
std::span<const Rule> rules();
const Rule& rule(RuleId id);
std::optional<RuleId> parse_rule(std::string_view name);

}  // namespace vfioap
