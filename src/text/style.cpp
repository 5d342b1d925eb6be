// SPDX-License-Identifier: LGPL-2.1-or-later
#include "text/style.h"

#include <array>

#include <fmt/format.h>

namespace vfioap {

std::string styled(Style style, std::string_view words, bool color) {
    static constexpr std::array<std::string_view, 6> codes{"1", "1;31", "1;33", "1;36", "1;32", "2"};
    if (!color) return std::string{words};
    return fmt::format("\x1b[{}m{}\x1b[0m", codes[static_cast<std::size_t>(style)], words);
}

}  // namespace vfioap
