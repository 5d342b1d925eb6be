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

}  // namespace vfioap
