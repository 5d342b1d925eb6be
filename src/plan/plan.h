// SPDX-License-Identifier: LGPL-2.1-or-later
// What a destination still needs before a guest can come: the steps, in their order. A pure function of
// values; who applies a plan, and the script, do the same steps.
#pragma once

#include "compat/check.h"
#include "compat/remedies.h"
#include "compat/report.h"
#include "host/inventory.h"

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// One thing to do. Steps are done in order, each after the one before has taken effect; a step that has been
/// done is not done again (holds() of the applier, the checks of the script).
struct PlanStep {
    enum class Kind : std::uint8_t {
        load_driver,  ///< modprobe vfio_ap; nothing to write
        configure,    ///< cards: `config` = 1
        release,      ///< queues are taken from `mdev`, another one that no guest uses
        reserve,      ///< queues come to vfio_ap, by masks, driver_override or a new probe
        wait,         ///< until `queues` are bound and `bindings` says `(complete)`; nothing to write
        create,       ///< `mdev`, with its UUID
        fill,         ///< `mdev` gets what the guest has, and loses what it has not
        allow,        ///< `migratable` of `mdev` (patch version v1), at the source
    };
    Kind kind{};
    Side host = Side::destination;  ///< where it is done
    RuleId rule{};                  ///< the finding that it mends
    std::string what;               ///< one sentence without its full stop
    std::string why;                ///< the finding's message
    std::vector<Apqn> queues;       ///< sorted; which it is about
    std::vector<Apqn> also_taken;   ///< sorted; queues that the host's own drivers lose by it, too (masks)
    std::optional<Uuid> mdev;
    std::vector<SysfsWrite> writes;
    /// What `mdev` holds after Kind::fill, where it is known whole.
    std::optional<MdevContents> contents;
    /// What keeps it over a reboot, as shell commands for root; empty: nothing need.
    std::vector<std::string> persistent;
};
/// `load-driver`, `configure`, …
std::string_view to_text(PlanStep::Kind kind);
/// The sysfs form of a step as shell commands for root.
std::vector<std::string> commands_of(const PlanStep& step);

/// What no command of the plan mends.
struct PlanObstacle {
    RuleId rule{};
    Side host = Side::destination;
    std::vector<Apqn> queues;
    std::vector<std::uint8_t> control_domains;
    std::optional<Uuid> owner;      ///< the mdev that has the queues
    std::string message;            ///< one sentence
    std::vector<std::string> todo;  ///< what a person can do: HMC, TKE, another host
    bool undetermined = false;      ///< it is not known whether it is one: something could not be read
};

struct Plan {
    enum class State : std::uint8_t {
        nothing_to_do,  ///< the guest can come
        complete,       ///< it can come after the steps
        blocked,        ///< something remains that no command mends; there are no steps: do that first
        undetermined,   ///< whether there is more to do is not known
    };
    State state = State::nothing_to_do;
    Report report;  ///< of the check that the plan was made from
    Reservation mechanism = Reservation::masks;
    std::vector<PlanStep> steps;
    std::vector<PlanObstacle> obstacles;
};
/// `nothing-to-do`, `complete`, `blocked`, `undetermined`
std::string_view to_text(Plan::State state);

struct PlanOptions {
    CheckOptions check;
    /// Queues of an mdev that no guest uses are an obstacle as well; else they are taken from it.
    bool leave_unused = false;
};

/// The mdevs at the destination, other than the guest's, that have one of its queues. `destination` must hold
/// all mdevs.
std::vector<Uuid> rivals_of(const Guest& guest, const Source& source, const Inventory& destination);

/// Adds to a partial inventory the queues of another one of the same host, and what they say of who uses
/// them.
void add_queues(Inventory& inventory, const Inventory& more);

/// The plan for a guest's move. `destination` must hold what its check needs, and of each of rivals_of()
/// a queue that tells whether a guest uses it: add_queues() of SysfsRoot::read_for() it.
Plan make_plan(const Guest& guest, const Source& source, const Inventory& destination,
               const PlanOptions& options);

/// The same, reading of the destination what it takes: `read_for` is SysfsRoot::read_for(), or gives all
/// there is. The guest has an mdev.
using ReadFor = std::function<Inventory(const Uuid& mdev, const std::vector<Apqn>& queues)>;
Plan make_plan(const Guest& guest, const Source& source, const ReadFor& read_for, const PlanOptions& options);

/// The program without which one of PlanStep::persistent is not to be had.
std::string_view tool_of(std::string_view command);

}  // namespace vfioap
