// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/libvirt_link.h"

#include "ap/error.h"
#include "domain/domain_xml.h"
#include "service/event.h"
#include "service/metadata_text.h"
#include "text/safe.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <iterator>
#include <mutex>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace vfioap {
namespace {

using Clock = std::chrono::steady_clock;

/// How many keepalive messages may stay without an answer. libvirtd answers them while a hook runs, so a call
/// that waits for one is not taken for a dead connection.
constexpr unsigned keepalive_count = 4;

void ignore_timeout(int /*timer*/, void* /*opaque*/) {}

using Text = std::unique_ptr<char, decltype(&std::free)>;
using Domain = std::unique_ptr<virDomain, decltype(&virDomainFree)>;
using Connection = std::unique_ptr<virConnect, decltype(&virConnectClose)>;

}  // namespace

/// What both threads have. The follower may outlive the link.
class LibvirtLink::Shared {
  public:
    Event messages_there;
    Event commands_there;
    std::atomic<bool> stop = false;

    void tell(LibvirtMessage message) {
        {
            const std::lock_guard lock{mutex_};
            messages_.push_back(std::move(message));
        }
        messages_there.raise();
    }
    std::deque<LibvirtMessage> take_messages() {
        messages_there.lower();
        const std::lock_guard lock{mutex_};
        return std::exchange(messages_, {});
    }

    void want(const Uuid& guest, std::string element) {
        {
            const std::lock_guard lock{mutex_};
            states_.insert_or_assign(guest, std::move(element));
        }
        commands_there.raise();
    }
    void want_abort(const Uuid& guest) {
        {
            const std::lock_guard lock{mutex_};
            aborts_.insert(guest);
        }
        commands_there.raise();
    }
    std::map<Uuid, std::string> take_states() {
        const std::lock_guard lock{mutex_};
        return std::exchange(states_, {});
    }
    std::set<Uuid> take_aborts() {
        const std::lock_guard lock{mutex_};
        return std::exchange(aborts_, {});
    }

    /// The follower is done with everything but this object.
    void end() {
        const std::lock_guard lock{mutex_};
        ended_ = true;
        ended_changed_.notify_all();
    }
    /// False: it was not in that time, and goes on alone from here.
    bool wait_for_end(std::chrono::milliseconds patience) {
        std::unique_lock lock{mutex_};
        left_behind_ = !ended_changed_.wait_for(lock, patience, [this] { return ended_; });
        return !left_behind_;
    }
    bool left_behind() {
        const std::lock_guard lock{mutex_};
        return left_behind_;
    }

  private:
    std::mutex mutex_;
    std::condition_variable ended_changed_;
    std::deque<LibvirtMessage> messages_;
    std::map<Uuid, std::string> states_;
    std::set<Uuid> aborts_;
    bool ended_ = false;
    bool left_behind_ = false;
};

/// Lives in the thread. Callbacks of libvirt only note what has to be looked at: a call from within one would
/// wait for an answer that the same event loop has to read, and for a hook.
class LibvirtLink::Follower {
  public:
    Follower(std::shared_ptr<Shared> shared, LibvirtLinkOptions options);
    ~Follower();
    Follower(const Follower&) = delete;
    Follower& operator=(const Follower&) = delete;
    Follower(Follower&&) = delete;
    Follower& operator=(Follower&&) = delete;

    void run();

  private:
    struct Known {
        LibvirtGuest guest;
        std::size_t state_hash = 0;
        Clock::time_point write_again;
    };
    struct Wanted {
        std::string element;
        Clock::time_point due;
        std::chrono::milliseconds delay;
        bool failure_told = false;
    };
    using Wants = std::map<Uuid, Wanted>;
    struct LookAgain {
        Clock::time_point due;
        std::chrono::milliseconds delay;
    };

    [[nodiscard]] bool stopping() const { return shared_->stop; }
    [[nodiscard]] bool working() const { return connection_ && !lost_ && !stopping(); }
    void work();
    void collect();
    [[nodiscard]] int until_next() const;

    void connect();
    bool follow_events();
    bool list();
    void disconnect();
    void retry_later(const std::string& reason);
    [[nodiscard]] std::string last_error() const;
    [[nodiscard]] int last_code() const;
    /// After a call has failed: a connection that is no more is the reason for all that comes.
    void check_connection();

    Domain lookup(virConnectPtr connection, const Uuid& guest);
    void look(const Uuid& guest);
    void look_again();
    void look_at(virDomainPtr domain);
    /// Nothing: not to be had. Empty: there is none.
    std::optional<std::string> state_of(virDomainPtr domain);
    void tell_guest(LibvirtGuest guest, std::string state);
    void gone(const Uuid& guest);
    void failed(const Uuid& guest, std::string_view what);

    bool open_writer();
    void abort(const Uuid& guest);
    Wants::iterator next_due();
    void store(Wants::iterator wanted);
    void write(Wants::iterator wanted, Known& known);
    void later(Wants::iterator wanted, const std::string& reason);
    void not_found(Wants::iterator wanted);
    [[nodiscard]] bool job_runs(virDomainPtr domain) const;

    std::optional<Uuid> uuid_of(virDomainPtr domain) const;
    void on_lifecycle(const Uuid& guest, int event, int detail);

    // NOLINTBEGIN(readability-named-parameter): libvirt's parameters, as its manual has them
    static int lifecycle(virConnectPtr, virDomainPtr domain, int event, int detail, void* self);
    static void device(virConnectPtr, virDomainPtr domain, const char*, void* self);
    static void metadata(virConnectPtr, virDomainPtr domain, int type, const char* uri, void* self);
    static void reboot(virConnectPtr, virDomainPtr domain, void* self);
    static void closed(virConnectPtr, int reason, void* self);
    // NOLINTEND(readability-named-parameter)

    std::shared_ptr<Shared> shared_;
    LibvirtLinkOptions options_;
    Libvirt libvirt_;
    QuietXml quiet_;
    int timer_ = -1;
    int handle_ = -1;
    Connection connection_;
    /// Only while something is written.
    Connection writer_;
    std::vector<int> events_;
    std::optional<std::string> lost_;  // why the connection is no more
    bool disconnected_told_ = false;
    Clock::time_point connect_at_;
    std::chrono::milliseconds delay_;

    std::map<Uuid, Known> known_;
    std::set<Uuid> looks_;
    std::map<Uuid, LookAgain> looks_again_;
    std::set<Uuid> aborts_;
    Wants wants_;
};

LibvirtLink::Follower::Follower(std::shared_ptr<Shared> shared, LibvirtLinkOptions options)
    : shared_{std::move(shared)},
      options_{std::move(options)},
      libvirt_{options_.library()},
      quiet_{libvirt_},
      connection_{nullptr, libvirt_.close},
      writer_{nullptr, libvirt_.close},
      delay_{options_.first_retry} {
    static std::once_flag registered;
    std::call_once(registered, [this] { libvirt_.register_event_loop(); });
    timer_ = libvirt_.add_timeout(-1, ignore_timeout, nullptr, nullptr);
    handle_ = libvirt_.add_handle(
        shared_->commands_there.fd(), VIR_EVENT_HANDLE_READABLE,
        [](int, int, int, void* self) { static_cast<Follower*>(self)->shared_->commands_there.lower(); },
        this, nullptr);
}

LibvirtLink::Follower::~Follower() {
    disconnect();
    libvirt_.remove_handle(handle_);
    libvirt_.remove_timeout(timer_);
    // The loop frees what was removed from it, the socket of the connection too, when it next runs. It may be
    // another link's by now if this one was left behind.
    if (shared_->left_behind()) return;
    const int once = libvirt_.add_timeout(0, ignore_timeout, nullptr, nullptr);
    libvirt_.run_event_loop();
    libvirt_.remove_timeout(once);
}

void LibvirtLink::Follower::run() {
    if (timer_ < 0 || handle_ < 0) throw Error{"libvirt: no event loop: " + last_error()};
    while (!stopping()) {
        work();
        if (stopping()) break;
        libvirt_.update_timeout(timer_, until_next());
        if (libvirt_.run_event_loop() < 0) throw Error{"libvirt: its event loop ended: " + last_error()};
    }
}

void LibvirtLink::Follower::work() {
    if (lost_) {
        const auto reason = *lost_;
        disconnect();
        retry_later(reason);
    }
    if (!connection_ && Clock::now() >= connect_at_) connect();
    while (true) {
        collect();
        if (!working()) break;
        look_again();
        if (!aborts_.empty()) {
            abort(aborts_.extract(aborts_.begin()).value());
        } else if (!looks_.empty()) {
            look(looks_.extract(looks_.begin()).value());
        } else if (const auto wanted = next_due(); wanted != wants_.end()) {
            store(wanted);
        } else {
            break;
        }
    }
    writer_.reset();
    // Too late for these when there is a connection again.
    if (!connection_) {
        for (const auto& guest : std::exchange(aborts_, {}))
            shared_->tell(LibvirtCallFailed{guest, "cannot abort its job: no connection to libvirt", false});
    }
}

void LibvirtLink::Follower::collect() {
    for (auto& [guest, element] : shared_->take_states()) {
        auto due = Clock::now();
        if (const auto known = known_.find(guest); known != known_.end())
            due = std::max(due, known->second.write_again);
        wants_.insert_or_assign(guest, Wanted{std::move(element), due, options_.first_retry});
    }
    aborts_.merge(shared_->take_aborts());
}

int LibvirtLink::Follower::until_next() const {
    std::optional<Clock::time_point> next;
    if (lost_) return 0;
    if (!connection_) {
        next = connect_at_;
    } else {
        if (!looks_.empty() || !aborts_.empty()) return 0;
        for (const auto& [guest, wanted] : wants_)
            next = std::min(next.value_or(wanted.due), wanted.due);
        for (const auto& [guest, again] : looks_again_)
            next = std::min(next.value_or(again.due), again.due);
    }
    if (!next) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - Clock::now()).count();
    return static_cast<int>(std::clamp<long long>(left, 0, INT_MAX));
}

// The connection.

void LibvirtLink::Follower::connect() {
    connection_.reset(libvirt_.open_read_only(options_.uri.c_str()));
    if (!connection_) return retry_later(fmt::format("cannot connect to {}: {}", options_.uri, last_error()));
    // Fails with the drivers that are in the process itself, such as test.
    libvirt_.set_keep_alive(connection_.get(), static_cast<int>(options_.keepalive.count()), keepalive_count);
    // Events first, so that nothing is missed between them and the list.
    if (!follow_events() || !list()) {
        const auto reason = fmt::format("{}: {}", options_.uri, last_error());
        disconnect();
        return retry_later(reason);
    }
    if (!working()) return;
    delay_ = options_.first_retry;
    disconnected_told_ = false;
    shared_->tell(LibvirtConnected{});
}

bool LibvirtLink::Follower::follow_events() {
    libvirt_.register_close_callback(connection_.get(), closed, this, nullptr);
    const std::array<std::pair<int, virConnectDomainEventGenericCallback>, 5> all{{
        {VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(lifecycle)},
        {VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, VIR_DOMAIN_EVENT_CALLBACK(device)},
        {VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(device)},
        {VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(metadata)},
        {VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_CALLBACK(reboot)},
    }};
    for (const auto& [id, callback] : all) {
        const int registered =
            libvirt_.register_domain_event(connection_.get(), nullptr, id, callback, this, nullptr);
        if (registered >= 0) events_.push_back(registered);
        // Without the others only some changes are seen late.
        else if (id == VIR_DOMAIN_EVENT_ID_LIFECYCLE)
            return false;
    }
    return true;
}

bool LibvirtLink::Follower::list() {
    virDomainPtr* domains = nullptr;
    const int count = libvirt_.list_all(connection_.get(), &domains, 0);
    if (count < 0) return false;
    std::set<Uuid> there;
    for (int i = 0; i < count; ++i) {
        const Domain domain{domains[i], libvirt_.free_domain};
        if (const auto uuid = uuid_of(domain.get())) there.insert(*uuid);
        if (working()) look_at(domain.get());
    }
    std::free(domains);  // NOLINT(cppcoreguidelines-no-malloc): libvirt allocates so
    std::vector<Uuid> missing;
    for (const auto& [uuid, known] : known_) {
        if (there.count(uuid) == 0) missing.push_back(uuid);
    }
    for (const auto& uuid : missing)
        gone(uuid);
    return true;
}

void LibvirtLink::Follower::disconnect() {
    writer_.reset();
    if (connection_) {
        // Each of them holds the connection.
        for (const int event : events_)
            libvirt_.deregister_domain_event(connection_.get(), event);
        libvirt_.unregister_close_callback(connection_.get(), closed);
        connection_.reset();
    }
    events_.clear();
    looks_.clear();
    looks_again_.clear();
    lost_.reset();
}

void LibvirtLink::Follower::retry_later(const std::string& reason) {
    connect_at_ = Clock::now() + delay_;
    delay_ = std::min(delay_ * 2, options_.longest_retry);
    if (!std::exchange(disconnected_told_, true)) shared_->tell(LibvirtDisconnected{reason});
}

std::string LibvirtLink::Follower::last_error() const {
    const auto* const error = libvirt_.last_error();
    return error == nullptr || error->message == nullptr ? "unknown error" : printable(error->message, 400);
}

int LibvirtLink::Follower::last_code() const {
    const auto* const error = libvirt_.last_error();
    return error == nullptr ? VIR_ERR_OK : error->code;
}

void LibvirtLink::Follower::check_connection() {
    // Asks nobody. The close callback says the same, but later, from the event loop.
    if (!lost_ && libvirt_.is_alive(connection_.get()) == 0) lost_ = "the connection to libvirt is lost";
}

// Guests.

std::optional<Uuid> LibvirtLink::Follower::uuid_of(virDomainPtr domain) const {
    std::array<char, VIR_UUID_STRING_BUFLEN> text{};
    if (libvirt_.domain_uuid(domain, text.data()) != 0) return std::nullopt;
    return Uuid::parse(text.data());
}

Domain LibvirtLink::Follower::lookup(virConnectPtr connection, const Uuid& guest) {
    return {libvirt_.lookup_by_uuid(connection, guest.to_string().c_str()), libvirt_.free_domain};
}

void LibvirtLink::Follower::look(const Uuid& guest) {
    const auto domain = lookup(connection_.get(), guest);
    if (domain)
        look_at(domain.get());
    else if (last_code() == VIR_ERR_NO_DOMAIN)
        gone(guest);
    else
        failed(guest, "look for it");
}

void LibvirtLink::Follower::look_again() {
    const auto now = Clock::now();
    for (auto each = looks_again_.begin(); each != looks_again_.end();) {
        auto& [guest, again] = *each;
        if (again.due <= now) {
            looks_.insert(guest);
            again.delay *= 2;
            again.due = now + again.delay;
        }
        each = again.delay > options_.longest_retry ? looks_again_.erase(each) : std::next(each);
    }
}

void LibvirtLink::Follower::look_at(virDomainPtr domain) {
    const auto uuid = uuid_of(domain);
    if (!uuid) return;
    constexpr auto no_id = static_cast<unsigned>(-1);
    const char* const name = libvirt_.domain_name(domain);
    LibvirtGuest guest{
        *uuid, name == nullptr ? std::string{} : name, libvirt_.domain_id(domain) != no_id, {}, {}, {}};
    const int persistent = libvirt_.is_persistent(domain);
    const Text xml{persistent < 0 ? nullptr : libvirt_.xml_desc(domain, 0), std::free};
    if (!xml) {
        if (last_code() == VIR_ERR_NO_DOMAIN) return gone(*uuid);
        return failed(*uuid, "read its XML");
    }
    guest.persistent = persistent == 1;
    bool may_have_state = false;
    try {
        const auto described = parse_domain_xml(xml.get(), guest.name);
        for (const auto& hostdev : described.vfio_ap)
            guest.mdevs.push_back(hostdev.mdev);
        may_have_state = !guest.mdevs.empty() || described.state || !described.state_error.empty();
    } catch (const Error& error) {
        shared_->tell(LibvirtCallFailed{*uuid, error.what(), false});
    }
    std::string state;
    if (guest.running && may_have_state) {
        auto there = state_of(domain);
        if (!there) {
            if (last_code() == VIR_ERR_NO_DOMAIN) return gone(*uuid);
            return failed(*uuid, "read its metadata");
        }
        state = std::move(*there);
    }
    guest.has_state = !state.empty();
    tell_guest(std::move(guest), std::move(state));
}

std::optional<std::string> LibvirtLink::Follower::state_of(virDomainPtr domain) {
    const Text there{libvirt_.get_metadata(domain, VIR_DOMAIN_METADATA_ELEMENT, metadata_namespace,
                                           VIR_DOMAIN_AFFECT_LIVE),
                     std::free};
    if (there) return there.get();
    // The guest may have stopped since.
    if (last_code() == VIR_ERR_NO_DOMAIN_METADATA || last_code() == VIR_ERR_OPERATION_INVALID) return "";
    return std::nullopt;
}

void LibvirtLink::Follower::tell_guest(LibvirtGuest guest, std::string state) {
    const auto hash = std::hash<std::string>{}(state);
    if (!guest.running) wants_.erase(guest.uuid);
    const auto known = known_.find(guest.uuid);
    if (known == known_.end()) {
        known_.emplace(guest.uuid, Known{guest, hash, {}});
    } else {
        if (known->second.guest == guest && known->second.state_hash == hash) return;
        known->second.guest = guest;
        known->second.state_hash = hash;
    }
    shared_->tell(GuestChanged{std::move(guest), std::move(state)});
}

void LibvirtLink::Follower::gone(const Uuid& guest) {
    looks_again_.erase(guest);
    wants_.erase(guest);
    if (auto known = known_.extract(guest)) shared_->tell(GuestGone{std::move(known.mapped().guest)});
}

void LibvirtLink::Follower::failed(const Uuid& guest, std::string_view what) {
    check_connection();
    if (!lost_)
        shared_->tell(LibvirtCallFailed{guest, fmt::format("cannot {}: {}", what, last_error()), false});
}

// What is written.

bool LibvirtLink::Follower::open_writer() {
    if (!writer_) writer_.reset(libvirt_.open(options_.uri.c_str()));
    return writer_ != nullptr;
}

void LibvirtLink::Follower::abort(const Uuid& guest) {
    const auto domain = open_writer() ? lookup(writer_.get(), guest) : Domain{nullptr, libvirt_.free_domain};
    if (!domain || libvirt_.abort_job(domain.get()) != 0) failed(guest, "abort its job");
}

LibvirtLink::Follower::Wants::iterator LibvirtLink::Follower::next_due() {
    const auto now = Clock::now();
    return std::find_if(wants_.begin(), wants_.end(),
                        [now](const auto& each) { return each.second.due <= now; });
}

void LibvirtLink::Follower::store(Wants::iterator wanted) {
    const auto guest = wanted->first;
    const auto known = known_.find(guest);
    if (known == known_.end() || !known->second.guest.running) {
        wants_.erase(wanted);
        return shared_->tell(LibvirtCallFailed{guest, "cannot store its state: it does not run", false});
    }
    const auto domain = lookup(connection_.get(), guest);
    if (!domain) return not_found(wanted);
    const auto there = state_of(domain.get());
    if (!there) return later(wanted, last_error());
    if (same_metadata(*there, wanted->second.element)) {
        wants_.erase(wanted);
        return shared_->tell(StateStored{guest, false});
    }
    // Otherwise the call would wait up to 30 s for the end of a migration, and with it all that comes after.
    if (job_runs(domain.get())) return later(wanted, "libvirt works on the guest");
    write(wanted, known->second);
}

bool LibvirtLink::Follower::job_runs(virDomainPtr domain) const {
    virDomainJobInfo job{};
    if (libvirt_.get_job_info(domain, &job) == 0)
        return job.type == VIR_DOMAIN_JOB_BOUNDED || job.type == VIR_DOMAIN_JOB_UNBOUNDED;
    // So the destination answers while the guest comes in (libvirt, qemuDomainGetJobStatsInternal): 9.0 says
    // `Operation not supported: migration statistics are available only on the source host`.
    const int code = last_code();
    return code == VIR_ERR_OPERATION_UNSUPPORTED || code == VIR_ERR_OPERATION_INVALID ||
           code == VIR_ERR_OPERATION_TIMEOUT;
}

void LibvirtLink::Follower::write(Wants::iterator wanted, Known& known) {
    const auto guest = wanted->first;
    const auto& element = wanted->second.element;
    if (!open_writer()) return later(wanted, last_error());
    const auto domain = lookup(writer_.get(), guest);
    if (!domain) return not_found(wanted);
    known.write_again = Clock::now() + options_.between_writes;
    const int result = libvirt_.set_metadata(domain.get(), VIR_DOMAIN_METADATA_ELEMENT,
                                             element.empty() ? nullptr : element.c_str(), metadata_key,
                                             metadata_namespace, VIR_DOMAIN_AFFECT_LIVE);
    if (result == 0) {
        wants_.erase(wanted);
        return shared_->tell(StateStored{guest, true});
    }
    const int code = last_code();
    // A job began meanwhile; or libvirtd is going.
    if (code == VIR_ERR_OPERATION_TIMEOUT || code == VIR_ERR_RESOURCE_BUSY ||
        libvirt_.is_alive(writer_.get()) == 0)
        return later(wanted, last_error());
    wants_.erase(wanted);
    shared_->tell(LibvirtCallFailed{guest, "cannot store its state: " + last_error(), false});
}

/// A guest that is gone needs no state, and that it is gone is told by an event.
void LibvirtLink::Follower::not_found(Wants::iterator wanted) {
    if (last_code() != VIR_ERR_NO_DOMAIN) return later(wanted, last_error());
    wants_.erase(wanted);
}

void LibvirtLink::Follower::later(Wants::iterator wanted, const std::string& reason) {
    auto& [guest, want] = *wanted;
    want.due = Clock::now() + want.delay;
    want.delay = std::min(want.delay * 2, options_.longest_retry);
    if (!std::exchange(want.failure_told, true))
        shared_->tell(LibvirtCallFailed{guest, "cannot store its state yet: " + reason, true});
    check_connection();
}

// Events.

void LibvirtLink::Follower::on_lifecycle(const Uuid& guest, int event, int detail) {
    const auto known = known_.find(guest);
    switch (event) {
        case VIR_DOMAIN_EVENT_STOPPED:
        case VIR_DOMAIN_EVENT_CRASHED:
            if (known != known_.end() && known->second.guest.running) {
                // Known without asking; and asking may wait if it is started again at once.
                auto stopped = known->second.guest;
                stopped.running = false;
                stopped.has_state = false;
                tell_guest(std::move(stopped), {});
            }
            looks_.insert(guest);
            // A migration may undefine it right after, of which no event tells (libvirt 9.0,
            // qemuMigrationSrcConfirm): the look may have come before that.
            if (event == VIR_DOMAIN_EVENT_STOPPED && detail == VIR_DOMAIN_EVENT_STOPPED_MIGRATED)
                looks_again_.insert_or_assign(
                    guest, LookAgain{Clock::now() + options_.first_retry, options_.first_retry});
            break;
        case VIR_DOMAIN_EVENT_DEFINED:
        case VIR_DOMAIN_EVENT_UNDEFINED:
        case VIR_DOMAIN_EVENT_STARTED:
            looks_.insert(guest);
            break;
        case VIR_DOMAIN_EVENT_RESUMED:
            // It may have come in by a migration that was in the way. No look: the event also comes before
            // the hook of `started`.
            if (const auto wanted = wants_.find(guest);
                wanted != wants_.end() && known != known_.end() && known->second.guest.running)
                wanted->second.due = Clock::now();
            break;
        default:
            break;
    }
}

int LibvirtLink::Follower::lifecycle(virConnectPtr /*connection*/, virDomainPtr domain, int event, int detail,
                                     void* self) {
    auto& follower = *static_cast<Follower*>(self);
    if (const auto guest = follower.uuid_of(domain)) follower.on_lifecycle(*guest, event, detail);
    return 0;
}

void LibvirtLink::Follower::device(virConnectPtr /*connection*/, virDomainPtr domain, const char* /*alias*/,
                                   void* self) {
    auto& follower = *static_cast<Follower*>(self);
    if (const auto guest = follower.uuid_of(domain)) follower.looks_.insert(*guest);
}

void LibvirtLink::Follower::metadata(virConnectPtr /*connection*/, virDomainPtr domain, int type,
                                     const char* uri, void* self) {
    if (type != VIR_DOMAIN_METADATA_ELEMENT || uri == nullptr || std::string_view{uri} != metadata_namespace)
        return;
    auto& follower = *static_cast<Follower*>(self);
    if (const auto guest = follower.uuid_of(domain)) follower.looks_.insert(*guest);
}

void LibvirtLink::Follower::reboot(virConnectPtr /*connection*/, virDomainPtr domain, void* self) {
    auto& follower = *static_cast<Follower*>(self);
    if (const auto guest = follower.uuid_of(domain)) follower.looks_.insert(*guest);
}

void LibvirtLink::Follower::closed(virConnectPtr /*connection*/, int reason, void* self) {
    static_cast<Follower*>(self)->lost_ = reason == VIR_CONNECT_CLOSE_REASON_KEEPALIVE
                                              ? "libvirt does not answer any more"
                                              : "libvirt has closed the connection";
}

// The link.

LibvirtLink::LibvirtLink(LibvirtLinkOptions options)
    : shared_{std::make_shared<Shared>()}, patience_{options.patience} {
    // The thread takes no signal that is meant for the service, nor a SIGPIPE of libvirt's.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        thread_ = std::thread{[shared = shared_, options = std::move(options)]() mutable {
            try {
                Follower{shared, std::move(options)}.run();
            } catch (const std::exception& error) {
                shared->tell(LibvirtDisconnected{error.what()});
            }
            shared->end();
        }};
    } catch (const std::system_error& error) {
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw SystemError{"create", "thread", error.code().value()};
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

LibvirtLink::~LibvirtLink() {
    shared_->stop = true;
    shared_->commands_there.raise();
    if (shared_->wait_for_end(patience_))
        thread_.join();
    else
        thread_.detach();
}

int LibvirtLink::fd() const {
    return shared_->messages_there.fd();
}

std::vector<LibvirtMessage> LibvirtLink::take() {
    auto messages = shared_->take_messages();
    for (const auto& message : messages) {
        if (const auto* const changed = std::get_if<GuestChanged>(&message))
            guests_.insert_or_assign(changed->guest.uuid, changed->guest);
        else if (const auto* const gone = std::get_if<GuestGone>(&message))
            guests_.erase(gone->guest.uuid);
        else if (std::holds_alternative<LibvirtConnected>(message))
            connected_ = true;
        else if (std::holds_alternative<LibvirtDisconnected>(message))
            connected_ = false;
    }
    return {std::make_move_iterator(messages.begin()), std::make_move_iterator(messages.end())};
}

const LibvirtGuest* LibvirtLink::guest_of(const Uuid& mdev) const {
    const LibvirtGuest* found = nullptr;
    for (const auto& [uuid, guest] : guests_) {
        if (std::find(guest.mdevs.begin(), guest.mdevs.end(), mdev) == guest.mdevs.end()) continue;
        if (found == nullptr || (guest.running && !found->running)) found = &guest;
    }
    return found;
}

void LibvirtLink::set_state(const Uuid& guest, std::string element) {
    if (element.size() > metadata_max_bytes)
        throw InputError{"state of guest " + guest.to_string(),
                         fmt::format("{} bytes; expected at most {}", element.size(), metadata_max_bytes)};
    shared_->want(guest, std::move(element));
}

void LibvirtLink::abort_job(const Uuid& guest) {
    shared_->want_abort(guest);
}

}  // namespace vfioap
