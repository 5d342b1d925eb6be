// SPDX-License-Identifier: LGPL-2.1-or-later
// How the moves of several guests have ended, for a person.
#pragma once

#include "move/mover.h"

#include <string>
#include <vector>

namespace vfioap {

struct GuestOutcome {
    std::string guest;  ///< name of the domain
    MoveOutcome outcome = MoveOutcome::needs_person;
};

/// An empty line, a heading and a line for each guest, in their order, each with a newline; one line that
/// says so where there is none. Names are made fit for a terminal.
std::string render_outcomes(const std::vector<GuestOutcome>& outcomes);

}  // namespace vfioap
