// SPDX-License-Identifier: LGPL-2.1-or-later
// Knows at any time what a host has, and what changed.
#pragma once

#include "host/sysfs.h"
#include "service/host_change.h"
#include "service/host_glance.h"
#include "service/uevents.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// Watches one sysfs root: a cheap comparison now and then (HostGlance), on the real /sys also the kernel's
/// events, and a new reading of just what looks different. It has no thread, sets no timer and never sleeps:
/// its owner polls fd(), and calls update() when next() has come.
///
/// What the inventory always tells, at most 2 s late: the masks, bindings and features of the bus and the
/// driver; which cards, queues and mdevs there are; config, chkstop and online of cards; the driver of each
/// queue; mdevs, all of them; config and chkstop of queues that belong to mdevs (one queue alone, beyond
/// HostGlance::queues_per_look of them, by and by). Where events tell (has_events()), what the kernel itself
/// finds out is known when it knows: cards and queues are compared after each scan of the bus. Everything
/// else is as it was when its card was read last: `scans`; config, chkstop, online and what is of Secure
/// Execution of queues in no mdev. Never in it: what Depth::state leaves out.
///
/// Not for several threads at once. A look at mdevs may have to wait for a lock of the driver where a reset
/// of a guest's queues goes on, seconds at worst; with events seldom.
class HostWatch {
  public:
    using Clock = std::chrono::steady_clock;
    using Time = Clock::time_point;

    /// How long a change can stay unseen, but for what a new reading takes.
    static constexpr std::chrono::milliseconds interval{1500};
    /// Where events tell: how often cards, queues and the driver's directory are looked at all the same.
    static constexpr std::chrono::seconds interval_with_events{15};
    /// How often `guest_matrix` and `matrix` are looked at where `ap_config` tells of assignments: without a
    /// cause that is seen elsewhere, only a failed reset changes them.
    static constexpr std::chrono::seconds interval_locked{10};
    /// So long after a change those are looked at each time: what a guest has follows it.
    static constexpr std::chrono::seconds settling{5};
    /// From one look to the next at least; after a new reading, `pause_per_queue` more for each queue that
    /// was read, up to `longest_pause`: a flood of events costs no more than a part of a core.
    static constexpr std::chrono::milliseconds pause{100};
    static constexpr std::chrono::microseconds pause_per_queue{100};
    static constexpr std::chrono::milliseconds longest_pause{1000};

    struct Options {
        enum class Events : std::uint8_t {
            automatic,  ///< the kernel's, where the root is the real sysfs and they can be had
            none,
            given,  ///< by event() alone
        };
        Events events = Events::automatic;
        /// Whether attributes that take a lock are looked at seldom; nothing: on a real sysfs only.
        std::optional<bool> spare_locks = {};
    };

    /// Reads the root. `directory` and what is thrown: as SysfsRoot has it.
    HostWatch(std::string directory, Time now, Options options);
    HostWatch(std::string directory, Time now) : HostWatch{std::move(directory), now, Options{}} {}
    ~HostWatch() = default;
    HostWatch(const HostWatch&) = delete;
    HostWatch& operator=(const HostWatch&) = delete;
    HostWatch(HostWatch&&) = delete;
    HostWatch& operator=(HostWatch&&) = delete;

    /// The host as it was last read; never null, and never changed: a change is another inventory.
    [[nodiscard]] const std::shared_ptr<const Inventory>& inventory() const { return inventory_; }
    /// Whether the root could be looked at last time; if not, inventory() is what there was before.
    [[nodiscard]] bool readable() const { return readable_; }
    /// Whether something tells of changes that no comparison has to find.
    [[nodiscard]] bool has_events() const { return events_; }

    /// To be polled for reading, then receive(); -1: there is nothing to be polled.
    [[nodiscard]] int fd() const { return monitor_ ? monitor_->fd() : -1; }
    /// Takes the events that fd() has. What they tell comes with the next update().
    void receive();
    /// One event: its device, below /sys (`/devices/ap/card05/05.0004`).
    void event(std::string_view devpath);
    /// There were events that nobody could take any more: everything may have changed.
    void events_lost();

    /// When update() is to be called next; not later than `interval` after the last one.
    [[nodiscard]] Time next() const;
    /// Compares, where next() has come, and reads what looks different. What changed since the last call;
    /// mostly nothing, and then without having allocated anything. A root that cannot be read, or not the
    /// directories of its bus, cards or mdevs, is one change `unreadable`, and one `readable` when it can be
    /// again; inventory() stays meanwhile.
    std::vector<Change> update(Time now);

  private:
    [[nodiscard]] bool open_root();
    void take(const HostGlance::Difference& difference);
    std::vector<Change> look(Time now, bool hinted);
    std::vector<Change> read(Time now);

    std::string directory_;
    bool spare_locks_ = false;
    bool events_ = false;
    std::optional<UeventMonitor> monitor_;

    std::unique_ptr<SysfsRoot> root_;
    bool readable_ = true;
    HostGlance glance_;
    std::shared_ptr<const Inventory> inventory_;
    bool unread_ = false;   // something looks different and could not be read yet
    Mask unread_adapters_;  // of which cards and queues are to be read
    unsigned rereads_ = 0;  // since what was read last did not have all that was seen
    bool hinted_ = false;   // an event came

    Time last_look_;
    Time not_before_;
    Time next_everything_;
    Time next_locked_;
    Time settled_;
};

}  // namespace vfioap
