// SPDX-License-Identifier: LGPL-2.1-or-later
#include "compat/contents.h"

#include <optional>

namespace vfioap {
namespace {

Mask up_to(std::optional<unsigned> most, Mask mask) {
    for (unsigned bit = most.value_or(ap_devices - 1) + 1; bit < ap_devices; ++bit)
        mask.set(bit, false);
    return mask;
}

MdevContents contents_of(const GuestConfiguration& configuration) {
    MdevContents contents;
    for (const auto& queue : configuration.queues) {
        contents.adapters.set(queue.apqn.apid());
        contents.domains.set(queue.apqn.apqi());
    }
    contents.control_domains = configuration.control_domains;
    return contents;
}

}  // namespace

MdevContents wanted_contents(const Source& source, const Inventory& destination) {
    const ApBus bus = destination.ap.value_or(ApBus{});
    const auto contents = contents_of(source.configuration);
    return {up_to(bus.ap_max_adapter_id, contents.adapters), up_to(bus.ap_max_domain_id, contents.domains),
            up_to(bus.ap_max_domain_id, contents.control_domains)};
}

MdevContents superfluous_contents(const Source& source, const Mdev& mdev, const Inventory& destination) {
    if (!source.configuration_known) return {};
    const ApBus bus = destination.ap.value_or(ApBus{});
    const auto contents = contents_of(source.configuration);
    return {(mdev.adapters & bus.ap_adapter_mask.effective()) - contents.adapters,
            (mdev.domains & bus.ap_usage_domain_mask.effective()) - contents.domains,
            {}};
}

}  // namespace vfioap
