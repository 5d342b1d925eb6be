// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ap/configuration.h"

namespace vfioap {

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
