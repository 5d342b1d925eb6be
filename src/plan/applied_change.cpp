// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plan/applied_change.h"

#include "ap/error.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vfioap {
namespace {

constexpr std::array<std::string_view, 6> kinds{"driver", "cards", "mask", "binding", "mdev", "contents"};

MdevContents operator-(const MdevContents& a, const MdevContents& b) {
    return {a.adapters - b.adapters, a.domains - b.domains, a.control_domains - b.control_domains};
}
MdevContents operator|(const MdevContents& a, const MdevContents& b) {
    return {a.adapters | b.adapters, a.domains | b.domains, a.control_domains | b.control_domains};
}
MdevContents operator&(const MdevContents& a, const MdevContents& b) {
    return {a.adapters & b.adapters, a.domains & b.domains, a.control_domains & b.control_domains};
}

std::string mdev_text(const Uuid& uuid) {
    return "mdev " + uuid.to_string();
}

/// Thrown where somebody else has to do with it by now.
class NotOurs : public Error {
    using Error::Error;
};

/// Undoes one change. Each function gives whether there was something to undo.
class Undoer {
  public:
    Undoer(const std::vector<AppliedChange>& changes, std::size_t number, const Uuid& guest_mdev,
           ApplyHost& host)
        : changes_{changes}, change_{changes.at(number)}, guest_mdev_{guest_mdev}, host_{host} {}

    bool run() {
        switch (change_.kind) {
            case AppliedChange::Kind::driver:
                throw NotOurs{"vfio_ap stays loaded; who wants it away: modprobe -r vfio_ap"};
            case AppliedChange::Kind::cards:
                return undo_cards();
            case AppliedChange::Kind::mask:
                return undo_mask();
            case AppliedChange::Kind::binding:
                return undo_binding();
            case AppliedChange::Kind::mdev:
                return undo_mdev();
            case AppliedChange::Kind::contents:
                return undo_contents();
        }
        return false;
    }

  private:
    /// Of the other mdevs, one that has something of `adapters` and `domains`.
    static const Mdev* find_user(const Inventory& now, const Mask& adapters, const Mask& domains) {
        for (const auto& mdev : now.mdevs) {
            if (!(mdev.adapters & adapters).none() && !(mdev.domains & domains).none()) return &mdev;
        }
        return nullptr;
    }

    /// The host's own attributes and all its mdevs; and the queue.
    Inventory look() {
        return host_.read_for(guest_mdev_, change_.queue ? std::vector{*change_.queue} : one_of_each());
    }

    /// Of cards no more than one queue is needed to see them.
    std::vector<Apqn> one_of_each() const {
        std::vector<Apqn> queues;
        if (change_.kind == AppliedChange::Kind::cards) {
            for (const auto apid : change_.numbers.bits())
                queues.emplace_back(apid, std::uint8_t{0});
        }
        return queues;
    }

    bool undo_cards() {
        const auto now = look();
        Mask on;
        for (const auto apid : change_.numbers.bits()) {
            const auto* const card = now.find_card(apid);
            if (card != nullptr && card->config == true) on.set(apid);
        }
        if (on.none()) return false;
        if (const auto* const user = find_user(now, on, Mask::all()))
            throw NotOurs{fmt::format("{} has it", mdev_text(user->uuid))};
        for (const auto apid : on.bits())
            host_.write({card_path(apid) + "/config", "0"});
        return true;
    }

    bool undo_mask() {
        const auto mask_of = [this](const Inventory& now) {
            const auto mask = !now.ap ? std::nullopt : change_.apmask ? now.ap->apmask : now.ap->aqmask;
            if (!mask) throw Error{fmt::format("{} cannot be read", attribute())};
            return *mask;
        };
        const auto now = look();
        const auto clear = change_.numbers - mask_of(now);
        if (clear.none()) return false;
        // A bit takes those queues from vfio_ap whose other number the other mask has. From an mdev the
        // kernel takes none (ap_bus.c, apmask_commit and aqmask_commit: EBUSY); older ones took them from a
        // guest.
        const auto& other = change_.apmask ? now.ap->aqmask : now.ap->apmask;
        const auto others = other.value_or(Mask::all());
        if (const auto* const user =
                change_.apmask ? find_user(now, clear, others) : find_user(now, others, clear))
            throw NotOurs{fmt::format("{} has queues of it", mdev_text(user->uuid))};
        std::vector<std::string> words;
        for (const auto bit : clear.bits())
            words.push_back(fmt::format("+{:#04x}", bit));
        host_.write({fmt::format("bus/ap/{}", attribute()), fmt::format("{}", fmt::join(words, ","))});
        if (!(clear - mask_of(look())).none()) throw Error{fmt::format("{} did not take it", attribute())};
        return true;
    }
    [[nodiscard]] std::string_view attribute() const { return change_.apmask ? "apmask" : "aqmask"; }

    bool undo_binding() {
        const auto apqn = *change_.queue;
        auto now = look();
        const auto* queue = now.find_queue(apqn);
        // A queue that went and came back has no override, and the driver that masks leave it to.
        if (queue == nullptr) return false;
        const auto override = host_.driver_override(apqn);
        const bool overridden =
            change_.override_after != change_.override_before && override == change_.override_after;
        if (!overridden && queue->driver == change_.driver) return false;
        if (!overridden && override != change_.override_before)
            throw NotOurs{fmt::format("its driver_override is '{}' by now", override)};
        if (queue->bound_to_vfio_ap()) {
            if (const auto* const user = find_user(now, adapters_of({apqn}), domains_of({apqn})))
                throw NotOurs{fmt::format("{} has it", mdev_text(user->uuid))};
            host_.write({queue_path(apqn) + "/driver/unbind", apqn.to_string()});
        } else if (!queue->driver.empty() && queue->driver != change_.driver) {
            throw NotOurs{fmt::format("its driver is {} by now", queue->driver)};
        }
        if (overridden) host_.write({queue_path(apqn) + "/driver_override", change_.override_before});
        if (!change_.driver.empty()) host_.write(probe_write(apqn));
        now = look();
        queue = now.find_queue(apqn);
        if (queue != nullptr && queue->driver != change_.driver)
            throw Error{fmt::format("it has {} instead of {}",
                                    queue->driver.empty() ? "no driver" : "the driver " + queue->driver,
                                    change_.driver.empty() ? "none" : change_.driver)};
        return true;
    }

    bool undo_mdev() {
        const auto& uuid = *change_.mdev;
        const auto now = host_.read_for(uuid, {});
        const auto* const mdev = now.find_mdev(uuid);
        if (mdev == nullptr) return false;
        MdevContents made;
        for (const auto& other : changes_) {
            if (other.kind == AppliedChange::Kind::contents && other.mdev == uuid) made = made | other.after;
        }
        if (const auto more = mdev->contents() - made; !more.none() || mdev->matrix_truncated)
            throw NotOurs{fmt::format("it holds {}, which was not given to it here", contents_text(more))};
        refuse_used(now, *mdev);
        // The kernel itself refuses one that is in use (vfio_ap_mdev_remove waits for it;
        // mdev_device_remove).
        host_.write({mdev_path(uuid) + "/remove", "1"});
        if (host_.read_for(uuid, {}).find_mdev(uuid) != nullptr) throw Error{"it is still there"};
        return true;
    }

    bool undo_contents() {
        const auto& uuid = *change_.mdev;
        // It goes as a whole.
        if (std::any_of(changes_.begin(), changes_.end(), [&](const AppliedChange& other) {
                return other.kind == AppliedChange::Kind::mdev && other.mdev == uuid;
            }))
            return false;
        const auto now = host_.read_for(uuid, {});
        const auto* const mdev = now.find_mdev(uuid);
        if (mdev == nullptr) throw NotOurs{"it is gone"};
        const auto has = mdev->contents();
        const auto extra = (change_.after - change_.before) & has;
        const auto missing = (change_.before - change_.after) - has;
        if (extra.none() && missing.none()) return false;
        if (mdev->matrix_truncated || !mdev->control_domains)
            throw Error{"what it holds cannot be read whole"};
        refuse_used(now, *mdev);
        const auto whole = (has - extra) | missing;
        for (const auto& write : content_writes(uuid, extra, missing, mdev->ap_config ? &whole : nullptr))
            host_.write(write);
        const auto after = host_.read_for(uuid, {});
        const auto* const found = after.find_mdev(uuid);
        if (found == nullptr || found->contents() != whole) throw Error{"it does not hold what it held"};
        return true;
    }

    /// A kernel that lets a running guest's queues be changed must say whether one runs.
    static void refuse_used(const Inventory& now, const Mdev& mdev) {
        const auto used = is_in_use(now, mdev);
        if (used == true) throw NotOurs{"a guest uses it"};
        const bool holds = !mdev.adapters.none() && !mdev.domains.none();
        if (!used && holds && !mdev.matrix().empty() && now.has_feature("hotplug") &&
            std::any_of(now.queues.begin(), now.queues.end(), [&](const Queue& queue) {
                return mdev.assigned(queue.apqn) && queue.bound_to_vfio_ap();
            }))
            throw NotOurs{"whether a guest uses it, this kernel does not say"};
    }

    const std::vector<AppliedChange>& changes_;
    const AppliedChange& change_;
    const Uuid& guest_mdev_;
    ApplyHost& host_;
};

}  // namespace

std::string_view to_text(AppliedChange::Kind kind) {
    return kinds[static_cast<std::size_t>(kind)];
}

std::optional<AppliedChange::Kind> parse_applied_kind(std::string_view text) {
    const auto found = std::find(kinds.begin(), kinds.end(), text);
    if (found == kinds.end()) return std::nullopt;
    return static_cast<AppliedChange::Kind>(found - kinds.begin());
}

std::string text_of(const AppliedChange& change) {
    switch (change.kind) {
        case AppliedChange::Kind::driver:
            return "the driver vfio_ap loaded";
        case AppliedChange::Kind::cards:
            return contents_text({change.numbers, {}, {}}) + " configured on";
        case AppliedChange::Kind::mask:
            return change.apmask ? contents_text({change.numbers, {}, {}}) + " left to vfio_ap by apmask"
                                 : contents_text({{}, change.numbers, {}}) + " left to vfio_ap by aqmask";
        case AppliedChange::Kind::binding:
            return fmt::format("queue {} bound to vfio_ap", change.queue->to_string());
        case AppliedChange::Kind::mdev:
            return mdev_text(*change.mdev) + " created";
        case AppliedChange::Kind::contents:
            break;
    }
    const auto gone = change.before - change.after;
    const auto come = change.after - change.before;
    auto text = mdev_text(*change.mdev);
    if (!gone.none()) text += fmt::format(" without {}", contents_text(gone));
    if (!come.none()) text += fmt::format("{} with {}", gone.none() ? "" : " and", contents_text(come));
    return text;
}

std::vector<AppliedChange> changes_of(const PlanStep& step, const Inventory& now, ApplyHost& host) {
    std::vector<AppliedChange> changes;
    const auto add = [&](AppliedChange::Kind kind) -> AppliedChange& {
        changes.emplace_back();
        changes.back().kind = kind;
        return changes.back();
    };
    const auto add_contents = [&](const MdevContents& after) {
        const auto* const mdev = now.find_mdev(*step.mdev);
        if (mdev == nullptr) throw Error{mdev_text(*step.mdev) + " is gone"};
        if (mdev->contents() == after) return;
        auto& change = add(AppliedChange::Kind::contents);
        change.mdev = step.mdev;
        change.before = mdev->contents();
        change.after = after;
    };
    switch (step.kind) {
        case PlanStep::Kind::load_driver:
            if (!now.vfio_ap) add(AppliedChange::Kind::driver);
            break;
        case PlanStep::Kind::configure: {
            Mask off;
            for (const auto apid : adapters_of(step.queues).bits()) {
                const auto* const card = now.find_card(apid);
                if (card != nullptr && card->config != true) off.set(apid);
            }
            if (!off.none()) add(AppliedChange::Kind::cards).numbers = off;
            break;
        }
        case PlanStep::Kind::release: {
            const auto* const owner = now.find_mdev(*step.mdev);
            if (owner == nullptr) throw Error{mdev_text(*step.mdev) + " is gone"};
            if (std::none_of(step.queues.begin(), step.queues.end(),
                             [owner](Apqn apqn) { return owner->assigned(apqn); }))
                break;
            if (is_in_use(now, *owner) != false)
                throw Error{mdev_text(*step.mdev) + " is used by a guest now; nothing is taken from it"};
            add_contents(owner->contents() - to_take_from(*owner, step.queues));
            break;
        }
        case PlanStep::Kind::reserve:
            if (step.writes.size() == 1 && step.writes.front().path.ends_with("mask")) {
                const bool apmask = step.writes.front().path.ends_with("apmask");
                const auto mask = !now.ap ? std::nullopt : apmask ? now.ap->apmask : now.ap->aqmask;
                const auto after = mask ? mask->updated(step.writes.front().value) : std::nullopt;
                if (!after) throw Error{step.writes.front().path + " cannot be read"};
                if (*after == *mask) break;
                auto& change = add(AppliedChange::Kind::mask);
                change.apmask = apmask;
                change.numbers = *mask - *after;
                break;
            }
            for (const auto apqn : step.queues) {
                const auto* const queue = now.find_queue(apqn);
                if (queue == nullptr) throw Error{fmt::format("queue {} is gone", apqn.to_string())};
                if (queue->bound_to_vfio_ap()) continue;
                auto& change = add(AppliedChange::Kind::binding);
                change.queue = apqn;
                change.driver = queue->driver;
                change.override_before = change.override_after = host.driver_override(apqn);
                const auto path = queue_path(apqn) + "/driver_override";
                for (const auto& write : step.writes) {
                    if (write.path == path) change.override_after = write.value;
                }
            }
            break;
        case PlanStep::Kind::create:
            if (now.find_mdev(*step.mdev) == nullptr) add(AppliedChange::Kind::mdev).mdev = step.mdev;
            break;
        case PlanStep::Kind::fill:
            if (step.contents) add_contents(*step.contents);
            break;
        case PlanStep::Kind::wait:
        case PlanStep::Kind::allow:
            break;
    }
    return changes;
}

Undoing undo(const std::vector<AppliedChange>& changes, std::size_t number, const Uuid& mdev,
             ApplyHost& host) {
    try {
        return {Undoer{changes, number, mdev, host}.run() ? Undoing::Outcome::undone : Undoing::Outcome::idle,
                {}};
    } catch (const NotOurs& others) {
        return {Undoing::Outcome::left, others.what()};
    } catch (const Error& error) {
        return {Undoing::Outcome::failed, error.what()};
    }
}

}  // namespace vfioap
