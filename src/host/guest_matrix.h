// SPDX-License-Identifier: LGPL-2.1-or-later
// What a guest gets through its mdev, and why it gets less than was assigned.
#pragma once

#include "host/inventory.h"

#include <string>
#include <vector>

namespace vfioap {

/// An adapter that is assigned to an mdev and yet not passed through, none of its queues being so.
struct FilteredAdapter {
    enum class Reason : std::uint8_t {
        not_in_host,      ///< the host has not got the adapter, or none of the domains
        queue_missing,    ///< a queue of the adapter does not exist
        queue_not_bound,  ///< a queue of the adapter is not bound to vfio_ap
        unknown,          ///< everything looks right: a failed reset, or a change under way
    };
    std::uint8_t apid = 0;
    Reason reason = Reason::unknown;
    std::vector<Apqn> culprits;  ///< the queues that are missing or not bound
};

/// Why, as the end of a sentence: `queue 06.0047 is not bound to vfio_ap`.
std::string to_text(const FilteredAdapter& adapter);

/// The matrix that a guest really has.
struct GuestMatrix {
    enum class Origin : std::uint8_t {
        read,      ///< `guest_matrix` as the kernel printed it
        rebuilt,   ///< it filled its page: made again from `ap_config` by the filter rule
        computed,  ///< the kernel has no `guest_matrix`: made by the filter rule
        unknown,   ///< it filled its page, or is not there, and there is nothing whole to make it from
    };
    Origin origin = Origin::read;
    std::vector<Apqn> queues;  ///< sorted
    Mask control_domains;
    std::vector<FilteredAdapter> filtered;  ///< by adapter; empty for Origin::unknown
};

/// The guest's matrix by the rule of kernel vfio_ap_ops.c, vfio_ap_mdev_filter_matrix: assigned ∩ what the
/// host has; then an adapter of which any remaining queue is missing or not bound to vfio_ap goes entirely.
/// Control domains: assigned ∩ `ap_control_domain_mask`. `inventory` must hold the queues that are assigned
/// to `mdev`.
GuestMatrix guest_matrix_of(const Inventory& inventory, const Mdev& mdev);

}  // namespace vfioap
