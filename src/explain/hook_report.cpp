// SPDX-License-Identifier: LGPL-2.1-or-later
#include "explain/hook_report.h"

#include "text/safe.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace vfioap {
namespace {

constexpr std::size_t most_text = 400;
constexpr std::size_t most_commands = 16;
constexpr std::size_t most_queues = 512;
/// Columns from a section's first to its text, and to a command of `do`.
constexpr std::size_t command_column = 13;

std::string_view without_blanks(std::string_view text) {
    const auto first = text.find_first_not_of(" \t\r");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// The next word, taken away with the blanks before it.
std::string_view take_word(std::string_view& text) {
    text = without_blanks(text);
    const auto end = std::min(text.find(' '), text.size());
    const auto word = text.substr(0, end);
    text.remove_prefix(end);
    return word;
}

std::optional<Severity> severity_of(std::string_view word) {
    for (const auto severity : {Severity::error, Severity::warning, Severity::info})
        if (to_text(severity) == word) return severity;
    return {};
}

void append(std::string& text, std::string_view words) {
    if (text.size() >= most_text) return;
    if (!text.empty()) text += ' ';
    text += printable(words, most_text);
}

}  // namespace

HookReport::HookReport(std::string_view first) {
    const auto from = first.find(" move from ");
    if (from == std::string_view::npos) return;
    auto rest = first.substr(from + 11);
    source_ = printable(take_word(rest));
    // Where the names are the same, the locations follow them.
    if (without_blanks(rest).starts_with("(")) take_word(rest);
    if (take_word(rest) == "to") {
        auto name = take_word(rest);
        while (!name.empty() && (name.back() == ':' || name.back() == ','))
            name.remove_suffix(1);
        destination_ = printable(name);
    }
    while (!(rest = without_blanks(rest)).empty() && findings_.size() < most_lines) {
        auto word = take_word(rest);
        while (!word.empty() && (word.back() == ',' || word.back() == '.' || word.back() == ';'))
            word.remove_suffix(1);
        if (const auto id = parse_rule(word)) {
            findings_.emplace_back();
            findings_.back().rule = *id;
        }
    }
}

Side HookReport::side_of(std::string_view host) const {
    if (host == "both hosts") return Side::both;
    return host == "the source" || (host == source_ && host != destination_) ? Side::source
                                                                             : Side::destination;
}

bool HookReport::add_line(std::string_view line) {
    if (++lines_ > most_lines) return false;
    const auto text = without_blanks(line);
    if (text.empty()) return true;
    const auto indent = line.find_first_not_of(' ');
    auto rest = text;
    const auto word = take_word(rest);
    if (const auto severity = severity_of(word)) {
        const auto id = parse_rule(without_blanks(rest));
        if (!id) return false;
        // Named in the first line already.
        const auto named = std::find_if(findings_.begin(), findings_.end(), [&](const Finding& finding) {
            return finding.rule == *id && finding.what.empty();
        });
        if (named != findings_.end()) std::rotate(named, named + 1, findings_.end());
        if (named == findings_.end()) findings_.emplace_back();
        findings_.back().rule = *id;
        findings_.back().severity = *severity;
        indent_ = indent;
        label_ = Label::none;
        return true;
    }
    if (text.starts_with("Migrated all the same") || text.starts_with("…") || text.starts_with("...")) {
        label_ = Label::other;
        return true;
    }
    if (indent < indent_ + 2) return false;
    if (word == "mdev") {
        auto name = take_word(rest);
        if (name.ends_with(":")) name.remove_suffix(1);
        mdev_ = Uuid::parse(name);
        return true;
    }
    if (findings_.empty() || label_ == Label::other) return true;
    if (indent == indent_ + 2) {
        static constexpr std::array<std::pair<std::string_view, Label>, 6> labels{
            {{"what", Label::what},
             {"queues", Label::queues},
             {"control", Label::control},
             {"do", Label::action},
             {"why", Label::none},
             {"kernel", Label::none}}};
        const auto* const found = std::find_if(labels.begin(), labels.end(),
                                               [word](const auto& label) { return label.first == word; });
        if (found == labels.end()) return true;
        label_ = found->second;
        if (label_ == Label::action) {
            Remedy remedy;
            rest = without_blanks(rest);
            if (rest.starts_with("on ")) {
                const auto colon = std::min(rest.find(": "), rest.size());
                remedy.host = side_of(rest.substr(3, colon - std::min<std::size_t>(3, colon)));
                rest.remove_prefix(std::min(colon + 2, rest.size()));
            }
            findings_.back().remedies.push_back(std::move(remedy));
        }
        take_words(rest);
        return true;
    }
    if (label_ == Label::action && indent >= indent_ + command_column && !findings_.back().remedies.empty()) {
        auto& commands = findings_.back().remedies.back().commands;
        if (commands.size() < most_commands && !text.starts_with("…"))
            commands.push_back(printable(text, most_text));
        return true;
    }
    take_words(text);
    return true;
}

void HookReport::take_words(std::string_view words) {
    auto& finding = findings_.back();
    switch (label_) {
        case Label::what:
            append(finding.what, words);
            break;
        case Label::action:
            if (!finding.remedies.empty()) append(finding.remedies.back().text, words);
            break;
        case Label::queues:
            while (!(words = without_blanks(words)).empty() && finding.queues.size() < most_queues)
                if (const auto queue = Apqn::parse(take_word(words))) finding.queues.push_back(*queue);
            break;
        case Label::control:
            while (!(words = without_blanks(words)).empty() && finding.control_domains.size() < ap_devices) {
                const auto word = take_word(words);
                unsigned domain = ap_devices;
                if (word.size() == 4) std::from_chars(word.data(), word.data() + word.size(), domain, 16);
                if (domain < ap_devices) finding.control_domains.push_back(static_cast<std::uint8_t>(domain));
            }
            break;
        case Label::none:
        case Label::other:
            break;
    }
}

std::vector<HookReport::Finding> HookReport::findings() const {
    std::vector<Finding> errors;
    std::copy_if(findings_.begin(), findings_.end(), std::back_inserter(errors),
                 [](const Finding& finding) { return finding.severity == Severity::error; });
    return errors.empty() ? findings_ : errors;
}

}  // namespace vfioap
