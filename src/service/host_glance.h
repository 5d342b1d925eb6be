// SPDX-License-Identifier: LGPL-2.1-or-later
// Whether a host looks as it did: cheap enough for every second, exact enough to miss nothing.
#pragma once

#include "ap/apqn.h"
#include "ap/mask.h"
#include "host/inventory.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace vfioap {

/// What was seen of a sysfs root last time, as far as it can change: a number for the text of each attribute,
/// a bit for each queue that vfio_ap has. Nothing is parsed, and nothing allocated while nothing changes.
///
/// Every attribute is opened each time. A descriptor that stays open would save two of three system calls,
/// but it would show the old text where a file was replaced, and there are as many as a process may have.
///
/// Never read: what costs more than I/O (domain facts: `ap_functions` and `status` of queues, `mkvps`,
/// `serialnr`, `op_modes`). Not compared either: `scans`, which grows by itself, what a kernel never changes
/// while it runs, and of queues that belong to no mdev all but their driver.
class HostGlance {
  public:
    struct Scope {
        /// Also the driver's directory, cards and queues; without it, mdevs and the bus alone, and all of it
        /// only once the bus has been scanned again (`scans`).
        bool everything = true;
        /// Also `matrix` and `guest_matrix` of mdevs that have `ap_config`: these two take a lock that a
        /// reset of a guest's queues holds, that one takes none (vfio_ap_ops.c: matrix_show, ap_config_show).
        bool locked = true;
    };
    struct Difference {
        bool any = false;
        Mask adapters;  ///< of which cards or queues look different
    };

    HostGlance();

    /// Looks below the directory `root`. What looks different is so only once: the next look compares with
    /// this one. The first says that everything is.
    Difference look(int root, Scope scope);

    /// The host as it was read; must stay until the next call. The states of queues are compared with it, as
    /// far as they belong to mdevs: so many of them at each look, all of them after a scan of the bus.
    void expect(const Inventory& inventory);
    static constexpr std::size_t queues_per_look = 512;

    /// Whether the last look saw a bus, a card or an mdev that is not in there.
    [[nodiscard]] bool saw_more(const Inventory& inventory) const;

    /// The next look is a first one again.
    void forget() { first_ = true; }

  private:
    using Print = std::uint64_t;  ///< of an attribute's text, or of the error that reading it gave
    static constexpr std::size_t host_attributes = 14;

    struct CardSeen {
        Print directory = 0;  ///< 0: there is no such card
        Print state = 0;
        friend bool operator==(const CardSeen&, const CardSeen&) = default;
    };
    struct MdevSeen {
        std::array<char, 36> uuid{};
        Print config = 0;    ///< `ap_config`: of a `matrix` that fills its page, all there is to see
        Print assigned = 0;  ///< `matrix`
        Print guest = 0;     ///< `guest_matrix`
        Print rest = 0;      ///< `control_domains`, `migratable`
        friend bool operator==(const MdevSeen&, const MdevSeen&) = default;
    };

    bool look_at_host(int root);
    bool look_at_mdevs(int root, bool locked);
    static void look_at_mdev(int parent, MdevSeen& seen, bool locked);
    void look_at_bound(int root, Mask& adapters);
    void look_at_cards(int root, Mask& adapters);
    void look_at_queues(int root, std::size_t most, Mask& adapters);
    template <typename Use>
    Print for_each_name(int parent, const char* path, Use use);

    bool first_ = true;
    Print scans_ = 0;
    std::array<Print, host_attributes> host_{};
    std::array<CardSeen, ap_devices> cards_{};
    std::vector<std::uint64_t> bound_;      // a bit for each APQN
    std::vector<std::uint64_t> bound_now_;  // being made
    Print bound_listed_ = 0;                // how listing the directory went
    std::vector<MdevSeen> mdevs_;           // sorted by UUID
    std::vector<MdevSeen> mdevs_now_;
    std::vector<char> entries_;  // what a directory read gives at once
    const Inventory* inventory_ = nullptr;
    std::vector<std::uint32_t> assigned_;  // queues that belong to mdevs, as indices of inventory_->queues
    std::size_t next_assigned_ = 0;
};

}  // namespace vfioap
