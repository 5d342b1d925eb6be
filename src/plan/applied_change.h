// SPDX-License-Identifier: LGPL-2.1-or-later
// What an apply changes, with what was before: enough for whoever comes later to look whether it was done,
// and to undo it.
#pragma once

#include "host/inventory.h"
#include "plan/plan.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// A host that can be changed: the real one is SysfsHost, those of tests refuse and fail as asked for.
class ApplyHost {
  public:
    ApplyHost() = default;
    virtual ~ApplyHost() = default;
    ApplyHost(const ApplyHost&) = delete;
    ApplyHost& operator=(const ApplyHost&) = delete;
    ApplyHost(ApplyHost&&) = delete;
    ApplyHost& operator=(ApplyHost&&) = delete;

    /// As SysfsRoot::read_for.
    virtual Inventory read_for(const Uuid& mdev, const std::vector<Apqn>& queues) = 0;
    /// `driver_override` of a queue, of which read_for() need not tell; empty where it is not set, or the
    /// kernel has none. Throws SystemError where it cannot be read.
    virtual std::string driver_override(Apqn queue) = 0;
    /// Throws SystemError where the kernel refuses it.
    virtual void write(const SysfsWrite& write) = 0;
    /// Throws Error where it is not to be had.
    virtual void load_driver() = 0;
    /// Lets time pass.
    virtual void pause(std::chrono::milliseconds time) = 0;
    /// The time that has passed, from any beginning.
    [[nodiscard]] virtual std::chrono::milliseconds clock() = 0;
};

struct AppliedChange {
    enum class Kind : std::uint8_t {
        driver,    ///< vfio_ap was loaded
        cards,     ///< `numbers` were configured on
        mask,      ///< the bits `numbers` of apmask or aqmask were cleared
        binding,   ///< `queue` came to vfio_ap, by an override or a probe
        mdev,      ///< `mdev` was created
        contents,  ///< `mdev` held `before`, and then `after`
    };
    Kind kind{};
    Mask numbers;
    bool apmask = false;  ///< else aqmask
    std::optional<Apqn> queue;
    std::string driver;           ///< of the queue, before; empty: none
    std::string override_before;  ///< driver_override
    std::string override_after;
    std::optional<Uuid> mdev;
    MdevContents before;
    MdevContents after;
    friend bool operator==(const AppliedChange&, const AppliedChange&) = default;
};
/// `driver`, `cards`, `mask`, …
std::string_view to_text(AppliedChange::Kind kind);
std::optional<AppliedChange::Kind> parse_applied_kind(std::string_view text);
/// `adapter 05 configured on`, in the words of messages.
std::string text_of(const AppliedChange& change);

/// What a step is about to change, given what is there now. Nothing for a step that changes nothing.
std::vector<AppliedChange> changes_of(const PlanStep& step, const Inventory& now, ApplyHost& host);

struct Undoing {
    enum class Outcome : std::uint8_t {
        undone,  ///< it is as before
        idle,    ///< it was so already
        left,    ///< others have changed or use it: it was not touched
        failed,  ///< the kernel refuses, or it cannot be read
    };
    Outcome outcome{};
    std::string text;  ///< why, for `left` and `failed`
};

/// Undoes `changes[number]`, after all that come after it, as far as it is still as it was left. `mdev`: the
/// guest's. Never throws but std::bad_alloc.
Undoing undo(const std::vector<AppliedChange>& changes, std::size_t number, const Uuid& mdev,
             ApplyHost& host);

}  // namespace vfioap
