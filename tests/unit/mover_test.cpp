// SPDX-License-Identifier: LGPL-2.1-or-later
// Every call that a mover makes of its two hosts fails once: before it does anything, after it has done it,
// or with the death of the mover. However it ends, the guest runs on one host, and has its device there.
#include "move/mover.h"

#include "ap/error.h"
#include "domain/state.h"

#include <algorithm>
#include <fstream>
#include <optional>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/temporary_directory.h"
#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const Uuid guest_uuid = *Uuid::parse("6b8f5c1e-2d4a-4e0f-9b1c-7a3d5e8f1c20");
const Uuid mdev_uuid = *Uuid::parse("62177883-f1bb-47f0-914d-32a22e3a8804");

std::string state(const char* host, bool detached) {
    return state_metadata({mdev_uuid, host, "l3", detached, {}});
}

/// kill -9: nothing that the mover would still do is done.
struct Killed {};

enum class Fault { none, before, after, killed_before, killed_after };

struct World {
    // The guest.
    int runs_on = 0;
    bool has_device = true;
    std::string state = vfioap::state("a", false);
    // What is to happen.
    int calls = 0;
    int fault_at = -1;
    Fault fault = Fault::none;
    bool never_detaches = false;
    std::optional<std::chrono::milliseconds> detaches_at;  // by `now`
    std::vector<int> refuses_device;                       // hosts
    bool refuses_way_back = false;
    bool can_migrate_device = false;
    bool drifts = false;           // while the guest migrates
    bool aborted = false;          // the service of the source does it first
    std::vector<int> unreachable;  // hosts
    std::string called;            // the call that failed
    // What was seen.
    bool interrupted = false;
    std::optional<Drift> drift;
    std::chrono::milliseconds now{0};
    std::vector<std::string> notes;
};

/// Does `act`, with the fault that is due.
template <typename Act>
void act(World& world, const std::string& name, Act act) {
    const bool due = world.calls++ == world.fault_at;
    if (due) world.called = name;
    if (due && world.fault == Fault::killed_before) throw Killed{};
    if (due && world.fault == Fault::before) throw Error{name + " failed"};
    act();
    if (due && world.fault == Fault::killed_after) throw Killed{};
    if (due && world.fault == Fault::after) throw Error{name + " failed, they say"};
}

class FakeHost final : public GuestHost {
  public:
    FakeHost(World& world, int number)
        : world_{world}, number_{number}, name_{number == 0 ? "host-a" : "host-b"} {}

    [[nodiscard]] const std::string& name() const override { return name_; }
    GuestLook look() override {
        GuestLook look;
        call("look", [&] {
            if (world_.runs_on != number_) return;
            look.state = GuestLook::State::running;
            look.has_device = world_.has_device;
            look.state_element = world_.state;
        });
        return look;
    }
    void set_state(const std::string& element) override {
        call("set_state", [&] {
            here();
            world_.state = element;
        });
    }
    void detach() override {
        call("detach", [&] {
            here();
            if (!world_.never_detaches) world_.has_device = false;
        });
    }
    void attach() override {
        call("attach", [&] {
            here();
            if (world_.has_device) throw Error{"it is attached already"};
            if (refuses()) throw Error{"device not found"};
            world_.has_device = true;
        });
    }
    void migrate(GuestHost& destination, const MigrateOptions& /*options*/,
                 const std::function<std::string(const MigrateProgress&)>& tell) override {
        call("migrate", [&] {
            here();
            if (world_.has_device && !world_.can_migrate_device)
                throw Error{"non-migratable device: /1/vfio-ap"};
            if (number_ == 1 && world_.refuses_way_back) throw Error{"connection refused"};
            if (world_.drifts) world_.drift = Drift{"queue.missing", "host-b: 1 queue does not exist"};
            if (world_.aborted) throw Error{"operation aborted"};
            if (const auto reason = tell({1, 2, 3, 4, 5}); !reason.empty()) throw Error{reason};
            world_.runs_on = dynamic_cast<FakeHost&>(destination).number_;
        });
    }

  private:
    template <typename Act>
    void call(const char* what, Act what_to_do) {
        const auto& gone = world_.unreachable;
        if (std::find(gone.begin(), gone.end(), number_) != gone.end()) throw Error{"does not answer"};
        act(world_, fmt::format("{} {}", name_, what), what_to_do);
    }
    void here() const {
        if (world_.runs_on != number_) throw Error{"no such guest"};
    }
    [[nodiscard]] bool refuses() const {
        const auto& refuses = world_.refuses_device;
        return std::find(refuses.begin(), refuses.end(), number_) != refuses.end();
    }

    World& world_;
    int number_;
    std::string name_;
};

class Watcher final : public MoveWatcher {
  public:
    explicit Watcher(World& world) : world_{world} {}
    void begins(MoveStep step) override { steps.emplace_back(to_text(step)); }
    void progresses(const MigrateProgress& /*progress*/) override {}
    void notes(const std::string& line) override { world_.notes.push_back(line); }
    [[nodiscard]] bool interrupted() override { return world_.interrupted; }
    [[nodiscard]] std::optional<Drift> drift(std::chrono::milliseconds /*most*/) override {
        return world_.drift;
    }
    void pause(std::chrono::milliseconds time) override {
        world_.now += time;
        if (world_.detaches_at && world_.now >= *world_.detaches_at) {
            world_.has_device = false;
            world_.detaches_at.reset();
        }
    }
    [[nodiscard]] std::chrono::milliseconds clock() override { return world_.now; }
    [[nodiscard]] std::string state_at_destination() override { return state("b", false); }

    std::vector<std::string> steps;

  private:
    World& world_;
};

struct Ended {
    std::optional<MoveResult> result;
    std::vector<std::string> steps;
};

class MoverTest : public testing::Test {
  protected:
    static MoveOrder order() {
        return {{"guest1",
                 guest_uuid,
                 mdev_uuid,
                 "qemu:///system",
                 "qemu+tcp://host-b/system",
                 "local",
                 "host-b",
                 state("a", false),
                 false,
                 false,
                 {}},
                state("a", true),
                10s,
                {},
                false};
    }
    /// The move, and after a kill its recovery.
    Ended move(World& world, bool* killed = nullptr) {
        FakeHost a{world, 0};
        FakeHost b{world, 1};
        Watcher watcher{world};
        Ended ended;
        try {
            ended.result = move_detached(a, b, journal, order(), watcher);
        } catch (const Killed&) {
            if (killed != nullptr) *killed = true;
            const auto record = journal.read(guest_uuid);
            EXPECT_TRUE(record) << "nothing to recover from, after " << world.called;
            if (record) ended.result = recover_move(a, b, journal, *record, watcher);
        }
        ended.steps = watcher.steps;
        return ended;
    }
    [[nodiscard]] bool journal_is_there() const { return journal.read(guest_uuid).has_value(); }

    test::TemporaryDirectory directory;
    MoveJournal journal{directory.path() + "/moves"};
};

TEST_F(MoverTest, moves_a_guest_step_by_step) {
    World world;
    const auto ended = move(world);
    EXPECT_EQ(ended.result->outcome, MoveOutcome::moved);
    EXPECT_EQ(ended.result->host, "host-b");
    EXPECT_TRUE(ended.result->has_device);
    EXPECT_THAT(ended.result->reason, IsEmpty());
    EXPECT_THAT(ended.result->to_do, IsEmpty());
    EXPECT_EQ(ended.steps, (std::vector<std::string>{"mark", "detach", "migrate", "attach"}));
    EXPECT_EQ(world.runs_on, 1);
    EXPECT_EQ(world.state, state("b", false));
    EXPECT_FALSE(journal_is_there());
}

TEST_F(MoverTest, leaves_a_whole_guest_on_one_host_whatever_fails) {
    World plain;
    move(plain);
    const int calls = plain.calls;
    ASSERT_GT(calls, 8);
    int kills = 0;
    for (int at = 0; at < calls; ++at) {
        for (const auto fault : {Fault::before, Fault::after, Fault::killed_before, Fault::killed_after}) {
            World world;
            world.fault_at = at;
            world.fault = fault;
            bool killed = false;
            const auto ended = move(world, &killed);
            kills += killed ? 1 : 0;
            SCOPED_TRACE(fmt::format("call {} ({}), fault {}", at, world.called, static_cast<int>(fault)));
            ASSERT_TRUE(ended.result);
            EXPECT_TRUE(world.has_device);
            EXPECT_TRUE(ended.result->has_device);
            EXPECT_EQ(ended.result->host, world.runs_on == 0 ? "host-a" : "host-b");
            if (ended.result->outcome == MoveOutcome::needs_person) {
                // Asked to release the device, and told that this had failed: it may yet do so.
                EXPECT_FALSE(ended.result->to_do.empty());
                EXPECT_TRUE(journal_is_there());
            } else {
                EXPECT_EQ(ended.result->outcome,
                          world.runs_on == 1 ? MoveOutcome::moved : MoveOutcome::not_moved);
                EXPECT_FALSE(journal_is_there());
            }
            if (!killed) {
                EXPECT_EQ(world.runs_on == 0, !ended.result->reason.empty());
            }
            EXPECT_EQ(world.state.find("detached"), std::string::npos);
            if (journal_is_there()) journal.remove(guest_uuid);
        }
    }
    EXPECT_GT(kills, 10);
}

TEST_F(MoverTest, gives_up_where_the_guest_keeps_its_device) {
    World world;
    world.never_detaches = true;
    const auto ended = move(world);
    EXPECT_EQ(ended.result->outcome, MoveOutcome::needs_person);
    EXPECT_THAT(ended.result->reason, HasSubstr("did not release its device within 10 s"));
    EXPECT_TRUE(ended.result->has_device);
    EXPECT_EQ(ended.result->host, "host-a");
    ASSERT_EQ(ended.result->to_do.size(), 1U);
    EXPECT_THAT(ended.result->to_do.front(), HasSubstr("may still do so"));
    EXPECT_GE(world.now, 10s);
    // It does so later: what was left brings it to an end.
    world.has_device = false;
    FakeHost a{world, 0};
    FakeHost b{world, 1};
    Watcher watcher{world};
    const auto later = recover_move(a, b, journal, *journal.read(guest_uuid), watcher);
    EXPECT_EQ(later.outcome, MoveOutcome::not_moved);
    EXPECT_TRUE(world.has_device);
    EXPECT_FALSE(journal_is_there());
}

TEST_F(MoverTest, recovers_what_a_guest_releases_after_the_death_of_the_mover) {
    World world;
    world.detaches_at = 4s;
    FakeHost a{world, 0};
    FakeHost b{world, 1};
    Watcher watcher{world};
    auto record = order().record;
    record.step = to_text(MoveStep::detach);
    journal.write(record);
    const auto result = recover_move(a, b, journal, record, watcher);
    EXPECT_EQ(result.outcome, MoveOutcome::not_moved);
    EXPECT_FALSE(world.detaches_at) << "it has not waited";
    EXPECT_TRUE(world.has_device);
    EXPECT_FALSE(journal_is_there());
}

TEST_F(MoverTest, brings_the_guest_back_where_its_device_is_refused) {
    World world;
    world.refuses_device = {1};
    const auto ended = move(world);
    EXPECT_EQ(ended.result->outcome, MoveOutcome::not_moved);
    EXPECT_THAT(ended.result->reason, HasSubstr("device not found"));
    EXPECT_EQ(world.runs_on, 0);
    EXPECT_TRUE(world.has_device);
    EXPECT_EQ(world.state, state("a", false));
    EXPECT_FALSE(journal_is_there());
}

TEST_F(MoverTest, says_what_to_do_where_the_guest_cannot_be_brought_back) {
    World world;
    world.refuses_device = {1};
    world.refuses_way_back = true;
    const auto ended = move(world);
    EXPECT_EQ(ended.result->outcome, MoveOutcome::needs_person);
    EXPECT_EQ(ended.result->host, "host-b");
    EXPECT_FALSE(ended.result->has_device);
    ASSERT_EQ(ended.result->to_do.size(), 1U);
    EXPECT_THAT(ended.result->to_do.front(), HasSubstr("on host-b: the guest runs without its device"));
    EXPECT_THAT(ended.result->to_do.front(), HasSubstr("vfioapctl migrate --recover guest1"));
    EXPECT_TRUE(journal_is_there());
    world.refuses_device.clear();
    FakeHost a{world, 0};
    FakeHost b{world, 1};
    Watcher watcher{world};
    EXPECT_EQ(recover_move(a, b, journal, *journal.read(guest_uuid), watcher).outcome, MoveOutcome::moved);
    EXPECT_TRUE(world.has_device);
}

TEST_F(MoverTest, ends_in_good_order_when_interrupted) {
    World world;
    world.interrupted = true;
    const auto ended = move(world);
    EXPECT_EQ(ended.result->outcome, MoveOutcome::not_moved);
    EXPECT_THAT(ended.result->reason, HasSubstr("interrupted"));
    EXPECT_EQ(world.runs_on, 0);
    EXPECT_TRUE(world.has_device);
}

TEST_F(MoverTest, ends_a_migration_when_the_hosts_drift_apart) {
    for (const bool native : {false, true}) {
        for (const bool aborted : {false, true}) {
            SCOPED_TRACE(fmt::format("native {}, aborted by a service {}", native, aborted));
            World world;
            world.can_migrate_device = native;
            world.drifts = true;
            world.aborted = aborted;
            FakeHost a{world, 0};
            FakeHost b{world, 1};
            Watcher watcher{world};
            auto wanted = order();
            wanted.keeps_device = native;
            const auto result = move_detached(a, b, journal, wanted, watcher);
            EXPECT_EQ(result.outcome, MoveOutcome::not_moved);
            EXPECT_EQ(result.host, "host-a");
            EXPECT_EQ(result.rules, std::vector<std::string>{"queue.missing"});
            EXPECT_THAT(result.reason, HasSubstr("queue.missing: host-b: 1 queue does not exist"));
            EXPECT_EQ(result.reason.find("operation aborted") != std::string::npos, aborted);
            EXPECT_EQ(world.runs_on, 0);
            EXPECT_TRUE(world.has_device);
            EXPECT_EQ(world.state, state("a", false));
            EXPECT_FALSE(journal_is_there());
        }
    }
}

TEST_F(MoverTest, does_not_begin_when_the_hosts_have_drifted_apart) {
    World world;
    world.drift = Drift{"queue.missing", "host-b: 1 queue does not exist"};
    const auto ended = move(world);
    EXPECT_EQ(ended.result->outcome, MoveOutcome::not_moved);
    EXPECT_EQ(ended.result->rules, std::vector<std::string>{"queue.missing"});
    EXPECT_EQ(world.calls, 0);
    EXPECT_FALSE(journal_is_there());
}

TEST_F(MoverTest, does_not_mind_what_drifts_once_the_guest_is_there) {
    World world;
    world.refuses_device = {1};
    world.refuses_way_back = true;
    const auto stuck = move(world);
    ASSERT_EQ(stuck.result->outcome, MoveOutcome::needs_person);
    world.refuses_device.clear();
    world.drift = Drift{"queue.missing", "host-b: 1 queue does not exist"};
    FakeHost a{world, 0};
    FakeHost b{world, 1};
    Watcher watcher{world};
    const auto result = recover_move(a, b, journal, *journal.read(guest_uuid), watcher);
    EXPECT_EQ(result.outcome, MoveOutcome::moved);
    EXPECT_THAT(result.rules, IsEmpty());
}

TEST_F(MoverTest, does_not_guess_where_a_guest_is) {
    World world;
    world.runs_on = 1;
    world.has_device = false;
    world.unreachable = {1};
    FakeHost a{world, 0};
    FakeHost b{world, 1};
    Watcher watcher{world};
    auto record = order().record;
    record.step = "migrate";
    journal.write(record);
    const auto result = recover_move(a, b, journal, record, watcher);
    EXPECT_EQ(result.outcome, MoveOutcome::needs_person);
    EXPECT_THAT(result.host, IsEmpty());
    EXPECT_THAT(result.to_do.front(), HasSubstr("host-b: does not answer"));
    EXPECT_TRUE(journal_is_there());
    // Where the source has it, it does not matter what the other one says.
    world.runs_on = 0;
    EXPECT_EQ(recover_move(a, b, journal, record, watcher).outcome, MoveOutcome::not_moved);
    EXPECT_TRUE(world.has_device);
    world = {};
    world.runs_on = 2;
    EXPECT_THAT(recover_move(a, b, journal, record, watcher).to_do.front(),
                HasSubstr("runs on neither host"));
}

TEST_F(MoverTest, does_nothing_that_it_cannot_write_down) {
    const MoveJournal nowhere{"/proc/nowhere/moves"};
    World world;
    FakeHost a{world, 0};
    FakeHost b{world, 1};
    Watcher watcher{world};
    const auto result = move_detached(a, b, nowhere, order(), watcher);
    EXPECT_EQ(result.outcome, MoveOutcome::not_moved);
    EXPECT_EQ(world.calls, 0);
    EXPECT_THAT(result.reason, HasSubstr("/proc/nowhere"));
}

TEST(MoveJournal, gives_back_what_was_written) {
    const test::TemporaryDirectory directory;
    const MoveJournal journal{directory.path() + "/a/b"};
    EXPECT_FALSE(journal.read(guest_uuid));
    const MoveRecord record{"gu\"est", guest_uuid,  mdev_uuid, "u1", "u2",     "s",
                            "d",       "<config/>", true,      true, "attach", true};
    journal.write(record);
    EXPECT_EQ(journal.read(guest_uuid), record);
    std::vector<std::string> problems;
    EXPECT_EQ(journal.all(problems), std::vector<MoveRecord>{record});
    EXPECT_THAT(problems, IsEmpty());
    {
        const auto lock = journal.lock(guest_uuid);
        EXPECT_THROW(static_cast<void>(journal.lock(guest_uuid)), InputError);
    }
    EXPECT_NO_THROW(static_cast<void>(journal.lock(guest_uuid)));
    journal.remove(guest_uuid);
    journal.remove(guest_uuid);
    EXPECT_FALSE(journal.read(guest_uuid));
}

TEST(MoveJournal, that_cannot_be_read_is_not_empty) {
    const test::TemporaryDirectory directory;
    std::vector<std::string> problems;
    EXPECT_THAT(MoveJournal{directory.path() + "/none"}.all(problems), IsEmpty());
    EXPECT_THAT(problems, IsEmpty());
    // Root reads everything, but not a file as a directory.
    const auto file = directory.path() + "/file";
    std::ofstream{file} << "x";
    EXPECT_THAT(MoveJournal{file}.all(problems), IsEmpty());
    EXPECT_THAT(problems, ElementsAre(file + ": cannot read directory: Not a directory"));
}

TEST(MoveJournal, reads_what_an_older_version_wrote) {
    const test::TemporaryDirectory directory;
    const MoveJournal journal{directory.path()};
    const MoveRecord record{"guest", guest_uuid, mdev_uuid, "u1",  "u2",   "s",
                            "d",     "",         false,     false, "mark", true};
    journal.write(record);
    auto json = nlohmann::json::parse(std::ifstream{journal.path(guest_uuid)});
    json.erase("prepared");
    std::ofstream{journal.path(guest_uuid)} << json;
    EXPECT_FALSE(journal.read(guest_uuid)->prepared);
    json["prepared"] = "yes";
    std::ofstream{journal.path(guest_uuid)} << json;
    EXPECT_THROW(static_cast<void>(journal.read(guest_uuid)), InputError);
}

TEST(MoveJournal, says_what_is_wrong_with_a_file) {
    const test::TemporaryDirectory directory;
    const MoveJournal journal{directory.path()};
    for (const auto* text :
         {"", "[]", "{}", R"({"schema": "vfioap-move/2"})", R"({"schema": "vfioap-move/1", "guest": 1})"}) {
        std::ofstream{journal.path(guest_uuid)} << text;
        EXPECT_THROW(static_cast<void>(journal.read(guest_uuid)), InputError) << text;
        std::vector<std::string> problems;
        EXPECT_THAT(journal.all(problems), IsEmpty());
        EXPECT_EQ(problems.size(), 1U);
    }
}

}  // namespace
}  // namespace vfioap
