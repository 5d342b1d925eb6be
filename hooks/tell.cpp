// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioap-hook-tell: says what the hook has decided to the journal and to the service, when libvirtd has its
// answer. man 8 vfioap-hook.
//
// usage: vfioap-hook-tell <JSON     as to_json() of told.h makes it
#include "ap/error.h"
#include "cli/service_client.h"

#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include "told.h"
#include <systemd/sd-journal.h>

namespace vfioap {
namespace {

using namespace std::chrono_literals;

/// Nobody waits for it: by then libvirtd has its answer. A machine that starts a guest is busy, and where the
/// service missed the end of an arrival, it would watch on for nothing.
constexpr auto service_patience = 2s;

/// What a journal is asked by.
constexpr const char* journal_socket = "/run/systemd/journal/socket";

/// With the fields VFIOAP_GUEST, VFIOAP_MDEV, VFIOAP_OPERATION, VFIOAP_VERDICT and a VFIOAP_RULE for each
/// rule.
void write_to_journal(const Told& told, const HookLog& log) {
    std::vector<std::string> fields{fmt::format("MESSAGE={}", log.message),
                                    fmt::format("PRIORITY={}", log.priority), "SYSLOG_IDENTIFIER=vfioap-hook",
                                    fmt::format("VFIOAP_GUEST={}", told.call.guest),
                                    fmt::format("VFIOAP_OPERATION={}", told.call.operation)};
    if (told.mdev) fields.push_back(fmt::format("VFIOAP_MDEV={}", told.mdev->to_string()));
    if (!log.verdict.empty()) fields.push_back(fmt::format("VFIOAP_VERDICT={}", log.verdict));
    for (const auto& rule : log.rules)
        fields.push_back(fmt::format("VFIOAP_RULE={}", rule));
    std::vector<iovec> pieces;
    pieces.reserve(fields.size());
    for (auto& field : fields)
        pieces.push_back({field.data(), field.size()});
    static_cast<void>(sd_journal_sendv(pieces.data(), static_cast<int>(pieces.size())));
}

void tell_service(const Told& told) {
    if (!told.service || !told.mdev) return;
    try {
        ServiceClient::local().tell(
            "HookCalled", {told.call.guest, told.mdev->to_string(), told.call.operation}, service_patience);
    } catch (const Error&) {
        // It need not run.
    }
}

}  // namespace
}  // namespace vfioap

int main(int argc, char** /*argv*/) {
    using namespace vfioap;
    if (argc != 1) {
        std::fputs("usage: vfioap-hook-tell <JSON\n", stderr);
        return 2;
    }
    try {
        const auto told =
            told_from_json({std::istreambuf_iterator<char>{std::cin}, std::istreambuf_iterator<char>{}});
        if (::access(journal_socket, W_OK) == 0) {
            for (const auto& log : told.log)
                write_to_journal(told, log);
        } else {
            write_syslog(told);
        }
        tell_service(told);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "vfioap-hook-tell: %s\n", error.what());
        return 1;
    }
    return 0;
}
