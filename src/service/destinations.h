// SPDX-License-Identifier: LGPL-2.1-or-later
// Known destinations: hosts to which guests may go. Snapshots and directories are looked at when they are
// asked for; services of other hosts are followed over SSH, in a thread each, and tell when they change.
#pragma once

#include "cli/host_location.h"
#include "host/inventory.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "service/event.h"

namespace vfioap {

/// The service of another host, followed as long as this is there. A connection that is lost is opened again,
/// with longer and longer pauses.
class RemoteFollower {
  public:
    /// Raises `changed`, which lives longer, whenever there is something new.
    RemoteFollower(std::string host, const Event& changed);
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
    const Event& changed_;
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
    Destination(std::string name, std::string local_root, const Event& changed);

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

}  // namespace vfioap
