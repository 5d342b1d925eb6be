// SPDX-License-Identifier: LGPL-2.1-or-later
// The LPARs of tests/data/hosts: recorded there as snapshots, made here.
#pragma once

#include "host/inventory.h"

#include <string>
#include <string_view>
#include <vector>

namespace vfioap::test {

/// When all of them were taken.
inline constexpr std::string_view example_time = "2026-05-04T03:02:01Z";
/// The mdev of the guest that the demo moves from lpar-a.
inline constexpr std::string_view example_mdev = "62177883-f1bb-47f0-914d-32a22e3a8804";

/// All of them; Inventory::name is the name of the file, without `.json`.
std::vector<Inventory> example_hosts();

/// 65,536 queues with master keys, all of them one guest's: as large as a host can be.
Inventory largest_host();

/// The text of the file.
std::string example_text(const Inventory& host);

}  // namespace vfioap::test
