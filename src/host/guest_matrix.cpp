// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/guest_matrix.h"

#include <algorithm>

namespace vfioap {
namespace {

/// The filter rule, adapter by adapter. `filtered` gets what falls out.
std::vector<Apqn> filter(const Inventory& inventory, const Mdev& mdev,
                         std::vector<FilteredAdapter>& filtered) {
    const ApBus bus = inventory.ap.value_or(ApBus{});
    const auto adapters = mdev.adapters & bus.ap_adapter_mask.effective();
    const auto domains = (mdev.domains & bus.ap_usage_domain_mask.effective()).bits();
    std::vector<Apqn> queues(std::size_t{adapters.count()} * domains.size());
    Apqn* out = queues.data();
    // Both are sorted, so that they are gone through side by side.
    const Queue* next = inventory.queues.data();
    const Queue* const last = next + inventory.queues.size();
    for (const auto apid : mdev.adapters.bits()) {
        FilteredAdapter adapter;
        adapter.apid = apid;
        if (!adapters.test(apid) || domains.empty()) {
            adapter.reason = FilteredAdapter::Reason::not_in_host;
            if (!mdev.domains.none()) filtered.push_back(std::move(adapter));
            continue;
        }
        Apqn* const first = out;
        for (const auto apqi : domains) {
            const Apqn apqn{apid, apqi};
            *out++ = apqn;
            while (next != last && next->apqn < apqn)
                ++next;
            const bool missing = next == last || next->apqn != apqn;
            if (!missing && next->bound_to_vfio_ap()) continue;
            // A missing queue outranks an unbound one: binding what is there would not be enough.
            if (missing) {
                adapter.reason = FilteredAdapter::Reason::queue_missing;
            } else if (adapter.reason != FilteredAdapter::Reason::queue_missing) {
                adapter.reason = FilteredAdapter::Reason::queue_not_bound;
            }
            adapter.culprits.push_back(apqn);
        }
        if (adapter.culprits.empty()) continue;
        out = first;
        filtered.push_back(std::move(adapter));
    }
    queues.resize(static_cast<std::size_t>(out - queues.data()));
    return queues;
}

bool has_adapter(const std::vector<Apqn>& queues, unsigned apid) {
    const auto first =
        std::lower_bound(queues.begin(), queues.end(), Apqn{static_cast<std::uint8_t>(apid), 0});
    return first != queues.end() && first->apid() == apid;
}

}  // namespace

std::string to_text(const FilteredAdapter& adapter) {
    switch (adapter.reason) {
        case FilteredAdapter::Reason::not_in_host:
            return "the host has not got it";
        case FilteredAdapter::Reason::queue_missing:
            return "queue " + adapter.culprits.front().to_string() + " does not exist";
        case FilteredAdapter::Reason::queue_not_bound:
            return "queue " + adapter.culprits.front().to_string() + " is not bound to vfio_ap";
        case FilteredAdapter::Reason::unknown:
            break;
    }
    return "the kernel gives no reason; a queue may have failed its reset";
}

GuestMatrix guest_matrix_of(const Inventory& inventory, const Mdev& mdev) {
    GuestMatrix result;
    const ApBus bus = inventory.ap.value_or(ApBus{});
    result.control_domains = mdev.control_domains.value_or(Mask{}) & bus.ap_control_domain_mask.effective();

    std::vector<FilteredAdapter> filtered;
    auto computed = filter(inventory, mdev, filtered);
    if (mdev.guest_matrix && !mdev.guest_matrix_truncated()) {
        result.origin = GuestMatrix::Origin::read;
        result.queues = *mdev.guest_matrix;
        // The kernel's word counts; the rule explains it. Where the two differ, the reason is one sysfs does
        // not show.
        std::erase_if(filtered, [&](const FilteredAdapter& adapter) {
            return has_adapter(result.queues, adapter.apid);
        });
        for (const auto& apqn : computed) {
            if (has_adapter(result.queues, apqn.apid())) continue;
            if (filtered.empty() || filtered.back().apid != apqn.apid()) {
                filtered.push_back({apqn.apid(), FilteredAdapter::Reason::unknown, {}});
            }
        }
        std::sort(filtered.begin(), filtered.end(),
                  [](const FilteredAdapter& a, const FilteredAdapter& b) { return a.apid < b.apid; });
        result.filtered = std::move(filtered);
        return result;
    }
    const bool unreadable = inventory.find_unreadable(mdev_path(mdev.uuid) + "/guest_matrix") != nullptr;
    if (mdev.matrix_truncated || unreadable) {
        result.origin = GuestMatrix::Origin::unknown;
        result.queues = mdev.guest_matrix.value_or(std::vector<Apqn>{});
        return result;
    }
    result.origin = mdev.guest_matrix ? GuestMatrix::Origin::rebuilt : GuestMatrix::Origin::computed;
    result.queues = std::move(computed);
    result.filtered = std::move(filtered);
    return result;
}

}  // namespace vfioap
