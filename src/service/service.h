// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapd: what one host says on the bus of its vfio-ap devices, and the migrations it takes part in.
#pragma once

#include "cli/host_location.h"
#include "cli/service_client.h"
#include "host/capabilities.h"
#include "host/known_keys.h"
#include "service/destinations.h"
#include "service/event.h"
#include "service/gate.h"
#include "service/host_watch.h"
#include "service/jobs.h"
#include "service/libvirt_link.h"
#include "service/mdev_object.h"
#include "service/migration_object.h"
#include "service/plan_object.h"
#include "service/requests.h"
#include "service/worker.h"
#include "stream/device.h"

#include <chrono>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "Manager_adaptor.h"

namespace vfioap {

struct ServiceOptions {
    std::string sysfs_root = "/sys";
    bool session = false;                   ///< on the session bus, for its own user, without polkit
    std::string uri = "qemu:///system";     ///< libvirt; empty: it is not asked
    std::vector<std::string> destinations;  ///< known ones, as on a command line; more may be in the file
    std::string config = "/etc/vfioap/vfioap.conf";
    std::string state_directory;  ///< for master keys and what plans made; empty: none are remembered
    std::string ap_lock;  ///< of s390-tools; empty: ap_lock_file for /sys, else one in the state directory
    std::string given_keys = "/etc/vfioap/master-keys";
    /// How long libvirt has to say what a guest is that a caller asks for. Less than what most callers wait:
    /// 25 s in libdbus and sd-bus.
    std::chrono::milliseconds libvirt_limit{15'000};
};

/// Of all objects only the manager, which lasts as long as the service.
class ManagerObject final
    : public sdbus::AdaptorInterfaces<org::vfioap1::Manager_adaptor, sdbus::ObjectManager_adaptor> {
  public:
    ManagerObject(sdbus::IConnection& connection, class Service& service);
    ~ManagerObject();
    ManagerObject(const ManagerObject&) = delete;
    ManagerObject& operator=(const ManagerObject&) = delete;
    ManagerObject(ManagerObject&&) = delete;
    ManagerObject& operator=(ManagerObject&&) = delete;

    [[nodiscard]] sdbus::IObject& object() { return getObject(); }

  private:
    using Answer = sdbus::Result<std::string, std::vector<std::string>, std::string>;
    void GetInventory(sdbus::Result<std::string>&& result) override;
    void CheckXml(Answer&& result, std::string domain_xml, std::string source_snapshot,
                  std::map<std::string, sdbus::Variant> options) override;
    void CheckGuest(Answer&& result, std::string guest, std::string destination,
                    std::map<std::string, sdbus::Variant> options) override;
    void OpenMigration(sdbus::Result<sdbus::ObjectPath>&& result, std::string mdev, std::string role,
                       std::map<std::string, sdbus::Variant> options) override;
    void ApplyPlan(sdbus::Result<sdbus::ObjectPath>&& result, std::string domain_xml,
                   std::string source_snapshot, std::map<std::string, sdbus::Variant> options) override;
    void UndoPlan(sdbus::Result<sdbus::ObjectPath>&& result, std::string guest,
                  std::map<std::string, sdbus::Variant> options) override;
    void HookCalled(sdbus::Result<>&& result, std::string guest, std::string mdev,
                    std::string operation) override;
    std::string Version() override;
    std::string SysfsRoot() override;
    std::vector<std::string> Features() override;
    std::map<std::string, sdbus::Struct<std::string, std::int64_t, std::string>> Destinations() override;

    class Service& service_;
};

/// SIGTERM, SIGINT and SIGHUP as something to read. Made before any thread, so that none of them is ended by
/// one.
class Signals {
  public:
    Signals();
    ~Signals();
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;
    Signals(Signals&&) = delete;
    Signals& operator=(Signals&&) = delete;
    [[nodiscard]] int fd() const { return fd_; }
    /// The next one, or 0.
    [[nodiscard]] int next() const;

  private:
    int fd_;
};

class Service {
  public:
    /// Throws Error where the root cannot be read, and sdbus::Error where there is no bus, or the name is
    /// taken.
    explicit Service(ServiceOptions options);
    ~Service();
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;
    Service(Service&&) = delete;
    Service& operator=(Service&&) = delete;

    /// Until a signal asks it to end; then 0.
    int run();

  private:
    friend class ManagerObject;
    using Clock = std::chrono::steady_clock;
    struct Verdict {
        std::string verdict;
        std::vector<std::string> rules;
        std::string report;
        [[nodiscard]] std::tuple<std::string, std::vector<std::string>, std::string> values() const {
            return {verdict, rules, report};
        }
    };

    // The calls of the manager.
    std::string inventory_text();
    void get_inventory(const sdbus::IObject& object, sdbus::Result<std::string>&& result);
    Verdict check_xml(const std::string& domain_xml, const std::string& source_snapshot,
                      const std::map<std::string, sdbus::Variant>& options);
    using CheckAnswer =
        std::function<void(const sdbus::Error* error,
                           const std::tuple<std::string, std::vector<std::string>, std::string>& values)>;
    /// Answers later with what `check`, in another thread, makes of a guest's XML once libvirt has told it:
    /// either may take long.
    void check_libvirt_guest(const std::string& guest, CheckAnswer answer,
                             std::function<Verdict(const std::string& domain_xml)> check);
    /// The reply for the exception that is being handled, which is logged if it is a failure of the service.
    sdbus::Error error_reply(std::string_view member);
    void check_guest(const sdbus::IObject& object,
                     sdbus::Result<std::string, std::vector<std::string>, std::string>&& result,
                     const std::string& guest, const std::string& destination,
                     const std::map<std::string, sdbus::Variant>& options);
    std::string open_migration(const std::string& mdev, const std::string& role,
                               const std::map<std::string, sdbus::Variant>& options,
                               const std::string& owner);
    std::string apply_plan(const std::string& domain_xml, const std::string& source_snapshot,
                           const std::map<std::string, sdbus::Variant>& options, const std::string& owner);
    std::string undo_plan(const std::string& guest, const std::map<std::string, sdbus::Variant>& options,
                          const std::string& owner);
    /// What the libvirt hook of this host was called for.
    void hear_hook(const std::string& guest, const std::string& mdev, const std::string& operation);
    void forget_arrivals(Clock::time_point now);
    /// A guest that is to come here, as a caller describes it.
    struct Arriving {
        Guest guest;
        Source source;
    };
    static Arriving read_arriving(const std::string& domain_xml, const std::string& source_snapshot);
    static CheckOptions check_options(CallOptions& options);
    /// The same for a guest that comes here.
    static CheckOptions arriving_options(CallOptions& options);
    static Verdict verdict_of(const Report& report);

    /// Has `step` done. Whatever it throws is logged, and goes no further: one thing that cannot be done ends
    /// neither the service nor what else there is to do.
    template <typename Step>
    void attempt(std::string_view what, Step step) noexcept;
    void note_failure(std::string_view what, const std::exception_ptr& error) noexcept;
    /// The same, but for sdbus::Error, which is thrown where the bus is gone.
    template <typename Step>
    void attempt_on_bus(std::string_view what, Step step);
    void process_signals();
    void wait(Clock::time_point until);
    [[nodiscard]] Clock::time_point next_turn() const;
    void look_at_host(Clock::time_point now);
    void update_mdevs();
    [[nodiscard]] bool is_in_use(const Uuid& uuid) const;
    void hear_libvirt();
    void hear(const LibvirtMessage& message, std::set<Uuid>& mdevs);
    /// At start, hot-plug and change of the configuration: the one place where a state is made.
    void keep_state(const Uuid& mdev);
    /// A state may say that the device is away for a move, which is true from just before it is detached
    /// until it is attached again. A state that does not say so, of a guest without an mdev, is taken away.
    void judge_mark(const LibvirtGuest& guest, const std::string& state);
    void forget_moves(Clock::time_point now);
    [[nodiscard]] const LibvirtGuest* guest_of(const Uuid& mdev) const;
    void abort_job(const Uuid& mdev);
    void ask_for_verdicts();
    void tell_destinations(const std::map<std::string, std::string>& problems);
    void log_destination(const std::string& name, const DestinationState& seen, std::int64_t now);
    [[nodiscard]] std::shared_ptr<Destination> find_destination(const std::string& name) const;
    /// What the administrator wrote down: configuration and master keys.
    void load_files();
    /// Master keys of the queues that the host's own drivers have, while they can be seen.
    void look_for_keys();
    void remember_keys(const Inventory& inventory);
    /// The same, but for callers who ask again and again of one guest: what was read for the last of them, if
    /// that is no older than what a change takes to be seen.
    std::shared_ptr<const Inventory> judged(const Uuid& mdev, std::vector<Apqn> queues);
    void forget_inventory_text();
    [[nodiscard]] Inventory read_for(const Uuid& mdev, const std::vector<Apqn>& queues) const;
    void forget_client(const std::string& name);
    void close_objects();
    /// What an apply or undo does, in a thread of its own; both are done one after another.
    using PlanWork = std::function<ApplyReport(Applier& applier)>;
    std::string start_plan(const std::string& guest, const Uuid& mdev, const std::string& owner,
                           PlanWork work);
    void do_plan(const std::shared_ptr<PlanProgress>& progress, PlanWork work);
    void finish_plan(const ApplyReport& report);
    /// What a service that died has begun.
    void recover_plans();
    [[nodiscard]] std::string plans_directory() const;
    /// Whoever has the mdev, or is on his way to it; empty: nobody is known.
    [[nodiscard]] std::string user_of(const Uuid& mdev) const;

    Signals signals_;
    ServiceOptions options_;
    std::unique_ptr<sdbus::IConnection> connection_;
    SysfsRoot root_;
    HostWatch watch_;
    Gate gate_;
    Jobs jobs_;
    Requests requests_;
    MigrationDevices devices_;
    std::shared_ptr<const Inventory> inventory_;
    std::shared_ptr<EmulatorProbe> emulator_ = std::make_shared<EmulatorProbe>(usual_emulator);
    Qemu qemu_;
    std::string inventory_text_;  // of GetInventory; empty: to be made
    Clock::time_point inventory_text_time_;
    struct Judged {
        std::optional<Uuid> mdev;
        std::vector<Apqn> queues;
        std::shared_ptr<const Inventory> inventory;  // null: nothing was read
        Clock::time_point time;
    } judged_;
    std::map<Uuid, std::map<std::string, std::string>> verdicts_;
    KnownKeys keys_;
    std::unique_ptr<ManagerObject> manager_;
    std::map<Uuid, std::unique_ptr<MdevObject>> mdevs_;
    std::map<std::string, std::shared_ptr<MigrationObject>> migrations_;  // by path
    std::vector<std::string> closing_;                                    // paths
    std::map<std::string, std::shared_ptr<PlanObject>> plans_;            // by path
    unsigned next_migration_ = 1;
    unsigned next_plan_ = 1;
    bool stop_ = false;
    /// Not expired while a job of worker_ is under way. What it watches is held by the end of the job alone,
    /// so that no failure can leave it set.
    using Underway = std::weak_ptr<const void>;
    Underway asking_for_verdicts_;
    Underway looking_for_keys_;
    bool mdevs_outdated_ = false;  // the objects of mdevs are not what is known of them
    std::string last_failure_;     // as logged
    Clock::time_point last_failure_time_;
    std::optional<Iommufd> iommufd_;  // of this machine, as last asked
    Clock::time_point next_verdicts_;
    std::map<std::string, DestinationState> destination_states_;
    std::map<std::string, std::string> logged_destinations_;  // why each cannot be reached, as logged
    /// Raised by those that are followed. Shared with threads that may outlive the service.
    std::shared_ptr<const Event> destinations_changed_ = std::make_shared<const Event>();
    std::vector<std::shared_ptr<Destination>> destinations_;  // for jobs of worker_ only
    struct Move {
        Clock::time_point since;  // a mover that has not come back within an hour does not come back
        bool away = false;        // the device has been seen to be away
    };
    std::map<Uuid, Move> moving_;  // by guest: its state says that the device is away for a move
    struct Arrival {
        std::string guest;
        Clock::time_point since;
    };
    std::map<Uuid, Arrival> arriving_;  // by mdev: judged, and not running yet
    /// Raised by what is being applied.
    std::shared_ptr<const Event> plans_changed_ = std::make_shared<const Event>();
    Worker worker_;          // for hosts and their snapshots
    Worker libvirt_worker_;  // of its own: libvirt may not answer for as long as it likes
    Worker applier_;         // of its own: it waits for locks and for the bus to bind queues
    std::optional<LibvirtLink> libvirt_;
};

}  // namespace vfioap
