// SPDX-License-Identifier: LGPL-2.1-or-later
// Moves a guest whose device cannot move with it: detach, migrate, attach. However it ends, the guest runs on
// one host, with its device wherever that is possible; where it is not, what is left to do is said.
//
// There is one way out of every failure, and of the death of the mover: look where the guest is, and see to
// it that it is whole there. So nothing depends on what the mover believes to have done.
#pragma once

#include "move/drift.h"
#include "move/guest_host.h"
#include "move/move_journal.h"

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// What is begun, in this order; the words of MoveRecord::step.
enum class MoveStep : std::uint8_t { mark, detach, migrate, attach };
std::string_view to_text(MoveStep step);

struct MoveOrder {
    MoveRecord record;
    std::string marked_state;  ///< record.state with detached="yes"
    std::chrono::milliseconds detach_timeout{60'000};
    MigrateOptions migrate;
    bool keeps_device = false;  ///< native: nothing is detached, marked or attached
};

/// Whoever wants to know, and may end it.
class MoveWatcher {
  public:
    MoveWatcher() = default;
    virtual ~MoveWatcher() = default;
    MoveWatcher(const MoveWatcher&) = delete;
    MoveWatcher& operator=(const MoveWatcher&) = delete;
    MoveWatcher(MoveWatcher&&) = delete;
    MoveWatcher& operator=(MoveWatcher&&) = delete;

    virtual void begins(MoveStep step) = 0;
    virtual void progresses(const MigrateProgress& progress) = 0;
    /// Something did not go as it should, and what is done about it; one line.
    virtual void notes(const std::string& line) = 0;
    /// Somebody wants it to end; asked now and then.
    [[nodiscard]] virtual bool interrupted() = 0;
    /// Why the guest may not go there any more, since the hosts have changed; asked as often. `most`: so long
    /// it may take to look.
    [[nodiscard]] virtual std::optional<Drift> drift(std::chrono::milliseconds most) = 0;
    /// Lets time pass.
    virtual void pause(std::chrono::milliseconds time) = 0;
    /// The time that has passed, from any beginning.
    [[nodiscard]] virtual std::chrono::milliseconds clock() = 0;
    /// What the guest has at the destination, for its domain there: state_metadata(); empty: not known.
    [[nodiscard]] virtual std::string state_at_destination() = 0;
};

enum class MoveOutcome : std::uint8_t {
    moved,         ///< it runs at the destination, whole
    not_moved,     ///< it runs at the source, and all is as before
    needs_person,  ///< something is left to do; the journal stays
    would_move,    ///< nothing was tried, and nothing stands in its way: never of a move, only of a dry run
};
/// `moved`, `not-moved`, `needs-person`, `would-move`.
std::string_view to_text(MoveOutcome outcome);

struct MoveResult {
    MoveOutcome outcome = MoveOutcome::needs_person;
    std::string reason;              ///< why it did not move; empty: it did
    std::vector<std::string> rules;  ///< that stand in its way, by id; empty: it is not one of these
    std::string host;                ///< where the guest is, by name; empty: not known
    bool has_device = false;         ///< its device is attached there
    std::vector<std::string> to_do;  ///< for a person, in order
};

/// The whole move. The guest runs at `source`, with its device. Never throws but std::bad_alloc.
MoveResult move_detached(GuestHost& source, GuestHost& destination, const MoveJournal& journal,
                         const MoveOrder& order, MoveWatcher& watcher);

/// Brings to an end what a mover has begun that is there no more. Never throws but std::bad_alloc.
MoveResult recover_move(GuestHost& source, GuestHost& destination, const MoveJournal& journal,
                        const MoveRecord& record, MoveWatcher& watcher);

}  // namespace vfioap
