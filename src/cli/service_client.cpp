// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cli/service_client.h"

#include "host/snapshot.h"
#include "hosts/remote_host.h"
#include "text/safe.h"

#include <algorithm>
#include <cerrno>
#include <sstream>

#include <fmt/format.h>
#include <poll.h>

#include <systemd/sd-bus.h>

namespace vfioap {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr const char* service = "org.vfioap1";
constexpr const char* root = "/org/vfioap1";
constexpr const char* plan_interface = "org.vfioap1.Plan";
/// A host of 65,536 queues takes a moment to say so; the local service is asked because it is quick.
constexpr auto remote_patience = 60s;
constexpr auto local_patience = 5s;
constexpr auto password_patience = 330s;  // polkit is given five minutes
constexpr auto look_again = 1s;

/// Reads a message from the front to the end.
class Body {
  public:
    Body(sd_bus_message* message, const std::string& origin) : message_{message}, origin_{origin} {}

    std::string text(char type = 's') { return value<const char*>(type); }
    bool flag() { return value<int>('b') != 0; }
    template <typename Value>
    Value value(char type) {
        Value result{};
        if (sd_bus_message_read_basic(message_, type, static_cast<void*>(&result)) <= 0) unexpected();
        return result;
    }
    /// What is in a container, `each` time one element is left in it.
    template <typename Each>
    void elements(char type, const char* contents, Each each) {
        if (sd_bus_message_enter_container(message_, type, contents) <= 0) unexpected();
        while (sd_bus_message_at_end(message_, 0) == 0)
            each();
        if (sd_bus_message_exit_container(message_) < 0) unexpected();
    }
    template <typename Each>
    void dictionary(const char* entry, Each each) {
        const auto array = fmt::format("{{{}}}", entry);
        elements('a', array.c_str(), [&] { elements('e', entry, each); });
    }
    void skip(const char* type) {
        if (sd_bus_message_skip(message_, type) < 0) unexpected();
    }
    [[noreturn]] void unexpected() const { throw InputError{origin_, "its answer is not what was expected"}; }

  private:
    sd_bus_message* message_;
    const std::string& origin_;
};

void read_property(Body& body, ServiceMdev& mdev, const std::string& name) {
    const auto texts = [&](auto each) {
        body.elements('v', "as", [&] { body.elements('a', "s", [&] { each(body.text()); }); });
    };
    if (name == "Guest") {
        body.elements('v', "s", [&] { mdev.guest = body.text(); });
    } else if (name == "InUse") {
        body.elements('v', "b", [&] { mdev.in_use = body.flag(); });
    } else if (name == "AssignedQueues") {
        body.elements('v', "u", [&] { mdev.assigned = body.value<std::uint32_t>('u'); });
    } else if (name == "Queues") {
        texts([&](const std::string& text) {
            const auto apqn = Apqn::parse(text);
            if (!apqn) body.unexpected();
            mdev.queues.push_back(*apqn);
        });
    } else if (name == "ControlDomains") {
        texts([&](const std::string& text) {
            const auto domain = parse_domain(text);
            if (!domain) body.unexpected();
            mdev.control_domains.set(*domain);
        });
    } else if (name == "Verdicts") {
        body.elements('v', "a{ss}", [&] {
            body.dictionary("ss", [&] {
                auto destination = body.text();
                mdev.verdicts[std::move(destination)] = body.text();
            });
        });
    } else {
        body.skip("v");
    }
}

}  // namespace

void ServiceClient::Unref::operator()(sd_bus* bus) const {
    // Nothing is left to be sent; and ssh must not be waited for.
    sd_bus_close_unref(bus);
}
void ServiceClient::Unref::operator()(sd_bus_message* message) const {
    sd_bus_message_unref(message);
}

ServiceClient::ServiceClient(ServiceClient&&) noexcept = default;
ServiceClient::~ServiceClient() = default;

void ServiceClient::fail(const std::string& why) const {
    if (host_.empty()) throw UnreachableError{name_ + " cannot be asked: " + why};
    const auto host = RemoteHost::parse(host_).value();
    throw UnreachableError{fmt::format(
        "{}: its service cannot be asked: {}; without it, take a snapshot: ssh {}{} vfioapctl snapshot > "
        "{}.json",
        host_, why, host.port.empty() ? "" : fmt::format("-p {} ", host.port), host.ssh_destination(),
        host.name)};
}

int ServiceClient::check(int result) const {
    // Over SSH, what became of ssh is all that can be known.
    if (result == -ENOTCONN || result == -ECONNRESET || result == -EPIPE)
        fail(host_.empty() ? "it has gone" : "ssh could not connect, or has ended");
    if (result < 0) fail(errno_text(-result));
    return result;
}

ServiceClient ServiceClient::local(bool start) {
    ServiceClient client;
    sd_bus* opened = nullptr;
    const int result = sd_bus_open_system(&opened);
    client.bus_.reset(opened);
    if (result < 0) throw ServiceNotRunning{fmt::format("no system bus: {}", errno_text(-result))};
    client.start_ = start;
    return client;
}

ServiceClient::ServiceClient(Remote remote)
    : host_{std::move(remote.host)}, name_{host_}, stop_{remote.stop} {
    const auto host = RemoteHost::parse(host_);
    if (!host) throw InputError{host_, "not a host name"};
    sd_bus* opened = nullptr;
    check(sd_bus_new(&opened));
    bus_.reset(opened);
    // As sd-bus does it itself, but where nobody is there to be asked: there ssh must end by itself.
    std::vector<std::string> arguments{"ssh", "-xT"};
    if (!remote.interactive) {
        for (const auto* option :
             {"BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=3"}) {
            arguments.insert(arguments.end(), {"-o", option});
        }
    }
    if (!host->port.empty()) arguments.insert(arguments.end(), {"-p", host->port});
    arguments.insert(arguments.end(), {"--", host->ssh_destination(), "systemd-stdio-bridge"});
    std::vector<char*> words;
    words.reserve(arguments.size() + 1);
    for (auto& argument : arguments)
        words.push_back(argument.data());
    words.push_back(nullptr);
    check(sd_bus_set_exec(bus_.get(), "ssh", words.data()));
    check(sd_bus_set_bus_client(bus_.get(), 1));
    check(sd_bus_start(bus_.get()));
}

bool ServiceClient::run(const std::function<bool()>& done, Clock::time_point deadline) {
    while (!done()) {
        if (check(sd_bus_process(bus_.get(), nullptr)) > 0) continue;
        const auto now = Clock::now();
        if (now >= deadline) return false;
        auto wait = std::chrono::ceil<std::chrono::milliseconds>(deadline - now);
        std::uint64_t until = 0;
        if (sd_bus_get_timeout(bus_.get(), &until) > 0 && until != UINT64_MAX) {
            const auto left = std::chrono::microseconds{until} - now.time_since_epoch();
            wait = std::clamp(std::chrono::ceil<std::chrono::milliseconds>(left), 0ms, wait);
        }
        std::vector<pollfd> fds{
            {check(sd_bus_get_fd(bus_.get())), static_cast<short>(check(sd_bus_get_events(bus_.get()))), 0},
            {stop_, POLLIN, 0}};
        if (::poll(fds.data(), fds.size(), static_cast<int>(wait.count())) < 0 && errno != EINTR)
            check(-errno);
        if (fds[1].revents != 0) fail("it was asked to stop");
    }
    return true;
}

ServiceClient::Message ServiceClient::new_call(const char* path, const char* interface, const char* member) {
    sd_bus_message* made = nullptr;
    check(sd_bus_message_new_method_call(bus_.get(), &made, service, path, interface, member));
    Message request{made};
    check(sd_bus_message_set_auto_start(made, start_ ? 1 : 0));
    return request;
}

ServiceClient::Message ServiceClient::ask(const Message& request, std::chrono::seconds patience) {
    Message answer;
    const auto received = [](sd_bus_message* message, void* where, sd_bus_error*) {
        static_cast<Message*>(where)->reset(sd_bus_message_ref(message));
        return 0;
    };
    sd_bus_slot* asked = nullptr;
    check(sd_bus_call_async(bus_.get(), &asked, request.get(), received, &answer,
                            static_cast<std::uint64_t>(std::chrono::microseconds{patience}.count())));
    const std::unique_ptr<sd_bus_slot, decltype(&sd_bus_slot_unref)> slot{asked, sd_bus_slot_unref};
    if (!run([&] { return answer != nullptr; }, Clock::now() + patience)) fail("it does not answer");
    if (sd_bus_message_is_method_error(answer.get(), nullptr) <= 0) return answer;
    const auto* const error = sd_bus_message_get_error(answer.get());
    if (host_.empty() && (sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) > 0 ||
                          sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER) > 0)) {
        throw ServiceNotRunning{"the service of this host does not run"};
    }
    return answer;
}

ServiceClient::Message ServiceClient::call(const Message& request) {
    auto answer = ask(request, host_.empty() ? std::chrono::seconds{local_patience} : remote_patience);
    if (sd_bus_message_is_method_error(answer.get(), nullptr) > 0) {
        const auto* const error = sd_bus_message_get_error(answer.get());
        fail(error->message != nullptr ? printable(error->message, 400) : printable(error->name, 400));
    }
    return answer;
}

ServiceClient::Message ServiceClient::manage(const Message& request) {
    check(sd_bus_message_set_allow_interactive_authorization(request.get(), 1));
    auto answer = ask(request, password_patience);
    if (sd_bus_message_is_method_error(answer.get(), nullptr) > 0) {
        const auto* const error = sd_bus_message_get_error(answer.get());
        throw ServiceError{
            error->name,
            fmt::format("{}: {}", name_,
                        printable(error->message != nullptr ? error->message : error->name, 400))};
    }
    return answer;
}

Inventory ServiceClient::inventory() {
    const auto answer = call(new_call(root, "org.vfioap1.Manager", "GetInventory"));
    Body body{answer.get(), name_};
    std::istringstream in{body.text()};
    auto inventory = read_snapshot(in, name_);
    if (!host_.empty()) inventory.location = "host:" + host_;
    return inventory;
}

std::vector<ServiceMdev> ServiceClient::mdevs() {
    const auto answer = call(new_call(root, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"));
    Body body{answer.get(), name_};
    std::vector<ServiceMdev> mdevs;
    body.dictionary("oa{sa{sv}}", [&] {
        const auto path = body.text('o');
        body.dictionary("sa{sv}", [&] {
            if (body.text() != "org.vfioap1.Mdev") {
                body.skip("a{sv}");
                return;
            }
            auto name = path.substr(path.rfind('/') + 1);
            std::replace(name.begin(), name.end(), '_', '-');
            auto uuid = Uuid::parse(name);
            if (!uuid) body.unexpected();
            auto& mdev = mdevs.emplace_back(std::move(*uuid));
            body.dictionary("sv", [&] { read_property(body, mdev, body.text()); });
        });
    });
    std::sort(mdevs.begin(), mdevs.end(),
              [](const ServiceMdev& a, const ServiceMdev& b) { return a.uuid < b.uuid; });
    return mdevs;
}

std::map<std::string, DestinationState> ServiceClient::destinations() {
    const auto request = new_call(root, "org.freedesktop.DBus.Properties", "Get");
    check(sd_bus_message_append(request.get(), "ss", "org.vfioap1.Manager", "Destinations"));
    const auto answer = call(request);
    Body body{answer.get(), name_};
    std::map<std::string, DestinationState> destinations;
    body.elements('v', "a{s(sxs)}", [&] {
        body.dictionary("s(sxs)", [&] {
            auto& destination = destinations[body.text()];
            body.elements('r', "sxs", [&] {
                destination.state = body.text();
                destination.since = body.value<std::int64_t>('x');
                destination.reason = body.text();
            });
        });
    });
    return destinations;
}

void ServiceClient::open_migration(const Uuid& mdev, const char* role, bool abort_job) {
    const auto request = new_call(root, "org.vfioap1.Manager", "OpenMigration");
    check(sd_bus_message_append(request.get(), "ssa{sv}", mdev.to_string().c_str(), role, 1, "abort_job", "b",
                                abort_job ? 1 : 0));
    call(request);
}

std::string ServiceClient::sysfs_root() {
    const auto request = new_call(root, "org.freedesktop.DBus.Properties", "Get");
    check(sd_bus_message_append(request.get(), "ss", "org.vfioap1.Manager", "SysfsRoot"));
    const auto answer = call(request);
    Body body{answer.get(), name_};
    std::string directory;
    body.elements('v', "s", [&] { directory = body.text(); });
    return directory;
}

std::string ServiceClient::apply_plan(const std::string& domain_xml, const std::string& source_snapshot,
                                      const std::map<std::string, std::string>& words, bool leave_unused,
                                      const TellPlan& tell) {
    const auto request = new_call(root, "org.vfioap1.Manager", "ApplyPlan");
    check(sd_bus_message_append(request.get(), "ss", domain_xml.c_str(), source_snapshot.c_str()));
    check(sd_bus_message_open_container(request.get(), 'a', "{sv}"));
    for (const auto& [name, word] : words)
        check(sd_bus_message_append(request.get(), "{sv}", name.c_str(), "s", word.c_str()));
    check(sd_bus_message_append(request.get(), "{sv}", "leave_unused", "b", leave_unused ? 1 : 0));
    check(sd_bus_message_close_container(request.get()));
    return follow_plan(request, tell);
}

std::string ServiceClient::undo_plan(const std::string& guest, const TellPlan& tell) {
    const auto request = new_call(root, "org.vfioap1.Manager", "UndoPlan");
    check(sd_bus_message_append(request.get(), "sa{sv}", guest.c_str(), 0));
    return follow_plan(request, tell);
}

ServicePlan ServiceClient::read_plan(const std::string& path) {
    const auto request = new_call(path.c_str(), "org.freedesktop.DBus.Properties", "GetAll");
    check(sd_bus_message_append(request.get(), "s", plan_interface));
    const auto answer = call(request);
    Body body{answer.get(), name_};
    ServicePlan plan;
    body.dictionary("sv", [&] {
        const auto name = body.text();
        const auto number = [&](std::uint32_t& value) {
            body.elements('v', "u", [&] { value = body.value<std::uint32_t>('u'); });
        };
        if (name == "State") {
            body.elements('v', "s", [&] { plan.state = printable(body.text()); });
        } else if (name == "Step") {
            body.elements('v', "s", [&] { plan.step = printable(body.text(), 400); });
        } else if (name == "StepsDone") {
            number(plan.done);
        } else if (name == "StepsTotal") {
            number(plan.total);
        } else {
            body.skip("v");
        }
    });
    return plan;
}

std::string ServiceClient::follow_plan(const Message& request, const TellPlan& tell) {
    follow();
    const auto opened = manage(request);
    Body body{opened.get(), name_};
    const auto path = body.text('o');
    try {
        bool cancelled = false;
        for (auto plan = read_plan(path); plan.state == "running"; plan = read_plan(path)) {
            if (!tell(plan) && !std::exchange(cancelled, true))
                call(new_call(path.c_str(), plan_interface, "Cancel"));
            wait_for_change(look_again);
        }
        const auto answer = call(new_call(path.c_str(), plan_interface, "GetReport"));
        Body report{answer.get(), name_};
        auto text = report.text();
        call(new_call(path.c_str(), plan_interface, "Close"));
        return text;
    } catch (const UnreachableError& error) {
        throw UnreachableError{fmt::format("{}; what it has begun it brings to an end", error.what())};
    }
}

void ServiceClient::tell(const char* member, const std::vector<std::string>& arguments,
                         std::chrono::milliseconds most) {
    const auto deadline = Clock::now() + most;
    const auto request = new_call(root, "org.vfioap1.Manager", member);
    for (const auto& argument : arguments)
        check(sd_bus_message_append_basic(request.get(), 's', argument.c_str()));
    // Who is gone when the service asks the bus about its caller may do nothing: so it stays for the answer.
    bool answered = false;
    const auto received = [](sd_bus_message*, void* where, sd_bus_error*) {
        *static_cast<bool*>(where) = true;
        return 0;
    };
    sd_bus_slot* asked = nullptr;
    check(sd_bus_call_async(bus_.get(), &asked, request.get(), received, &answered,
                            static_cast<std::uint64_t>(std::chrono::microseconds{most}.count())));
    const std::unique_ptr<sd_bus_slot, decltype(&sd_bus_slot_unref)> slot{asked, sd_bus_slot_unref};
    run([&] { return answered; }, deadline);
}

void ServiceClient::follow() {
    const auto changed = [](sd_bus_message*, void* where, sd_bus_error*) {
        *static_cast<bool*>(where) = true;
        return 0;
    };
    for (const auto* rule :
         {"type='signal',path_namespace='/org/vfioap1'",
          "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.vfioap1'"}) {
        check(sd_bus_add_match_async(bus_.get(), nullptr, rule, changed, nullptr, changed_.get()));
    }
}

bool ServiceClient::wait_for_change(std::chrono::milliseconds most) {
    const bool changed = run([this] { return *changed_; }, Clock::now() + most);
    *changed_ = false;
    return changed;
}

}  // namespace vfioap
