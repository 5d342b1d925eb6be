// SPDX-License-Identifier: LGPL-2.1-or-later
#include "report/explanation.h"

#include "report/folding.h"
#include "text/columns.h"
#include "text/safe.h"
#include "text/style.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t folded_evidence = 4;

class ExplanationWriter {
  public:
    explicit ExplanationWriter(const TextOptions& options) : options_{options} {}

    std::string run(const Explanation& explanation) {
        if (explanation.migrations.empty()) {
            return "NOT EXPLAINED: no migration of a guest with a vfio-ap device in these logs\n";
        }
        bool first = true;
        for (const auto& migration : explanation.migrations) {
            if (!first) text_ += '\n';
            first = false;
            show(migration);
        }
        if (explanation.more)
            text_ += "\nThere are more migrations than are kept: give less of the logs, or --guest\n";
        return std::move(text_);
    }

  private:
    void paragraph(std::string_view label, std::string_view words, std::size_t left = label_width) {
        text_ += wrap(label, words, left, options_.width);
    }

    void show(const Migration& migration) {
        static constexpr std::array<std::string_view, 4> heads{
            "FAILED:", "REFUSED:", "COMPLETED:", "UNKNOWN:"};
        static constexpr std::array<Style, 4> styles{Style::error, Style::error, Style::good, Style::warning};
        static constexpr std::array<std::string_view, 4> verbs{
            "did not arrive", "was not let go", "arrived", "began to move; how it ended is not in the logs"};
        const auto outcome = static_cast<std::size_t>(migration.outcome);
        std::string words = migration.guest.empty() ? "a guest" : migration.guest;
        words += fmt::format(" {}", verbs[outcome]);
        if (!migration.source_host.empty()) words += " from " + migration.source_host;
        if (!migration.destination_host.empty()) words += " at " + migration.destination_host;
        paragraph(styled(styles[outcome], heads[outcome], options_.color) + ' ', words, 2);
        if (migration.mdev) text_ += fmt::format("  mdev {}\n", migration.mdev->to_string());
        evidence("  seen     ", migration.evidence);
        const Cause* previous = nullptr;
        for (const auto& cause : migration.causes) {
            // Mere possibilities from the same lines are a list.
            const bool again = previous != nullptr && previous->evidence == cause.evidence &&
                               previous->queues == cause.queues && cause.confidence == Certainty::possible;
            show(cause, again, migration);
            previous = &cause;
        }
        if (migration.causes.empty()) text_ += "\n  no cause is known from these logs\n";
        if (migration.missing.empty()) return;
        text_ += '\n' + styled(Style::bold, "What would make it certain", options_.color) + '\n';
        for (const auto& missing : migration.missing)
            paragraph("  - ", missing, 4);
    }

    void show(const Cause& cause, bool again, const Migration& migration) {
        const auto word = to_text(cause.confidence);
        const auto style = cause.confidence == Certainty::certain  ? Style::error
                           : cause.confidence == Certainty::likely ? Style::warning
                                                                   : Style::info;
        text_ += '\n' + styled(style, word, options_.color);
        text_.append(label_width - word.size(), ' ');
        text_ += styled(Style::bold, rule(cause.rule).name, options_.color) + '\n';
        paragraph("  what     ", cause.message);
        if (!again && !cause.queues.empty()) list("  queues   ", cause.queues);
        if (!cause.control_domains.empty()) {
            std::string words;
            for (const auto domain : cause.control_domains)
                words += (words.empty() ? "" : " ") + domain_text(domain);
            paragraph("  control  ", words);
        }
        paragraph("  look     ", where(cause.host, migration));
        if (!again) {
            paragraph("  why      ", rule(cause.rule).why);
            if (cause.evidence != migration.evidence) evidence("  seen     ", cause.evidence);
        }
        for (const auto& remedy : cause.remedies) {
            paragraph("  do       ", fmt::format("{}: {}", where(remedy.host, migration), remedy.text));
            const bool folded = !options_.all_queues && remedy.commands.size() > folded_commands + 1;
            const auto shown = folded ? folded_commands : remedy.commands.size();
            for (std::size_t i = 0; i < shown; ++i)
                text_ += fmt::format("             {}\n",
                                     styled(Style::bold, safe(remedy.commands[i]), options_.color));
            if (folded) text_ += fmt::format("             … +{} more\n", remedy.commands.size() - shown);
        }
    }

    static std::string where(Side side, const Migration& migration) {
        if (side == Side::both) return "on both hosts";
        const auto& name = side == Side::source ? migration.source_host : migration.destination_host;
        const auto role = fmt::format("the {}", to_text(side));
        return name.empty() ? "on " + role : fmt::format("on {}, {}", name, role);
    }

    void list(std::string_view label, const std::vector<Apqn>& queues) {
        const bool folded = !options_.all_queues && queues.size() > folded_queues + 1;
        const auto shown = folded ? folded_queues : queues.size();
        std::string words;
        for (std::size_t i = 0; i < shown; ++i)
            words += (i == 0 ? "" : " ") + queues[i].to_string();
        if (folded) words += fmt::format(" … +{} more", queues.size() - shown);
        paragraph(label, words);
    }

    void evidence(std::string_view label, const std::vector<Evidence>& list) {
        const bool folded = !options_.all_queues && list.size() > folded_evidence + 1;
        const auto shown = folded ? folded_evidence : list.size();
        for (std::size_t i = 0; i < shown; ++i) {
            text_ += i == 0 ? std::string{label} : std::string(label_width, ' ');
            text_ += fmt::format("{}:{}: {}\n", safe(list[i].source), list[i].line, safe(list[i].text));
        }
        if (folded) text_ += fmt::format("           … +{} more\n", list.size() - shown);
    }

    const TextOptions& options_;
    std::string text_;
};

Json cause_json(const Cause& cause) {
    Json queues = Json::array();
    for (const auto queue : cause.queues)
        queues.push_back(queue.to_string());
    Json evidence = Json::array();
    for (const auto& line : cause.evidence)
        evidence.push_back({{"source", line.source}, {"line", line.line}, {"text", line.text}});
    Json remedies = Json::array();
    for (const auto& remedy : cause.remedies) {
        remedies.push_back(
            {{"host", to_text(remedy.host)}, {"text", remedy.text}, {"commands", remedy.commands}});
    }
    return Json{{"rule", rule(cause.rule).name},  {"host", to_text(cause.host)},
                {"queues", std::move(queues)},    {"confidence", to_text(cause.confidence)},
                {"message", cause.message},       {"evidence", std::move(evidence)},
                {"remedies", std::move(remedies)}};
}

}  // namespace

std::string render_explanation_text(const Explanation& explanation, const TextOptions& options) {
    return ExplanationWriter{options}.run(explanation);
}

std::string render_explanation_json(const Explanation& explanation) {
    Json migrations = Json::array();
    for (const auto& migration : explanation.migrations) {
        Json causes = Json::array();
        for (const auto& cause : migration.causes)
            causes.push_back(cause_json(cause));
        migrations.push_back({{"guest", migration.guest.empty() ? Json(nullptr) : Json(migration.guest)},
                              {"mdev", migration.mdev ? Json(migration.mdev->to_string()) : Json(nullptr)},
                              {"outcome", to_text(migration.outcome)},
                              {"causes", std::move(causes)},
                              {"missing", migration.missing}});
    }
    const Json document{{"schema", explanation_schema}, {"migrations", std::move(migrations)}};
    // A file's name need not be UTF-8; the document is.
    return document.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace vfioap
