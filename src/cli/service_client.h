// SPDX-License-Identifier: LGPL-2.1-or-later
// Asks the service, org.vfioap1, of this host or of another. What another host says is trusted no more than a
// snapshot.
#pragma once

#include "ap/apqn.h"
#include "ap/error.h"
#include "ap/mask.h"
#include "ap/uuid.h"
#include "host/inventory.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

struct sd_bus;
struct sd_bus_message;

namespace vfioap {

/// An object org.vfioap1.Mdev: see man 7 vfioap-dbus.
struct ServiceMdev {
    explicit ServiceMdev(Uuid name) : uuid{std::move(name)} {}
    Uuid uuid;
    std::string guest;  ///< empty: none known
    bool in_use = false;
    std::vector<Apqn> queues;
    Mask control_domains;
    std::size_t assigned = 0;                     ///< queues in the matrix
    std::map<std::string, std::string> verdicts;  ///< by known destination
};

/// What is known of a known destination.
struct DestinationState {
    std::string state;       ///< `reachable` or `unreachable`
    std::int64_t since = 0;  ///< seconds since 1970-01-01 UTC
    std::string reason;      ///< why it is unreachable
    friend bool operator==(const DestinationState&, const DestinationState&) = default;
};

/// There is no service on this host, or it does not run.
class ServiceNotRunning : public UnreachableError {
    using UnreachableError::UnreachableError;
};

/// The service refuses what it was asked for.
class ServiceError : public Error {
  public:
    ServiceError(std::string name, const std::string& what) : Error{what}, name_{std::move(name)} {}
    /// Of D-Bus: `org.vfioap1.Error.NotAuthorized`.
    [[nodiscard]] const std::string& name() const { return name_; }

  private:
    std::string name_;
};

/// An object org.vfioap1.Plan: see man 7 vfioap-dbus.
struct ServicePlan {
    std::string state;
    std::string step;
    std::uint32_t done = 0;
    std::uint32_t total = 0;
    friend bool operator==(const ServicePlan&, const ServicePlan&) = default;
};

class ServiceClient {
  public:
    struct Remote {
        std::string host;         ///< what RemoteHost::parse() takes
        bool interactive = true;  ///< ssh may ask for a password, and waits as long as it likes
        int stop = -1;  ///< a descriptor: when it is readable, every call ends with UnreachableError
    };
    /// The service of this host, on its system bus, which is not started for this: ServiceNotRunning, here or
    /// in the first call. `start`: it is started all the same.
    static ServiceClient local(bool start = false);
    /// The service of another, on its system bus, over SSH: `ssh -xT HOST systemd-stdio-bridge`. Started
    /// there if need be. Throws UnreachableError, here or in the first call; InputError for what is no host.
    explicit ServiceClient(Remote remote);
    ~ServiceClient();
    ServiceClient(const ServiceClient&) = delete;
    ServiceClient& operator=(const ServiceClient&) = delete;
    ServiceClient(ServiceClient&&) noexcept;
    ServiceClient& operator=(ServiceClient&&) = delete;

    // Each throws UnreachableError where there is no answer, and InputError where it is not what is expected.

    Inventory inventory();
    /// Sorted by UUID.
    std::vector<ServiceMdev> mdevs();
    /// By location.
    std::map<std::string, DestinationState> destinations();

    /// Opens a migration, which lasts as long as this connection: man 7 vfioap-dbus, OpenMigration.
    void open_migration(const Uuid& mdev, const char* role, bool abort_job);
    /// The sysfs root that it serves.
    std::string sysfs_root();

    /// Whoever wants to know how far it is; false: it is to be cancelled.
    using TellPlan = std::function<bool(const ServicePlan&)>;
    /// Has a plan carried out for a guest (man 7 vfioap-dbus, ApplyPlan), or taken back what plans made
    /// (UndoPlan), and waits for the end. Gives its report, JSON that came from there. Throws ServiceError.
    std::string apply_plan(const std::string& domain_xml, const std::string& source_snapshot,
                           const std::map<std::string, std::string>& words, bool leave_unused,
                           const TellPlan& tell);
    std::string undo_plan(const std::string& guest, const TellPlan& tell);
    /// Calls a method of the manager that takes strings, and is not interested in what it answers: gives up
    /// after `most`, without an error.
    void tell(const char* member, const std::vector<std::string>& arguments, std::chrono::milliseconds most);

    /// From now on changes of what the service tells are heard.
    void follow();
    /// Waits until something has changed, or as long as `most`; false: nothing has.
    bool wait_for_change(std::chrono::milliseconds most);

  private:
    struct Unref {
        void operator()(sd_bus* bus) const;
        void operator()(sd_bus_message* message) const;
    };
    using Message = std::unique_ptr<sd_bus_message, Unref>;

    ServiceClient() = default;
    Message new_call(const char* path, const char* interface, const char* member);
    /// The answer, which may be an error.
    Message ask(const Message& request, std::chrono::seconds patience);
    Message call(const Message& request);
    /// The same for what changes something; who has to be asked for a password is given time.
    Message manage(const Message& request);
    std::string follow_plan(const Message& request, const TellPlan& tell);
    ServicePlan read_plan(const std::string& path);
    /// Has the bus do what there is to do, until `done` or the deadline; false: the deadline has come.
    bool run(const std::function<bool()>& done, std::chrono::steady_clock::time_point deadline);
    [[noreturn]] void fail(const std::string& why) const;
    int check(int result) const;

    std::unique_ptr<sd_bus, Unref> bus_;
    std::string host_;  // empty: this one
    std::string name_ = "the service of this host";
    int stop_ = -1;
    bool start_ = true;
    std::unique_ptr<bool> changed_ = std::make_unique<bool>(false);
};

}  // namespace vfioap
