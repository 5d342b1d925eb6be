// SPDX-License-Identifier: LGPL-2.1-or-later
// What the person who starts the migration regardless would see.
#pragma once

#include "compat/report.h"

namespace vfioap {

/// The first obstacle in the order in which libvirt, QEMU and the newest driver of the report's profile meet
/// them. `report` needs mode, profile, guest and findings. Empty where nothing would stop the migration
/// itself.
Prediction predict(const Report& report);

}  // namespace vfioap
