// SPDX-License-Identifier: LGPL-2.1-or-later
#include "move/outcome_table.h"

#include "text/safe.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

namespace vfioap {
namespace {

/// Of valid UTF-8.
std::size_t characters_of(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

}  // namespace

std::string render_outcomes(const std::vector<GuestOutcome>& outcomes) {
    if (outcomes.empty()) return "No guest with a vfio-ap device runs here.\n";
    static constexpr std::string_view heading = "GUEST";
    auto width = heading.size();
    std::vector<std::string> names;
    for (const auto& each : outcomes) {
        names.push_back(safe(each.guest));
        width = std::max(width, characters_of(names.back()));
    }
    auto text = fmt::format("\n{:<{}}  OUTCOME\n", heading, width);
    for (std::size_t i = 0; i < outcomes.size(); ++i)
        text += fmt::format("{}{:{}}  {}\n", names[i], "", width - characters_of(names[i]),
                            to_text(outcomes[i].outcome));
    return text;
}

}  // namespace vfioap
