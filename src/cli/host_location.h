// SPDX-License-Identifier: LGPL-2.1-or-later
// Where a host's inventory comes from, as people name it on a command line.
#pragma once

#include "compat/check.h"
#include "domain/domain_xml.h"
#include "host/inventory.h"
#include "host/sysfs.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// A sysfs root, a snapshot or another host.
struct HostLocation {
    enum class Kind : std::uint8_t { sysfs, snapshot, remote };
    Kind kind = Kind::sysfs;
    std::string value;  ///< directory, file or host: what RemoteHost::parse() takes
};

/// From `sysfs:DIR`, `snapshot:FILE`, `host:NAME`, `local` (which is `local_root`), a directory, a file that
/// ends in `.json`, or else the name of a host, as RemoteHost has it. Throws InputError for what is none of
/// these.
HostLocation parse_host_location(std::string_view text, const std::string& local_root);

/// The local sysfs root: `option` if given, else the environment variable SYSFS_ROOT (as s390-tools have it;
/// ignored in secure execution), else `/sys`.
std::string local_sysfs_root(const std::string& option);

/// An opened host.
class Host {
  public:
    /// Opens the root or reads the snapshot. Throws SystemError, InputError, UnreachableError.
    explicit Host(const HostLocation& location);
    /// One whose inventory is there already.
    explicit Host(std::shared_ptr<const Inventory> inventory) : snapshot_{std::move(inventory)} {}

    /// Its name and location, without reading anything more.
    [[nodiscard]] ReportHost identity() const;
    /// The UUIDs of its mdevs, sorted.
    [[nodiscard]] std::vector<Uuid> mdevs() const;
    /// What a check of one guest needs; a snapshot gives all it has.
    [[nodiscard]] std::shared_ptr<const Inventory> read_for(const Uuid& mdev,
                                                            const std::vector<Apqn>& queues) const;
    /// Everything.
    [[nodiscard]] std::shared_ptr<const Inventory> read_all() const;

  private:
    std::optional<SysfsRoot> root_;
    std::shared_ptr<const Inventory> snapshot_;
};

/// Where the location is this very host (SysfsRoot::is_real()): adds what its iommufd can, and, where a
/// domain's emulator is given, what that can (host/capabilities.h).
void ask_local_host(const HostLocation& location, const std::string& emulator, Inventory& inventory);

/// Reads of the host what check_live_update() needs, asks it as ask_local_host() does, and judges.
Report check_live_update_at(const DomainXml& domain, const HostLocation& location, bool strict);

/// Reads of both hosts what the check of `guest` needs, and judges its move.
Report check_between(const Guest& guest, const Host& source, const Host& destination,
                     const CheckOptions& options);

}  // namespace vfioap
