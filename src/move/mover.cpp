// SPDX-License-Identifier: LGPL-2.1-or-later
#include "move/mover.h"

#include "ap/error.h"
#include "domain/state.h"

#include <optional>
#include <utility>

#include <fmt/format.h>

namespace vfioap {
namespace {

using namespace std::chrono_literals;

constexpr auto between_looks = 200ms;
/// A libvirtd that is being restarted, or a network that comes back.
constexpr auto patience = 30s;
/// A migration that goes on without its mover ends by itself, one way or the other.
constexpr auto job_patience = 1h;
/// The service of the destination writes the state anew; where none runs, this has to.
constexpr auto service_patience = 5s;
constexpr int attach_tries = 3;
/// A guest that was asked for its device has mostly given it by then.
constexpr auto release_patience = 10s;
/// For the question whether it was drift that has ended a migration.
constexpr auto drift_patience = 5s;

using State = GuestLook::State;

bool is_marked(const std::string& element) {
    if (element.empty()) return false;
    try {
        return parse_state(element, "state").detached;
    } catch (const Error&) {
        return false;
    }
}

bool has_process(const std::optional<GuestLook>& look) {
    return look && (look->state == State::running || look->state == State::paused);
}

class Mover {
  public:
    Mover(GuestHost& source, GuestHost& destination, const MoveJournal& journal, MoveRecord record,
          MoveWatcher& watcher)
        : source_{source},
          destination_{destination},
          journal_{journal},
          record_{std::move(record)},
          watcher_{watcher} {}

    MoveResult move(const MoveOrder& order) {
        MoveResult result;
        try {
            begin(order.keeps_device ? MoveStep::migrate : MoveStep::mark);
        } catch (const Error& error) {
            // Nothing has been done yet.
            result.outcome = MoveOutcome::not_moved;
            result.reason = error.what();
            result.rules = std::move(result_.rules);
            result.host = source_.name();
            result.has_device = true;
            return result;
        }
        try {
            if (!order.keeps_device) {
                source_.set_state(order.marked_state);
                begin(MoveStep::detach);
                detach(order);
                begin(MoveStep::migrate);
            }
            source_.migrate(destination_, order.migrate, [this](const MigrateProgress& progress) {
                watcher_.progresses(progress);
                return reason_to_end(0ms);
            });
            if (!order.keeps_device) begin(MoveStep::attach);
        } catch (const Error& error) {
            reason_ = error.what();
            // Somebody else may have seen it first: a service that aborts the job does not say to us why.
            if (const auto seen = reason_to_end(drift_patience); reason_.find(seen) == std::string::npos)
                reason_ += "; " + seen;
            watcher_.notes(reason_);
        }
        return settle();
    }

    /// After the death of a mover, which may just have asked the guest for its device.
    MoveResult recover() {
        const auto start = watcher_.clock();
        while (record_.step == to_text(MoveStep::detach) && watcher_.clock() - start < release_patience) {
            const auto now = look(source_);
            if (!has_process(now) || !now->has_device) break;
            watcher_.pause(between_looks);
        }
        return settle();
    }

    /// Looks where the guest is and makes it whole there.
    MoveResult settle() {
        const auto place = find();
        if (place == nullptr) return give_up();
        auto* at = place;
        bool whole = attach_at(*at);
        if (!whole && at == &destination_ && bring_back()) {
            at = &source_;
            whole = attach_at(*at);
        }
        if (whole) clear_mark(*at);
        result_.host = at->name();
        result_.has_device = whole;
        result_.reason = reason_;
        const auto now = look(*at);
        if (now && now->state == State::paused)
            to_do(fmt::format("on {}: the guest is paused; if that is not meant: virsh resume {}", at->name(),
                              record_.guest));
        if (!whole) {
            to_do(fmt::format(
                "on {}: the guest runs without its device; find out why ({}), then: vfioapctl migrate "
                "--recover {}",
                at->name(), attach_problem_, record_.guest));
        }
        if (release_pending_ && at == &source_ && whole) {
            to_do(fmt::format(
                "on {}: the guest was asked to release its device, and may still do so; look at it "
                "later with: vfioapctl migrate --recover {}",
                at->name(), record_.guest));
        }
        if (result_.to_do.empty()) {
            result_.outcome = at == &destination_ ? MoveOutcome::moved : MoveOutcome::not_moved;
            if (at == &destination_) {
                result_.reason.clear();
                result_.rules.clear();
            }
            try {
                journal_.remove(record_.guest_uuid);
            } catch (const Error& error) {
                to_do(fmt::format("all is done, but the journal of the move stays: {}", error.what()));
                result_.outcome = MoveOutcome::needs_person;
            }
        }
        return std::move(result_);
    }

  private:
    /// Empty: there is none.
    std::string reason_to_end(std::chrono::milliseconds most) {
        if (watcher_.interrupted()) return "it was interrupted";
        const auto drift = watcher_.drift(most);
        if (!drift) return {};
        result_.rules = {std::string{drift->rule}};
        return fmt::format("what was judged has changed: {}: {}", drift->rule, drift->detail);
    }

    void begin(MoveStep step) {
        if (step < MoveStep::attach) {
            if (const auto reason = reason_to_end(0ms); !reason.empty()) throw Error{reason};
        }
        record_.step = to_text(step);
        journal_.write(record_);
        watcher_.begins(step);
    }

    void to_do(std::string text) { result_.to_do.push_back(std::move(text)); }

    /// libvirt says that it has asked; only another look tells that the guest did as it was asked.
    void detach(const MoveOrder& order) {
        release_pending_ = true;
        source_.detach();
        const auto deadline = watcher_.clock() + order.detach_timeout;
        while (source_.look().has_device) {
            if (watcher_.interrupted()) throw Error{"it was interrupted"};
            if (watcher_.clock() >= deadline)
                throw Error{fmt::format(
                    "the guest did not release its device within {} s",
                    std::chrono::duration_cast<std::chrono::seconds>(order.detach_timeout).count())};
            watcher_.pause(between_looks);
        }
        release_pending_ = false;
    }

    std::optional<GuestLook> look(GuestHost& host) {
        try {
            return host.look();
        } catch (const Error& error) {
            problem_ = fmt::format("{}: {}", host.name(), error.what());
            return std::nullopt;
        }
    }

    /// The host that has the guest; null: it cannot be said.
    GuestHost* find() {
        const auto start = watcher_.clock();
        while (true) {
            const auto here = look(source_);
            // Then the other one does not, and need not answer.
            if (here && here->state == State::running && !here->busy) return &source_;
            const auto there = look(destination_);
            const auto waited = watcher_.clock() - start;
            const bool under_way = (here && here->busy) || (there && there->state == State::arriving);
            if (under_way && waited < ((here && here->busy) ? std::chrono::milliseconds{job_patience}
                                                            : std::chrono::milliseconds{patience})) {
                watcher_.pause(between_looks);
                continue;
            }
            if (has_process(here) && has_process(there)) {
                // Whoever runs has it; a paused one beside it is what a failed migration has left.
                if (here->state != there->state)
                    return here->state == State::running ? &source_ : &destination_;
                both_ = true;
                return nullptr;
            }
            if (has_process(here)) return &source_;
            if (has_process(there)) return &destination_;
            // Whoever does not answer may have it.
            if ((!here || !there || under_way) && waited < patience) {
                watcher_.pause(between_looks);
                continue;
            }
            unreachable_ = !here || !there;
            return nullptr;
        }
    }

    MoveResult give_up() {
        result_.reason = reason_.empty() ? "where the guest is cannot be said" : reason_;
        if (both_) {
            to_do(fmt::format(
                "both hosts have the guest; find out which one is right, and stop the other with: "
                "virsh destroy {}",
                record_.guest));
        } else if (unreachable_) {
            to_do(fmt::format("{}; when it answers again: vfioapctl migrate --recover {}", problem_,
                              record_.guest));
        } else {
            to_do(fmt::format(
                "the guest runs on neither host; start it where it is defined with: virsh start {}",
                record_.guest));
        }
        return std::move(result_);
    }

    bool attach_at(GuestHost& host) {
        for (int i = 0; i < attach_tries; ++i) {
            if (i > 0) watcher_.pause(1s);
            const auto now = look(host);
            if (now && now->has_device) return true;
            try {
                host.attach();
            } catch (const Error& error) {
                attach_problem_ = error.what();
                watcher_.notes(fmt::format("on {}: {}", host.name(), attach_problem_));
            }
        }
        const auto now = look(host);
        return now && now->has_device;
    }

    /// A guest without its device is worth less than one that has not moved.
    bool bring_back() {
        if (reason_.empty()) reason_ = fmt::format("its device could not be attached: {}", attach_problem_);
        watcher_.notes(fmt::format("bringing the guest back to {}", source_.name()));
        MigrateOptions options;
        options.persistent = record_.was_persistent;
        options.undefine_source = record_.defined_there;
        try {
            destination_.migrate(source_, options, [this](const MigrateProgress& progress) {
                watcher_.progresses(progress);
                return std::string{};
            });
        } catch (const Error& error) {
            watcher_.notes(fmt::format("it cannot be brought back: {}", error.what()));
        }
        return find() == &source_;
    }

    /// What the state says is true again. At the source it is what it was; at the destination its service
    /// knows it best, and is given time.
    void clear_mark(GuestHost& host) {
        const auto start = watcher_.clock();
        const bool moved = &host == &destination_;
        std::string problem;
        while (watcher_.clock() - start < 2 * service_patience) {
            try {
                if (!is_marked(host.look().state_element)) return;
                if (!moved || watcher_.clock() - start >= service_patience)
                    host.set_state(moved ? watcher_.state_at_destination() : record_.state);
            } catch (const Error& error) {
                problem = error.what();
            }
            watcher_.pause(between_looks);
        }
        watcher_.notes(fmt::format("on {}: the guest's state still says that its device is away: {}",
                                   host.name(), problem));
    }

    GuestHost& source_;
    GuestHost& destination_;
    const MoveJournal& journal_;
    MoveRecord record_;
    MoveWatcher& watcher_;
    std::string reason_;   // why it does not move
    std::string problem_;  // of the last look that failed
    std::string attach_problem_ = "it cannot be seen";
    bool release_pending_ = false;  // the guest was asked to release the device, and has not
    bool both_ = false;
    bool unreachable_ = false;
    MoveResult result_;
};

}  // namespace

std::string_view to_text(MoveStep step) {
    switch (step) {
        case MoveStep::mark:
            return "mark";
        case MoveStep::detach:
            return "detach";
        case MoveStep::migrate:
            return "migrate";
        case MoveStep::attach:
            break;
    }
    return "attach";
}

std::string_view to_text(MoveOutcome outcome) {
    switch (outcome) {
        case MoveOutcome::moved:
            return "moved";
        case MoveOutcome::not_moved:
            return "not-moved";
        case MoveOutcome::needs_person:
            break;
        case MoveOutcome::would_move:
            return "would-move";
    }
    return "needs-person";
}

MoveResult move_detached(GuestHost& source, GuestHost& destination, const MoveJournal& journal,
                         const MoveOrder& order, MoveWatcher& watcher) {
    return Mover{source, destination, journal, order.record, watcher}.move(order);
}

MoveResult recover_move(GuestHost& source, GuestHost& destination, const MoveJournal& journal,
                        const MoveRecord& record, MoveWatcher& watcher) {
    return Mover{source, destination, journal, record, watcher}.recover();
}

}  // namespace vfioap
