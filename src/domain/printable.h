// SPDX-License-Identifier: LGPL-2.1-or-later
// Text that others wrote, made fit to stand in a message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace vfioap {

/// `text` as one line of printable ASCII of at most `max_bytes`: white space at either end is dropped, every
/// other byte that a terminal could take for more than a character (controls, and all of UTF-8, which has
/// controls and direction marks of its own) becomes `?`, and what is too long ends in `...`.
std::string printable(std::string_view text, std::size_t max_bytes = 80);

/// Length of the UTF-8 character at the front of `text`, 0 where there is none: overlong forms, surrogates
/// and numbers above U+10FFFF are none (RFC 3629, section 4).
std::size_t utf8_length(std::string_view text);

/// Whether UTF-8 text has a control character in it: below U+0020, U+007F, U+0080 to U+009F.
bool has_control(std::string_view text);

}  // namespace vfioap
