// SPDX-License-Identifier: LGPL-2.1-or-later
// What a snapshot's values may be at most: read_snapshot() refuses more, so nothing more is written. Kernel
// and drivers stay far below; a root that only looks like sysfs need not.
#pragma once

#include <cstddef>

namespace vfioap {

inline constexpr std::size_t max_text = 256;  ///< bytes of a free text
inline constexpr std::size_t max_word = 64;   ///< bytes of a word that may become part of a path
inline constexpr std::size_t max_words =
    64;  ///< words of a list of features. Refused rather than cut: the last may decide
inline constexpr std::size_t max_guest_matrix =
    512;  ///< queues: one page of `guest_matrix`; the kernel prints no more

}  // namespace vfioap
