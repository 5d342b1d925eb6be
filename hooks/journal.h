// SPDX-License-Identifier: LGPL-2.1-or-later
// Where the hook says what libvirt does not show to anybody.
#pragma once

#include "hook.h"

namespace vfioap {

/// Into the journal, with the fields VFIOAP_GUEST, VFIOAP_MDEV, VFIOAP_OPERATION, VFIOAP_VERDICT and a
/// VFIOAP_RULE for each rule; where there is no journal, a line each to syslog. May take as long as they
/// like.
void write_log(const HookCall& call, const HookAnswer& answer);

}  // namespace vfioap
