// SPDX-License-Identifier: LGPL-2.1-or-later
// What a mover does with a guest on one host: an interface, so that every failure can be played in tests.
// libvirt_host.h has the real one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace vfioap {

/// What a host says of the guest, at one moment.
struct GuestLook {
    enum class State : std::uint8_t {
        absent,   ///< not known there, or defined and not running
        running,  ///< its processors run
        paused,   ///< it has a process, but does not run
        arriving  ///< it has a process that waits for an incoming migration
    };
    State state = State::absent;
    bool persistent = false;    ///< is defined there
    bool has_device = false;    ///< the running one has the hostdev of the mdev
    bool busy = false;          ///< a migration of it is under way
    std::string state_element;  ///< our element in its live metadata, as libvirt gives it
};

/// Passed on to libvirt as they are; zero or false: libvirt's default.
struct MigrateOptions {
    bool persistent = false;  ///< define it at the destination
    bool undefine_source = false;
    bool copy_storage_all = false;
    bool copy_storage_inc = false;
    bool auto_converge = false;
    bool compressed = false;
    bool unsafe = false;
    std::uint64_t bandwidth = 0;  ///< MiB/s
    std::string migrate_uri;      ///< where QEMU connects to, `tcp://host:port`
};

struct MigrateProgress {
    std::uint64_t processed = 0;   ///< bytes
    std::uint64_t remaining = 0;   ///< bytes
    std::uint64_t total = 0;       ///< bytes
    std::uint64_t dirty_rate = 0;  ///< pages/s
    std::uint64_t downtime = 0;    ///< ms, expected
};

class GuestHost {
  public:
    GuestHost() = default;
    virtual ~GuestHost() = default;
    GuestHost(const GuestHost&) = delete;
    GuestHost& operator=(const GuestHost&) = delete;
    GuestHost(GuestHost&&) = delete;
    GuestHost& operator=(GuestHost&&) = delete;

    /// For messages.
    [[nodiscard]] virtual const std::string& name() const = 0;

    // Each throws Error where it cannot be done, or the host does not answer. Whether it was done all the
    // same, only another look() tells.

    virtual GuestLook look() = 0;
    /// Our element in the live metadata, in the form of state_metadata(); empty: taken away.
    virtual void set_state(const std::string& element) = 0;
    /// Asks the guest to release the device; it may do so later, or never.
    virtual void detach() = 0;
    virtual void attach() = 0;
    /// Live, from here to `destination`. `tell` is called now and then, and ends the migration by returning
    /// why. Returns when the guest is there.
    virtual void migrate(GuestHost& destination, const MigrateOptions& options,
                         const std::function<std::string(const MigrateProgress&)>& tell) = 0;
};

}  // namespace vfioap
