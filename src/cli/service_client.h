// SPDX-License-Identifier: LGPL-2.1-or-later
// Asks the service of another host.
#pragma once

#include "host/inventory.h"

#include <string>

namespace vfioap {

/// The inventory of `host`, `[user@]host[:port]`, from org.vfioap1 on its system bus, over SSH (sd-bus:
/// `ssh -xT HOST systemd-stdio-bridge`). What it says is not trusted more than a snapshot.
///
/// Throws UnreachableError where it cannot be asked, or has no service, and InputError where its answer is no
/// snapshot.
Inventory remote_inventory(const std::string& host);

}  // namespace vfioap
