// SPDX-License-Identifier: LGPL-2.1-or-later
// What is different between two looks at one host, in words that a signal can carry. Values only.
#pragma once

#include "ap/apqn.h"
#include "ap/mask.h"
#include "ap/uuid.h"
#include "host/inventory.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

enum class ChangeKind : std::uint8_t {
    unreadable,   ///< the host, or a part of it, cannot be read any more
    readable,     ///< the host can be read again; what else changed meanwhile stands beside it
    driver,       ///< the AP bus or the driver vfio_ap came or went
    features,     ///< feature words of the driver, or `migratable` of an mdev
    masks,        ///< `apmask`, `aqmask`
    host_masks,   ///< `ap_adapter_mask`, `ap_usage_domain_mask`, `ap_control_domain_mask`
    available,    ///< `available_instances`
    card,         ///< a card appeared or vanished, or is another one
    card_state,   ///< `config`, `chkstop`, `online` of a card
    queue,        ///< queues appeared or vanished
    queue_state,  ///< `config`, `chkstop` of queues
    binding,      ///< queues have another driver
    mdev_added,
    mdev_removed,
    matrix,           ///< adapters or domains assigned to an mdev
    control_domains,  ///< control domains assigned to an mdev
    guest_matrix,     ///< queues or control domains that the guest of an mdev has
};

/// The name of the enumerator, with hyphens: `guest-matrix`.
std::string_view to_text(ChangeKind kind);

struct Change {
    ChangeKind kind = ChangeKind::readable;
    /// A rule id of compat/rules.h, or `config.changed`; empty where no guest's configuration is touched and
    /// no rule fits.
    std::string_view rule;
    std::vector<Uuid> mdevs;   ///< whose guests' configuration is touched; sorted
    std::vector<Apqn> queues;  ///< concerned, sorted: all of a change of queues, else those of `mdevs`
    Mask domains;              ///< control domains concerned
    std::string detail;        ///< one sentence without a full stop: what it is, before → after
    friend bool operator==(const Change&, const Change&) = default;
};

/// Everything that a service has to tell, in the order of ChangeKind, then by mdev; changes of queues that
/// are the same stand together, those of each mdev apart. Nothing for equal inventories, nor for what differs
/// in `scans` or in attributes that no guest's configuration depends on. Both inventories must be whole.
///
/// Records of ENOENT in Inventory::unreadable are no change: they tell of what vanished while it was read,
/// and the next look tells the rest.
std::vector<Change> changes_between(const Inventory& before, const Inventory& after);

}  // namespace vfioap
