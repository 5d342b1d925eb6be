// SPDX-License-Identifier: LGPL-2.1-or-later
#include "domain/printable.h"

#include <algorithm>

namespace vfioap {

std::string printable(std::string_view text, std::size_t max_bytes) {
    static constexpr std::string_view blanks = " \t\r\n";
    static constexpr std::string_view ellipsis = "...";
    const auto first = text.find_first_not_of(blanks);
    if (first == std::string_view::npos) return {};
    text = text.substr(first, text.find_last_not_of(blanks) - first + 1);

    const bool cut = text.size() > max_bytes;
    if (cut) text = text.substr(0, max_bytes - std::min(max_bytes, ellipsis.size()));
    std::string line{text};
    for (char& c : line)
        if (c < ' ' || c > '~') c = '?';
    if (cut) line += ellipsis.substr(0, max_bytes);
    return line;
}

}  // namespace vfioap
