// SPDX-License-Identifier: LGPL-2.1-or-later
// What the administrator decides: /etc/vfioap/vfioap.conf, man 5 vfioap.conf. A file that is broken gives
// what could be understood of it, the defaults for the rest, and messages: it must not keep a guest from
// starting.
#pragma once

#include "compat/rules.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// What the hook does with a guest that is not compatible.
enum class Policy : std::uint8_t {
    enforce,  ///< refuses it
    warn,     ///< lets it in and says so in the journal
    off,      ///< does not look
};
/// What it does where it cannot tell: no state in the domain, something unreadable, no time left.
enum class UnknownPolicy : std::uint8_t { allow, deny };
/// Whether the guest's mdev has to be there when the hook looks; on_demand: a later hook makes it.
enum class MdevPolicy : std::uint8_t { require, on_demand };

/// The words of the file: `enforce`, `allow`, `on-demand` …
std::string_view to_text(Policy policy);
std::string_view to_text(UnknownPolicy policy);
std::string_view to_text(MdevPolicy policy);

/// What can be set for all guests and for one.
struct GuestSettings {
    Policy policy = Policy::enforce;
    UnknownPolicy unknown = UnknownPolicy::allow;
    std::chrono::seconds timeout{2};  ///< of one call of the hook, 1 to 60
    Profile profile = Profile::automatic;
    MdevPolicy mdev = MdevPolicy::require;
    friend bool operator==(const GuestSettings&, const GuestSettings&) = default;
};

/// What a section `[guest NAME]` says; empty: as for all guests.
struct GuestOverrides {
    std::optional<Policy> policy;
    std::optional<UnknownPolicy> unknown;
    std::optional<std::chrono::seconds> timeout;
    std::optional<Profile> profile;
    std::optional<MdevPolicy> mdev;
    friend bool operator==(const GuestOverrides&, const GuestOverrides&) = default;
};

struct Settings {
    GuestSettings all;
    std::string sysfs_root = "/sys";                            ///< an absolute path
    std::vector<std::string> destinations;                      ///< host locations, each once, at most 256
    std::map<std::string, GuestOverrides, std::less<>> guests;  ///< by the name of the domain

    /// What holds for the guest of that name.
    [[nodiscard]] GuestSettings of_guest(std::string_view name) const;
    friend bool operator==(const Settings&, const Settings&) = default;
};

struct LoadedSettings {
    Settings settings;
    /// `FILE:LINE: what was found; expected what`, in the order of the lines, at most 100; each one clean
    /// line.
    std::vector<std::string> messages;
};

/// Larger files are not read.
inline constexpr std::size_t settings_max_bytes = std::size_t{1024} * 1024;

/// `origin` names the text in messages. Lines are `key = value`; comments stand behind `#` or `;` at the
/// begin of a line and behind ` ;` within one. Only `destinations` goes on in further lines, which begin with
/// a blank.
LoadedSettings parse_settings(std::string_view text, const std::string& origin);

/// From a file; the defaults where it is not there, and with a message where it cannot be read.
LoadedSettings load_settings(const std::string& path);

}  // namespace vfioap
