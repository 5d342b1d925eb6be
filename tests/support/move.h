// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest, the host it runs on and the host it is to go to: what a check takes.
#pragma once

#include "compat/check.h"
#include "domain/domain_xml.h"

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/host_builder.h"

namespace vfioap::test {

/// How a guest moves, with the kernels that go with it.
enum class World : std::uint8_t {
    compare,   ///< native, both kernels with patch version v1; queues are reserved by masks
    restore,   ///< native, both kernels with the later patch versions; by driver_override
    detached,  ///< both kernels the newest released ones; by driver_override
};
std::string_view to_text(World world);

/// `left` and `right` have the same three cards; the guest has the queues 05.0004, 05.0047, 06.0004, 06.0047
/// and the control domain 0004, and its mdev is set up on both sides. Everything fits, in every world: a test
/// changes one thing.
struct Move {
    explicit Move(World world);

    HostBuilder::Numbers adapters{5, 6};
    HostBuilder::Numbers domains{4, 0x47};
    HostBuilder::Numbers control_domains{4};
    /// What the mdev at the destination holds.
    struct Assigned {
        HostBuilder::Numbers adapters;
        HostBuilder::Numbers domains;
        HostBuilder::Numbers control_domains;
    };
    std::optional<Assigned> there;       ///< empty: no such mdev; set by the constructor
    std::optional<Assigned> neighbour;   ///< of another mdev at the destination
    HostBuilder::Numbers free{4, 0x47};  ///< domains whose queues are bound to vfio_ap at the destination
    bool in_use_there = false;

    World world;
    HostBuilder source;       ///< without mdevs
    HostBuilder destination;  ///< without mdevs, nothing bound to vfio_ap
    Guest guest;
    CheckOptions options;
    /// The destination is asked with nothing but this, as it is when the guest arrives there.
    std::optional<DomainXml> domain;
    /// What no builder makes.
    std::function<void(Inventory&)> edit_source;
    std::function<void(Inventory&)> edit_destination;

    [[nodiscard]] Inventory left() const;
    [[nodiscard]] Inventory right() const;
    [[nodiscard]] Report report() const;
};

/// The other mdev at the destination.
inline constexpr std::string_view neighbour_mdev = "99999999-8888-7777-6666-555555555555";

/// The check as vfioap-check makes it, of complete inventories.
Report check(const Guest& guest, const Inventory& source, const Inventory& destination,
             const CheckOptions& options);

/// All findings of a rule.
std::vector<Finding> findings_of(const Report& report, RuleId id);

/// A line for each finding, for a failing test.
std::string summary(const Report& report);

/// Edits of single things in an inventory.
Card& card_of(Inventory& host, unsigned apid);
Queue& queue_of(Inventory& host, Apqn apqn);
Mdev& mdev_of(Inventory& host, std::string_view uuid);

}  // namespace vfioap::test
