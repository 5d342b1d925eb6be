// SPDX-License-Identifier: LGPL-2.1-or-later
// What could not be read of a host, and whether a check can do without it.
#pragma once

#include "compat/report.h"
#include "host/inventory.h"

#include <vector>

namespace vfioap {

/// The guest's part in a host.
struct GuestPart {
    const Uuid& mdev;
    const std::vector<Apqn>& queues;  ///< sorted
    bool mdev_matters;                ///< what the mdev holds there is compared
    Mode mode;
};

/// Adds findings host.unreadable for what stands in the inventory: errors where a rule needs it, infos where
/// it only concerns the guest, nothing of other guests' queues and cards. `unknown_hardware`: queues of the
/// guest of which the hardware is not known; where no failed read explains that, the kernel lacks the
/// attributes, which is said, too.
void add_unreadable(const Inventory& host, Side side, const GuestPart& guest,
                    std::vector<Apqn> unknown_hardware, std::vector<Finding>& findings);

}  // namespace vfioap
