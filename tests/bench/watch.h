// SPDX-License-Identifier: LGPL-2.1-or-later
// The part of a benchmark that needs a process of its own.
#pragma once

namespace vfioap::bench {

/// `bench --watch DIR`: watches a sysfs root, reads all of it again and ends. 0: nothing was different.
inline constexpr const char* watch_option = "--watch";
int watch(const char* path);

}  // namespace vfioap::bench
