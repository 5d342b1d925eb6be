// SPDX-License-Identifier: LGPL-2.1-or-later
// What the parts of a check make findings with.
#pragma once

#include "compat/report.h"
#include "host/inventory.h"

#include <string>
#include <string_view>

namespace vfioap {

/// A finding with nothing in it but what every finding has.
Finding make_finding(RuleId id, Severity severity, Side host, std::string message);

/// kernel.no-vfio-ap: the host has no vfio_ap driver, or not even an AP bus.
Finding driver_missing(const Inventory& host, Side side);

/// `1 queue`, `4 queues`.
std::string count_of(std::size_t count);
/// `1 queue is`, `4 queues are`, with the verb in its two forms.
std::string queues_are(std::size_t count, std::string_view singular, std::string_view plural);

}  // namespace vfioap
