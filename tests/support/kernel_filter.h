// SPDX-License-Identifier: LGPL-2.1-or-later
// What the kernel lets a guest have of what its mdev was assigned. Written from the kernel's rules alone and
// without a line of src/host/guest_matrix, so that the two can be held against each other.
#pragma once

#include "host/inventory.h"

#include <cstddef>
#include <set>
#include <vector>

namespace vfioap::test {

/// Lines of `guest_matrix` that the kernel prints: as many as fit its page.
inline constexpr std::size_t guest_matrix_page = 512;

/// The masks that the kernel gives to the machine for a guest (`shadow_apcb` of the driver): the guest has
/// every queue whose adapter and whose domain are in them.
struct GuestMasks {
    Mask adapters;
    Mask domains;
    Mask control_domains;

    [[nodiscard]] bool has(Apqn apqn) const {
        return adapters.test(apqn.apid()) && domains.test(apqn.apqi());
    }
    /// All of them, sorted.
    [[nodiscard]] std::vector<Apqn> queues() const;
    /// The lines of the attribute `guest_matrix`: the queues as far as they fit its page.
    [[nodiscard]] std::vector<Apqn> guest_matrix() const;
};

/// Kernel drivers/s390/crypto/vfio_ap_ops.c, vfio_ap_mdev_filter_matrix and vfio_ap_mdev_filter_cdoms. The
/// masks are those that are assigned and that the machine gives this Linux (QCI). An adapter that has one
/// queue in them which vfio_ap has not got, or which could not be reset (`failed_resets`), is taken out
/// whole: the machine knows no guest with a hole in its matrix.
GuestMasks guest_masks(const Inventory& host, const Mdev& mdev, const std::set<Apqn>& failed_resets = {});

}  // namespace vfioap::test
