// SPDX-License-Identifier: LGPL-2.1-or-later
#include "report/text.h"

#include "report/folding.h"
#include "text/columns.h"
#include "text/safe.h"
#include "text/style.h"

#include <algorithm>

#include <fmt/format.h>

namespace vfioap {
namespace {

constexpr std::size_t folded_kernel_lines = 4;
constexpr std::string_view indent = "  ";

class ReportWriter {
  public:
    ReportWriter(const Report& report, const TextOptions& options) : report_{report}, options_{options} {}

    std::string run() {
        headline();
        for (const auto severity : {Severity::error, Severity::warning, Severity::info})
            section(severity);
        prediction();
        return std::move(text_);
    }

    std::string run_brief(std::string_view title, std::size_t lines, std::string_view rest) {
        brief_ = true;
        if (title.empty())
            headline();
        else
            paragraph("", title, indent.size());
        const auto lines_of = [](std::string_view text) {
            return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
        };
        std::string left;
        std::size_t hidden = 0;
        std::size_t to_come = report_.count(Severity::error);
        for (const auto& finding : report_.findings) {
            if (finding.severity != Severity::error) continue;
            --to_come;
            const auto before = text_.size();
            if (hidden == 0) one(finding);
            // The last line, and one for the errors that have no room, if any can be left.
            if (hidden == 0 && lines_of(text_) <= lines - (to_come == 0 ? 1 : 2)) continue;
            text_.resize(std::min(before, text_.size()));
            left += fmt::format("{}{}", hidden == 0 ? "" : ", ", rule(finding.rule).name);
            ++hidden;
        }
        if (hidden > 0)
            text_ += fmt::format("and {} more error{}: {}\n", hidden, hidden == 1 ? "" : "s",
                                 left.size() > 60 ? left.substr(0, left.rfind(',', 60)) + " …" : left);
        text_ += safe(rest) + '\n';
        return std::move(text_);
    }

  private:
    void paragraph(std::string_view label, std::string_view words, std::size_t left) {
        text_ += wrap(label, words, left, options_.width);
    }

    void headline() {
        const auto& guest = report_.guest.name;
        const auto source = host(Side::source);
        const auto destination = host(Side::destination);
        if (report_.mode == Mode::live_update) {
            const bool can = report_.verdict == Verdict::compatible;
            paragraph(styled(can ? Style::good : Style::error,
                             can ? "COMPATIBLE:" : "INCOMPATIBLE:", options_.color) +
                          ' ',
                      fmt::format("{} {} be handed to a new QEMU at {}", guest, can ? "can" : "cannot",
                                  report_.source.name),
                      2);
        } else
            switch (report_.verdict) {
                case Verdict::compatible:
                    paragraph(styled(Style::good, "COMPATIBLE:", options_.color) + ' ',
                              fmt::format("{} can move from {} to {}", guest, source, destination), 2);
                    break;
                case Verdict::incompatible:
                    paragraph(styled(Style::error, "INCOMPATIBLE:", options_.color) + ' ',
                              fmt::format("{} cannot move from {} to {}", guest, source, destination), 2);
                    break;
                case Verdict::undetermined:
                    paragraph(styled(Style::warning, "UNDETERMINED:", options_.color) + ' ',
                              fmt::format("whether {} can move from {} to {} is not known", guest, source,
                                          destination),
                              2);
                    break;
            }
        if (!report_.guest.mdev) return;
        const auto control_domains = report_.control_domains.count();
        const bool known =
            std::none_of(report_.findings.begin(), report_.findings.end(),
                         [](const Finding& finding) { return finding.rule == RuleId::guest_state_missing; });
        const auto has = known ? fmt::format("{} queue{}, {} control domain{}", report_.queues.size(),
                                             report_.queues.size() == 1 ? "" : "s", control_domains,
                                             control_domains == 1 ? "" : "s")
                               : std::string{"its queues are not known"};
        paragraph(indent, fmt::format("mdev {}: {}", report_.guest.mdev->to_string(), has), 2);
        auto mode = fmt::format("mode {}", to_text(report_.mode));
        if (report_.profile) mode += fmt::format(", profile {}", to_text(*report_.profile));
        if (!report_.mode_reason.empty()) mode += fmt::format(" ({})", report_.mode_reason);
        const auto errors = report_.count(Severity::error);
        if (brief_) {
            paragraph(indent, fmt::format("{} error{}; {}", errors, errors == 1 ? "" : "s", mode), 2);
            return;
        }
        paragraph(indent, mode, 2);
        const auto warnings = report_.count(Severity::warning);
        if (errors + warnings > 0) {
            paragraph(indent,
                      fmt::format("{} error{}, {} warning{}", errors, errors == 1 ? "" : "s", warnings,
                                  warnings == 1 ? "" : "s"),
                      2);
        }
    }

    /// A host's name; both are told apart by their location where the names are the same.
    [[nodiscard]] std::string host(Side side) const {
        const auto& mine = side == Side::source ? report_.source : report_.destination;
        return report_.source.name == report_.destination.name
                   ? fmt::format("{} ({})", mine.name, mine.location)
                   : mine.name;
    }

    [[nodiscard]] std::string where(Side side) const {
        if (side == Side::both) return "both hosts";
        if (report_.source.name == report_.destination.name && report_.mode != Mode::live_update)
            return side == Side::source ? "the source" : "the destination";
        return side == Side::source ? report_.source.name : report_.destination.name;
    }

    void section(Severity severity) {
        for (const auto& finding : report_.findings) {
            if (finding.severity != severity) continue;
            text_ += '\n';
            one(finding);
        }
    }

    void one(const Finding& finding) {
        const auto style = finding.severity == Severity::error     ? Style::error
                           : finding.severity == Severity::warning ? Style::warning
                                                                   : Style::info;
        const auto label = to_text(finding.severity);
        text_ += styled(style, label, options_.color);
        text_.append(label_width - label.size(), ' ');
        text_ += styled(Style::bold, rule(finding.rule).name, options_.color) + '\n';
        details(finding);
    }

    void details(const Finding& finding) {
        paragraph("  what     ", finding.message, label_width);
        if (!finding.queues.empty())
            list("  queues   ", finding.queues.size(),
                 [&](std::size_t i) { return finding.queues[i].to_string(); });
        if (!finding.control_domains.empty()) {
            list("  control  ", finding.control_domains.size(),
                 [&](std::size_t i) { return domain_text(finding.control_domains[i]); });
        }
        if (!brief_) {
            paragraph("  why      ", rule(finding.rule).why, label_width);
            kernel("  kernel   ", kernel_messages(finding));
        }
        for (const auto& remedy : finding.remedies) {
            paragraph("  do       ", fmt::format("on {}: {}", where(remedy.host), remedy.text), label_width);
            verbatim(remedy.commands, folded_commands, "             ");
            if (brief_) break;
        }
    }

    template <typename Name>
    void list(std::string_view label, std::size_t size, Name name) {
        const bool folded = !options_.all_queues && size > folded_queues + 1;
        const std::size_t shown = folded ? folded_queues : size;
        std::string words;
        for (std::size_t i = 0; i < shown; ++i)
            words += (i == 0 ? "" : " ") + name(i);
        if (folded) words += fmt::format(" … +{} more", size - shown);
        paragraph(label, words, label_width);
    }

    void kernel(std::string_view label, const std::vector<std::string>& lines) {
        if (lines.empty()) return;
        text_ += label;
        const bool folded = !options_.all_queues && lines.size() > folded_kernel_lines + 1;
        const std::size_t shown = folded ? folded_kernel_lines : lines.size();
        for (std::size_t i = 0; i < shown; ++i)
            text_ += fmt::format("{}{}\n", i == 0 ? "" : "           ", safe(lines[i]));
        if (folded) text_ += fmt::format("           … +{} more\n", lines.size() - shown);
    }

    void verbatim(const std::vector<std::string>& lines, std::size_t most, std::string_view margin) {
        const bool folded = !options_.all_queues && lines.size() > most + 1;
        const std::size_t shown = folded ? most : lines.size();
        for (std::size_t i = 0; i < shown; ++i)
            text_ += fmt::format("{}{}\n", margin, styled(Style::bold, safe(lines[i]), options_.color));
        if (folded)
            text_ += fmt::format("{}… +{} more{}\n", margin, lines.size() - shown,
                                 brief_ ? "" : ": --all-queues shows them");
    }

    void prediction() {
        const auto& predicted = report_.prediction;
        if (!predicted.virsh && !predicted.error) return;
        text_ += '\n';
        text_ += styled(Style::bold, "Migrated all the same, it would end with", options_.color) + '\n';
        if (predicted.virsh) text_ += fmt::format("  {}\n", safe(*predicted.virsh));
        if (predicted.error) {
            const auto lines = predicted_kernel_log(report_);
            if (!lines.empty())
                text_ += fmt::format("  in the kernel log of {}:\n", safe(report_.destination.name));
            verbatim(lines, folded_kernel_lines, "    ");
        }
    }

    const Report& report_;
    const TextOptions& options_;
    bool brief_ = false;
    std::string text_;
};

}  // namespace

std::string render_text(const Report& report, const TextOptions& options) {
    return ReportWriter{report, options}.run();
}

std::string render_brief(const Report& report, std::string_view headline, std::size_t lines,
                         std::string_view rest) {
    const TextOptions options;
    return ReportWriter{report, options}.run_brief(headline, lines, rest);
}

}  // namespace vfioap
