// SPDX-License-Identifier: LGPL-2.1-or-later
// Makes a directory that looks like the sysfs of a host.
#pragma once

#include "host/inventory.h"

#include <string>

namespace vfioap {

/// Makes `directory`, which must be absent or empty, into a sysfs root from which `inventory` can be read
/// again and `lszcrypt -V` of s390-tools prints its cards and queues. The inventory must be complete.
/// Attributes that inventories do not hold and tools expect (request counts, `modalias`) get the values of an
/// idle system. An attribute recorded as unreadable with EIO gives EIO again. Throws InputError for a
/// directory that is not empty, SystemError when something cannot be written; what was made until then is
/// removed again.
void materialize(const Inventory& inventory, const std::string& directory);

}  // namespace vfioap
