// SPDX-License-Identifier: LGPL-2.1-or-later
// How much memory a piece of work has at once. Linking this replaces operator new of the whole program.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>

namespace vfioap::bench {

/// Bytes that `work` has allocated at its worst, beyond what there was before. For one thread.
std::size_t most_allocated(const std::function<void()>& work);

/// The most memory that this program has had when it is run with `option` and `argument` and ends with
/// tell_peak(), KiB; nothing when it fails. A process of its own, which tells by itself: what wait4(2) says
/// of a child begins with the memory of its parent.
std::optional<long> peak_of_run(const std::string& option, const std::string& argument);
void tell_peak();

}  // namespace vfioap::bench
