// SPDX-License-Identifier: LGPL-2.1-or-later
// Prints the table of rules as JSON, for what is held against it outside of the program.
#include "compat/rules.h"

#include <cstdio>
#include <exception>

#include <nlohmann/json.hpp>

int main() {
    try {
        const auto word = [](std::optional<vfioap::Severity> severity) {
            return severity ? vfioap::to_text(*severity) : "none";
        };
        auto table = nlohmann::ordered_json::array();
        for (const auto& rule : vfioap::rules()) {
            table.push_back(
                {{"name", rule.name}, {"native", word(rule.native)}, {"detached", word(rule.detached)}});
        }
        return std::puts(table.dump(1).c_str()) < 0 ? 1 : 0;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "%s\n", error.what()));
        return 1;
    }
}
