// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes the migration stream of a guest's AP configuration.
#pragma once

#include "ap/configuration.h"
#include "stream/layout.h"

#include <cstdint>
#include <vector>

namespace vfioap {

/// The whole stream, at most `longest_stream` bytes. Layouts l1 and l2 have no place for the control domains,
/// which are lost. Of TAPQ hwinfo only what the configuration knows is in it: of sysfs that is the upper half
/// and the AP type, which is all that drivers compare.
///
/// Throws InputError where the hwinfo of a queue is not known, and where the queues are not sorted, each
/// once.
std::vector<std::uint8_t> write_stream(const GuestConfiguration& configuration, Layout layout);

}  // namespace vfioap
