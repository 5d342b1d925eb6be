// SPDX-License-Identifier: LGPL-2.1-or-later
#include "move/libvirt_host.h"

#include "ap/error.h"
#include "domain/domain_xml.h"
#include "domain/state.h"
#include "hosts/remote_host.h"
#include "text/safe.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <fmt/format.h>

namespace vfioap {
namespace {

using namespace std::chrono_literals;

/// Seconds between messages that the other side has to answer, and how many may stay without an answer.
constexpr int keepalive_interval = 5;
constexpr unsigned keepalive_count = 5;
constexpr auto between_progress = 500ms;

struct Params {
    explicit Params(const Libvirt& functions) : libvirt{functions} {}
    ~Params() { libvirt.free_params(list, count); }
    Params(const Params&) = delete;
    Params& operator=(const Params&) = delete;
    Params(Params&&) = delete;
    Params& operator=(Params&&) = delete;

    const Libvirt& libvirt;
    virTypedParameterPtr list = nullptr;
    int count = 0;
    int room = 0;
};

unsigned flags_of(const MigrateOptions& options, bool peer_to_peer) {
    unsigned flags = VIR_MIGRATE_LIVE;
    const auto add = [&](bool wanted, unsigned flag) { flags |= wanted ? flag : 0U; };
    add(peer_to_peer, VIR_MIGRATE_PEER2PEER);
    add(options.persistent, VIR_MIGRATE_PERSIST_DEST);
    add(options.undefine_source, VIR_MIGRATE_UNDEFINE_SOURCE);
    add(options.copy_storage_all, VIR_MIGRATE_NON_SHARED_DISK);
    add(options.copy_storage_inc, VIR_MIGRATE_NON_SHARED_INC);
    add(options.auto_converge, VIR_MIGRATE_AUTO_CONVERGE);
    add(options.compressed, VIR_MIGRATE_COMPRESSED);
    add(options.unsafe, VIR_MIGRATE_UNSAFE);
    return flags;
}

}  // namespace

void run_libvirt_events(const Libvirt& libvirt) {
    static std::once_flag once;
    std::call_once(once, [&libvirt] {
        libvirt.register_event_loop();
        // It has something to wait for at any time, so that it never returns at once.
        libvirt.add_timeout(
            1000, [](int, void*) {}, nullptr, nullptr);
        std::thread{[run = libvirt.run_event_loop] {
            while (run() == 0) {
            }
        }}.detach();
    });
}

LibvirtHost::LibvirtHost(const Libvirt& libvirt, std::string uri, bool for_peers, Uuid guest,
                         const Uuid& mdev)
    : libvirt_{libvirt},
      uri_{std::move(uri)},
      for_peers_{for_peers},
      guest_{std::move(guest)},
      mdev_{mdev},
      device_{fmt::format(
          "<hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address uuid='{}'/></source>"
          "</hostdev>",
          mdev.to_string())},
      name_{host_of_uri(uri_, "this host")},
      connection_{nullptr, libvirt.close} {
    connection();
}

void LibvirtHost::fail(const std::string& what) const {
    const auto* const error = libvirt_.last_error();
    throw Error{fmt::format(
        "{}: {}: {}", name_, what,
        error == nullptr || error->message == nullptr ? "unknown error" : printable(error->message, 4000))};
}

virConnectPtr LibvirtHost::connection() {
    if (connection_ && libvirt_.is_alive(connection_.get()) == 1) return connection_.get();
    connection_.reset();
    connection_.reset(libvirt_.open(uri_.c_str()));
    if (!connection_) fail("cannot connect to libvirt at " + printable(uri_));
    // Where it cannot be had, the system's own patience decides.
    static_cast<void>(libvirt_.set_keep_alive(connection_.get(), keepalive_interval, keepalive_count));
    return connection_.get();
}

LibvirtHost::Domain LibvirtHost::domain() {
    return {libvirt_.lookup_by_uuid(connection(), guest_.to_string().c_str()), libvirt_.free_domain};
}

std::string LibvirtHost::domain_xml() {
    const auto found = domain();
    if (!found) fail("cannot find the guest");
    const std::unique_ptr<char, decltype(&std::free)> xml{libvirt_.xml_desc(found.get(), 0), std::free};
    if (!xml) fail("cannot read the guest's XML");
    return xml.get();
}

GuestLook LibvirtHost::look() {
    const auto gone = [this] {
        const auto* const error = libvirt_.last_error();
        return error != nullptr && error->code == VIR_ERR_NO_DOMAIN;
    };
    GuestLook look;
    const auto found = domain();
    if (!found) {
        if (gone()) return look;
        fail("cannot look for the guest");
    }
    look.persistent = libvirt_.is_persistent(found.get()) == 1;
    int state = 0;
    int reason = 0;
    if (libvirt_.get_state(found.get(), &state, &reason, 0) != 0) {
        if (gone()) return {};
        fail("cannot read the guest's state");
    }
    virDomainJobInfo job{};
    const bool knows_job = libvirt_.get_job_info(found.get(), &job) == 0;
    look.busy = knows_job && job.type != VIR_DOMAIN_JOB_NONE;
    switch (state) {
        case VIR_DOMAIN_RUNNING:
        case VIR_DOMAIN_BLOCKED:
        case VIR_DOMAIN_PMSUSPENDED:
            look.state = GuestLook::State::running;
            break;
        case VIR_DOMAIN_PAUSED:
            // A guest that comes in has no job of its own (libvirt 9.0).
            look.state = !knows_job && (reason == VIR_DOMAIN_PAUSED_MIGRATION ||
                                        reason == VIR_DOMAIN_PAUSED_STARTING_UP)
                             ? GuestLook::State::arriving
                             : GuestLook::State::paused;
            break;
        case VIR_DOMAIN_CRASHED:
        case VIR_DOMAIN_SHUTDOWN:
            look.state = GuestLook::State::paused;
            break;
        default:
            return look;
    }
    const std::unique_ptr<char, decltype(&std::free)> xml{libvirt_.xml_desc(found.get(), 0), std::free};
    if (!xml) {
        if (gone()) return {};
        fail("cannot read the guest's XML");
    }
    const auto described = parse_domain_xml(xml.get(), name_);
    look.has_device = std::any_of(described.vfio_ap.begin(), described.vfio_ap.end(),
                                  [this](const VfioApHostdev& hostdev) { return hostdev.mdev == mdev_; });
    const std::unique_ptr<char, decltype(&std::free)> element{
        libvirt_.get_metadata(found.get(), VIR_DOMAIN_METADATA_ELEMENT, state_namespace.data(),
                              VIR_DOMAIN_AFFECT_LIVE),
        std::free};
    if (element) look.state_element = element.get();
    return look;
}

void LibvirtHost::set_state(const std::string& element) {
    const auto found = domain();
    if (!found || libvirt_.set_metadata(found.get(), VIR_DOMAIN_METADATA_ELEMENT,
                                        element.empty() ? nullptr : element.c_str(), state_key.data(),
                                        state_namespace.data(), VIR_DOMAIN_AFFECT_LIVE) != 0)
        fail("cannot write the guest's state into its domain");
}

void LibvirtHost::detach() {
    const auto found = domain();
    if (!found || libvirt_.detach_device(found.get(), device_.c_str(), VIR_DOMAIN_AFFECT_LIVE) != 0)
        fail("cannot detach the device");
}

void LibvirtHost::attach() {
    const auto found = domain();
    if (!found || libvirt_.attach_device(found.get(), device_.c_str(), VIR_DOMAIN_AFFECT_LIVE) != 0)
        fail("cannot attach the device");
}

MigrateProgress LibvirtHost::progress_of(virDomainPtr domain) const {
    Params params{libvirt_};
    int type = 0;
    MigrateProgress progress;
    if (libvirt_.get_job_stats(domain, &type, &params.list, &params.count, 0) != 0) return progress;
    const auto number = [&](const char* name, std::uint64_t& value) {
        unsigned long long found = 0;
        if (libvirt_.get_number_param(params.list, params.count, name, &found) == 1) value = found;
    };
    number(VIR_DOMAIN_JOB_DATA_PROCESSED, progress.processed);
    number(VIR_DOMAIN_JOB_DATA_REMAINING, progress.remaining);
    number(VIR_DOMAIN_JOB_DATA_TOTAL, progress.total);
    number(VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, progress.dirty_rate);
    number(VIR_DOMAIN_JOB_DOWNTIME, progress.downtime);
    return progress;
}

void LibvirtHost::migrate(GuestHost& destination, const MigrateOptions& options,
                          const std::function<std::string(const MigrateProgress&)>& tell) {
    auto& there = dynamic_cast<LibvirtHost&>(destination);
    const auto found = domain();
    if (!found) fail("cannot find the guest");
    Params params{libvirt_};
    if (!options.migrate_uri.empty() &&
        libvirt_.add_string_param(&params.list, &params.count, &params.room, VIR_MIGRATE_PARAM_URI,
                                  options.migrate_uri.c_str()) != 0)
        fail("cannot migrate");
    if (options.bandwidth > 0 &&
        libvirt_.add_number_param(&params.list, &params.count, &params.room, VIR_MIGRATE_PARAM_BANDWIDTH,
                                  options.bandwidth) != 0)
        fail("cannot migrate");
    const auto flags = flags_of(options, there.for_peers_);
    auto* const there_connection = there.connection();
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    std::optional<std::string> problem;
    // The call returns when the guest is there; errors are of the thread that has made it.
    std::thread call{[&] {
        bool good = false;
        if (there.for_peers_) {
            good = libvirt_.migrate_to_uri(found.get(), there.uri_.c_str(), params.list,
                                           static_cast<unsigned>(params.count), flags) == 0;
        } else {
            const Domain arrived{libvirt_.migrate(found.get(), there_connection, params.list,
                                                  static_cast<unsigned>(params.count), flags),
                                 libvirt_.free_domain};
            good = arrived != nullptr;
        }
        const auto* const error = good ? nullptr : libvirt_.last_error();
        const std::lock_guard lock{mutex};
        if (!good)
            problem = error == nullptr || error->message == nullptr ? "unknown error"
                                                                    : printable(error->message, 4000);
        done = true;
        changed.notify_all();
    }};
    std::string ended;  // why we end it
    std::unique_lock lock{mutex};
    while (!changed.wait_for(lock, between_progress, [&] { return done; })) {
        lock.unlock();
        const auto progress = progress_of(found.get());
        // libvirtd itself may wait for a host that is gone until TCP gives up.
        if (ended.empty() && libvirt_.is_alive(there_connection) != 1)
            ended = fmt::format("{} does not answer any more", there.name_);
        if (ended.empty()) ended = tell(progress);
        // A job that is not there yet cannot be aborted: it is tried again.
        if (!ended.empty()) static_cast<void>(libvirt_.abort_job(found.get()));
        lock.lock();
    }
    lock.unlock();
    call.join();
    if (problem) throw Error{fmt::format("{}: cannot migrate: {}", name_, ended.empty() ? *problem : ended)};
}

}  // namespace vfioap
