// SPDX-License-Identifier: LGPL-2.1-or-later
// Prints the table of rules as JSON, for what is held against it outside of the program; with the argument
// `messages` the catalogue of messages as vfioap-rules(7) has it, and with `patterns` as regular expressions.
#include "compat/messages.h"
#include "compat/rules.h"

#include <array>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include <nlohmann/json.hpp>

namespace {

/// As a page's reader sees it: placeholders by what stands for them elsewhere in it.
std::string shown(const vfioap::Message& record) {
    return vfioap::fill(record.pattern, {{"queue", "XX.YYYY"},
                                         {"queues", "XX.YYYY"},
                                         {"domain", "YYYY"},
                                         {"uuid", "UUID"},
                                         {"other", "OTHER"},
                                         {"not", "[not ]"},
                                         {"x", "X"},
                                         {"y", "Y"},
                                         {"rc", "N"},
                                         {"device", "DEVICE"},
                                         {"error", "ERROR"},
                                         {"guest", "GUEST"},
                                         {"text", "..."}});
}

void print_messages() {
    for (const auto& record : vfioap::messages()) {
        if (record.kind == vfioap::MessageKind::context) continue;
        std::string rules;
        for (const auto id : record.rules.span())
            rules += (rules.empty() ? "\n.Sy " : " , ") + std::string{vfioap::rule(id).name};
        std::printf(".It Li \"%s\"\n%s; %s%s\n", shown(record).c_str(),
                    std::string{to_text(record.source)}.c_str(), std::string{record.versions}.c_str(),
                    rules.c_str());
    }
}

/// For grep -E: what any line with a message matches.
void print_patterns() {
    static constexpr std::array<const char*, 7> classes{
        "", "[0-9a-f]{2}\\.[0-9a-f]{4}", "[0-9a-f]{4}", "[0-9a-f-]{36}", "(not )?", "[0-9a-f]+", ".*"};
    for (const auto& record : vfioap::messages()) {
        std::string text;
        for (const char c : vfioap::fill(record.pattern, {{"queue", "\x01"},
                                                          {"queues", "\x01"},
                                                          {"domain", "\x02"},
                                                          {"uuid", "\x03"},
                                                          {"other", "\x03"},
                                                          {"not", "\x04"},
                                                          {"x", "\x05"},
                                                          {"y", "\x05"},
                                                          {"rc", "\x05"},
                                                          {"device", ""},
                                                          {"error", ""},
                                                          {"guest", "\x06"},
                                                          {"text", ""}})) {
            if (c > 0 && c < 7) {
                text += classes.at(static_cast<std::size_t>(c));
                continue;
            }
            if (std::strchr("().[]{}*+?|^$\\", c) != nullptr) text += '\\';
            text += c;
        }
        std::puts(text.c_str());
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::string_view what = argc > 1 ? argv[1] : "";
        if (what == "messages") {
            print_messages();
            return 0;
        }
        if (what == "patterns") {
            print_patterns();
            return 0;
        }
        const auto word = [](std::optional<vfioap::Severity> severity) {
            return severity ? vfioap::to_text(*severity) : "none";
        };
        auto table = nlohmann::ordered_json::array();
        for (const auto& rule : vfioap::rules()) {
            table.push_back({{"name", rule.name},
                             {"native", word(rule.native)},
                             {"detached", word(rule.detached)},
                             {"live-update", word(rule.live_update)}});
        }
        return std::puts(table.dump(1).c_str()) < 0 ? 1 : 0;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "%s\n", error.what()));
        return 1;
    }
}
