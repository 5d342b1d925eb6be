// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/service.h"

#include "ap/error.h"
#include "cli/libvirt_guest.h"
#include "compat/state.h"
#include "config/settings.h"
#include "domain/domain_xml.h"
#include "host/ap_config.h"
#include "host/ap_lock.h"
#include "host/guest_matrix.h"
#include "host/snapshot.h"
#include "plan/local_host.h"
#include "report/json.h"
#include "service/log.h"
#include "text/safe.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <set>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <malloc.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

namespace vfioap {
namespace {

using namespace std::chrono_literals;

/// What no honest caller exceeds: libvirt's limit for a domain's XML, and a snapshot of a host with 65,536
/// queues.
constexpr std::size_t most_xml = std::size_t{4} * 1024 * 1024;
constexpr std::size_t most_snapshot = std::size_t{64} * 1024 * 1024;
constexpr std::size_t most_migrations = 1024;
constexpr std::size_t most_plans = 64;
constexpr int messages_at_once = 256;
constexpr auto verdicts_again = 5s;
constexpr auto full_again = 60s;
constexpr auto longest_move = 1h;
constexpr auto longest_arrival = 2h;
/// As soon as changes are seen anyway.
constexpr auto judged_again = 1s;
/// What one host, a snapshot and a program that is started may take. Nothing that runs well takes as long.
constexpr auto worker_limit = 60s;
/// What was begun of a plan is taken back first, as far as that is done before systemd ends the service by
/// force, 90 s after it has asked. The rest is taken back when it starts again (recover_plans()).
constexpr auto applier_patience = 80s;
/// A destination is said to be unreachable once it is for so long.
constexpr auto unreachable_for = 5s;
/// The same failure is not logged again earlier.
constexpr auto failure_again = 60s;

void limit(std::string_view what, std::size_t size, std::size_t most) {
    if (size > most)
        throw CallError{"LimitsExceeded",
                        fmt::format("{} has {} bytes; expected at most {}", what, size, most)};
}

std::vector<std::string> texts_of(const std::vector<Apqn>& queues) {
    std::vector<std::string> texts;
    texts.reserve(queues.size());
    for (const auto apqn : queues)
        texts.push_back(apqn.to_string());
    return texts;
}

std::vector<std::string> texts_of(const Mask& domains) {
    std::vector<std::string> texts;
    for (const auto domain : domains.bits())
        texts.push_back(domain_text(domain));
    return texts;
}

/// The snapshot of it. Some 60,000 queues that all have keys are too much for a message: then without keys.
/// Those can be unknown, while a queue that is not told of would be missing.
std::string text_of_inventory(Inventory inventory) {
    std::ostringstream text;
    write_snapshot(text, inventory, {});
    if (size_in_message(text.str()) <= most_answer) return std::move(text).str();
    // By pointers that keep what they point to.
    std::map<std::shared_ptr<const QueueDetail>, std::shared_ptr<const QueueDetail>> without;
    for (auto& queue : inventory.queues) {
        if (queue.mkvps() == nullptr) continue;
        auto& detail = without[queue.detail];
        if (!detail) {
            auto made = std::make_shared<QueueDetail>(*queue.detail);
            made->mkvps.reset();
            detail = std::move(made);
        }
        queue.detail = detail;
    }
    text.str({});
    write_snapshot(text, inventory, {});
    return std::move(text).str();
}

std::string keys_file(const std::string& directory) {
    return directory + "/known-keys.json";
}

std::string name_of(const LibvirtGuest* guest) {
    return guest == nullptr ? std::string{} : guest->name;
}

LibvirtLinkOptions libvirt_options(const std::string& uri) {
    LibvirtLinkOptions options;
    options.uri = uri;
    return options;
}

Uuid parse_uuid(const std::string& text) {
    if (const auto uuid = Uuid::parse(text)) return *uuid;
    throw InputError{text.substr(0, 100), "expected the UUID of an mdev"};
}

}  // namespace

// The manager.

ManagerObject::ManagerObject(sdbus::IConnection& connection, Service& service)
    : AdaptorInterfaces{connection, bus::ObjectPath{bus::root_path}}, service_{service} {
    registerAdaptor();
}

ManagerObject::~ManagerObject() {
    unregisterAdaptor();
}

void ManagerObject::GetInventory(sdbus::Result<std::string>&& result) {
    service_.get_inventory(getObject(), std::move(result));
}

void ManagerObject::CheckXml(Answer&& result, std::string domain_xml, std::string source_snapshot,
                             std::map<std::string, sdbus::Variant> options) {
    service_.requests_.serve(
        getObject(), "org.vfioap1.Manager.CheckXml", std::move(result),
        [this, xml = std::move(domain_xml), snapshot = std::move(source_snapshot),
         options = std::move(options)] { return service_.check_xml(xml, snapshot, options).values(); });
}

void ManagerObject::CheckGuest(Answer&& result, std::string guest, std::string destination,
                               std::map<std::string, sdbus::Variant> options) {
    service_.check_guest(getObject(), std::move(result), guest, destination, options);
}

void ManagerObject::OpenMigration(sdbus::Result<sdbus::ObjectPath>&& result, std::string mdev,
                                  std::string role, std::map<std::string, sdbus::Variant> options) {
    const auto owner = bus::sender_of(getObject()).name;
    service_.requests_.serve(
        getObject(), "org.vfioap1.Manager.OpenMigration", std::move(result),
        [this, mdev = std::move(mdev), role = std::move(role), options = std::move(options), owner] {
            return std::tuple{sdbus::ObjectPath{service_.open_migration(mdev, role, options, owner)}};
        });
}

void ManagerObject::ApplyPlan(sdbus::Result<sdbus::ObjectPath>&& result, std::string domain_xml,
                              std::string source_snapshot, std::map<std::string, sdbus::Variant> options) {
    const auto owner = bus::sender_of(getObject()).name;
    service_.requests_.serve(
        getObject(), "org.vfioap1.Manager.ApplyPlan", std::move(result),
        [this, xml = std::move(domain_xml), snapshot = std::move(source_snapshot),
         options = std::move(options), owner] {
            return std::tuple{sdbus::ObjectPath{service_.apply_plan(xml, snapshot, options, owner)}};
        });
}

void ManagerObject::UndoPlan(sdbus::Result<sdbus::ObjectPath>&& result, std::string guest,
                             std::map<std::string, sdbus::Variant> options) {
    const auto owner = bus::sender_of(getObject()).name;
    service_.requests_.serve(
        getObject(), "org.vfioap1.Manager.UndoPlan", std::move(result),
        [this, guest = std::move(guest), options = std::move(options), owner] {
            return std::tuple{sdbus::ObjectPath{service_.undo_plan(guest, options, owner)}};
        });
}

void ManagerObject::HookCalled(sdbus::Result<>&& result, std::string guest, std::string mdev,
                               std::string operation) {
    service_.requests_.serve(
        getObject(), "org.vfioap1.Manager.HookCalled", std::move(result),
        [this, guest = std::move(guest), mdev = std::move(mdev), operation = std::move(operation)] {
            service_.hear_hook(guest, mdev, operation);
            return std::tuple{};
        });
}

std::string ManagerObject::Version() {
    return VFIOAP_VERSION;
}
std::string ManagerObject::SysfsRoot() {
    return service_.options_.sysfs_root;
}
std::vector<std::string> ManagerObject::Features() {
    return {"check", "migration", "plan"};
}
std::map<std::string, sdbus::Struct<std::string, std::int64_t, std::string>> ManagerObject::Destinations() {
    std::map<std::string, sdbus::Struct<std::string, std::int64_t, std::string>> told;
    for (const auto& [name, seen] : service_.destination_states_)
        told.emplace(name, sdbus::Struct<std::string, std::int64_t, std::string>{seen.state, seen.since,
                                                                                 safe(seen.reason)});
    return told;
}

Signals::Signals() {
    sigset_t signals;
    ::sigemptyset(&signals);
    for (const int number : {SIGTERM, SIGINT, SIGHUP})
        ::sigaddset(&signals, number);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    fd_ = ::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd_ < 0) throw SystemError{"create", "signalfd", errno};
}

Signals::~Signals() {
    ::close(fd_);
}

int Signals::next() const {
    signalfd_siginfo info{};
    return ::read(fd_, &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo) : 0;
}

// The service.

Service::Service(ServiceOptions options)
    : options_{std::move(options)},
      connection_{options_.session ? bus::open_session_bus() : bus::open_system_bus()},
      root_{options_.sysfs_root},
      watch_{options_.sysfs_root, Clock::now()},
      gate_{*connection_, !options_.session},
      requests_{gate_, jobs_},
      worker_{{.name = "the host"}, [this](const auto& error) { note_failure("a check", error); }},
      libvirt_worker_{{.name = "libvirt"}, [this](const auto& error) { note_failure("libvirt", error); }},
      applier_{{.name = "the host", .patience = applier_patience},
               [this](const auto& error) { note_failure("a plan", error); }} {
    if (!options_.uri.empty()) libvirt_.emplace(libvirt_options(options_.uri));
    if (!options_.state_directory.empty()) {
        auto loaded = load_known_keys(keys_file(options_.state_directory));
        if (!loaded.message.empty()) log_message(LogLevel::warning, loaded.message);
        keys_ = std::move(loaded.keys);
    }
    load_files();
    inventory_ = watch_.inventory();
    manager_ = std::make_unique<ManagerObject>(*connection_, *this);
    update_mdevs();
    // Sessions end with their clients. The bus tells everybody of everybody: one rule for all.
    bus::add_match(*connection_,
                   "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                   "member='NameOwnerChanged',path='/org/freedesktop/DBus'",
                   [this](sdbus::Message& message) {
                       attempt("a client", [&] {
                           std::string name;
                           std::string before;
                           std::string now;
                           message >> name >> before >> now;
                           if (now.empty()) forget_client(name);
                       });
                   });
    // Last: who finds the name finds everything.
    bus::request_name(*connection_);
}

Service::~Service() {
    // Whoever applies a plan undoes what he has done, and is waited for.
    for (const auto& [path, plan] : plans_)
        plan->cancel();
    plans_.clear();
    migrations_.clear();
    mdevs_.clear();
}

int Service::run() {
    ::sd_notify(0, "READY=1");
    attempt("master keys", [this] { look_for_keys(); });
    attempt("unfinished plans", [this] { recover_plans(); });
    while (!stop_) {
        const auto now = Clock::now();
        if (now >= watch_.next()) attempt("the host", [&] { look_at_host(now); });
        if (now >= next_verdicts_ && !destinations_.empty()) {
            next_verdicts_ = now + verdicts_again;
            attempt("destinations", [this] { ask_for_verdicts(); });
        }
        attempt("guests that move", [&] { forget_moves(now); });
        attempt("guests that come", [&] { forget_arrivals(now); });
        if (now - inventory_text_time_ > full_again) forget_inventory_text();
        // Some messages of everybody, and then one job: a flood of one client does not keep the others out.
        attempt_on_bus("messages", [this] {
            for (int i = 0; i < messages_at_once && bus::process_one(*connection_); ++i) {
            }
        });
        attempt("a call", [this] { jobs_.run_one(); });
        attempt("what was closed", [this] { close_objects(); });
        attempt_on_bus("what there is to do", [&] { wait(jobs_.empty() ? next_turn() : now); });
    }
    ::sd_notify(0, "STOPPING=1");
    return 0;
}

template <typename Step>
void Service::attempt(std::string_view what, Step step) noexcept {
    try {
        step();
    } catch (...) {
        note_failure(what, std::current_exception());
    }
}

void Service::note_failure(std::string_view what, const std::exception_ptr& error) noexcept {
    try {
        auto text = fmt::format("{}: {}", what, error_text(error));
        const auto now = Clock::now();
        if (text == last_failure_ && now - last_failure_time_ < failure_again) return;
        log_message(LogLevel::error, text);
        last_failure_ = std::move(text);
        last_failure_time_ = now;
    } catch (...) {
        // There is not even the memory to say so.
    }
}

template <typename Step>
void Service::attempt_on_bus(std::string_view what, Step step) {
    try {
        step();
    } catch (const sdbus::Error&) {
        throw;
    } catch (...) {
        note_failure(what, std::current_exception());
    }
}

void Service::process_signals() {
    while (const int signal = signals_.next()) {
        if (signal == SIGHUP) {
            attempt("configuration", [this] { load_files(); });
            watch_.events_lost();
        } else {
            stop_ = true;
        }
    }
}

Service::Clock::time_point Service::next_turn() const {
    auto next = std::min({watch_.next(), worker_.next(), libvirt_worker_.next(), applier_.next()});
    return destinations_.empty() ? next : std::min(next, next_verdicts_);
}

void Service::wait(Clock::time_point until) {
    const auto data = connection_->getEventLoopPollData();
    std::vector<pollfd> fds{{data.fd, data.events, 0},
                            {signals_.fd(), POLLIN, 0},
                            {worker_.fd(), POLLIN, 0},
                            {watch_.fd(), POLLIN, 0},
                            {libvirt_ ? libvirt_->fd() : -1, POLLIN, 0},
                            {destinations_changed_->fd(), POLLIN, 0},
                            {applier_.fd(), POLLIN, 0},
                            {plans_changed_->fd(), POLLIN, 0},
                            {libvirt_worker_.fd(), POLLIN, 0}};
    const auto first_stream = fds.size();
    std::vector<std::shared_ptr<MigrationObject>> streams;
    for (const auto& [path, migration] : migrations_) {
        if (migration->fd() < 0) continue;
        fds.push_back({migration->fd(), migration->events(), 0});
        streams.push_back(migration);
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    int timeout = static_cast<int>(std::clamp<long>(left, 0, 60'000));
    if (const int bus_timeout = data.getPollTimeout(); bus_timeout >= 0)
        timeout = std::min(timeout, bus_timeout);
    if (::poll(fds.data(), fds.size(), timeout) < 0) return;
    if (fds[1].revents != 0) process_signals();
    const auto now = Clock::now();
    const auto finish = [&](Worker& worker, const pollfd& done) {
        if (done.revents != 0 || worker.next() <= now) attempt("what was done", [&] { worker.finish(now); });
    };
    finish(worker_, fds[2]);
    finish(libvirt_worker_, fds[8]);
    finish(applier_, fds[6]);
    if (fds[3].revents != 0) attempt("events of the kernel", [this] { watch_.receive(); });
    if (fds[4].revents != 0) attempt("libvirt", [this] { hear_libvirt(); });
    if (fds[5].revents != 0) {
        destinations_changed_->lower();
        next_verdicts_ = Clock::now();
    }
    if (fds[7].revents != 0) {
        plans_changed_->lower();
        for (const auto& [path, plan] : plans_)
            attempt("a plan", [&plan = plan] { plan->update(); });
    }
    for (std::size_t i = 0; i < streams.size(); ++i) {
        if (fds[first_stream + i].revents != 0)
            attempt("a stream", [&stream = *streams[i]] { stream.pump(); });
    }
}

void Service::look_at_host(Clock::time_point now) {
    const auto changes = watch_.update(now);
    if (changes.empty() && watch_.inventory() == inventory_ && !mdevs_outdated_) return;
    inventory_ = watch_.inventory();
    forget_inventory_text();
    judged_.inventory = nullptr;
    next_verdicts_ = now;
    attempt("mdevs", [this] { update_mdevs(); });
    if (std::any_of(changes.begin(), changes.end(), [](const Change& change) {
            return change.kind == ChangeKind::binding || change.kind == ChangeKind::queue;
        })) {
        attempt("master keys", [this] { look_for_keys(); });
    }
    std::set<Uuid> touched;
    for (const auto& change : changes) {
        for (const auto& uuid : change.mdevs) {
            const auto found = mdevs_.find(uuid);
            if (found == mdevs_.end()) continue;
            touched.insert(uuid);
            attempt("a change", [&] {
                found->second->emitConfigurationChanged(std::string{change.rule}, change.detail);
                const auto arrival = arriving_.find(uuid);
                if (arrival == arriving_.end()) return;
                log_message(
                    LogLevel::warning,
                    fmt::format(
                        "guest {} is on its way here, and what was judged has changed: mdev {}: {}: {}",
                        safe(arrival->second.guest), uuid.to_string(), change.rule, change.detail));
            });
        }
    }
    // Once for each, however much changed: a state is read from the host anew.
    for (const auto& uuid : touched) {
        attempt("the state of a guest", [&] { keep_state(uuid); });
        attempt("a migration to be aborted", [&] { abort_job(uuid); });
    }
}

void Service::update_mdevs() {
    // Until all of them are as they should be: what is missed is done again.
    mdevs_outdated_ = true;
    std::erase_if(mdevs_,
                  [this](const auto& entry) { return inventory_->find_mdev(entry.first) == nullptr; });
    const auto in_use = [this](const Uuid& uuid) { return is_in_use(uuid); };
    for (const auto& mdev : inventory_->mdevs) {
        const auto matrix = guest_matrix_of(*inventory_, mdev);
        MdevState state;
        state.queues = texts_of(matrix.queues);
        state.assigned = mdev.adapters.count() * mdev.domains.count();
        state.control_domains = texts_of(matrix.control_domains);
        state.guest = name_of(guest_of(mdev.uuid));
        if (const auto arrival = arriving_.find(mdev.uuid); arrival != arriving_.end())
            state.arriving = safe(arrival->second.guest);
        if (const auto found = verdicts_.find(mdev.uuid); found != verdicts_.end())
            state.verdicts = found->second;
        if (const auto known = mdevs_.find(mdev.uuid); known != mdevs_.end()) {
            known->second->update(std::move(state));
        } else {
            mdevs_.emplace(mdev.uuid,
                           std::make_unique<MdevObject>(*connection_, mdev.uuid, std::move(state), in_use));
            attempt("the state of a guest", [&] { keep_state(mdev.uuid); });
        }
    }
    mdevs_outdated_ = false;
}

void Service::hear_libvirt() {
    const auto messages = libvirt_->take();
    for (const auto& [uuid, object] : mdevs_) {
        auto guest = name_of(guest_of(uuid));
        if (guest == object->state().guest) continue;
        auto state = object->state();
        state.guest = std::move(guest);
        attempt("an mdev", [&, &object = object] { object->update(std::move(state)); });
    }
    std::set<Uuid> mdevs;
    for (const auto& message : messages)
        attempt("libvirt", [&] { hear(message, mdevs); });
    for (const auto& mdev : mdevs)
        if (mdevs_.count(mdev) != 0) attempt("the state of a guest", [&] { keep_state(mdev); });
}

/// `mdevs`: gets those whose guests' states may have to be written.
void Service::hear(const LibvirtMessage& message, std::set<Uuid>& mdevs) {
    if (const auto* const disconnected = std::get_if<LibvirtDisconnected>(&message)) {
        log_message(LogLevel::warning, "no libvirt: " + disconnected->reason);
    } else if (const auto* const failed = std::get_if<LibvirtCallFailed>(&message)) {
        // It is the ordinary course of things that a migration is in the way.
        log_message(failed->again ? LogLevel::notice : LogLevel::warning,
                    fmt::format("guest {}: {}", failed->guest.to_string(), failed->reason));
    } else if (const auto* const changed = std::get_if<GuestChanged>(&message)) {
        mdevs.insert(changed->guest.mdevs.begin(), changed->guest.mdevs.end());
        judge_mark(changed->guest, changed->state);
    } else if (const auto* const gone = std::get_if<GuestGone>(&message)) {
        moving_.erase(gone->guest.uuid);
    }
}

void Service::judge_mark(const LibvirtGuest& guest, const std::string& state) {
    bool marked = false;
    try {
        marked = guest.running && !state.empty() && parse_state(state, guest.name).detached;
    } catch (const Error&) {
        // Nobody can read it: it is of no use to anyone.
    }
    if (!marked) {
        moving_.erase(guest.uuid);
        if (guest.running && guest.mdevs.empty() && !state.empty()) libvirt_->set_state(guest.uuid, {});
        return;
    }
    auto& move = moving_.try_emplace(guest.uuid, Move{Clock::now(), false}).first->second;
    if (guest.mdevs.empty())
        move.away = true;
    else if (move.away)
        moving_.erase(guest.uuid);
}

void Service::forget_moves(Clock::time_point now) {
    for (auto entry = moving_.begin(); entry != moving_.end();) {
        if (now - entry->second.since < longest_move) {
            ++entry;
            continue;
        }
        const auto guest = libvirt_->guests().find(entry->first);
        const bool away = entry->second.away;
        const auto uuid = entry->first;
        entry = moving_.erase(entry);
        if (away) libvirt_->set_state(uuid, {});
        if (away || guest == libvirt_->guests().end()) continue;
        for (const auto& mdev : guest->second.mdevs)
            keep_state(mdev);
    }
}

const LibvirtGuest* Service::guest_of(const Uuid& mdev) const {
    return libvirt_ ? libvirt_->guest_of(mdev) : nullptr;
}

void Service::keep_state(const Uuid& mdev) {
    const auto* const guest = guest_of(mdev);
    // While its mover has it, the mark is his.
    if (guest == nullptr || !guest->running || moving_.count(guest->uuid) != 0) return;
    try {
        libvirt_->set_state(guest->uuid, state_metadata(state_of(read_for(mdev, {}), mdev)));
    } catch (const Error& error) {
        log_message(LogLevel::warning, error.what());
    }
}

/// What moves is not what was judged.
void Service::abort_job(const Uuid& mdev) {
    const auto* const guest = guest_of(mdev);
    const bool wanted = std::any_of(migrations_.begin(), migrations_.end(), [&](const auto& entry) {
        return entry.second->aborts_job() && entry.second->device().options().mdev == mdev;
    });
    if (!wanted || guest == nullptr) return;
    log_message(
        LogLevel::warning,
        fmt::format("guest {}: its configuration changed during a migration, which is aborted", guest->name));
    libvirt_->abort_job(guest->uuid);
}

/// Asked each time: the attribute takes locks that the driver needs, so that it is not for a timer.
bool Service::is_in_use(const Uuid& uuid) const {
    const auto inventory = root_.read_for(uuid, {});
    const auto* const mdev = inventory.find_mdev(uuid);
    return mdev != nullptr && vfioap::is_in_use(inventory, *mdev).value_or(false);
}

/// The machine's own QEMU and iommufd are asked first, in the other thread: it takes as long as a program
/// does to start. Fake ones have none.
void Service::get_inventory(const sdbus::IObject& object, sdbus::Result<std::string>&& result) {
    requests_.serve_later(object, "org.vfioap1.Manager.GetInventory", std::move(result), [this](auto answer) {
        if (!root_.is_real()) {
            answer(nullptr, std::tuple{inventory_text()});
            return;
        }
        using Asked = std::pair<Iommufd, Qemu>;
        worker_.add(
            [emulator = emulator_] {
                return Asked{probe_iommufd(), emulator->ask()};
            },
            [this, answer](std::future<Asked> asked) {
                try {
                    const auto [iommufd, qemu] = asked.get();
                    // A /dev of the service's own says nothing of what the machine's has.
                    const auto known = iommufd.present ? std::optional{iommufd} : std::nullopt;
                    if (iommufd_ != known || qemu_ != qemu) forget_inventory_text();
                    iommufd_ = known;
                    qemu_ = qemu;
                    answer(nullptr, std::tuple{inventory_text()});
                } catch (...) {
                    const auto error = error_reply("GetInventory");
                    answer(&error, std::tuple{std::string{}});
                }
            },
            worker_limit);
    });
}

/// With what costs the cards something to say. Kept until something changes, and for a minute for what
/// changes without a sign: callers may ask as often as they like.
std::string Service::inventory_text() {
    const auto now = Clock::now();
    if (inventory_text_.empty() || now - inventory_text_time_ > full_again) {
        auto inventory = root_.read_all(Depth::full);
        remember_keys(inventory);
        keys_.merge_into(inventory);
        if (iommufd_) inventory.iommufd = iommufd_;
        if (qemu_.version) inventory.qemu = qemu_;
        inventory_text_ = text_of_inventory(std::move(inventory));
        inventory_text_time_ = now;
        ::malloc_trim(0);
    }
    return inventory_text_;
}

void Service::forget_inventory_text() {
    if (inventory_text_.empty()) return;
    inventory_text_ = {};
    ::malloc_trim(0);
}

Service::Verdict Service::check_xml(const std::string& domain_xml, const std::string& source_snapshot,
                                    const std::map<std::string, sdbus::Variant>& options) {
    CallOptions given{options};
    const auto check_with = arriving_options(given);
    given.done();
    const auto [guest, source] = read_arriving(domain_xml, source_snapshot);
    if (guest.mdevs.empty()) return verdict_of(check(guest, source, *inventory_, check_with));
    return verdict_of(
        check(guest, source, *judged(guest.mdevs.front(), apqns_of(source.configuration)), check_with));
}

Service::Arriving Service::read_arriving(const std::string& domain_xml, const std::string& source_snapshot) {
    limit("domain_xml", domain_xml.size(), most_xml);
    limit("source_snapshot", source_snapshot.size(), most_snapshot);
    const auto domain = parse_domain_xml(domain_xml, "domain_xml");
    auto guest = vfioap::guest_of(domain);
    if (source_snapshot.empty()) return {std::move(guest), describe_state(domain, false)};
    std::istringstream in{source_snapshot};
    auto inventory = read_snapshot(in, "source_snapshot");
    inventory.location = "snapshot:";
    auto source = describe_source(guest, inventory);
    return {std::move(guest), std::move(source)};
}

std::shared_ptr<const Inventory> Service::judged(const Uuid& mdev, std::vector<Apqn> queues) {
    const auto now = Clock::now();
    if (!judged_.inventory || judged_.mdev != mdev || judged_.queues != queues ||
        now - judged_.time > judged_again) {
        judged_ = {mdev, std::move(queues), nullptr, now};
        judged_.inventory = std::make_shared<const Inventory>(read_for(mdev, judged_.queues));
    }
    return judged_.inventory;
}

/// Of what a caller can know it is he who is told; of what goes wrong in the service the administrator, too.
sdbus::Error Service::error_reply(std::string_view member) {
    if (!is_known_error(std::current_exception())) note_failure(member, std::current_exception());
    return current_error();
}

void Service::check_libvirt_guest(const std::string& guest, CheckAnswer answer,
                                  std::function<Verdict(const std::string& domain_xml)> check) {
    libvirt_worker_.add(
        [uri = options_.uri, guest] { return domain_xml_from_libvirt(uri, guest); },
        [this, answer = std::move(answer), check = std::move(check)](std::future<std::string> told) {
            try {
                worker_.add([check, xml = told.get()] { return check(xml); },
                            [this, answer](std::future<Verdict> verdict) {
                                try {
                                    answer(nullptr, verdict.get().values());
                                } catch (...) {
                                    const auto error = error_reply("CheckGuest");
                                    answer(&error, {});
                                }
                            },
                            worker_limit);
            } catch (...) {
                const auto error = error_reply("CheckGuest");
                answer(&error, {});
            }
        },
        options_.libvirt_limit);
}

void Service::check_guest(const sdbus::IObject& object,
                          sdbus::Result<std::string, std::vector<std::string>, std::string>&& result,
                          const std::string& guest, const std::string& destination,
                          const std::map<std::string, sdbus::Variant>& options) {
    requests_.serve_later(
        object, "org.vfioap1.Manager.CheckGuest", std::move(result),
        [this, guest, destination, options](auto answer) {
            CallOptions given{options};
            const auto check_with = check_options(given);
            given.done();
            limit("guest", guest.size(), 4096);
            if (options_.uri.empty())
                throw CallError{"NoLibvirt", "this service was started without libvirt"};
            if (check_with.mode == Mode::live_update) {
                if (!destination.empty())
                    throw InputError{"destination", "expected none: with live-update the guest stays here"};
                check_libvirt_guest(
                    guest, answer,
                    [root = options_.sysfs_root, guest, strict = check_with.strict](const std::string& xml) {
                        return verdict_of(check_live_update_at(parse_domain_xml(xml, guest),
                                                               parse_host_location("local", root), strict));
                    });
                return;
            }
            // Who may only look is not told what is in any directory of this host.
            const auto known = find_destination(destination);
            if (!options_.session && !known)
                throw CallError{"NoSuchDestination",
                                safe(destination.substr(0, 100)) + ": not a known destination"};
            check_libvirt_guest(
                guest, answer,
                [root = options_.sysfs_root, guest, destination, known, check_with](const std::string& xml) {
                    const auto found = vfioap::guest_of(parse_domain_xml(xml, guest));
                    const Host source{parse_host_location("local", root)};
                    const Host target{known ? known->open() : Host{parse_host_location(destination, root)}};
                    return verdict_of(check_between(found, source, target, check_with));
                });
        });
}

std::string Service::open_migration(const std::string& mdev, const std::string& role,
                                    const std::map<std::string, sdbus::Variant>& options,
                                    const std::string& owner) {
    CallOptions given{options};
    MigrationDevice::Options wanted{parse_uuid(mdev), Role::source, {}, Profile::automatic, {}, false};
    const auto parsed_role = parse_role(role);
    if (!parsed_role) throw InputError{"role", "expected source or destination"};
    wanted.role = *parsed_role;
    const auto layout = given.word("layout", "auto");
    wanted.layout = parse_layout(layout);
    if (!wanted.layout && layout != "auto")
        throw InputError{"option layout", "expected auto, l1, l2, l2b or l3"};
    const auto profile = parse_profile(given.word("profile", "auto"));
    if (!profile) throw InputError{"option profile", "expected auto, compare or restore"};
    wanted.profile = *profile;
    wanted.states = {given.flag("p2p"), given.flag("pre_copy")};
    wanted.incoming = given.flag("incoming");
    const bool abort_job = given.flag("abort_job");
    if (abort_job && !libvirt_)
        throw InputError{"option abort_job", "this service was started without libvirt"};
    const bool write = given.flag("write") || !root_.is_real();
    given.done();
    if (migrations_.size() >= most_migrations)
        throw CallError{"LimitsExceeded", fmt::format("{} migrations are open", migrations_.size())};
    if (root_.read_for(wanted.mdev, {}).find_mdev(wanted.mdev) == nullptr)
        throw CallError{"NoSuchMdev", fmt::format("this host has no mdev {}", wanted.mdev.to_string())};
    MigrationDevice::Side side;
    side.configuration = [this, uuid = wanted.mdev] {
        auto source = describe_source(guest_with(uuid), root_.read_for(uuid, {}));
        if (!source.configuration_known)
            throw InputError{"mdev " + uuid.to_string(), "its configuration could not be read"};
        return std::move(source.configuration);
    };
    side.inventory = [this](const Uuid& uuid, const std::vector<Apqn>& queues) {
        return std::make_shared<const Inventory>(read_for(uuid, queues));
    };
    if (write) {
        side.restore = [this](const Uuid& uuid, const MdevContents& contents,
                              const std::vector<Apqn>& queues) {
            write_ap_config(options_.sysfs_root, uuid, contents, queues);
        };
    }
    auto device = devices_.open(std::move(wanted), std::move(side));
    auto path = fmt::format("{}/migration/{}", bus::root_path, next_migration_++);
    migrations_[path] =
        std::make_shared<MigrationObject>(*connection_, path, requests_, owner, std::move(device), abort_job,
                                          [this, path] { closing_.push_back(path); });
    return path;
}

void Service::close_objects() {
    for (const auto& path : std::exchange(closing_, {})) {
        migrations_.erase(path);
        plans_.erase(path);
    }
}

void Service::forget_client(const std::string& name) {
    jobs_.forget(name);
    for (const auto& [path, migration] : migrations_) {
        if (migration->owner() == name) closing_.push_back(path);
    }
    // Half a plan is of no use to anyone: it goes on to its end.
    for (const auto& [path, plan] : plans_) {
        if (plan->owner() == name) plan->abandon();
    }
}

std::string Service::plans_directory() const {
    if (options_.state_directory.empty())
        throw CallError{
            "NoStateDirectory",
            "this service has no state directory to write down what it makes, so that it could be "
            "taken back"};
    return options_.state_directory + "/plans";
}

std::string Service::user_of(const Uuid& mdev) const {
    if (const auto arrival = arriving_.find(mdev); arrival != arriving_.end())
        return safe(arrival->second.guest);
    const auto* const guest = guest_of(mdev);
    return guest != nullptr && guest->running ? guest->name : std::string{};
}

std::string Service::apply_plan(const std::string& domain_xml, const std::string& source_snapshot,
                                const std::map<std::string, sdbus::Variant>& options,
                                const std::string& owner) {
    CallOptions given{options};
    PlanOptions plan_with{arriving_options(given)};
    plan_with.leave_unused = given.flag("leave_unused");
    given.done();
    auto [guest, source] = read_arriving(domain_xml, source_snapshot);
    if (guest.mdevs.empty()) throw InputError{"domain_xml", "the guest has no vfio-ap device"};
    const auto name = guest.name;
    const auto mdev = guest.mdevs.front();
    return start_plan(name, mdev, owner,
                      [guest = std::move(guest), source = std::move(source), plan_with](Applier& applier) {
                          return applier.apply(guest, source, plan_with);
                      });
}

std::string Service::undo_plan(const std::string& guest, const std::map<std::string, sdbus::Variant>& options,
                               const std::string& owner) {
    CallOptions{options}.done();
    limit("guest", guest.size(), 4096);
    std::vector<std::string> problems;
    const auto records = AppliedRecords{plans_directory()}.all(problems);
    const auto uuid = Uuid::parse(guest);
    std::vector<const AppliedRecord*> found;
    for (const auto& record : records) {
        if (record.guest == guest || (uuid && (record.mdev == uuid || record.guest_uuid == uuid)))
            found.push_back(&record);
    }
    if (found.size() > 1)
        throw InputError{"guest", "plans of several guests of this name were applied; name the mdev"};
    // Of what cannot be read nobody knows whose it is.
    if (found.empty() && !problems.empty()) throw CallError{"Failed", problems.front()};
    if (found.empty()) throw CallError{"NoSuchPlan", "nothing was applied here for " + guest.substr(0, 100)};
    const auto& record = *found.front();
    return start_plan(record.guest, *record.mdev, owner,
                      [mdev = *record.mdev, user = user_of(*record.mdev)](Applier& applier) {
                          return applier.take_back(mdev, user);
                      });
}

std::string Service::start_plan(const std::string& guest, const Uuid& mdev, const std::string& owner,
                                PlanWork work) {
    static_cast<void>(plans_directory());
    if (plans_.size() >= most_plans)
        throw CallError{"LimitsExceeded", fmt::format("{} plans are there", plans_.size())};
    for (const auto& [path, plan] : plans_) {
        if (plan->mdev() == mdev && plan->running())
            throw CallError{"Busy", fmt::format("a plan for mdev {} is under way", mdev.to_string())};
    }
    auto path = fmt::format("{}/plan/{}", bus::root_path, next_plan_++);
    const auto progress = std::make_shared<PlanProgress>(plans_changed_);
    plans_[path] = std::make_shared<PlanObject>(*connection_, path, requests_, owner, safe(guest), mdev,
                                                progress, [this, path] { closing_.push_back(path); });
    do_plan(progress, std::move(work));
    return path;
}

void Service::do_plan(const std::shared_ptr<PlanProgress>& progress, PlanWork work) {
    // As the system calls it, whatever it was given.
    const auto root = root_.location().substr(root_.location().find(':') + 1);
    const bool real = root_.is_real();
    ApplyOptions options;
    options.lock = !options_.ap_lock.empty() ? options_.ap_lock
                   : real                    ? ap_lock_file
                                             : options_.state_directory + "/ap.lock";
    if (real) options.keeping = Keeping{"/etc", run_command};
    applier_.add(
        [progress, work = std::move(work), options = std::move(options), root, keys = keys_,
         directory = plans_directory()] {
            LocalHost host{root, keys};
            const AppliedRecords records{directory};
            Applier applier{host, records, options, *progress};
            return work(applier);
        },
        [this, progress](std::future<ApplyReport> done) {
            ApplyReport report;
            try {
                report = done.get();
            } catch (...) {
                report.state = ApplyState::failed;
                report.reason = error_text(std::current_exception());
            }
            attempt("a plan", [&] { progress->finish(report); });
            finish_plan(report);
        });
}

void Service::finish_plan(const ApplyReport& report) {
    auto line = fmt::format("plan of guest {}, {}: {}", report.guest, report.undoing ? "undo" : "apply",
                            to_text(report.state));
    if (!report.reason.empty()) line += ": " + report.reason;
    // Refused: nothing is wrong here but what was asked for.
    const bool given_up = report.state == ApplyState::undone && !report.undoing;
    log_message(report.state == ApplyState::failed ? LogLevel::error
                : given_up                         ? LogLevel::warning
                                                   : LogLevel::notice,
                line);
    for (const auto& item : report.failed)
        log_message(LogLevel::error, "could not be taken back: " + item.text);
    watch_.events_lost();
    forget_inventory_text();
    judged_.inventory = nullptr;
}

void Service::recover_plans() {
    if (options_.state_directory.empty()) return;
    std::vector<std::string> problems;
    for (const auto& record : AppliedRecords{plans_directory()}.all(problems)) {
        if (!record.unfinished()) continue;
        do_plan(std::make_shared<PlanProgress>(plans_changed_),
                [mdev = *record.mdev](Applier& applier) { return applier.recover(mdev); });
    }
    for (const auto& problem : problems)
        log_message(LogLevel::warning, problem);
}

void Service::hear_hook(const std::string& guest, const std::string& mdev, const std::string& operation) {
    const auto uuid = parse_uuid(mdev);
    limit("guest", guest.size(), 4096);
    const auto is = [&](auto... words) { return ((operation == words) || ...); };
    if (!is("migrate", "restore", "prepare", "started", "stopped", "release"))
        throw InputError{"operation", "expected migrate, restore, prepare, started, stopped or release"};
    if (is("migrate", "restore", "prepare")) {
        if (arriving_.size() >= most_migrations)
            throw CallError{"LimitsExceeded", fmt::format("{} guests are on their way", arriving_.size())};
        arriving_[uuid] = {guest, Clock::now()};
        // From now on what was judged is watched: it is the state of this moment.
        watch_.events_lost();
    } else {
        arriving_.erase(uuid);
    }
    update_mdevs();
}

/// Whoever it was has given up without a word: after a refusal at the beginning no hook follows.
void Service::forget_arrivals(Clock::time_point now) {
    const auto before = arriving_.size();
    for (auto entry = arriving_.begin(); entry != arriving_.end();)
        entry = now - entry->second.since > longest_arrival ? arriving_.erase(entry) : std::next(entry);
    if (arriving_.size() != before) update_mdevs();
}

Inventory Service::read_for(const Uuid& mdev, const std::vector<Apqn>& queues) const {
    auto inventory = root_.read_for(mdev, queues);
    keys_.merge_into(inventory);
    return inventory;
}

void Service::load_files() {
    const auto loaded = load_settings(options_.config);
    for (const auto& message : loaded.messages)
        log_message(LogLevel::warning, message);
    auto names = options_.destinations;
    names.insert(names.end(), loaded.settings.destinations.begin(), loaded.settings.destinations.end());
    std::vector<std::shared_ptr<Destination>> destinations;
    for (const auto& name : names) {
        if (std::any_of(destinations.begin(), destinations.end(),
                        [&](const auto& each) { return each->name() == name; })) {
            continue;
        }
        auto known = find_destination(name);
        destinations.push_back(
            known ? std::move(known)
                  : std::make_shared<Destination>(name, options_.sysfs_root, destinations_changed_));
    }
    destinations_ = std::move(destinations);
    next_verdicts_ = Clock::now();
    auto given = load_given_keys(options_.given_keys);
    for (const auto& message : given.messages)
        log_message(LogLevel::warning, message);
    keys_.give(std::move(given.keys));
    forget_inventory_text();
    judged_.inventory = nullptr;
}

void Service::look_for_keys() {
    if (options_.state_directory.empty() || !looking_for_keys_.expired()) return;
    const auto underway = std::make_shared<char>();
    looking_for_keys_ = underway;
    worker_.add([root = options_.sysfs_root] { return SysfsRoot{root}.read_all(Depth::full); },
                [this, underway](std::future<Inventory> inventory) { remember_keys(inventory.get()); });
}

void Service::remember_keys(const Inventory& inventory) {
    if (options_.state_directory.empty()) return;
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    if (!keys_.remember(inventory, now)) return;
    try {
        save_known_keys(keys_file(options_.state_directory), keys_);
    } catch (const Error& error) {
        log_message(LogLevel::warning, error.what());
    }
}

std::shared_ptr<Destination> Service::find_destination(const std::string& name) const {
    const auto found = std::find_if(destinations_.begin(), destinations_.end(),
                                    [&](const auto& each) { return each->name() == name; });
    return found == destinations_.end() ? nullptr : *found;
}

void Service::ask_for_verdicts() {
    if (!asking_for_verdicts_.expired()) return;
    const auto underway = std::make_shared<char>();
    asking_for_verdicts_ = underway;
    std::vector<Uuid> mdevs;
    for (const auto& mdev : inventory_->mdevs)
        mdevs.push_back(mdev.uuid);
    worker_.add(
        [mdevs = std::move(mdevs), root = options_.sysfs_root, destinations = destinations_] {
            // Opened once; where it cannot be, each destination's verdict says so.
            std::optional<Host> source;
            return check_destinations(mdevs, destinations, [&](const Uuid& mdev, const Host& target) {
                if (!source) source.emplace(parse_host_location("local", root));
                return check_between(guest_with(mdev), *source, target, {}).verdict;
            });
        },
        [this, underway](std::future<DestinationVerdicts> known) {
            auto [verdicts, problems] = known.get();
            tell_destinations(problems);
            if (verdicts == verdicts_) return;
            verdicts_ = std::move(verdicts);
            update_mdevs();
        });
}

void Service::tell_destinations(const std::map<std::string, std::string>& problems) {
    const auto now =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
    std::map<std::string, DestinationState> states;
    for (const auto& [name, problem] : problems) {
        DestinationState seen{problem.empty() ? "reachable" : "unreachable", now, problem};
        const auto before = destination_states_.find(name);
        if (before != destination_states_.end() && before->second.state == seen.state)
            seen.since = before->second.since;
        log_destination(name, seen, now);
        states.emplace(name, std::move(seen));
    }
    std::erase_if(logged_destinations_, [&](const auto& entry) { return states.count(entry.first) == 0; });
    if (states == destination_states_) return;
    destination_states_ = std::move(states);
    bus::emit_changed(manager_->object(), org::vfioap1::Manager_adaptor::INTERFACE_NAME, {"Destinations"});
}

/// Once for each reason, when it has lasted: one that is followed has not answered yet at first.
void Service::log_destination(const std::string& name, const DestinationState& seen, std::int64_t now) {
    const auto logged = logged_destinations_.find(name);
    const bool known = logged != logged_destinations_.end();
    if (seen.reason.empty()) {
        if (!known) return;
        logged_destinations_.erase(logged);
        log_message(LogLevel::notice, fmt::format("destination {}: it is reachable again", name));
    } else if (now - seen.since >= unreachable_for.count() && !(known && logged->second == seen.reason)) {
        log_message(LogLevel::warning, fmt::format("destination {}: {}", name, seen.reason));
        logged_destinations_.insert_or_assign(name, seen.reason);
    }
}

CheckOptions Service::check_options(CallOptions& options) {
    CheckOptions result;
    const auto mode = options.word("mode", "auto");
    const auto profile = options.word("profile", "auto");
    const auto parsed_mode = parse_mode(mode);
    const auto parsed_profile = parse_profile(profile);
    if (!parsed_mode) throw InputError{"option mode", "expected auto, native, detached or live-update"};
    if (!parsed_profile) throw InputError{"option profile", "expected auto, compare or restore"};
    result.mode = *parsed_mode;
    result.profile = *parsed_profile;
    result.strict = options.flag("strict");
    return result;
}

CheckOptions Service::arriving_options(CallOptions& options) {
    auto result = check_options(options);
    if (result.mode == Mode::live_update)
        throw InputError{"option mode", "live-update is for CheckGuest: the guest comes from nowhere"};
    return result;
}

Service::Verdict Service::verdict_of(const Report& report) {
    Verdict verdict{std::string{to_text(report.verdict)}, {}, render_json(report)};
    for (const auto& finding : report.findings) {
        std::string name{rule(finding.rule).name};
        if (std::find(verdict.rules.begin(), verdict.rules.end(), name) == verdict.rules.end())
            verdict.rules.push_back(std::move(name));
    }
    return verdict;
}

}  // namespace vfioap
