// SPDX-License-Identifier: LGPL-2.1-or-later
// What reports and explanations show before they fold, and where their text begins: both look the same.
#pragma once

#include <cstddef>

namespace vfioap {

inline constexpr std::size_t folded_queues = 6;    ///< named before the rest is counted
inline constexpr std::size_t folded_commands = 8;  ///< shown before the rest is counted
/// Columns of `what`, `queues`, `do` and the like, with their indentation.
inline constexpr std::size_t label_width = 11;

}  // namespace vfioap
