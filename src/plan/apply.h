// SPDX-License-Identifier: LGPL-2.1-or-later
// Carries out a plan on this host, and takes back what was carried out. Either all steps are done and the
// check is green afterwards, or everything is as before; where that cannot be had, what is left is said.
//
// The plan is made here, under the lock of s390-tools, from what is known of the guest: nothing that is to be
// done comes from anybody else.
#pragma once

#include "compat/check.h"
#include "compat/rules.h"
#include "plan/applied_change.h"
#include "plan/applied_record.h"
#include "plan/plan.h"

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// How changes are kept for the next boot: by programs that write below `etc`.
struct Keeping {
    std::string etc = "/etc";
    /// Runs a shell command; false: the program is missing, or it failed.
    std::function<bool(std::string_view tool, const std::string& command)> run;
};

struct ApplyOptions {
    std::string lock;  ///< ap_lock_file, or another
    std::chrono::milliseconds lock_patience{60'000};
    std::chrono::milliseconds binding_patience{60'000};
    std::optional<Keeping> keeping;  ///< empty: nothing is kept for the next boot
};

/// Whoever wants to know, and may end it.
class ApplyWatcher {
  public:
    ApplyWatcher() = default;
    virtual ~ApplyWatcher() = default;
    ApplyWatcher(const ApplyWatcher&) = delete;
    ApplyWatcher& operator=(const ApplyWatcher&) = delete;
    ApplyWatcher(ApplyWatcher&&) = delete;
    ApplyWatcher& operator=(ApplyWatcher&&) = delete;

    /// `what` begins, when `done` of `total` steps are done.
    virtual void begins(const std::string& what, std::size_t done, std::size_t total) = 0;
    /// Somebody wants it to end, and what was done to be undone; asked now and then.
    [[nodiscard]] virtual bool cancelled() = 0;
};

enum class ApplyState : std::uint8_t {
    running,  ///< not finished
    done,     ///< all steps are done
    undone,   ///< what was done is taken back
    refused,  ///< nothing was begun
    failed,   ///< something could not be taken back
};
/// `running`, `done`, `undone`, `refused`, `failed`
std::string_view to_text(ApplyState state);

struct ApplyReport {
    /// Something that is not as it should be, or still to be done, and what a person can do for it.
    struct Item {
        std::string text;
        std::vector<std::string> commands;
    };
    struct Step {
        std::string_view kind;  ///< as PlanStep::kind
        std::string_view rule;
        std::string text;
        enum class Outcome : std::uint8_t { done, already, failed, not_begun } outcome = Outcome::not_begun;
    };

    bool undoing = false;  ///< of an undo, else of an apply
    ApplyState state = ApplyState::refused;
    std::string reason;  ///< why it is not done; empty: it is
    std::string guest;
    std::optional<Uuid> mdev;
    std::string host;
    std::vector<Step> steps;
    std::vector<Item> undone;  ///< what was taken back
    std::vector<Item> left;  ///< what others have changed or use, so that it was not taken back; or not kept
    std::vector<Item> failed;  ///< what could not be taken back
    std::vector<Item>
        remaining;  ///< for a person: what no command mends, and what is to be done at the source
    std::vector<std::string> kept;          ///< commands that keep it for the next boot, as they were run
    std::optional<Plan::State> plan_state;  ///< of the plan that was carried out
    std::optional<Verdict> verdict;         ///< of the check afterwards
};
std::string_view to_text(ApplyReport::Step::Outcome outcome);

inline constexpr std::string_view apply_schema = "vfioap-apply/1";
/// One JSON document, xml/vfioap-apply.schema.json, ending with a newline.
std::string render_apply_json(const ApplyReport& report);

class Applier {
  public:
    /// All live longer than it.
    Applier(ApplyHost& host, const AppliedRecords& records, const ApplyOptions& options,
            ApplyWatcher& watcher)
        : host_{host}, records_{records}, options_{options}, watcher_{watcher} {}

    // None throws but std::bad_alloc.

    /// Makes the plan for the guest and carries it out.
    ApplyReport apply(const Guest& guest, const Source& source, const PlanOptions& options);
    /// Takes back all that applies have made for the mdev, as far as it is still as they left it. `user`: the
    /// guest that is known to use the mdev, or to be on its way to it; then nothing is done. Empty: none is.
    ApplyReport take_back(const Uuid& mdev, const std::string& user);
    /// Undoes the apply that has not come to its end. Not to be cancelled.
    ApplyReport recover(const Uuid& mdev);

  private:
    class Work;

    ApplyHost& host_;
    const AppliedRecords& records_;
    const ApplyOptions& options_;
    ApplyWatcher& watcher_;
};

}  // namespace vfioap
