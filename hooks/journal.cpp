// SPDX-License-Identifier: LGPL-2.1-or-later
#include "journal.h"

#include "report/text.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

#include <systemd/sd-journal.h>

namespace vfioap {
namespace {

constexpr const char* name = "vfioap-hook";

/// What a journal is asked by.
constexpr const char* journal_socket = "/run/systemd/journal/socket";

void write_to_journal(const HookCall& call, const HookAnswer& answer, const HookLog& log,
                      const std::string& message) {
    std::vector<std::string> fields{
        fmt::format("MESSAGE={}", message), fmt::format("PRIORITY={}", log.priority),
        fmt::format("SYSLOG_IDENTIFIER={}", name), fmt::format("VFIOAP_GUEST={}", call.guest),
        fmt::format("VFIOAP_OPERATION={}", call.operation)};
    if (answer.mdev) fields.push_back(fmt::format("VFIOAP_MDEV={}", answer.mdev->to_string()));
    if (!log.verdict.empty()) fields.push_back(fmt::format("VFIOAP_VERDICT={}", log.verdict));
    for (const auto& rule : log.rules)
        fields.push_back(fmt::format("VFIOAP_RULE={}", rule));
    std::vector<iovec> pieces;
    pieces.reserve(fields.size());
    for (auto& field : fields)
        pieces.push_back({field.data(), field.size()});
    static_cast<void>(sd_journal_sendv(pieces.data(), static_cast<int>(pieces.size())));
}

}  // namespace

void write_log(const HookCall& call, const HookAnswer& answer) {
    const bool journal = ::access(journal_socket, W_OK) == 0;
    for (const auto& log : answer.log) {
        const auto message =
            fmt::format("guest {}: {} {}: {}", terminal_safe(call.guest), terminal_safe(call.operation),
                        terminal_safe(call.part), log.message);
        if (journal) {
            write_to_journal(call, answer, log, message);
            continue;
        }
        ::openlog(name, LOG_PID, LOG_DAEMON);
        std::string_view rest = message;
        while (!rest.empty()) {
            const auto line = rest.substr(0, rest.find('\n'));
            rest.remove_prefix(std::min(line.size() + 1, rest.size()));
            if (!line.empty()) ::syslog(log.priority, "%.*s", static_cast<int>(line.size()), line.data());
        }
    }
}

}  // namespace vfioap
