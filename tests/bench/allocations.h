// SPDX-License-Identifier: LGPL-2.1-or-later
// How much memory a piece of work has at once. Linking this replaces operator new of the whole program.
#pragma once

#include <cstddef>
#include <functional>

namespace vfioap::bench {

/// Bytes that `work` has allocated at its worst, beyond what there was before. For one thread.
std::size_t most_allocated(const std::function<void()>& work);

}  // namespace vfioap::bench
