// SPDX-License-Identifier: LGPL-2.1-or-later
#include "compat/prediction.h"

#include "ap/error.h"
#include "compat/messages.h"

#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <map>

#include <fmt/format.h>

namespace vfioap {
namespace {

class Predictor {
  public:
    explicit Predictor(const Report& report) : report_{report} {}

    Prediction run() {
        if (stopped_by_libvirt()) return prediction_;
        if (report_.mode != Mode::native) return {};
        // A destination that cannot take the device at all: what that looks like is not known.
        if (has(RuleId::kernel_no_migration, Side::destination) ||
            has(RuleId::qemu_no_migration, Side::destination)) {
            return {};
        }
        // Host Secure Execution is asked first; what virsh then shows is not known.
        if (collect({RuleId::host_secure_execution})) {
            prediction_.error = EPERM;
            return prediction_;
        }
        if (report_.profile == Profile::compare) {
            predict_compare();
        } else {
            predict_restore();
        }
        return prediction_;
    }

  private:
    static constexpr std::initializer_list<RuleId> hardware{
        RuleId::queue_mode,  RuleId::queue_type,  RuleId::queue_class, RuleId::queue_bs,  RuleId::queue_apsc,
        RuleId::queue_ap4km, RuleId::queue_ap4kc, RuleId::queue_apxa,  RuleId::queue_slcf};

    /// Takes the findings of `rules` that stop a migration.
    bool collect(std::initializer_list<RuleId> rules) {
        for (std::size_t i = 0; i < report_.findings.size(); ++i) {
            const auto& finding = report_.findings[i];
            if (finding.severity == Severity::error && !finding.kernel_lines.empty() &&
                std::find(rules.begin(), rules.end(), finding.rule) != rules.end()) {
                prediction_.findings.push_back(i);
            }
        }
        return !prediction_.findings.empty();
    }

    /// A finding that stops a migration.
    [[nodiscard]] bool has(RuleId id, Side side) const {
        return std::any_of(report_.findings.begin(), report_.findings.end(), [&](const Finding& finding) {
            return finding.rule == id && finding.severity == Severity::error &&
                   (finding.host == side || finding.host == Side::both);
        });
    }

    bool refused(std::string_view why) {
        prediction_.virsh =
            fmt::format("error: Requested operation is not valid: cannot migrate domain: {}", why);
        return true;
    }

    bool stopped_by_libvirt() {
        if (has(RuleId::guest_secure_execution, Side::source))
            return refused(fmt::format("{}.", message("protected").pattern));
        if (!report_.guest.mdev) return false;
        const auto& uuid = report_.guest.mdev->to_string();
        if (has(RuleId::qemu_no_migration, Side::source))
            return refused(message_line("non-migratable", {{"device", "/1/vfio-ap"}}));
        if (has(RuleId::kernel_no_migration, Side::source))
            return refused(fmt::format("{}: {}", uuid, message("not-in-kernel").pattern));
        if (has(RuleId::mdev_not_migratable, Side::source))
            return refused(fmt::format("{}: {}", uuid, message("disabled").pattern));
        if (has(RuleId::mdev_missing, Side::destination)) {
            prediction_.virsh =
                "error: device not found: " + message_line("mdev-not-found", {{"uuid", uuid}});
            return true;
        }
        return false;
    }

    void failed(int error) {
        prediction_.error = error;
        prediction_.virsh = "error: operation failed: job 'migration in' failed: " +
                            message_line("load-failed", {{"error", errno_text(error)}});
    }

    /// Size, count, APQNs, hardware up to the first queue that does not fit.
    void predict_compare() {
        prediction_.first_queue_only = true;
        if (collect({RuleId::queue_count})) {
            const auto& finding = report_.findings[prediction_.findings.front()];
            failed(finding.source.size() > finding.destination.size() ||
                           (finding.source.size() == finding.destination.size() &&
                            finding.source > finding.destination)
                       ? EIO
                       : ENODEV);
        } else if (collect({RuleId::queue_missing, RuleId::queue_not_bound, RuleId::queue_not_assigned,
                            RuleId::config_filtered})) {
            failed(ENODEV);
        } else if (collect({RuleId::queue_mode, RuleId::queue_type, RuleId::queue_class, RuleId::queue_apsc,
                            RuleId::queue_ap4km, RuleId::queue_ap4kc, RuleId::queue_apxa, RuleId::queue_slcf,
                            RuleId::driver_stricter})) {
            failed(EFAULT);
        }
    }

    /// Queues, control domains, all hardware, assignment.
    void predict_restore() {
        if (collect({RuleId::queue_missing, RuleId::queue_not_bound}) ||
            collect({RuleId::control_domain_missing})) {
            prediction_.first_queue_only = true;
            failed(ENODEV);
        } else if (collect(hardware)) {
            failed(EINVAL);
        } else if (collect({RuleId::queue_assigned_elsewhere})) {
            prediction_.first_queue_only = true;
            failed(EADDRINUSE);
        }
    }

    const Report& report_;
    Prediction prediction_;
};

std::string filled(std::string_view line, std::string_view placeholder, const std::string& value) {
    std::string result{line};
    for (auto at = result.find(placeholder); at != std::string::npos;
         at = result.find(placeholder, at + value.size())) {
        result.replace(at, placeholder.size(), value);
    }
    return result;
}

/// The place of a rule's lines among those that the driver prints for one queue.
int line_order(RuleId rule) {
    switch (rule) {
        case RuleId::queue_apsc:
            return 0;
        case RuleId::queue_ap4km:
            return 1;
        case RuleId::queue_ap4kc:
            return 2;
        case RuleId::queue_mode:
            return 3;
        case RuleId::queue_apxa:
            return 4;
        case RuleId::queue_slcf:
            return 5;
        case RuleId::queue_type:
            return 6;
        case RuleId::queue_bs:
            return 7;
        default:
            return 8;
    }
}

}  // namespace

Prediction predict(const Report& report) {
    return Predictor{report}.run();
}

std::vector<std::string> kernel_messages(const Finding& finding) {
    std::vector<std::string> messages;
    if (finding.kernel_lines.empty()) return messages;
    const auto& sample = finding.kernel_lines.back();
    if (sample.find("{domain}") != std::string::npos) {
        for (const auto domain : finding.control_domains) {
            for (const auto& line : finding.kernel_lines)
                messages.push_back(filled(line, "{domain}", domain_text(domain)));
        }
        return messages;
    }
    const bool per_queue = finding.kernel_lines.front().find("{queue}") != std::string::npos;
    if (!per_queue) return finding.kernel_lines;
    for (const auto apqn : finding.queues) {
        for (const auto& line : finding.kernel_lines)
            messages.push_back(filled(line, "{queue}", apqn.to_string()));
    }
    return messages;
}

std::vector<std::string> predicted_kernel_log(const Report& report) {
    const auto& prediction = report.prediction;
    // Queue by queue, in the order of APQNs, as the driver goes through them.
    std::map<Apqn, std::vector<const Finding*>> by_queue;
    std::vector<std::string> log;
    for (const auto index : prediction.findings) {
        const auto& finding = report.findings[index];
        const bool per_queue =
            !finding.queues.empty() && finding.kernel_lines.front().find("{queue}") != std::string::npos;
        if (!per_queue) {
            auto messages = kernel_messages(finding);
            if (prediction.first_queue_only && !messages.empty()) messages.resize(1);
            log.insert(log.end(), messages.begin(), messages.end());
            continue;
        }
        for (const auto apqn : finding.queues)
            by_queue[apqn].push_back(&finding);
    }
    for (auto& [apqn, findings] : by_queue) {
        std::stable_sort(findings.begin(), findings.end(), [](const Finding* a, const Finding* b) {
            return line_order(a->rule) < line_order(b->rule);
        });
        std::vector<std::string> lines;
        for (const Finding* const finding : findings) {
            for (const auto& line : finding->kernel_lines) {
                // What several findings of a queue share is printed once: its headline, and in profile
                // compare the types.
                auto text = filled(line, "{queue}", apqn.to_string());
                if (std::find(lines.begin(), lines.end(), text) == lines.end())
                    lines.push_back(std::move(text));
            }
        }
        if (prediction.first_queue_only && report.profile == Profile::compare && lines.size() > 2) {
            // The types come after the facilities.
            const auto types = std::find_if(lines.begin(), lines.end(), [](const std::string& line) {
                return line.find("AP type of source") != std::string::npos;
            });
            if (types != lines.end()) std::rotate(types, types + 1, lines.end());
        }
        log.insert(log.end(), lines.begin(), lines.end());
        if (prediction.first_queue_only) break;
    }
    return log;
}

std::size_t Report::count(Severity severity) const {
    return static_cast<std::size_t>(std::count_if(
        findings.begin(), findings.end(), [severity](const Finding& f) { return f.severity == severity; }));
}

}  // namespace vfioap
