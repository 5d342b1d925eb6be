// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stream/layout.h"

namespace vfioap {

std::string_view to_text(Layout layout) {
    constexpr std::array<std::string_view, 4> words{"l1", "l2", "l2b", "l3"};
    return words[static_cast<std::size_t>(layout)];
}

std::optional<Layout> parse_layout(std::string_view text) {
    for (const auto layout : all_layouts) {
        if (to_text(layout) == text) return layout;
    }
    return {};
}

}  // namespace vfioap
