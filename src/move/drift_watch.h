// SPDX-License-Identifier: LGPL-2.1-or-later
// Watches, while a guest moves, what its move was judged by. Nothing below us notices when the two hosts
// drift apart; and what is noticed only when the guest has arrived is too late for it.
#pragma once

#include "cli/host_location.h"
#include "compat/check.h"
#include "domain/state.h"
#include "move/drift.h"
#include "service/event.h"

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace vfioap {

/// How the guest's configuration differs from what it was, in words that follow "it has"; empty: not at all.
std::string difference(const GuestConfiguration& before, const GuestConfiguration& now);

/// What was judged, and how.
struct JudgedMove {
    Guest guest;
    Source source;
    DomainState state;  ///< of the guest at the source
    Mode mode = Mode::native;
    Profile profile = Profile::automatic;
};

/// For one thread, beside its own.
class DriftWatch {
  public:
    /// Judges the move once more, and from then on whenever something has changed at `destination`: a sysfs
    /// root is looked at every second, a service tells. That the guest is arriving there is no change, nor is
    /// what its arrival makes of its mdev. A snapshot does not change. `source`: a sysfs root where the guest
    /// has to keep what it has; none: it does not matter any more.
    ///
    /// Throws SystemError, InputError, UnreachableError where a host cannot be read. Where that happens
    /// later, it goes on trying.
    DriftWatch(const HostLocation& destination, const std::optional<HostLocation>& source, JudgedMove move);
    ~DriftWatch();
    DriftWatch(const DriftWatch&) = delete;
    DriftWatch& operator=(const DriftWatch&) = delete;
    DriftWatch(DriftWatch&&) = delete;
    DriftWatch& operator=(DriftWatch&&) = delete;

    /// The first that was found. `most`: so long it waits for a look that begins now.
    std::optional<Drift> found(std::chrono::milliseconds most);
    /// Why a host could not be watched; each once.
    std::vector<std::string> take_problems();

    /// One of the hosts.
    class Side;

  private:
    void run();
    void look();
    using Judge = std::optional<Drift> (DriftWatch::*)(const Inventory&) const;
    void judge(Side* side, Judge how);
    [[nodiscard]] std::optional<Drift> judge_destination(const Inventory& inventory) const;
    [[nodiscard]] std::optional<Drift> judge_source(const Inventory& inventory) const;

    JudgedMove move_;
    Event stop_;
    std::unique_ptr<Side> destination_;
    std::unique_ptr<Side> source_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable looked_;
    bool stopping_ = false;
    unsigned asked_ = 0;  // looks that somebody waits for
    unsigned done_ = 0;
    std::optional<Drift> drift_;
    std::vector<std::string> problems_;
    std::thread thread_;
};

}  // namespace vfioap
