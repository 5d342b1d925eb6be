// SPDX-License-Identifier: LGPL-2.1-or-later
// The characters of UTF-8 text.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace vfioap {

/// Length in bytes of the UTF-8 character at the front of `text`, 0 where there is none: overlong forms,
/// surrogates and numbers above U+10FFFF are none (RFC 3629, section 4).
std::size_t utf8_length(std::string_view text);

/// The number of a character of the length that utf8_length() gave, which is not 0.
char32_t utf8_code_point(std::string_view character);

/// Characters from one to another, both of them included.
struct CharacterRange {
    char32_t first;
    char32_t last;
};
/// Whether the character is in one of `ranges`, which are sorted and do not overlap.
bool is_in(std::span<const CharacterRange> ranges, char32_t character);

/// Whether UTF-8 text has a control character in it: below U+0020, U+007F, U+0080 to U+009F.
bool has_control(std::string_view text);

}  // namespace vfioap
