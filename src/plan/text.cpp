// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ap/queue_list.h"
#include "plan/render.h"
#include "text/columns.h"
#include "text/safe.h"
#include "text/style.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

namespace vfioap {
namespace {

constexpr std::size_t folded_commands = 8;
constexpr std::size_t folded_list = 60;  // characters

class Writer {
  public:
    Writer(const Plan& plan, const TextOptions& options) : plan_{plan}, options_{options} {}

    std::string run() {
        headline();
        std::size_t number = 0;
        for (const auto& step : plan_.steps)
            write_step(++number, step);
        for (const auto& obstacle : plan_.obstacles)
            write_obstacle(obstacle);
        const auto warnings = plan_.report.count(Severity::warning);
        if (warnings > 0 && plan_.report.guest.mdev) {
            text_ += fmt::format("\n{} warning{} {} as well: vfioap-check names {}.\n", warnings,
                                 warnings == 1 ? "" : "s", warnings == 1 ? "is there" : "are there",
                                 warnings == 1 ? "it" : "them");
        }
        return std::move(text_);
    }

  private:
    void paragraph(std::string_view label, std::string_view words, std::size_t left) {
        text_ += wrap(label, words, left, options_.width);
    }
    /// Each line behind `left` blanks.
    void paragraph(std::string_view words, std::size_t left) {
        paragraph(std::string(left, ' '), words, left);
    }

    void headline() {
        const auto& report = plan_.report;
        const auto& guest = report.guest.name;
        const auto& host = report.destination.name;
        const auto head = [&](Style style, std::string_view word, const std::string& words) {
            paragraph(styled(style, word, options_.color) + ' ', words, 2);
        };
        switch (plan_.state) {
            case Plan::State::nothing_to_do:
                head(Style::good, "NOTHING TO DO:", fmt::format("{} has all that {} needs", host, guest));
                break;
            case Plan::State::complete:
                head(Style::bold, "PLAN:",
                     fmt::format("{} step{} before {} can come to {}", plan_.steps.size(),
                                 plan_.steps.size() == 1 ? "" : "s", guest, host));
                break;
            case Plan::State::blocked:
                head(Style::error, "BLOCKED:",
                     fmt::format("no command makes {} ready for {}; do this first, then plan again", host,
                                 guest));
                break;
            case Plan::State::undetermined:
                head(Style::warning,
                     "UNDETERMINED:", fmt::format("what {} needs for {} is not known", host, guest));
                break;
        }
        if (!report.guest.mdev) return;
        const auto domains = report.control_domains.count();
        paragraph(fmt::format("mdev {}: {} queue{}, {} control domain{}", report.guest.mdev->to_string(),
                              report.queues.size(), report.queues.size() == 1 ? "" : "s", domains,
                              domains == 1 ? "" : "s"),
                  2);
        auto mode = fmt::format("mode {}", to_text(report.mode));
        if (report.profile) mode += fmt::format(", profile {}", to_text(*report.profile));
        paragraph(mode, 2);
    }

    [[nodiscard]] std::string list(const std::vector<Apqn>& queues) const {
        auto text = queue_list_text(queues);
        if (options_.all_queues || text.size() <= folded_list) return text;
        text.resize(text.rfind(' ', folded_list));
        return text + " …";
    }

    void write_commands(const std::vector<std::string>& commands, std::string_view label) {
        const bool fold = !options_.all_queues && commands.size() > folded_commands;
        const auto shown = fold ? folded_commands : commands.size();
        if (!label.empty()) text_ += "     " + styled(Style::faint, label, options_.color) + '\n';
        for (std::size_t i = 0; i < shown; ++i)
            text_ += "       " + styled(Style::bold, safe(commands[i]), options_.color) + '\n';
        if (shown < commands.size())
            text_ += fmt::format("       … and {} more (--all-queues, --script)\n", commands.size() - shown);
    }

    void write_step(std::size_t number, const PlanStep& step) {
        text_ += '\n';
        auto what = step.what;
        what[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(what[0])));
        if (step.host == Side::source) what += fmt::format(" (at {})", plan_.report.source.name);
        paragraph(fmt::format("{:>3}. ", number), what, 5);
        paragraph(fmt::format("{}: {}", rule(step.rule).name, step.why), 5);
        if (!step.also_taken.empty()) {
            paragraph(fmt::format("This takes from the host's own drivers, too: {}", list(step.also_taken)),
                      5);
        }
        write_commands(commands_of(step), {});
        if (!step.persistent.empty()) write_commands(step.persistent, "and for the next boot");
    }

    void write_obstacle(const PlanObstacle& obstacle) {
        text_ += '\n';
        text_ += "  " + styled(Style::bold, rule(obstacle.rule).name, options_.color);
        if (!obstacle.queues.empty()) text_ += "  " + list(obstacle.queues);
        for (const auto domain : obstacle.control_domains)
            text_ += ' ' + domain_text(domain);
        text_ += '\n';
        paragraph(obstacle.message, 5);
        for (const auto& todo : obstacle.todo)
            paragraph("     - ", todo, 7);
    }

    const Plan& plan_;
    const TextOptions& options_;
    std::string text_;
};

}  // namespace

std::string render_plan_text(const Plan& plan, const TextOptions& options) {
    return Writer{plan, options}.run();
}

}  // namespace vfioap
