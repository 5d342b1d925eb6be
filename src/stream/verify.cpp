// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stream/verify.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace vfioap {

Source describe_stream(const StreamReader& stream, ReportHost host) {
    Source source;
    source.host = std::move(host);
    source.stream = std::string{to_text(stream.layout())};
    source.configuration = stream.configuration();
    source.control_domains_known = stream.control_domains().has_value();
    // Somebody wrote it.
    source.kernel_migrates = true;
    source.qemu_migrates = true;
    source.has_migratable = stream.layout() == Layout::l1;
    return source;
}

MdevContents restored_contents(const StreamReader& stream) {
    MdevContents contents;
    for (std::size_t i = 0; i < stream.queue_count(); ++i) {
        const auto apqn = stream.queue(i).apqn;
        contents.adapters.set(apqn.apid());
        contents.domains.set(apqn.apqi());
    }
    contents.control_domains = stream.control_domains().value_or(Mask{});
    return contents;
}

int driver_errno(const Report& report) {
    if (report.verdict == Verdict::compatible) return 0;
    if (report.prediction.error) return *report.prediction.error;
    if (report.verdict == Verdict::undetermined) return EIO;
    const auto has = [&report](RuleId id) {
        return std::any_of(report.findings.begin(), report.findings.end(), [id](const Finding& finding) {
            return finding.rule == id && finding.severity == Severity::error;
        });
    };
    if (has(RuleId::mdev_missing) || has(RuleId::kernel_no_vfio_ap)) return ENODEV;
    return has(RuleId::mdev_in_use) ? EBUSY : EINVAL;
}

}  // namespace vfioap
