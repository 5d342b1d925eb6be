// SPDX-License-Identifier: LGPL-2.1-or-later
// Reads the inventory of a host from a sysfs root, the real one or a directory that looks like it.
#pragma once

#include "host/inventory.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// How much to ask for. Some attributes cost more than I/O: a TAPQ, a request to the card, a global lock.
enum class Depth : std::uint8_t {
    state,  ///< what a watcher may read again and again
    full,   ///< also `ap_functions`, `status`, `mkvps`, `op_modes` of each queue and `serialnr` of each card,
            ///< once
};

/// What a sysfs root that was made from a snapshot has beside the attributes: the host's name and its QEMU,
/// in a snapshot of their own. Not looked for in the real sysfs.
inline constexpr std::string_view identity_file = "vfioap-host.json";

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
    SysfsRoot(SysfsRoot&&) = delete;
    SysfsRoot& operator=(SysfsRoot&&) = delete;

    /// Inventory::name and Inventory::location of what is read here.
    [[nodiscard]] const std::string& name() const { return identity_.name; }
    [[nodiscard]] const std::string& location() const { return identity_.location; }

    /// The open directory, for looks that need no inventory.
    [[nodiscard]] int fd() const { return fd_; }

    /// Whether what is written below it reaches the kernel of this machine, whatever the directory is called:
    /// it, or its `bus` or `devices`, is in a file system of type sysfs (statfs(2), SYSFS_MAGIC) or cannot be
    /// asked. As it was when the root was opened.
    [[nodiscard]] bool is_real() const { return real_; }

    /// The UUIDs of all mdevs, sorted; from one directory read.
    [[nodiscard]] std::vector<Uuid> mdevs() const;

    /// Everything. About 8 system calls per queue at Depth::state.
    [[nodiscard]] Inventory read_all(Depth depth) const;

    /// Everything at Depth::state, but for what is likely to be as it was in `before`, which was read here:
    /// cards and queues are read only of `adapters`, of cards that are new, and where a driver's directory
    /// says that a queue or the card has another driver now. A card that is gone takes its queues with it.
    [[nodiscard]] Inventory read_again(const Inventory& before, const Mask& adapters) const;

    /// What a check of one guest needs: the bus, the driver, all mdevs, and cards and queues only as far as
    /// `queues` and what is assigned to the mdev `uuid` go, these with their costly attributes. Never a full
    /// scan.
    [[nodiscard]] Inventory read_for(const Uuid& uuid, const std::vector<Apqn>& queues) const;

  private:
    int fd_;
    bool real_;
    std::string path_;
    Inventory identity_;  // nothing but the name, the location and QEMU
};

}  // namespace vfioap
