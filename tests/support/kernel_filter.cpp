// SPDX-License-Identifier: LGPL-2.1-or-later
#include "support/kernel_filter.h"

#include <bitset>

namespace vfioap::test {
namespace {

/// What the driver has of a mask of QCI. On a machine without QCI its copy stays as it was allocated, all
/// zeros (vfio_ap_drv.c, vfio_ap_matrix_dev_create); one that sysfs does not show is as wide as it can be.
Mask machine_mask(const HostMask& mask) {
    switch (mask.state) {
        case HostMask::State::value:
            return mask.mask;
        case HostMask::State::not_supported:
            return {};
        case HostMask::State::absent:
            break;
    }
    return Mask::all();
}

}  // namespace

std::vector<Apqn> GuestMasks::queues() const {
    std::vector<Apqn> all;
    for (const auto apid : adapters.bits()) {
        for (const auto apqi : domains.bits())
            all.emplace_back(apid, apqi);
    }
    return all;
}

std::vector<Apqn> GuestMasks::guest_matrix() const {
    auto lines = queues();
    if (lines.size() > guest_matrix_page) lines.resize(guest_matrix_page);
    return lines;
}

GuestMasks guest_masks(const Inventory& host, const Mdev& mdev, const std::set<Apqn>& failed_resets) {
    std::bitset<ap_queues> good;
    for (const auto& queue : host.queues) {
        if (queue.driver == "vfio_ap") good.set(queue.apqn.number());
    }
    for (const auto apqn : failed_resets)
        good.reset(apqn.number());

    GuestMasks masks{mdev.adapters, mdev.domains, mdev.control_domains.value_or(Mask{})};
    if (host.ap) {
        masks.adapters = masks.adapters & machine_mask(host.ap->ap_adapter_mask);
        masks.domains = masks.domains & machine_mask(host.ap->ap_usage_domain_mask);
        masks.control_domains = masks.control_domains & machine_mask(host.ap->ap_control_domain_mask);
    }
    const auto domains = masks.domains.bits();
    for (const auto apid : masks.adapters.bits()) {
        for (const auto apqi : domains) {
            if (!good.test(Apqn{apid, apqi}.number())) masks.adapters.set(apid, false);
        }
    }
    return masks;
}

}  // namespace vfioap::test
