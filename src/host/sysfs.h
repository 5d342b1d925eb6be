// SPDX-License-Identifier: LGPL-2.1-or-later
// Reads the inventory of a host from a sysfs root, the real one or a directory that looks like it.
#pragma once

#include "host/inventory.h"

#include <optional>
#include <string>
#include <vector>

namespace vfioap {

/// How much to ask for. Some attributes cost more than I/O: a TAPQ, a request to the card, a global lock.
enum class Depth : std::uint8_t {
    state,  ///< what a watcher may read again and again
    full,   ///< also `ap_functions`, `status`, `mkvps`, `op_modes` of each queue and `serialnr` of each card,
            ///< once
};

/// An open sysfs root. Read-only; survives everything that changes, vanishes or is garbage below it: such
/// things are recorded in Inventory::unreadable.
class SysfsRoot {
  public:
    /// `directory`: absolute or relative. Throws SystemError when it cannot be opened and InputError when
    /// nothing in it looks like sysfs (neither `bus` nor `devices`).
    explicit SysfsRoot(const std::string& directory);
    ~SysfsRoot();
    SysfsRoot(const SysfsRoot&) = delete;
    SysfsRoot& operator=(const SysfsRoot&) = delete;

    /// Everything. About 8 system calls per queue at Depth::state.
    [[nodiscard]] Inventory read_all(Depth depth) const;

    /// What a check of one guest needs: the bus, the driver, all mdevs, and cards and queues only as far as
    /// `queues` and what is assigned to the mdev `uuid` go, these with their costly attributes. Never a full
    /// scan.
    [[nodiscard]] Inventory read_for(const Uuid& uuid, const std::vector<Apqn>& queues) const;

  private:
    int fd_;
    std::string name_;
    std::string location_;
};

}  // namespace vfioap
