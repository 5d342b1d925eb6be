// SPDX-License-Identifier: LGPL-2.1-or-later
// The catalogue of log messages: what kernel, QEMU, libvirt and our hook say when a guest with a vfio-ap
// device is migrated, one record per message and version. Data only. The check takes from it what it predicts
// (src/compat), explain recognises by it (src/explain), and vfioap-rules(7) lists it.
//
// Sources: the vfio-ap migration series v1-v4 as posted, and two later states of it (`late`, `newest`);
// QEMU migration/ and hw/vfio/; libvirt src/qemu/ and src/util/virmdev.c, virhook.c.
#pragma once

#include "compat/rules.h"

#include <array>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace vfioap {

/// Who says it.
enum class LogSource : std::uint8_t { libvirt, qemu, kernel, hook };

/// What a line tells.
enum class MessageKind : std::uint8_t {
    cause,      ///< names the reason
    headline,   ///< a queue that does not fit; lines that name the reason follow
    started,    ///< a migration begins
    failed,     ///< it began and did not succeed
    refused,    ///< it never began
    completed,  ///< the guest arrived
    context,    ///< says only which guest or mdev the log is about
};

/// What stands before a message in the log where nothing was lost.
enum class MessagePrefix : std::uint8_t {
    none,
    device,  ///< `vfio_ap_mdev {uuid}: `
    module,  ///< `vfio_ap_mdev: {uuid}: `
    glued,   ///< `vfio_ap_mdev {uuid} `: some versions forgot the colon
};

/// The rules that a message may mean; the likeliest first.
struct MessageRules {
    constexpr MessageRules() = default;
    constexpr MessageRules(std::initializer_list<RuleId> rules) {
        for (const auto rule : rules)
            ids[count++] = rule;
    }
    std::array<RuleId, 4> ids{};
    std::size_t count = 0;
    [[nodiscard]] std::span<const RuleId> span() const { return {ids.data(), count}; }
};

/// One record. In `pattern` stand `{queue}` XX.YYYY, `{queues}` one or more of them, `{domain}` YYYY,
/// `{uuid}` and `{other}` UUIDs, `{x}` `{y}` `{rc}` numbers (decimal or hexadecimal), `{not}` the word `not `
/// or nothing, `{device}` what may be a device's path, `{error}` the text of an errno, `{guest}` a domain's
/// name,
/// `{text}` anything up to the end of the line.
struct Message {
    std::string_view id;  ///< unique; `queue-not-available`
    MessageRules rules;
    Side host;     ///< which host the reason is to be looked for
    Side written;  ///< which host's log has it
    LogSource source;
    MessageKind kind;
    MessagePrefix prefix;
    std::string_view pattern;
    std::string_view meaning;  ///< what follows `N queues: `, or a sentence
    std::string_view versions;
    std::string_view example;  ///< a whole line
};

std::string_view to_text(LogSource source);
std::string_view to_text(MessageKind kind);

/// All records.
std::span<const Message> messages();
/// The record `id`. Throws std::out_of_range.
const Message& message(std::string_view id);

/// The prefix as a pattern: `vfio_ap_mdev {uuid}: `.
std::string_view prefix_pattern(MessagePrefix prefix);

/// `text` with the placeholders that are named in `values` filled in; others stay.
std::string fill(std::string_view text,
                 std::initializer_list<std::pair<std::string_view, std::string_view>> values);
/// The line of record `id` with its prefix, filled in likewise.
std::string message_line(std::string_view id,
                         std::initializer_list<std::pair<std::string_view, std::string_view>> values);

/// What the errno of a failed load may mean where nothing else is known, the likeliest first.
struct ErrnoMeaning {
    int error;
    bool typical;  ///< seldom the errno of another device's failure
    std::span<const RuleId> rules;
};
/// Null for an errno that no driver of vfio-ap gives.
const ErrnoMeaning* errno_meaning(int error);
/// All of them.
std::span<const ErrnoMeaning> errno_meanings();

/// What TAPQ's response code `rc` says of a queue (kernel: arch/s390/include/asm/ap.h, AP_RESPONSE_*);
/// host.unreadable where it says nothing of interest.
RuleId rule_of_response(unsigned rc);

}  // namespace vfioap
