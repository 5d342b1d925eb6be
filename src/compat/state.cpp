// SPDX-License-Identifier: LGPL-2.1-or-later
#include "compat/state.h"

#include "ap/error.h"
#include "compat/findings.h"
#include "compat/remedies.h"
#include "host/guest_matrix.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace vfioap {
namespace {

/// What is wrong with the state of a guest that has an mdev; empty: nothing.
std::string fault_of(const DomainXml& domain, const Uuid& mdev) {
    if (!domain.state_error.empty())
        return fmt::format("the state in the metadata of guest {} cannot be read: {}", domain.name,
                           domain.state_error);
    if (!domain.state)
        return fmt::format(
            "guest {} has a vfio-ap device and no state in its metadata: what it has on the "
            "source is not known",
            domain.name);
    if (domain.state->mdev != mdev)
        return fmt::format("the state in the metadata of guest {} is of mdev {}, not of its mdev {}",
                           domain.name, domain.state->mdev.to_string(), mdev.to_string());
    return {};
}

}  // namespace

DomainState state_of(const Inventory& inventory, const Uuid& uuid) {
    const auto object = "mdev " + uuid.to_string();
    const Mdev* const mdev = inventory.find_mdev(uuid);
    if (mdev == nullptr) throw InputError{object, fmt::format("is not there on {}", inventory.name)};
    const auto matrix = guest_matrix_of(inventory, *mdev);
    if (matrix.origin == GuestMatrix::Origin::unknown || !mdev->control_domains)
        throw InputError{object,
                         fmt::format("what the guest has of it on {} cannot be read whole", inventory.name)};
    DomainState state{uuid, inventory.name, "l3", false, {}};
    if (std::any_of(inventory.mdevs.begin(), inventory.mdevs.end(),
                    [](const Mdev& other) { return other.migratable.has_value(); }))
        state.layout = "l1";
    state.configuration.control_domains = matrix.control_domains;
    state.configuration.queues.reserve(matrix.queues.size());
    for (const auto apqn : matrix.queues) {
        GuestQueue entry{apqn, {}, nullptr};
        if (const Queue* const queue = inventory.find_queue(apqn)) {
            entry.hwinfo = hwinfo_of(*queue, inventory.find_card(apqn.apid()));
            if (const auto* const keys = queue->mkvps()) entry.master_keys = {queue->detail, keys};
        }
        state.configuration.queues.push_back(std::move(entry));
    }
    return state;
}

Guest guest_of(const DomainXml& domain) {
    Guest guest;
    guest.name = domain.name;
    guest.uuid = domain.uuid;
    guest.secure_execution = domain.secure_execution;
    for (const auto& hostdev : domain.vfio_ap)
        guest.mdevs.push_back(hostdev.mdev);
    if (guest.mdevs.empty() && domain.state && domain.state->detached)
        guest.mdevs.push_back(domain.state->mdev);
    return guest;
}

Source describe_state(const DomainXml& domain, bool arriving) {
    Source source;
    source.host = {"the source host", "state:"};
    if (domain.state) source.host = {domain.state->host, "state:" + domain.state->host};
    const bool attached = !domain.vfio_ap.empty();
    if (arriving && attached) {
        source.kernel_migrates = true;
        source.qemu_migrates = true;
        source.mode = Mode::native;
    } else if (!attached) {
        source.mode = Mode::detached;
    }
    const auto guest = guest_of(domain);
    if (guest.mdevs.empty()) return source;
    const auto add = [&source](RuleId id, std::string message, std::string remedy) -> Finding& {
        auto& finding = source.findings.emplace_back(
            make_finding(id, rule(id).native.value_or(Severity::error), Side::source, std::move(message)));
        finding.remedies = advise(Side::source, std::move(remedy));
        return finding;
    };
    if (auto fault = fault_of(domain, guest.mdevs.front()); !fault.empty()) {
        source.configuration_known = false;
        add(RuleId::guest_state_missing, std::move(fault),
            "have vfioapd run on the host where the guest runs: it keeps the state there");
        return source;
    }
    source.has_migratable = domain.state->layout == "l1";
    source.configuration = domain.state->configuration;
    std::vector<Apqn> unknown;
    for (const auto& queue : source.configuration.queues) {
        if (!queue.hwinfo) unknown.push_back(queue.apqn);
    }
    if (!unknown.empty()) {
        auto& finding = add(RuleId::host_unreadable,
                            fmt::format("{}: the hardware of {} was not known when the state was written",
                                        source.host.name, count_of(unknown.size())),
                            "look into the log of vfioapd on the host where the guest runs");
        finding.queues = std::move(unknown);
    }
    return source;
}

}  // namespace vfioap
