// SPDX-License-Identifier: LGPL-2.1-or-later
// The source of a guest's move, from the inventory of its host.
#include "compat/check.h"
#include "compat/findings.h"
#include "compat/remedies.h"
#include "compat/unreadable.h"
#include "host/guest_matrix.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace vfioap {

Guest guest_with(const Uuid& mdev) {
    Guest guest;
    guest.name = mdev.to_string();
    guest.mdevs = {mdev};
    return guest;
}

Source describe_source(const Guest& guest, const Inventory& inventory) {
    Source source;
    source.host = {inventory.name, inventory.location};
    source.kernel_migrates = inventory.kernel_migrates();
    source.qemu_migrates = inventory.qemu_migrates();
    source.has_migratable = std::any_of(inventory.mdevs.begin(), inventory.mdevs.end(),
                                        [](const Mdev& mdev) { return mdev.migratable.has_value(); });
    source.secure_execution = inventory.prot_virt_guest.value_or(false);
    if (guest.mdevs.empty()) return source;
    const auto& uuid = guest.mdevs.front();
    const auto add = [&source](RuleId id, Severity severity, std::string message) -> Finding& {
        source.findings.push_back(make_finding(id, severity, Side::source, std::move(message)));
        return source.findings.back();
    };
    if (!inventory.vfio_ap) source.findings.push_back(driver_missing(inventory, Side::source));
    const Mdev* const mdev = inventory.find_mdev(uuid);
    std::vector<Apqn> queues;
    std::vector<Apqn> unknown;
    if (mdev == nullptr) {
        source.configuration_known = false;
        auto& finding = add(RuleId::mdev_missing, Severity::error,
                            fmt::format("{} has no mdev {}: the guest's configuration is not known",
                                        inventory.name, uuid.to_string()));
        finding.remedies =
            advise(Side::source, "check on the host where the guest runs, or name it with --source");
    } else {
        source.mdev_migratable = mdev->migratable;
        auto matrix = guest_matrix_of(inventory, *mdev);
        queues = std::move(matrix.queues);
        source.configuration.control_domains = matrix.control_domains;
        source.configuration.queues.reserve(queues.size());
        source.configuration_known =
            matrix.origin != GuestMatrix::Origin::unknown && mdev->control_domains.has_value();
        for (const auto apqn : queues) {
            GuestQueue entry{apqn, {}, nullptr};
            if (const Queue* const queue = inventory.find_queue(apqn)) {
                entry.hwinfo = hwinfo_of(*queue, inventory.find_card(apqn.apid()));
                if (const auto* const keys = queue->mkvps()) entry.master_keys = {queue->detail, keys};
            }
            if (!entry.hwinfo) unknown.push_back(apqn);
            source.configuration.queues.push_back(std::move(entry));
        }
        if (matrix.origin == GuestMatrix::Origin::rebuilt) {
            add(RuleId::config_truncated, Severity::info,
                fmt::format("{}: guest_matrix fills its page and was made again from ap_config: {}",
                            inventory.name, count_of(queues.size())));
        } else if (matrix.origin == GuestMatrix::Origin::unknown && mdev->guest_matrix_truncated()) {
            auto& finding = add(
                RuleId::config_truncated, Severity::error,
                fmt::format("{}: guest_matrix of mdev {} fills one page and there is no ap_config to make it "
                            "from: the guest may have more than {} queues",
                            inventory.name, uuid.to_string(), queues.size()));
            finding.remedies = advise(Side::source, "use a kernel with the vfio_ap feature ap_config");
        }
        for (const auto& adapter : matrix.filtered) {
            add(RuleId::config_filtered, Severity::info,
                fmt::format("{}: adapter {} is assigned but the guest has not got it: {}", inventory.name,
                            adapter_text(adapter.apid), to_text(adapter)));
        }
    }
    // Which mode is chosen later makes no difference to what is needed here but for `features`; the check of
    // native migration asks for that itself.
    add_unreadable(inventory, Side::source, {uuid, queues, true, Mode::detached}, std::move(unknown),
                   source.findings);
    return source;
}

}  // namespace vfioap
