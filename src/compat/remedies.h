// SPDX-License-Identifier: LGPL-2.1-or-later
// Remedies with the real numbers filled in, for the mechanism that the host really uses.
#pragma once

#include "ap/configuration.h"
#include "compat/report.h"
#include "host/inventory.h"

#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// How a host keeps queues for its guests.
enum class Reservation : std::uint8_t { masks, driver_override };

/// driver_override where one is in use, else the masks. With both masks all ones no queue can be bound to
/// vfio_ap but by an override, and with a mask not all ones the kernel refuses overrides (s390/ap: Restrict
/// driver_override versus apmask and aqmask use).
Reservation reservation_of(const Inventory& inventory);

/// One write to an attribute; `path` relative to the sysfs root. What remedies and plans are made of.
struct SysfsWrite {
    std::string path;
    std::string value;  ///< without the newline
    friend bool operator==(const SysfsWrite&, const SysfsWrite&) = default;
};
/// `echo VALUE > /sys/PATH`
std::string command_of(const SysfsWrite& write);

/// Whether the masks leave a queue to vfio_ap: its adapter's bit or its domain's is 0.
bool left_to_vfio_ap(const ApBus& bus, Apqn apqn);

/// How queues that both masks reserve for the host come to vfio_ap.
struct MaskChange {
    bool by_adapter = false;   ///< in apmask; else in aqmask
    Mask cleared;              ///< adapters, or domains
    std::vector<Apqn> others;  ///< sorted; queues that the host's own drivers lose beyond those wanted
    [[nodiscard]] std::string_view attribute() const;
    [[nodiscard]] SysfsWrite write() const;
    [[nodiscard]] std::string persistent_command() const;
    [[nodiscard]] std::string text() const;  ///< `leave domain 0004 to vfio_ap`
};
/// By adapter or by domain, whichever takes fewer other queues from the host. `queues` sorted.
MaskChange mask_change(const ApBus& bus, const std::vector<Apqn>& queues);

/// Looks for a driver for a queue that has none.
SysfsWrite probe_write(Apqn apqn);
/// Gives one queue to vfio_ap by driver_override, and the persistent form.
std::vector<SysfsWrite> override_writes(const Inventory& inventory, Apqn apqn);
std::string override_command(Apqn apqn);

SysfsWrite create_write(const Uuid& uuid);
/// mdevctl keeps the mdev as it is then; a definition that is there is replaced.
std::vector<std::string> define_commands(const Uuid& uuid);
/// Takes `extra` from an mdev and then assigns `missing`, one write each; for many everything is set at once
/// to `whole` through `ap_config`. Null: that is not known, or the kernel has no `ap_config`.
std::vector<SysfsWrite> content_writes(const Uuid& uuid, const MdevContents& extra,
                                       const MdevContents& missing, const MdevContents* whole);
/// What `owner` has to lose for `queues`, which are assigned to it, to be free: adapters or domains,
/// whichever takes less from it.
MdevContents to_take_from(const Mdev& owner, const std::vector<Apqn>& queues);
/// `adapters 05 06, domain 0004 and control domain 0004`; empty for nothing.
std::string contents_text(const MdevContents& contents);

/// Loads the driver, now and at boot.
std::vector<Remedy> load_driver(Side side);

/// Binds queues that exist to vfio_ap. `queues` sorted, not empty. The masks are changed by adapter or by
/// domain, whichever takes fewer other queues from the host; how many it takes is said.
std::vector<Remedy> bind_queues(const Inventory& inventory, const std::vector<Apqn>& queues);

/// Creates the guest's mdev and assigns `contents`: one write each, or for many all at once through
/// `ap_config` where the host's kernel has it.
std::vector<Remedy> create_mdev(const Inventory& inventory, const Uuid& uuid, const MdevContents& contents);

/// Assigns `missing` to the guest's mdev, or takes `extra` from it, one write each. For many, and where the
/// kernel has `ap_config`, everything is set at once to `whole`, so that remedies of several findings neither
/// depend on each other's order nor undo each other; null: that is not known.
std::vector<Remedy> assign(const Mdev& mdev, const MdevContents& missing, const MdevContents* whole);
std::vector<Remedy> unassign(const Mdev& mdev, const MdevContents& extra, const MdevContents* whole);
/// Both: first away with what may stand in the way of what is missing.
std::vector<Remedy> exchange(const Mdev& mdev, const MdevContents& extra, const MdevContents& missing,
                             const MdevContents* whole);

/// Frees `queues`, which are assigned to `owner`, by adapter or by domain, whichever takes less from it.
std::vector<Remedy> take_from(const Mdev& owner, const std::vector<Apqn>& queues);

/// What has to be done for queues that do not exist: at the HMC, or configuring the card.
std::vector<Remedy> provide_queues(const Inventory& inventory, const std::vector<Apqn>& queues);

/// Configures the cards of `queues`.
std::vector<Remedy> configure_cards(const Inventory& inventory, const std::vector<Apqn>& queues);

/// Allows migration through the attribute `migratable` of patch version v1.
std::vector<Remedy> allow_migration(const Uuid& uuid);

/// One sentence without a command.
std::vector<Remedy> advise(Side side, std::string text);

}  // namespace vfioap
