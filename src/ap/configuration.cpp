// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ap/configuration.h"

#include <array>

namespace vfioap {

std::optional<MdevContents> MdevContents::parse(std::string_view text) {
    std::array<std::optional<Mask>, 3> masks;
    for (std::size_t i = 0; i < 3; ++i) {
        const auto comma = text.find(',');
        if ((comma == std::string_view::npos) != (i == 2)) return {};
        masks[i] = Mask::parse(text.substr(0, comma));
        if (!masks[i]) return {};
        text.remove_prefix(i == 2 ? text.size() : comma + 1);
    }
    return MdevContents{*masks[0], *masks[1], *masks[2]};
}

std::string MdevContents::to_string() const {
    return adapters.to_string() + ',' + domains.to_string() + ',' + control_domains.to_string();
}

std::vector<Apqn> apqns_of(const GuestConfiguration& configuration) {
    std::vector<Apqn> queues;
    queues.reserve(configuration.queues.size());
    for (const auto& queue : configuration.queues)
        queues.push_back(queue.apqn);
    return queues;
}

Mask adapters_of(const std::vector<Apqn>& queues) {
    Mask mask;
    for (const auto apqn : queues)
        mask.set(apqn.apid());
    return mask;
}

Mask domains_of(const std::vector<Apqn>& queues) {
    Mask mask;
    for (const auto apqn : queues)
        mask.set(apqn.apqi());
    return mask;
}

}  // namespace vfioap
