// SPDX-License-Identifier: LGPL-2.1-or-later
#include "compat/findings.h"

#include "compat/remedies.h"

#include <utility>

#include <fmt/format.h>

namespace vfioap {

Finding make_finding(RuleId id, Severity severity, Side host, std::string message) {
    Finding finding;
    finding.rule = id;
    finding.severity = severity;
    finding.host = host;
    finding.message = std::move(message);
    return finding;
}

std::string count_of(std::size_t count) {
    return fmt::format("{} queue{}", count, count == 1 ? "" : "s");
}

std::string queues_are(std::size_t count, std::string_view singular, std::string_view plural) {
    return fmt::format("{} {}", count_of(count), count == 1 ? singular : plural);
}

Finding driver_missing(const Inventory& host, Side side) {
    if (!host.ap) {
        auto finding = make_finding(RuleId::kernel_no_vfio_ap, Severity::error, side,
                                    fmt::format("{} has no AP bus", host.name));
        finding.remedies =
            advise(side, "assign crypto adapters and domains to the LPAR at the HMC, and load the ap module");
        return finding;
    }
    auto finding = make_finding(RuleId::kernel_no_vfio_ap, Severity::error, side,
                                fmt::format("{} has not loaded the vfio_ap driver", host.name));
    finding.remedies = load_driver(side);
    return finding;
}

}  // namespace vfioap
