// SPDX-License-Identifier: LGPL-2.1-or-later
// Known destinations: hosts to which guests may go. Snapshots and directories are looked at when they are
// asked for; services of other hosts are followed over SSH, in a thread each, and tell when they change.
#pragma once

#include "cli/host_location.h"
#include "host/inventory.h"
#include "service/event.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace vfioap {

/// The service of another host, followed as long as this is there. A connection that is lost is opened again,
/// with longer and longer pauses.
class RemoteFollower {
  public:
    /// Raises `changed` whenever there is something new.
    RemoteFollower(std::string host, std::shared_ptr<const Event> changed);
    ~RemoteFollower();
    RemoteFollower(const RemoteFollower&) = delete;
    RemoteFollower& operator=(const RemoteFollower&) = delete;
    RemoteFollower(RemoteFollower&&) = delete;
    RemoteFollower& operator=(RemoteFollower&&) = delete;

    /// Its inventory. Throws UnreachableError, with the reason, where there is none now. In any thread.
    [[nodiscard]] std::shared_ptr<const Inventory> inventory() const;

  private:
    void run();
    void tell(std::shared_ptr<const Inventory> inventory, std::string problem);

    std::string host_;
    std::shared_ptr<const Event> changed_;
    Event stop_;
    mutable std::mutex mutex_;
    std::shared_ptr<const Inventory> inventory_;
    std::string problem_;
    std::thread thread_;
};

/// One known destination. Not for several threads at once.
class Destination {
  public:
    /// `local_root`: what `local` means. Where the location cannot be understood, open() throws.
    Destination(std::string name, std::string local_root, const std::shared_ptr<const Event>& changed);

    [[nodiscard]] const std::string& name() const { return name_; }
    /// Throws UnreachableError, InputError, SystemError.
    [[nodiscard]] Host open();

  private:
    struct Version {
        std::uint64_t device = 0;
        std::uint64_t inode = 0;
        std::int64_t size = -1;
        std::int64_t seconds = 0;
        std::int64_t nanoseconds = 0;
        friend bool operator==(const Version&, const Version&) = default;
    };
    std::string name_;
    std::string local_root_;
    Version version_;  // of the snapshot below
    std::shared_ptr<const Inventory> snapshot_;
    std::unique_ptr<RemoteFollower> remote_;
};

/// What is known of all destinations.
struct DestinationVerdicts {
    std::map<Uuid, std::map<std::string, std::string>> verdicts;  ///< by mdev and destination
    std::map<std::string, std::string> problems;  ///< by destination, one line; empty: it is reachable
};

/// Asks `check` of every mdev and destination. Where that throws anything, or opening the destination does,
/// the mdevs' verdicts for this destination, and no other, are `undetermined`.
DestinationVerdicts check_destinations(
    const std::vector<Uuid>& mdevs, const std::vector<std::shared_ptr<Destination>>& destinations,
    const std::function<Verdict(const Uuid& mdev, const Host& destination)>& check);

}  // namespace vfioap
