// SPDX-License-Identifier: LGPL-2.1-or-later
#include "move/outcome_table.h"

#include "text/columns.h"
#include "text/safe.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

namespace vfioap {

std::string render_outcomes(const std::vector<GuestOutcome>& outcomes) {
    if (outcomes.empty()) return "No guest with a vfio-ap device runs here.\n";
    static constexpr std::string_view heading = "GUEST";
    auto width = heading.size();
    std::vector<std::string> names;
    for (const auto& each : outcomes) {
        names.push_back(safe(each.guest));
        width = std::max(width, columns(names.back()));
    }
    auto text = fmt::format("\n{:<{}}  OUTCOME\n", heading, width);
    for (std::size_t i = 0; i < outcomes.size(); ++i)
        text += fmt::format("{}  {}\n", padded(names[i], width), to_text(outcomes[i].outcome));
    return text;
}

}  // namespace vfioap
