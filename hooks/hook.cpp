// SPDX-License-Identifier: LGPL-2.1-or-later
#include "hook.h"

#include "ap/error.h"
#include "compat/state.h"
#include "domain/domain_xml.h"
#include "report/text.h"
#include "text/safe.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>
#include <syslog.h>

namespace vfioap {
namespace {

/// libvirt puts what we say behind words of its own, on a terminal of which nothing is known.
constexpr std::size_t most_lines = 30;

bool comes_here(const HookCall& call) {
    return call.part == "begin" &&
           (call.operation == "migrate" || (call.operation == "restore" && !call.managed_save));
}

bool starts_here(const HookCall& call) {
    return call.part == "begin" && call.operation == "prepare";
}

std::string where_the_rest_is(const std::string& host) {
    return fmt::format("The whole report, on {}: journalctl -t vfioap-hook", host);
}

/// Refuses, or says why not.
void refuse(HookAnswer& answer, const GuestSettings& settings, HookLog log, std::string error) {
    if (settings.policy == Policy::enforce) {
        answer.exit_code = 1;
        // On lines of its own.
        answer.error = '\n' + std::move(error);
        log.priority = LOG_ERR;
        log.message = "refused: " + log.message;
    } else {
        log.priority = LOG_WARNING;
        log.message =
            fmt::format("let in, since the policy is {}: {}", to_text(settings.policy), log.message);
    }
    answer.log.push_back(std::move(log));
}

HookLog log_of(const Report& report) {
    HookLog log;
    log.message = render_text(report, {false, true, 120});
    log.verdict = to_text(report.verdict);
    for (const auto& finding : report.findings) {
        std::string name{rule(finding.rule).name};
        if (std::find(log.rules.begin(), log.rules.end(), name) == log.rules.end())
            log.rules.push_back(std::move(name));
    }
    return log;
}

/// Nobody moves where a guest comes back from a file; most often it was saved on this very host.
std::string headline_of(const HookCall& call, const Report& report, bool known) {
    if (call.operation == "migrate") return {};
    const auto who =
        known ? fmt::format("{}, saved on {},", report.guest.name, report.source.name) : report.guest.name;
    if (report.verdict == Verdict::incompatible)
        return fmt::format("INCOMPATIBLE: {} cannot be restored on {}", who, report.destination.name);
    return fmt::format("UNDETERMINED: whether {} can be restored on {} is not known", who,
                       report.destination.name);
}

HookAnswer judge_arrival(const HookCall& call, const DomainXml& domain, const Guest& guest,
                         const GuestSettings& settings, const HookHost& host) {
    const auto source = describe_state(domain, true);
    CheckOptions options;
    options.profile = settings.profile;
    options.mdev_on_demand = settings.mdev == MdevPolicy::on_demand;
    Report report;
    try {
        const auto inventory = host.read(guest.mdevs.front(), apqns_of(source.configuration));
        report = check(guest, source, inventory, options);
    } catch (const Error& error) {
        return answer_unknown(call, settings, error.what());
    }
    HookAnswer answer{0, {}, {}, guest.mdevs.front()};
    auto log = log_of(report);
    switch (report.verdict) {
        case Verdict::compatible:
            log.priority = report.count(Severity::warning) > 0 ? LOG_WARNING : LOG_INFO;
            answer.log.push_back(std::move(log));
            break;
        case Verdict::undetermined:
            if (settings.unknown == UnknownPolicy::allow) {
                log.priority = LOG_WARNING;
                log.message = "let in, since unknown is allow: " + log.message;
                answer.log.push_back(std::move(log));
                break;
            }
            [[fallthrough]];
        case Verdict::incompatible:
            refuse(answer, settings, std::move(log),
                   render_brief(report, headline_of(call, report, source.configuration_known), most_lines - 1,
                                where_the_rest_is(report.destination.name)));
            break;
    }
    return answer;
}

/// The mdev must be there, and nobody else's. What the kernel would keep from the guest, or that there is
/// nothing in the mdev yet, is no reason: an incoming guest's may be filled later.
HookAnswer judge_start(const HookCall& call, const DomainXml& domain, const Guest& guest,
                       const GuestSettings& settings, const HookHost& host) {
    const auto& uuid = guest.mdevs.front();
    HookAnswer answer{0, {}, {}, uuid};
    // Its device comes later, when it is attached.
    if (domain.vfio_ap.empty()) return answer;
    Report report;
    try {
        const auto inventory = host.read(uuid, {});
        // Of a guest that is not there yet, nothing is known but which mdev it wants.
        auto source = describe_source(guest, inventory);
        const bool known = source.configuration_known;
        if (const auto state = describe_state(domain, false); !known && state.configuration_known)
            source.configuration = state.configuration;
        source.host = {"-", "-"};
        CheckOptions options;
        options.mode = Mode::detached;
        options.mdev_on_demand = settings.mdev == MdevPolicy::on_demand;
        report = check(guest, source, inventory, options);
    } catch (const Error& error) {
        return answer_unknown(call, settings, error.what());
    }
    const auto matters = [](const Finding& finding) {
        return finding.severity == Severity::error && finding.host == Side::destination &&
               (finding.rule == RuleId::mdev_missing || finding.rule == RuleId::mdev_in_use ||
                finding.rule == RuleId::kernel_no_vfio_ap);
    };
    std::vector<Finding> reasons;
    std::vector<std::string> noticed;
    HookLog notes;
    for (const auto& finding : report.findings) {
        if (matters(finding)) {
            reasons.push_back(finding);
        } else if (finding.rule == RuleId::config_filtered || finding.rule == RuleId::config_truncated ||
                   finding.rule == RuleId::queue_not_bound || finding.rule == RuleId::mdev_missing) {
            // The source was made of this host: its findings are about the same mdev.
            if (finding.host == Side::source && finding.rule == RuleId::mdev_missing) continue;
            noticed.push_back(fmt::format("{}: {}", rule(finding.rule).name, safe(finding.message)));
            notes.rules.emplace_back(rule(finding.rule).name);
        }
    }
    if (reasons.empty() && report.queues.empty()) noticed.emplace_back("its mdev gives no queues yet");
    if (!noticed.empty()) {
        notes.priority = LOG_NOTICE;
        notes.message = fmt::format("starts with mdev {}", uuid.to_string());
        for (const auto& each : noticed)
            notes.message += "\n  " + each;
        answer.log.push_back(std::move(notes));
    }
    if (reasons.empty()) return answer;
    report.findings = std::move(reasons);
    report.verdict = Verdict::incompatible;
    const auto headline = fmt::format("{} cannot start on {}", guest.name, report.destination.name);
    auto log = log_of(report);
    log.message = render_text(report, {false, true, 120});
    refuse(answer, settings, std::move(log),
           render_brief(report, headline, most_lines - 1, where_the_rest_is(report.destination.name)));
    return answer;
}

HookAnswer judge_managed_save(const HookCall& call, const DomainXml& domain, const Guest& guest,
                              const GuestSettings& settings, const HookHost& host) {
    auto answer = judge_arrival(call, domain, guest, settings, host);
    if (answer.exit_code != 0) return answer;
    auto start = judge_start(call, domain, guest, settings, host);
    start.log.insert(start.log.begin(), answer.log.begin(), answer.log.end());
    return start;
}

}  // namespace

bool concerns(const HookCall& call) {
    static constexpr std::array<std::string_view, 6> words{"migrate", "restore", "prepare",
                                                           "started", "stopped", "release"};
    return std::find(words.begin(), words.end(), call.operation) != words.end();
}

HookAnswer answer_unknown(const HookCall& call, const GuestSettings& settings, const std::string& why) {
    HookAnswer answer;
    if (settings.policy == Policy::off || !(comes_here(call) || starts_here(call))) return answer;
    HookLog log;
    const auto what = fmt::format("whether guest {} can {} is not known: {}", safe(call.guest),
                                  starts_here(call) ? "start" : "come", safe(why));
    if (settings.unknown == UnknownPolicy::allow) {
        log.priority = LOG_WARNING;
        log.message = "let in, since unknown is allow: " + what;
        answer.log.push_back(std::move(log));
        return answer;
    }
    log.message = what;
    log.verdict = to_text(Verdict::undetermined);
    refuse(answer, settings, std::move(log), fmt::format("UNDETERMINED: {}\n", what));
    return answer;
}

HookAnswer answer_hook(const HookCall& call, std::string_view xml, const GuestSettings& settings,
                       const HookHost& host) {
    if (!concerns(call)) return {};
    try {
        const auto domain = parse_domain_xml(xml, "the domain");
        const auto guest = guest_of(domain);
        if (guest.mdevs.empty()) return {};
        if (settings.policy != Policy::off && comes_here(call))
            return judge_arrival(call, domain, guest, settings, host);
        if (settings.policy != Policy::off && starts_here(call))
            return (call.managed_save ? judge_managed_save : judge_start)(call, domain, guest, settings,
                                                                          host);
        return {0, {}, {}, guest.mdevs.front()};
    } catch (const Error& error) {
        return answer_unknown(call, settings, error.what());
    }
}

}  // namespace vfioap
