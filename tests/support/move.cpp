// SPDX-License-Identifier: LGPL-2.1-or-later
#include "support/move.h"

#include "compat/state.h"

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>

#include "support/example_hosts.h"

namespace vfioap::test {
namespace {

HostBuilder hardware(const std::string& name, World world) {
    HostBuilder host{name};
    host.z16().qemu("12.0.0", true);
    host.kernel(world == World::compare   ? Kernel::series_v1
                : world == World::restore ? Kernel::restore
                                          : Kernel::newest);
    host.card(5, "CEX8C").card(6, "CEX8P").card(7, "CEX8A").domains({4, 0x47});
    return host.master_keys(5, cca_keys(5)).master_keys(6, ep11_keys(6));
}

/// By masks or by overrides, as the kernel of the world has it.
void reserve(HostBuilder& host, World world, const Inventory& plain, const HostBuilder::Numbers& domains) {
    if (world == World::compare) {
        // Version v1 says so not only by the attribute of its mdevs.
        host.feature(std::string{feature_migratable});
        host.free_domains(domains);
        return;
    }
    for (const auto& queue : plain.queues) {
        if (std::find(domains.begin(), domains.end(), queue.apqn.apqi()) != domains.end())
            host.bind_to_vfio_ap(queue.apqn);
    }
}

template <typename Items, typename Same>
auto& find_same(Items& items, Same same) {
    const auto found = std::find_if(items.begin(), items.end(), same);
    if (found == items.end()) throw std::logic_error{"there is no such thing to edit"};
    return *found;
}

}  // namespace

std::string_view to_text(World world) {
    switch (world) {
        case World::compare:
            return "compare";
        case World::restore:
            return "restore";
        case World::detached:
            break;
    }
    return "detached";
}

Move::Move(World w)
    : there{Assigned{adapters, domains, control_domains}},
      world{w},
      source{hardware("left", w)},
      destination{hardware("right", w)} {
    guest.name = "guest1";
    guest.mdevs = {uuid(example_mdev)};
    options.mode = w == World::detached ? Mode::detached : Mode::native;
    options.profile = w == World::compare ? Profile::compare : Profile::restore;
}

Inventory Move::left() const {
    auto builder = source;
    reserve(builder, world, source.build(), domains);
    builder.mdev(example_mdev).assign(adapters, domains, control_domains).in_use();
    if (world == World::compare) builder.migratable(true);
    auto host = builder.build();
    host.location = "test:left";
    if (edit_source) edit_source(host);
    host.sort();
    return host;
}

Inventory Move::right() const {
    auto builder = destination;
    const auto plain = destination.build();
    if (plain.vfio_ap) reserve(builder, world, plain, free);
    if (there) {
        builder.mdev(example_mdev).assign(there->adapters, there->domains, there->control_domains);
        if (in_use_there) builder.in_use();
        if (world == World::compare) builder.migratable(true);
    }
    if (neighbour) {
        builder.mdev(neighbour_mdev)
            .assign(neighbour->adapters, neighbour->domains, neighbour->control_domains);
    }
    auto host = builder.build();
    host.location = "test:right";
    if (edit_destination) edit_destination(host);
    host.sort();
    return host;
}

Report Move::report() const {
    if (domain) return vfioap::check(guest_of(*domain), describe_state(*domain, true), right(), options);
    return check(guest, left(), right(), options);
}

Report check(const Guest& guest, const Inventory& source, const Inventory& destination,
             const CheckOptions& options) {
    return vfioap::check(guest, describe_source(guest, source), destination, options);
}

std::vector<Finding> findings_of(const Report& report, RuleId id) {
    std::vector<Finding> found;
    std::copy_if(report.findings.begin(), report.findings.end(), std::back_inserter(found),
                 [id](const Finding& finding) { return finding.rule == id; });
    return found;
}

std::string summary(const Report& report) {
    std::string text = fmt::format("{}\n", to_text(report.verdict));
    for (const auto& finding : report.findings) {
        text += fmt::format("  {} {} at {}: {}\n", to_text(finding.severity), rule(finding.rule).name,
                            to_text(finding.host), finding.message);
    }
    return text;
}

Card& card_of(Inventory& host, unsigned apid) {
    return find_same(host.cards, [apid](const Card& card) { return card.apid == apid; });
}
Queue& queue_of(Inventory& host, Apqn apqn) {
    return find_same(host.queues, [apqn](const Queue& queue) { return queue.apqn == apqn; });
}
Mdev& mdev_of(Inventory& host, std::string_view name) {
    return find_same(host.mdevs, [id = uuid(name)](const Mdev& mdev) { return mdev.uuid == id; });
}

}  // namespace vfioap::test
