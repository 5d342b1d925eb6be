// SPDX-License-Identifier: LGPL-2.1-or-later
// Against libvirt's test driver: in this process, and behind a real libvirtd. What that driver has not (jobs,
// devices that come and go, hooks) is put in place of functions of libvirt.
#include "service/libvirt_link.h"

#include "ap/error.h"
#include "service/private_libvirtd.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include <dlfcn.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

namespace vfioap {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;
using Clock = std::chrono::steady_clock;

constexpr const char* in_process = "test:///default";
constexpr const char* mdev_text = "62177883-f1bb-47f0-914d-32a22e3a8804";
constexpr const char* foreign = "urn:example:other";

Uuid uuid(const char* text) {
    return *Uuid::parse(text);
}
const Uuid guest1 = uuid("6b8f5c1e-2d4a-4e0f-9b1c-7a3d5e8f1c20");
const Uuid guest2 = uuid("e91d0b37-8c26-4f5a-b3e4-5a7c2d8e6f14");
const Uuid mdev = uuid(mdev_text);

std::string hostdev(const Uuid& device) {
    return fmt::format(
        "<hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address "
        "uuid='{}'/></source></hostdev>",
        device.to_string());
}

std::string domain_xml(const std::string& name, const Uuid& guest,
                       const std::string& devices = hostdev(mdev)) {
    return fmt::format(
        "<domain type='test'><name>{}</name><uuid>{}</uuid>"
        "<metadata><other:note xmlns:other='{}' keep='yes'>of others</other:note></metadata>"
        "<memory>1048576</memory><os><type arch='i686'>hvm</type></os><devices>{}</devices></domain>",
        name, guest.to_string(), foreign, devices);
}

/// As the service makes it, and as libvirt gives it back differently.
const std::string state = "<config mdev='" + std::string{mdev_text} +
                          "'   host=\"a&amp;b\"><queues tapq='0x1'>05.0004 05.0047</queues>"
                          "<control-domains></control-domains></config>";

/// What an administrator does, with a connection of its own.
class Admin {
  public:
    Admin(const Libvirt& libvirt, const std::string& uri)
        : libvirt_{libvirt}, handle_{::dlopen(libvirt_library, RTLD_NOW | RTLD_LOCAL)} {
        connection_ = libvirt_.open(uri.c_str());
    }
    ~Admin() {
        if (connection_ != nullptr) libvirt_.close(connection_);
    }
    Admin(const Admin&) = delete;
    Admin& operator=(const Admin&) = delete;
    Admin(Admin&&) = delete;
    Admin& operator=(Admin&&) = delete;

    [[nodiscard]] bool connected() const { return connection_ != nullptr; }
    void define(const std::string& xml) const {
        made(function<decltype(&virDomainDefineXML)>("virDomainDefineXML"), xml);
    }
    void create_transient(const std::string& xml) const {
        auto* const domain =
            function<decltype(&virDomainCreateXML)>("virDomainCreateXML")(connection_, xml.c_str(), 0);
        ASSERT_NE(domain, nullptr) << error();
        libvirt_.free_domain(domain);
    }
    void start(const Uuid& guest) const { on(guest, "virDomainCreate"); }
    void destroy(const Uuid& guest) const { on(guest, "virDomainDestroy"); }
    void undefine(const Uuid& guest) const { on(guest, "virDomainUndefine"); }
    void set_metadata(const Uuid& guest, const char* text, const char* key, const char* uri) const {
        auto* const domain = lookup(guest);
        EXPECT_EQ(libvirt_.set_metadata(domain, VIR_DOMAIN_METADATA_ELEMENT, text, key, uri,
                                        VIR_DOMAIN_AFFECT_LIVE),
                  0)
            << error();
        libvirt_.free_domain(domain);
    }
    /// Nothing: there is none.
    [[nodiscard]] std::optional<std::string> metadata(const Uuid& guest, const char* uri,
                                                      unsigned flags) const {
        auto* const domain = lookup(guest);
        char* const text = libvirt_.get_metadata(domain, VIR_DOMAIN_METADATA_ELEMENT, uri, flags);
        libvirt_.free_domain(domain);
        if (text == nullptr) return std::nullopt;
        std::string result{text};
        std::free(text);  // NOLINT(cppcoreguidelines-no-malloc): libvirt allocates so
        return result;
    }

  private:
    template <typename Function>
    [[nodiscard]] Function function(const char* name) const {
        return reinterpret_cast<Function>(::dlsym(handle_, name));
    }
    template <typename Function>
    void made(Function make, const std::string& xml) const {
        auto* const domain = make(connection_, xml.c_str());
        ASSERT_NE(domain, nullptr) << error();
        libvirt_.free_domain(domain);
    }
    void on(const Uuid& guest, const char* name) const {
        auto* const domain = lookup(guest);
        EXPECT_EQ(function<int (*)(virDomainPtr)>(name)(domain), 0) << error();
        libvirt_.free_domain(domain);
    }
    [[nodiscard]] virDomainPtr lookup(const Uuid& guest) const {
        auto* const domain = libvirt_.lookup_by_uuid(connection_, guest.to_string().c_str());
        EXPECT_NE(domain, nullptr) << error();
        return domain;
    }
    [[nodiscard]] std::string error() const {
        const auto* const last = libvirt_.last_error();
        return last == nullptr ? "" : last->message;
    }

    const Libvirt& libvirt_;
    void* handle_;
    virConnectPtr connection_ = nullptr;
};

/// A link, and all that it has told, waited for as the service does.
class Watched {
  public:
    explicit Watched(LibvirtLinkOptions options) : link_{std::make_unique<LibvirtLink>(std::move(options))} {}

    LibvirtLink& link() { return *link_; }
    void end() { link_.reset(); }
    std::vector<LibvirtMessage>& told() { return told_; }

    /// What comes from here on, up to the message for which `wanted` is true.
    template <typename Message>
    std::optional<Message> next(
        const std::function<bool(const Message&)>& wanted = [](const Message&) { return true; },
        Clock::duration patience = 20s) {
        const auto until = Clock::now() + patience;
        while (true) {
            while (seen_ < told_.size()) {
                if (const auto* const message = std::get_if<Message>(&told_[seen_++]);
                    message != nullptr && wanted(*message))
                    return *message;
            }
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
            pollfd fd{link_->fd(), POLLIN, 0};
            if (left <= 0 || ::poll(&fd, 1, static_cast<int>(left)) == 0) return std::nullopt;
            for (auto& message : link_->take())
                told_.push_back(std::move(message));
        }
    }
    std::optional<LibvirtGuest> next_change(const Uuid& guest) {
        const auto changed =
            next<GuestChanged>([&](const GuestChanged& each) { return each.guest.uuid == guest; });
        return changed ? std::optional{changed->guest} : std::nullopt;
    }
    /// Everything up to now.
    template <typename Message>
    std::size_t count() {
        next<Message>([](const Message&) { return false; }, 50ms);
        return static_cast<std::size_t>(std::count_if(told_.begin(), told_.end(), [](const auto& each) {
            return std::holds_alternative<Message>(each);
        }));
    }

  private:
    std::unique_ptr<LibvirtLink> link_;
    std::vector<LibvirtMessage> told_;
    std::size_t seen_ = 0;
};

LibvirtLinkOptions quick(std::string uri, const Libvirt& libvirt) {
    LibvirtLinkOptions options;
    options.uri = std::move(uri);
    options.first_retry = 50ms;
    options.longest_retry = 400ms;
    options.between_writes = 0ms;
    options.keepalive = 1s;
    options.patience = 500ms;
    options.library = [libvirt] { return libvirt; };
    return options;
}

/// Skips where there is no libvirt.
class LibvirtTest : public testing::Test {
  protected:
    void SetUp() override {
        try {
            libvirt_ = load_libvirt();
        } catch (const Error& error) {
            GTEST_SKIP() << error.what();
        }
        // Before any connection: the events of the administrator's own go the same way.
        libvirt_.register_event_loop();
    }
    Libvirt libvirt_;
};

/// The same against both.
class LibvirtLinkTo : public LibvirtTest, public testing::WithParamInterface<bool> {
  protected:
    void SetUp() override {
        LibvirtTest::SetUp();
        if (IsSkipped()) return;
        if (GetParam()) {
            if (const auto reason = libvirtd_.start(); !reason.empty()) GTEST_SKIP() << reason;
        }
        admin_ = std::make_unique<Admin>(libvirt_, uri());
        ASSERT_TRUE(admin_->connected());
    }
    void TearDown() override { admin_.reset(); }
    [[nodiscard]] std::string uri() const { return GetParam() ? libvirtd_.uri() : in_process; }
    [[nodiscard]] LibvirtLinkOptions options() const { return quick(uri(), libvirt_); }

    test::PrivateLibvirtd libvirtd_;
    std::unique_ptr<Admin> admin_;
};

TEST_P(LibvirtLinkTo, tells_the_guests_that_are_there_and_then_that_it_is_connected) {
    admin_->define(domain_xml("guest1", guest1));
    Watched watched{options()};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    EXPECT_TRUE(watched.link().connected());
    EXPECT_EQ(watched.link().guests().size(), 2U);  // with the driver's own
    const auto& guest = watched.link().guests().at(guest1);
    EXPECT_EQ(guest, (LibvirtGuest{guest1, "guest1", false, true, {mdev}, false}));
    ASSERT_NE(watched.link().guest_of(mdev), nullptr);
    EXPECT_EQ(watched.link().guest_of(mdev)->name, "guest1");
    EXPECT_EQ(watched.link().guest_of(guest2), nullptr);
    EXPECT_TRUE(std::holds_alternative<LibvirtConnected>(watched.told().back()));
}

TEST_P(LibvirtLinkTo, follows_a_guest_through_its_life) {
    Watched watched{options()};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    admin_->define(domain_xml("guest1", guest1));
    EXPECT_EQ(watched.next_change(guest1), (LibvirtGuest{guest1, "guest1", false, true, {mdev}, false}));
    admin_->start(guest1);
    EXPECT_EQ(watched.next_change(guest1), (LibvirtGuest{guest1, "guest1", true, true, {mdev}, false}));
    admin_->undefine(guest1);
    EXPECT_EQ(watched.next_change(guest1), (LibvirtGuest{guest1, "guest1", true, false, {mdev}, false}));
    admin_->define(domain_xml("guest1", guest1, ""));
    EXPECT_EQ(watched.next_change(guest1), (LibvirtGuest{guest1, "guest1", true, true, {mdev}, false}))
        << "what it has, not what it will have";
    admin_->destroy(guest1);
    EXPECT_EQ(watched.next_change(guest1), (LibvirtGuest{guest1, "guest1", false, true, {mdev}, false}));
    EXPECT_EQ(watched.next_change(guest1), (LibvirtGuest{guest1, "guest1", false, true, {}, false}));
    admin_->undefine(guest1);
    ASSERT_TRUE(watched.next<GuestGone>());
    EXPECT_EQ(watched.link().guests().count(guest1), 0U);
}

TEST_P(LibvirtLinkTo, follows_a_transient_guest) {
    Watched watched{options()};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    admin_->create_transient(domain_xml("passing", guest2));
    EXPECT_EQ(watched.next_change(guest2), (LibvirtGuest{guest2, "passing", true, false, {mdev}, false}));
    admin_->destroy(guest2);
    const auto gone = watched.next<GuestGone>();
    ASSERT_TRUE(gone);
    EXPECT_EQ(gone->guest.name, "passing");
    EXPECT_EQ(watched.link().guest_of(mdev), nullptr);
}

TEST_P(LibvirtLinkTo, names_the_running_guest_of_an_mdev_that_several_are_defined_with) {
    admin_->define(domain_xml("guest1", guest1));
    admin_->define(domain_xml("guest2", guest2));
    Watched watched{options()};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    for (const auto& guest : {guest2, guest1}) {
        admin_->start(guest);
        ASSERT_TRUE(watched.next_change(guest));
        EXPECT_EQ(watched.link().guest_of(mdev)->uuid, guest);
        admin_->destroy(guest);
        ASSERT_TRUE(watched.next_change(guest));
    }
}

TEST_P(LibvirtLinkTo, stores_a_state_in_the_live_domain_only_and_only_when_it_differs) {
    admin_->define(domain_xml("guest1", guest1));
    admin_->start(guest1);
    const auto of_others = admin_->metadata(guest1, foreign, VIR_DOMAIN_AFFECT_LIVE);
    ASSERT_TRUE(of_others);
    Watched watched{options()};
    ASSERT_TRUE(watched.next<LibvirtConnected>());

    watched.link().set_state(guest1, state);
    auto stored = watched.next<StateStored>();
    ASSERT_TRUE(stored);
    EXPECT_EQ(stored->guest, guest1);
    EXPECT_TRUE(stored->written);
    const auto changed = watched.next<GuestChanged>();
    ASSERT_TRUE(changed);
    EXPECT_TRUE(changed->guest.has_state);
    EXPECT_THAT(changed->state, HasSubstr("05.0004 05.0047"));
    const auto there = admin_->metadata(guest1, metadata_namespace, VIR_DOMAIN_AFFECT_LIVE);
    ASSERT_TRUE(there);
    EXPECT_NE(*there, state) << "libvirt formats it";
    EXPECT_EQ(admin_->metadata(guest1, metadata_namespace, VIR_DOMAIN_AFFECT_CONFIG), std::nullopt);

    // The same once more, as it was given and as libvirt has it.
    for (const auto& again : {state, *there}) {
        watched.link().set_state(guest1, again);
        stored = watched.next<StateStored>();
        ASSERT_TRUE(stored);
        EXPECT_FALSE(stored->written);
    }
    watched.link().set_state(guest1, "<config mdev='other'/>");
    stored = watched.next<StateStored>();
    ASSERT_TRUE(stored);
    EXPECT_TRUE(stored->written);
    EXPECT_THAT(*admin_->metadata(guest1, metadata_namespace, VIR_DOMAIN_AFFECT_LIVE),
                HasSubstr("\"other\""));
    EXPECT_EQ(admin_->metadata(guest1, foreign, VIR_DOMAIN_AFFECT_LIVE), of_others);

    watched.link().set_state(guest1, {});
    stored = watched.next<StateStored>();
    ASSERT_TRUE(stored);
    EXPECT_TRUE(stored->written);
    EXPECT_EQ(admin_->metadata(guest1, metadata_namespace, VIR_DOMAIN_AFFECT_LIVE), std::nullopt);
    EXPECT_EQ(admin_->metadata(guest1, foreign, VIR_DOMAIN_AFFECT_LIVE), of_others);
    watched.link().set_state(guest1, {});
    stored = watched.next<StateStored>();
    ASSERT_TRUE(stored);
    EXPECT_FALSE(stored->written);
}

TEST_P(LibvirtLinkTo, forgets_the_state_with_the_running_guest) {
    admin_->define(domain_xml("guest1", guest1));
    admin_->start(guest1);
    Watched watched{options()};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    watched.link().set_state(guest1, state);
    ASSERT_TRUE(watched.next<GuestChanged>([](const GuestChanged& each) { return each.guest.has_state; }));
    admin_->destroy(guest1);
    const auto stopped = watched.next_change(guest1);
    ASSERT_TRUE(stopped);
    EXPECT_FALSE(stopped->has_state);
    admin_->start(guest1);
    const auto started = watched.next_change(guest1);
    ASSERT_TRUE(started);
    EXPECT_TRUE(started->running);
    EXPECT_FALSE(started->has_state);
}

TEST_P(LibvirtLinkTo, tells_what_others_made_of_the_state) {
    admin_->define(domain_xml("guest1", guest1));
    admin_->start(guest1);
    Watched watched{options()};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    admin_->set_metadata(guest1, "<config detached='yes'/>", metadata_key, metadata_namespace);
    const auto changed = watched.next<GuestChanged>();
    ASSERT_TRUE(changed);
    EXPECT_EQ(changed->state, "<config detached=\"yes\"/>");
    const auto before = watched.count<GuestChanged>();
    admin_->set_metadata(guest1, "<config/>", "x", "urn:example:third");
    EXPECT_EQ(watched.count<GuestChanged>(), before);
}

TEST_P(LibvirtLinkTo, stores_a_mebibyte_and_no_more) {
    admin_->define(domain_xml("guest1", guest1));
    admin_->start(guest1);
    Watched watched{options()};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    std::string large = "<config>";
    while (large.size() + 18 <= metadata_max_bytes)
        large += "05.0004 ";
    large += "</config>";
    EXPECT_THROW(
        watched.link().set_state(guest1, large + std::string(metadata_max_bytes - large.size() + 1, ' ')),
        InputError);
    watched.link().set_state(guest1, large);
    auto stored = watched.next<StateStored>();
    ASSERT_TRUE(stored);
    EXPECT_TRUE(stored->written);
    watched.link().set_state(guest1, large);
    stored = watched.next<StateStored>();
    ASSERT_TRUE(stored);
    EXPECT_FALSE(stored->written);
}

TEST_P(LibvirtLinkTo, says_why_a_state_cannot_be_stored) {
    admin_->define(domain_xml("guest1", guest1));
    Watched watched{options()};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    watched.link().set_state(guest1, state);
    auto failed = watched.next<LibvirtCallFailed>();
    ASSERT_TRUE(failed);
    EXPECT_THAT(failed->reason, HasSubstr("does not run"));
    EXPECT_FALSE(failed->again);
    watched.link().set_state(guest2, state);
    failed = watched.next<LibvirtCallFailed>();
    ASSERT_TRUE(failed);
    EXPECT_EQ(failed->guest, guest2);
    admin_->start(guest1);
    ASSERT_TRUE(watched.next_change(guest1));
    watched.link().set_state(guest1, "<config>cut o");
    failed = watched.next<LibvirtCallFailed>();
    ASSERT_TRUE(failed);
    EXPECT_FALSE(failed->again);
    EXPECT_EQ(failed->reason.find('\n'), std::string::npos);
    // The test driver has no jobs.
    watched.link().abort_job(guest1);
    failed = watched.next<LibvirtCallFailed>();
    ASSERT_TRUE(failed);
    EXPECT_THAT(failed->reason, HasSubstr("cannot abort its job"));
}

INSTANTIATE_TEST_SUITE_P(Libvirt, LibvirtLinkTo, testing::Bool(),
                         [](const auto& each) { return each.param ? "libvirtd" : "in_process"; });

// libvirtd comes and goes.

class LibvirtdOf : public LibvirtTest {
  protected:
    void SetUp() override {
        LibvirtTest::SetUp();
        if (IsSkipped()) return;
        if (const auto reason = libvirtd_.start(); !reason.empty()) GTEST_SKIP() << reason;
    }
    void TearDown() override { libvirtd_.signal(SIGCONT); }
    test::PrivateLibvirtd libvirtd_;
};

TEST_F(LibvirtdOf, that_is_killed_and_started_again_all_guests_are_told_anew) {
    Watched watched{quick(libvirtd_.uri(), libvirt_)};
    {
        const Admin admin{libvirt_, libvirtd_.uri()};
        admin.define(domain_xml("guest1", guest1));
        ASSERT_TRUE(watched.next_change(guest1));
    }
    libvirtd_.kill();
    ASSERT_TRUE(watched.next<LibvirtDisconnected>());
    EXPECT_FALSE(watched.link().connected());
    EXPECT_NE(watched.link().guest_of(mdev), nullptr) << "guests go on without libvirtd";
    std::this_thread::sleep_for(1s);
    ASSERT_EQ(libvirtd_.start(), "");
    // The new one's test driver begins with its own guest only.
    ASSERT_TRUE(watched.next<GuestGone>());
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    EXPECT_TRUE(watched.link().connected());
    EXPECT_EQ(watched.count<LibvirtDisconnected>(), 1U) << "once, not for each attempt";
    const Admin admin{libvirt_, libvirtd_.uri()};
    admin.define(domain_xml("guest2", guest2));
    EXPECT_TRUE(watched.next_change(guest2)) << "events of the new connection";
}

TEST_F(LibvirtdOf, that_does_not_answer_the_connection_is_given_up) {
    Watched watched{quick(libvirtd_.uri(), libvirt_)};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    libvirtd_.signal(SIGSTOP);
    const auto disconnected = watched.next<LibvirtDisconnected>();
    ASSERT_TRUE(disconnected);
    EXPECT_EQ(disconnected->reason, "libvirt does not answer any more");
    libvirtd_.signal(SIGCONT);
    EXPECT_TRUE(watched.next<LibvirtConnected>());
}

TEST_F(LibvirtdOf, that_hangs_the_link_is_ended_nevertheless) {
    const Admin admin{libvirt_, libvirtd_.uri()};
    admin.define(domain_xml("guest1", guest1));
    admin.start(guest1);
    for (const bool connecting : {true, false}) {
        SCOPED_TRACE(connecting ? "connecting" : "in a call");
        auto thread = std::make_shared<int>(0);
        auto options = quick(libvirtd_.uri(), libvirt_);
        options.library = [libvirt = libvirt_, thread] { return libvirt; };
        if (connecting) libvirtd_.signal(SIGSTOP);
        Watched watched{std::move(options)};
        if (!connecting) {
            ASSERT_TRUE(watched.next<LibvirtConnected>());
            libvirtd_.signal(SIGSTOP);
        }
        watched.link().set_state(guest1, state);
        std::this_thread::sleep_for(200ms);
        const auto begin = Clock::now();
        watched.end();
        EXPECT_LT(Clock::now() - begin, 1500ms);
        libvirtd_.signal(SIGCONT);
        // The thread that was left behind ends and frees all it had.
        for (int i = 0; i < 200 && thread.use_count() > 1; ++i)
            std::this_thread::sleep_for(50ms);
        EXPECT_EQ(thread.use_count(), 1);
    }
}

// What stands in for functions of libvirt; functions without a place for their data, hence static.

struct Stubs {
    static inline Libvirt real;
    static inline std::atomic<int> calls = 0;
    static inline std::atomic<int> refusals = 0;
    static inline thread_local std::optional<virError> error;
    static inline std::atomic<bool> hang = false;
    static inline std::mutex mutex;
    static inline std::vector<Clock::time_point> attempts;
    static inline std::string devices;
    static inline std::vector<std::pair<virConnectDomainEventGenericCallback, void*>> device_callbacks;

    static virErrorPtr last_error() { return error ? &*error : real.last_error(); }
    static void fail(int code, const char* message) {
        error = virError{};
        error->code = code;
        error->message = const_cast<char*>(message);
    }
};

class LibvirtLinkWith : public LibvirtTest {
  protected:
    void SetUp() override {
        LibvirtTest::SetUp();
        if (IsSkipped()) return;
        Stubs::real = libvirt_;
        Stubs::calls = 0;
        Stubs::refusals = 0;
        Stubs::hang = false;
        Stubs::attempts.clear();
        Stubs::device_callbacks.clear();
        stubbed_ = libvirt_;
        stubbed_.last_error = Stubs::last_error;
        admin_ = std::make_unique<Admin>(libvirt_, in_process);
        admin_->define(domain_xml("guest1", guest1));
        admin_->start(guest1);
    }
    void TearDown() override { admin_.reset(); }

    Libvirt stubbed_;
    std::unique_ptr<Admin> admin_;
};

TEST_F(LibvirtLinkWith, a_job_in_the_way_stores_the_state_after_it) {
    Stubs::refusals = 3;
    stubbed_.get_job_info = [](virDomainPtr, virDomainJobInfoPtr info) {
        ++Stubs::calls;
        info->type = Stubs::refusals-- > 0 ? VIR_DOMAIN_JOB_UNBOUNDED : VIR_DOMAIN_JOB_NONE;
        return 0;
    };
    Watched watched{quick(in_process, stubbed_)};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    watched.link().set_state(guest1, state);
    const auto failed = watched.next<LibvirtCallFailed>();
    ASSERT_TRUE(failed);
    EXPECT_TRUE(failed->again);
    const auto stored = watched.next<StateStored>();
    ASSERT_TRUE(stored);
    EXPECT_TRUE(stored->written);
    EXPECT_EQ(Stubs::calls, 4);
    EXPECT_EQ(watched.count<LibvirtCallFailed>(), 1U) << "told once";
}

// Of a guest that comes in libvirt says nothing but this (9.0), and a change waits until it is there, for up
// to 30 s.
TEST_F(LibvirtLinkWith, a_guest_that_comes_in_gets_its_state_when_it_is_there) {
    Stubs::refusals = 3;
    stubbed_.get_job_info = [](virDomainPtr, virDomainJobInfoPtr info) {
        if (Stubs::refusals-- > 0) {
            Stubs::fail(VIR_ERR_OPERATION_UNSUPPORTED,
                        "migration statistics are available only on the source host");
            return -1;
        }
        info->type = VIR_DOMAIN_JOB_NONE;
        return 0;
    };
    stubbed_.get_metadata = [](virDomainPtr domain, int type, const char* uri, unsigned flags) {
        Stubs::error.reset();
        return Stubs::real.get_metadata(domain, type, uri, flags);
    };
    stubbed_.set_metadata = [](virDomainPtr domain, int type, const char* text, const char* key,
                               const char* uri, unsigned flags) {
        EXPECT_LE(Stubs::refusals, 0) << "called while it comes in";
        return Stubs::real.set_metadata(domain, type, text, key, uri, flags);
    };
    Watched watched{quick(in_process, stubbed_)};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    watched.link().set_state(guest1, state);
    ASSERT_TRUE(watched.next<LibvirtCallFailed>());
    const auto stored = watched.next<StateStored>();
    ASSERT_TRUE(stored);
    EXPECT_TRUE(stored->written);
}

TEST_F(LibvirtLinkWith, a_refusal_because_a_job_began_stores_the_state_later) {
    Stubs::refusals = 2;
    stubbed_.set_metadata = [](virDomainPtr domain, int type, const char* text, const char* key,
                               const char* uri, unsigned flags) {
        ++Stubs::calls;
        if (Stubs::refusals-- > 0) {
            Stubs::fail(VIR_ERR_OPERATION_TIMEOUT, "cannot acquire state change lock");
            return -1;
        }
        return Stubs::real.set_metadata(domain, type, text, key, uri, flags);
    };
    stubbed_.get_metadata = [](virDomainPtr domain, int type, const char* uri, unsigned flags) {
        Stubs::error.reset();
        return Stubs::real.get_metadata(domain, type, uri, flags);
    };
    Watched watched{quick(in_process, stubbed_)};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    watched.link().set_state(guest1, "<config mdev='old'/>");
    ASSERT_TRUE(watched.next<LibvirtCallFailed>());
    const auto stored = watched.next<StateStored>();
    ASSERT_TRUE(stored);
    EXPECT_TRUE(stored->written);
    EXPECT_EQ(Stubs::calls, 3);
}

TEST_F(LibvirtLinkWith, a_guest_that_stops_drops_the_state_that_waits) {
    stubbed_.get_job_info = [](virDomainPtr, virDomainJobInfoPtr info) {
        info->type = VIR_DOMAIN_JOB_UNBOUNDED;
        return 0;
    };
    Watched watched{quick(in_process, stubbed_)};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    watched.link().set_state(guest1, state);
    ASSERT_TRUE(watched.next<LibvirtCallFailed>());
    admin_->destroy(guest1);
    admin_->start(guest1);
    ASSERT_TRUE(watched.next<GuestChanged>([](const GuestChanged& each) { return each.guest.running; }));
    EXPECT_EQ(watched.next<StateStored>([](const auto&) { return true; }, 600ms), std::nullopt);
}

TEST_F(LibvirtLinkWith, a_device_that_comes_and_goes_tells_the_guests_mdevs) {
    stubbed_.register_domain_event = [](virConnectPtr connection, virDomainPtr domain, int id,
                                        virConnectDomainEventGenericCallback callback, void* opaque,
                                        virFreeCallback free) {
        if (id == VIR_DOMAIN_EVENT_ID_DEVICE_ADDED || id == VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED)
            Stubs::device_callbacks.emplace_back(callback, opaque);
        return Stubs::real.register_domain_event(connection, domain, id, callback, opaque, free);
    };
    stubbed_.xml_desc = [](virDomainPtr domain, unsigned /*flags*/) {
        const std::lock_guard lock{Stubs::mutex};
        const std::string name = Stubs::real.domain_name(domain);
        return ::strdup(domain_xml(name, guest1, Stubs::devices).c_str());
    };
    Stubs::devices.clear();
    Watched watched{quick(in_process, stubbed_)};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    ASSERT_EQ(Stubs::device_callbacks.size(), 2U);
    EXPECT_THAT(watched.link().guests().at(guest1).mdevs, IsEmpty());
    for (const bool added : {true, false}) {
        {
            const std::lock_guard lock{Stubs::mutex};
            Stubs::devices = added ? hostdev(mdev) : "";
        }
        // In the thread of the event loop, as libvirt does.
        const int timer = libvirt_.add_timeout(
            0,
            [](int id, void* which) {
                const auto& [callback, opaque] = Stubs::device_callbacks[which != nullptr ? 0 : 1];
                auto* const connection = Stubs::real.open_read_only(in_process);
                auto* const domain = Stubs::real.lookup_by_uuid(connection, guest1.to_string().c_str());
                reinterpret_cast<virConnectDomainEventDeviceAddedCallback>(reinterpret_cast<void*>(callback))(
                    connection, domain, "hostdev0", opaque);
                Stubs::real.free_domain(domain);
                Stubs::real.close(connection);
                Stubs::real.remove_timeout(id);
            },
            added ? &Stubs::calls : nullptr, nullptr);
        ASSERT_GE(timer, 0);
        const auto changed = watched.next_change(guest1);
        ASSERT_TRUE(changed);
        EXPECT_EQ(changed->mdevs.size(), added ? 1U : 0U);
    }
}

// `virsh migrate --undefinesource`: the domain is still there when it has stopped, and goes without an event.
TEST_F(LibvirtLinkWith, a_guest_that_a_migration_undefines_is_gone) {
    stubbed_.register_domain_event = [](virConnectPtr connection, virDomainPtr domain, int id,
                                        virConnectDomainEventGenericCallback callback, void* opaque,
                                        virFreeCallback free) {
        if (id == VIR_DOMAIN_EVENT_ID_LIFECYCLE) Stubs::device_callbacks.emplace_back(callback, opaque);
        return Stubs::real.register_domain_event(connection, domain, id, callback, opaque, free);
    };
    stubbed_.lookup_by_uuid = [](virConnectPtr connection, const char* uuid) -> virDomainPtr {
        if (++Stubs::calls == 1) return Stubs::real.lookup_by_uuid(connection, uuid);
        Stubs::fail(VIR_ERR_NO_DOMAIN, "Domain not found");
        return nullptr;
    };
    Watched watched{quick(in_process, stubbed_)};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    ASSERT_EQ(Stubs::device_callbacks.size(), 1U);
    const int timer = libvirt_.add_timeout(
        0,
        [](int id, void*) {
            const auto& [callback, opaque] = Stubs::device_callbacks.front();
            auto* const connection = Stubs::real.open_read_only(in_process);
            auto* const domain = Stubs::real.lookup_by_uuid(connection, guest1.to_string().c_str());
            reinterpret_cast<virConnectDomainEventCallback>(reinterpret_cast<void*>(callback))(
                connection, domain, VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_MIGRATED, opaque);
            Stubs::real.free_domain(domain);
            Stubs::real.close(connection);
            Stubs::real.remove_timeout(id);
        },
        nullptr, nullptr);
    ASSERT_GE(timer, 0);
    ASSERT_TRUE(watched.next<GuestGone>());
    EXPECT_EQ(watched.link().guests().count(guest1), 0U);
}

TEST_F(LibvirtLinkWith, a_job_to_abort_has_it_aborted) {
    stubbed_.abort_job = [](virDomainPtr domain) {
        Stubs::calls += Stubs::real.domain_name(domain) == std::string_view{"guest1"} ? 1 : 100;
        return 0;
    };
    Watched watched{quick(in_process, stubbed_)};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    watched.link().abort_job(guest1);
    for (int i = 0; i < 200 && Stubs::calls == 0; ++i)
        std::this_thread::sleep_for(10ms);
    EXPECT_EQ(Stubs::calls, 1);
}

TEST_F(LibvirtLinkWith, no_writing_connection_as_long_as_nothing_is_written) {
    stubbed_.open = [](const char* uri) {
        ++Stubs::calls;
        return Stubs::real.open(uri);
    };
    Watched watched{quick(in_process, stubbed_)};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    watched.link().set_state(guest1, {});
    ASSERT_TRUE(watched.next<StateStored>());
    EXPECT_EQ(Stubs::calls, 0);
    watched.link().set_state(guest1, state);
    ASSERT_TRUE(watched.next<StateStored>());
    EXPECT_EQ(Stubs::calls, 1);
}

TEST_F(LibvirtLinkWith, a_hook_that_hangs_keeps_nobody_but_its_own_thread) {
    stubbed_.xml_desc = [](virDomainPtr domain, unsigned flags) {
        while (Stubs::hang && ++Stubs::calls > 0)
            std::this_thread::sleep_for(10ms);
        return Stubs::real.xml_desc(domain, flags);
    };
    auto thread = std::make_shared<int>(0);
    auto options = quick(in_process, stubbed_);
    options.library = [libvirt = stubbed_, thread] { return libvirt; };
    Watched watched{std::move(options)};
    ASSERT_TRUE(watched.next<LibvirtConnected>());
    Stubs::hang = true;
    admin_->destroy(guest1);
    // Known without a call, which would wait.
    const auto stopped = watched.next_change(guest1);
    ASSERT_TRUE(stopped);
    EXPECT_FALSE(stopped->running);
    for (int i = 0; i < 200 && Stubs::calls == 0; ++i)
        std::this_thread::sleep_for(10ms);
    EXPECT_GT(Stubs::calls, 0) << "now it waits in the call";
    const auto begin = Clock::now();
    watched.link().set_state(guest1, state);
    watched.link().abort_job(guest1);
    EXPECT_EQ(watched.link().guest_of(mdev)->name, "guest1");
    EXPECT_LT(Clock::now() - begin, 200ms);
    watched.end();
    EXPECT_LT(Clock::now() - begin, 1500ms);
    Stubs::hang = false;
    for (int i = 0; i < 200 && thread.use_count() > 1; ++i)
        std::this_thread::sleep_for(50ms);
    EXPECT_EQ(thread.use_count(), 1) << "the thread that was left behind ends";
}

TEST_F(LibvirtLinkWith, no_libvirtd_is_told_once_and_tried_again_ever_more_seldom) {
    stubbed_.open_read_only = [](const char*) -> virConnectPtr {
        const std::lock_guard lock{Stubs::mutex};
        Stubs::attempts.push_back(Clock::now());
        return Stubs::real.open_read_only("test:///no/such/file.xml");
    };
    Watched watched{quick(in_process, stubbed_)};
    const auto disconnected = watched.next<LibvirtDisconnected>();
    ASSERT_TRUE(disconnected);
    EXPECT_THAT(disconnected->reason, HasSubstr("cannot connect to test:///default: "));
    watched.link().abort_job(guest1);
    const auto failed = watched.next<LibvirtCallFailed>();
    ASSERT_TRUE(failed);
    EXPECT_THAT(failed->reason, HasSubstr("no connection"));
    std::this_thread::sleep_for(1600ms);
    EXPECT_EQ(watched.count<LibvirtDisconnected>(), 1U);
    const std::lock_guard lock{Stubs::mutex};
    // At 0, 50, 150, 350, 750, 1150, 1550 ms.
    ASSERT_GE(Stubs::attempts.size(), 5U);
    EXPECT_LE(Stubs::attempts.size(), 7U);
    for (std::size_t i = 1; i < Stubs::attempts.size(); ++i)
        EXPECT_GE(Stubs::attempts[i] - Stubs::attempts[i - 1], std::min(50ms * (1 << (i - 1)), 400ms) - 5ms);
}

// This one needs no libvirt.
TEST(LibvirtLinkWithout, a_library_says_so_once_and_ends) {
    LibvirtLinkOptions options;
    options.library = [] { return load_libvirt("libvirt-not-there.so.0"); };
    Watched watched{std::move(options)};
    const auto disconnected = watched.next<LibvirtDisconnected>();
    ASSERT_TRUE(disconnected);
    EXPECT_THAT(disconnected->reason, HasSubstr("libvirt-not-there.so.0"));
    watched.link().set_state(guest1, state);
    EXPECT_EQ(watched.count<LibvirtDisconnected>(), 1U);
    EXPECT_THAT(watched.link().guests(), IsEmpty());
}

}  // namespace
}  // namespace vfioap
