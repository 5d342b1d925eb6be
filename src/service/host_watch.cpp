// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/host_watch.h"

#include "ap/error.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfioap {
namespace {

/// The adapter that an event is about: that of `/devices/ap/card05` and all below it.
std::optional<std::uint8_t> adapter_of(std::string_view devpath) {
    constexpr std::string_view card = "/card";
    const auto at = devpath.find(card);
    if (at == std::string_view::npos) return {};
    return parse_adapter(devpath.substr(at + card.size()).substr(0, 2));
}

/// Adapters with queues that an mdev has now and had not before: what was not watched may be another by now.
Mask newly_assigned(const Inventory& before, const Inventory& after) {
    Mask adapters;
    for (const auto& mdev : after.mdevs) {
        const auto* const was = before.find_mdev(mdev.uuid);
        if (was != nullptr && was->adapters == mdev.adapters && was->domains == mdev.domains) continue;
        adapters = adapters | mdev.adapters;
    }
    return adapters;
}

/// A directory that is there and could not be listed, as with no descriptor left; null: there is none.
/// Nothing can be said then of what is in it, least of all that it is gone.
const Unreadable* unlisted(const Inventory& host) {
    constexpr std::array<std::string_view, 5> places{"bus/ap", "bus/ap/drivers", "bus/ap/drivers/vfio_ap",
                                                     "devices/ap", "devices/vfio_ap/matrix"};
    for (const auto& item : host.unreadable) {
        std::string_view path{item.path};
        if (path.ends_with('/')) path.remove_suffix(1);
        if (item.error != 0 && item.error != ENOENT &&
            std::find(places.begin(), places.end(), path) != places.end())
            return &item;
    }
    return nullptr;
}

constexpr unsigned most_rereads = 5;

/// The same host, but for what grows by itself.
bool same(const Inventory& a, Inventory& b) {
    if (!a.ap || !b.ap) return a == b;
    const auto scans = std::exchange(b.ap->scans, a.ap->scans);
    const bool equal = a == b;
    b.ap->scans = scans;
    return equal;
}

}  // namespace

HostWatch::HostWatch(std::string directory, Time now, Options options)
    : directory_{std::move(directory)},
      root_{std::make_unique<SysfsRoot>(directory_)},
      last_look_{now},
      not_before_{now + pause},
      next_everything_{now + interval_with_events},
      next_locked_{now + interval_locked},
      settled_{now + settling} {
    const bool real = root_->is_real();
    spare_locks_ = options.spare_locks.value_or(real);
    // First the events and a look, so that nothing is missed that happens while the host is read.
    if (options.events == Options::Events::automatic && real) monitor_ = UeventMonitor::open();
    events_ = monitor_ || options.events == Options::Events::given;
    glance_.look(root_->fd(), {});
    inventory_ = std::make_shared<const Inventory>(root_->read_all(Depth::state));
    glance_.expect(*inventory_);
}

/// Opens the root again where its path leads to another directory now: then nothing of what was seen counts
/// any more.
bool HostWatch::open_root() {
    struct stat there {};
    struct stat opened {};
    if (::stat(directory_.c_str(), &there) != 0) throw SystemError{"open", directory_, errno};
    if (!root_ || ::fstat(root_->fd(), &opened) != 0 || there.st_dev != opened.st_dev ||
        there.st_ino != opened.st_ino) {
        root_ = std::make_unique<SysfsRoot>(directory_);
        glance_.forget();
        return true;
    }
    // SysfsRoot looks only once whether it is one.
    return ::fstatat(root_->fd(), "bus", &there, 0) == 0 || ::fstatat(root_->fd(), "devices", &there, 0) == 0;
}

void HostWatch::receive() {
    while (monitor_) {
        const auto next = monitor_->next();
        if (!next) return;
        if (next->lost) {
            events_lost();
        } else {
            event(next->devpath);
        }
    }
}

void HostWatch::event(std::string_view devpath) {
    hinted_ = true;
    const auto apid = adapter_of(devpath);
    if (!apid) return;
    // It may tell of what no comparison looks at.
    unread_adapters_.set(*apid);
    unread_ = true;
}

void HostWatch::events_lost() {
    hinted_ = true;
    unread_adapters_ = Mask::all();
    unread_ = true;
}

HostWatch::Time HostWatch::next() const {
    return hinted_ ? not_before_ : std::max(not_before_, last_look_ + interval);
}

std::vector<Change> HostWatch::update(Time now) {
    if (now < next()) return {};
    last_look_ = now;
    not_before_ = now + pause;
    const bool hinted = std::exchange(hinted_, false);
    std::string why;
    try {
        if (open_root()) return look(now, hinted);
        why = "nothing in it looks like sysfs";
    } catch (const std::exception& error) {
        // Also for want of memory.
        why = error.what();
    }
    if (!std::exchange(readable_, false)) return {};
    Change change;
    change.kind = ChangeKind::unreadable;
    change.rule = "host.unreadable";
    change.detail = inventory_->location + ": readable → not any more: " + why;
    for (const auto& mdev : inventory_->mdevs)
        change.mdevs.push_back(mdev.uuid);
    std::vector<Change> changes;
    changes.push_back(std::move(change));
    return changes;
}

/// Kept until it has been read: reading may fail for want of memory.
void HostWatch::take(const HostGlance::Difference& difference) {
    unread_ = unread_ || difference.any;
    unread_adapters_ = unread_adapters_ | difference.adapters;
}

std::vector<Change> HostWatch::look(Time now, bool hinted) {
    const bool back = !readable_;
    HostGlance::Scope scope{.everything = !events_ || hinted || back || now >= next_everything_,
                            .locked = !spare_locks_ || back || now >= next_locked_ || now < settled_};
    take(glance_.look(root_->fd(), scope));
    if (unread_ && !(scope.everything && scope.locked)) {
        // Reading shows more than was looked at; what was seen of that must not be older than what is read,
        // or a change back would look like none.
        scope = {};
        take(glance_.look(root_->fd(), scope));
    }
    if (scope.everything) next_everything_ = now + interval_with_events;
    if (scope.locked) next_locked_ = now + interval_locked;
    auto changes = unread_ ? read(now) : std::vector<Change>{};
    readable_ = true;
    if (back) {
        Change change;
        change.kind = ChangeKind::readable;
        change.detail = inventory_->location + ": unreadable → readable again";
        changes.insert(changes.begin(), std::move(change));
    }
    return changes;
}

std::vector<Change> HostWatch::read(Time now) {
    auto after = root_->read_again(*inventory_, unread_adapters_);
    if (const auto more = newly_assigned(*inventory_, after) - unread_adapters_; !more.none()) {
        after = root_->read_again(after, more);
        unread_adapters_ = unread_adapters_ | more;
    }
    if (const auto* const place = unlisted(after);
        place != nullptr && inventory_->find_unreadable(place->path) == nullptr)
        throw SystemError{"read", place->path, place->error};
    const auto queues = std::count_if(after.queues.begin(), after.queues.end(), [this](const Queue& queue) {
        return unread_adapters_.test(queue.apqn.apid());
    });
    not_before_ = now + std::min<Clock::duration>(pause + pause_per_queue * queues, longest_pause);
    settled_ = now + settling;
    std::vector<Change> changes;
    if (!same(*inventory_, after)) {
        changes = changes_between(*inventory_, after);
        inventory_ = std::make_shared<const Inventory>(std::move(after));
        glance_.expect(*inventory_);
    }
    // What goes after a look and comes back after the reading: no later look would show that it is missing. A
    // few times, for what is no mdev of ours may stand in the same place.
    const bool torn = glance_.saw_more(*inventory_);
    rereads_ = torn ? rereads_ + 1 : 0;
    unread_ = torn && rereads_ <= most_rereads;
    if (!unread_) unread_adapters_ = {};
    return changes;
}

}  // namespace vfioap
