// SPDX-License-Identifier: LGPL-2.1-or-later
// The check itself: may this guest move there? A pure function of values.
#pragma once

#include "ap/configuration.h"
#include "compat/report.h"
#include "host/inventory.h"

#include <optional>
#include <string>
#include <vector>

namespace vfioap {

/// What the check has to know of a guest, from its domain XML.
struct Guest {
    std::string name;
    std::optional<Uuid> uuid;
    std::vector<Uuid> mdevs;        ///< of its vfio-ap hostdevs, in document order
    bool secure_execution = false;  ///< `<launchSecurity type='s390-pv'/>`
};

/// One of which nothing is known but its mdev, which stands for its name.
Guest guest_with(const Uuid& mdev);

/// What the check has to know of the source: the guest's configuration there, and what its kernel and QEMU
/// can.
struct Source {
    ReportHost host;
    GuestConfiguration configuration;
    /// False: the configuration is not whole, so that nothing can be said of what is not in it.
    bool configuration_known = true;
    bool control_domains_known = true;
    /// The layout of the migration stream, where nothing else is known of the source.
    std::optional<std::string> stream;
    std::optional<bool> kernel_migrates;
    std::optional<bool> qemu_migrates;
    bool has_migratable = false;          ///< its mdevs have the attribute of patch version v1
    std::optional<bool> mdev_migratable;  ///< the value of that attribute
    bool secure_execution = false;        ///< the host is itself a Secure Execution guest
    /// How the guest is on its way already; decides where no mode is asked for.
    std::optional<Mode> mode;
    std::vector<Finding> findings;  ///< what was found wrong while it was described
};

struct CheckOptions {
    Mode mode = Mode::automatic;
    Profile profile = Profile::automatic;
    /// Warnings become errors.
    bool strict = false;
    /// The guest that has the mdev at the destination is this one, on its way in.
    bool incoming = false;
    /// The guest's mdev is made at the destination when the guest comes: that it is missing is a warning.
    bool mdev_on_demand = false;
};

/// Describes the source of a guest's move from the inventory of its host, complete or as SysfsRoot::read_for
/// gives it.
Source describe_source(const Guest& guest, const Inventory& inventory);

/// True: an error of this rule says that something is not known, not that something is wrong.
bool leaves_undetermined(RuleId rule);

/// Judges the move. `destination` must hold the source's queues and those assigned to the guest's mdev there.
/// Every reason is found, none hides another; rules: Documentation/arch/s390/vfio-ap.rst, chapter on live
/// guest migration, as the patch series s390/vfio-ap "Add live guest migration support" has it (v1–v4 and
/// later states).
Report check(const Guest& guest, const Source& source, const Inventory& destination,
             const CheckOptions& options);

}  // namespace vfioap
