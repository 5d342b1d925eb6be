// SPDX-License-Identifier: LGPL-2.1-or-later
// What must not happen while a guest moves. Values only.
#pragma once

#include <string>
#include <string_view>

namespace vfioap {

/// Why a move that was begun must not go on.
struct Drift {
    std::string_view rule;  ///< its id
    std::string detail;     ///< one sentence, with the host
};

}  // namespace vfioap
