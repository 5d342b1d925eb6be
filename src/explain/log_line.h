// SPDX-License-Identifier: LGPL-2.1-or-later
// What stands around a message in a log line: when, on which host, who logged it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vfioap {

/// A point in time as a log tells it. Two can be compared where they are of one kind.
struct LogTime {
    enum class Kind : std::uint8_t { absolute, no_year, since_boot };
    Kind kind = Kind::absolute;
    double seconds = 0;  ///< since 1970 (UTC), since New Year, or since boot
};

/// Seconds from `a` to `b`, never negative; nothing where they cannot be compared.
std::optional<double> apart(const std::optional<LogTime>& a, const std::optional<LogTime>& b);

struct LogLine {
    std::optional<LogTime> time;
    std::string host;  ///< empty: not told
    /// Who logged it, as far as it tells: 1 libvirtd, 2 virsh, 3 QEMU, 4 kernel, 0 not known. One thing is
    /// told once by each.
    unsigned channel = 0;
    std::string message;  ///< all of the line, or of a journal entry its MESSAGE, which can have line feeds
};

/// Plain lines; journalctl -o short, short-iso, short-precise and json; dmesg, also -T and --time-format iso;
/// the logs of libvirt and QEMU. What is none of these is a message alone.
LogLine parse_log_line(std::string_view text);

}  // namespace vfioap
