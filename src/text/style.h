// SPDX-License-Identifier: LGPL-2.1-or-later
// Colours of text for people.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vfioap {

enum class Style : std::uint8_t { bold, error, warning, info, good, faint };

/// `words` between the ANSI sequences that set the style and end it; without `color`, `words`. The words are
/// ours, or safe() already.
std::string styled(Style style, std::string_view words, bool color);

}  // namespace vfioap
