// SPDX-License-Identifier: LGPL-2.1-or-later
// What the guest's mdev at the destination is to hold.
#pragma once

#include "ap/configuration.h"
#include "compat/check.h"
#include "host/inventory.h"

namespace vfioap {

/// What the guest has, as an mdev of the destination can hold it: the kernel there refuses numbers above its
/// `ap_max_adapter_id` and `ap_max_domain_id` (vfio_ap_ops.c, assign_*_store).
MdevContents wanted_contents(const Source& source, const Inventory& destination);

/// What is assigned to `mdev`, belongs to the host and was not the guest's. It can stand in the way of what
/// was: an adapter cannot be assigned while its queue in another assigned domain is the host's own. Control
/// domains are not looked at. Nothing where the guest's configuration is not known whole.
MdevContents superfluous_contents(const Source& source, const Mdev& mdev, const Inventory& destination);

}  // namespace vfioap
