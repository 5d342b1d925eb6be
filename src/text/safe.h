// SPDX-License-Identifier: LGPL-2.1-or-later
// Text that others wrote, made fit for a terminal or for a message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace vfioap {

/// Whether a terminal shows the character, as itself and where it stands. Not so:
/// - controls (C0, DEL, C1), which it obeys;
/// - marks of direction (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069), by which text reads as
///   another one than it is (Unicode Technical Report #36, section 2.5);
/// - line and paragraph separators (U+2028, U+2029);
/// - what is shown as nothing at all, by which two names look alike: zero-width characters, soft hyphens,
///   fillers, variation selectors, tags (property Default_Ignorable_Code_Point), and marks of annotations.
bool is_safe(char32_t character);

/// `text` as one line that a terminal can show: each character that is not safe becomes `?`, and so does each
/// byte that is not of UTF-8 text. Every text from outside goes through this before it is printed.
std::string safe(std::string_view text);

/// `text` as one line of printable ASCII of at most `max_bytes`, for messages that become part of documents:
/// white space at either end is dropped, every other byte outside of ASCII's printable characters becomes
/// `?`, and what is too long ends in `...`.
std::string printable(std::string_view text, std::size_t max_bytes = 80);

}  // namespace vfioap
