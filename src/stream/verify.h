// SPDX-License-Identifier: LGPL-2.1-or-later
// Judges a stream at the host that is to take it.
#pragma once

#include "compat/check.h"
#include "stream/reader.h"

#include <string>

namespace vfioap {

/// The source of a move of which nothing is known but the stream, whole and without fault. `host`: what to
/// call where it came from.
Source describe_stream(const StreamReader& stream, ReportHost host);

/// The mdev as a restoring driver sets it up: the stream's adapters, domains and control domains; none of
/// the latter where the layout has no place for them.
MdevContents restored_contents(const StreamReader& stream);

/// What the newest driver of the report's profile answers in RESUMING → STOP: 0 where the move may be;
/// ENODEV where there is no mdev, EBUSY where a guest has it, EINVAL for what only this project refuses, EIO
/// where something that a rule needs could not be read.
int driver_errno(const Report& report);

}  // namespace vfioap
