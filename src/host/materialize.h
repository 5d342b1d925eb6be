// SPDX-License-Identifier: LGPL-2.1-or-later
// Makes a directory that looks like the sysfs of a host.
#pragma once

#include "host/inventory.h"

#include <string>

namespace vfioap {

/// Makes `directory`, which must be absent or empty, into a sysfs root from which `inventory` can be read
/// again and `lszcrypt -V` of s390-tools prints its cards and queues. The inventory must be complete.
/// Attributes that inventories do not hold and tools expect (request counts, `modalias`) get the values of an
/// idle system. All links are relative: the tree may be copied and moved.
///
/// An attribute recorded as unreadable with EIO gives EIO again. Other unreadable things cannot be made
/// again: they are absent from the tree, never filled with a made-up value. `mkvps` is written wherever the
/// inventory has it, also for a queue that vfio_ap has meanwhile, where no kernel would show it.
///
/// Throws InputError for a directory that is not empty or for an inventory that no sysfs can show,
/// SystemError when something cannot be written; what was made until then is removed again.
void materialize(const Inventory& inventory, const std::string& directory);

}  // namespace vfioap
