// SPDX-License-Identifier: LGPL-2.1-or-later
// The service's connection to libvirt: which guests there are, which mdevs they have, and their state in the
// metadata of their domains.
//
// Any call of libvirt may take as long as a hook of some guest does, which libvirtd never times out: while a
// hook runs at prepare, start or started, calls about that domain and every list of domains wait (seen with
// libvirt 9.0, 11.3 and 12.8). So all calls are made in a thread of its own, one after the other, and the
// service goes on with what it was told before.
#pragma once

#include "ap/uuid.h"
#include "cli/libvirt_library.h"

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

namespace vfioap {

/// Namespace and key of our element in the metadata of a domain.
inline constexpr const char* metadata_namespace = "urn:vfioap:domain:1";
inline constexpr const char* metadata_key = "vfioap";
/// A longer element is not written, bytes. libvirt takes 4 MiB for the whole domain as it formats it, and a
/// domain that has more can be neither read nor migrated.
inline constexpr std::size_t metadata_max_bytes = std::size_t{1024} * 1024;

/// A domain of libvirt.
struct LibvirtGuest {
    Uuid uuid;
    std::string name;
    bool running = false;  ///< or paused: it has a process, and its mdevs are taken
    bool persistent = false;
    /// Of its vfio-ap hostdevs, in document order: what it has where it runs, else what it is defined with.
    std::vector<Uuid> mdevs;
    bool has_state = false;  ///< Runs with our element in its live metadata.
    friend bool operator==(const LibvirtGuest&, const LibvirtGuest&) = default;
};

/// All guests that there are have been told.
struct LibvirtConnected {};
/// Once, whatever is tried until there is a connection again. The guests known before are kept: they go on
/// without libvirtd.
struct LibvirtDisconnected {
    std::string reason;  ///< one line
};
/// New or changed; also when somebody else changed our element in its metadata.
struct GuestChanged {
    LibvirtGuest guest;
    /// Our element as libvirt has it, without prefix and declaration; empty where there is none. Untrusted:
    /// the guest may have come from another host.
    std::string state;
};
struct GuestGone {
    LibvirtGuest guest;  ///< as last told
};
/// Answers set_state().
struct StateStored {
    Uuid guest;
    bool written = false;  ///< false: it was there already
};
/// What was asked for, or a look at a guest, failed. A state that may still get through is tried again.
struct LibvirtCallFailed {
    Uuid guest;
    std::string reason;  ///< one line
    bool again = false;  ///< it is tried again
};
using LibvirtMessage = std::variant<LibvirtConnected, LibvirtDisconnected, GuestChanged, GuestGone,
                                    StateStored, LibvirtCallFailed>;

struct LibvirtLinkOptions {
    std::string uri = "qemu:///system";
    /// Between attempts to connect, and to store a state that is refused for now: twice as long each time.
    std::chrono::milliseconds first_retry{1'000};
    std::chrono::milliseconds longest_retry{60'000};
    /// An element is not written again earlier: somebody else may want it otherwise.
    std::chrono::milliseconds between_writes{1'000};
    /// Between messages that libvirtd has to answer; after five of these without an answer the connection
    /// counts as lost.
    std::chrono::seconds keepalive{5};
    /// How long the end of the link waits for a call to return.
    std::chrono::milliseconds patience{1'000};
    /// Gives the functions; called in the thread.
    std::function<Libvirt()> library = [] { return load_libvirt(); };
};

/// One at a time in a process, since libvirt has one event loop for each. For one thread; nothing here ever
/// waits, but the destructor for `patience`.
class LibvirtLink {
  public:
    /// Throws SystemError where there are no descriptors, or no thread, left. A libvirt that is not there is
    /// a message.
    explicit LibvirtLink(LibvirtLinkOptions options);
    /// A call that does not return within `patience`, of a libvirtd that hangs, is left behind: its thread
    /// ends when it returns, and has what it needs for that; when the connection is the reason, no later than
    /// the keepalive (25 s), but for a connection that is just being opened, which has no keepalive yet.
    ~LibvirtLink();
    LibvirtLink(const LibvirtLink&) = delete;
    LibvirtLink& operator=(const LibvirtLink&) = delete;
    LibvirtLink(LibvirtLink&&) = delete;
    LibvirtLink& operator=(LibvirtLink&&) = delete;

    /// Readable when there are messages.
    [[nodiscard]] int fd() const;
    /// What has happened since, oldest first. guests() and guest_of() then answer accordingly.
    std::vector<LibvirtMessage> take();

    [[nodiscard]] bool connected() const { return connected_; }
    [[nodiscard]] const std::map<Uuid, LibvirtGuest>& guests() const { return guests_; }
    /// The guest that has the mdev: the running one, if several are defined with it; null: none is known.
    [[nodiscard]] const LibvirtGuest* guest_of(const Uuid& mdev) const;

    /// Has our element in the live metadata of a running guest, never in its stored definition, say this;
    /// empty: has it taken away. Elements of others stay. `element`: without a prefix, and without a
    /// declaration of our namespace; libvirt adds both. It is written only if something else is there, later
    /// if a migration of the guest, or no connection, is in the way, and not at all when the guest stops;
    /// another one for the same guest replaces it. Throws InputError if it is longer than metadata_max_bytes.
    void set_state(const Uuid& guest, std::string element);
    /// Has libvirt abort what it is doing with the guest: its migration.
    void abort_job(const Uuid& guest);

  private:
    class Shared;
    class Follower;

    std::shared_ptr<Shared> shared_;
    std::chrono::milliseconds patience_;
    bool connected_ = false;
    std::map<Uuid, LibvirtGuest> guests_;
    std::thread thread_;
};

}  // namespace vfioap
