// SPDX-License-Identifier: LGPL-2.1-or-later
// Plans carried out on a kernel that refuses, fails and is changed by others; and taken back.
#include "plan/apply.h"

#include "ap/error.h"
#include "host/ap_lock.h"
#include "plan/local_host.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/example_hosts.h"
#include "support/fake_root.h"
#include "support/host_builder.h"
#include "support/kernel_model.h"
#include "support/temporary_directory.h"
#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using test::HostBuilder;
using test::Kernel;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::string_view other = "11111111-2222-3333-4444-555555555555";
const HostBuilder::Numbers both{5, 6};
const HostBuilder::Numbers domains{4, 0x47};

/// What ends the applier without a word, as SIGKILL does.
struct Killed {};

class ModelHost final : public ApplyHost {
  public:
    explicit ModelHost(Inventory host) : inventory{std::move(host)} {}

    Inventory read_for(const Uuid& /*mdev*/, const std::vector<Apqn>& /*queues*/) override {
        if (on_read) on_read(*this);
        auto seen = inventory;
        if (shows) shows(seen);
        return seen;
    }
    std::string driver_override(Apqn apqn) override {
        const auto* const queue = inventory.find_queue(apqn);
        return queue == nullptr ? "" : std::string{queue->driver_override()};
    }
    void write(const SysfsWrite& write) override {
        ++writes;
        if (on_write) on_write(*this, write);
        change([&](test::KernelModel& kernel) { kernel.write(write.path, write.value); }, write.path);
        if (after_write) after_write(*this, write);
    }
    void load_driver() override {
        change([](test::KernelModel& kernel) { kernel.load_vfio_ap(); }, "modprobe");
    }
    void pause(std::chrono::milliseconds time) override { now += time; }
    [[nodiscard]] std::chrono::milliseconds clock() override { return now; }

    /// As somebody else.
    template <typename Work>
    void change(Work work, const std::string& what = "somebody") {
        const auto before = inventory;
        try {
            test::KernelModel kernel{inventory, hidden};
            work(kernel);
            kernel.settle();
        } catch (const test::Refusal& refusal) {
            inventory = before;
            throw SystemError{"write", what, refusal.error};
        }
    }

    Inventory inventory;
    test::Hidden hidden;
    int writes = 0;
    std::chrono::milliseconds now{0};
    std::function<void(ModelHost&)> on_read;
    std::function<void(Inventory&)> shows;
    std::function<void(ModelHost&, const SysfsWrite&)> on_write;
    std::function<void(ModelHost&, const SysfsWrite&)> after_write;
};

class Watcher final : public ApplyWatcher {
  public:
    void begins(const std::string& what, std::size_t done, std::size_t total) override {
        EXPECT_LE(done, total);
        said.push_back(what);
        if (what == cancel_at) cancel = true;
    }
    [[nodiscard]] bool cancelled() override { return cancel; }
    std::vector<std::string> said;
    std::string cancel_at;
    bool cancel = false;
};

Guest guest1() {
    return {"guest1", {}, {test::uuid(test::example_mdev)}};
}

HostBuilder host(const std::string& name, Kernel kernel = Kernel::current) {
    return HostBuilder{name}.z16().kernel(kernel).cards({5, 6, 7}, "CEX8A").domains({4, 0x47, 0xab});
}

Inventory source() {
    return host("here")
        .free_domains(domains)
        .mdev(test::example_mdev)
        .assign(both, domains, domains)
        .in_use()
        .build();
}

/// Destinations of which each needs other steps.
struct Scenario {
    std::string name;
    Inventory host;
};
std::vector<Scenario> scenarios() {
    auto off = host("off").deconfigure(5).build();
    auto unbound = host("unbound").free_domains(domains).build();
    for (auto& queue : unbound.queues) {
        if (queue.apqn.apid() == 5) queue.driver.clear();
    }
    test::Hidden hidden;
    test::KernelModel{unbound, hidden}.settle();
    return {
        {"bare", host("there").build()},
        {"override", host("there", Kernel::newest).bind_to_vfio_ap(Apqn{7, 4}).build()},
        {"another's", host("there").free_domains(domains).mdev(other).assign({5, 7}, domains, {4}).build()},
        {"deconfigured", std::move(off)},
        {"unbound", std::move(unbound)},
        {"other contents",
         host("there").free_domains(domains).mdev(test::example_mdev).assign({5, 7}, {4}, {0xab}).build()}};
}

class Apply : public testing::Test {
  protected:
    ApplyReport apply(ModelHost& model, bool leave_unused = false) {
        Applier applier{model, records, options, watcher};
        return applier.apply(guest1(), describe_source(guest1(), source()),
                             {{Mode::detached, Profile::automatic}, leave_unused});
    }
    ApplyReport take_back(ModelHost& model, const std::string& user = {}) {
        return Applier{model, records, options, watcher}.take_back(mdev, user);
    }
    ApplyReport recover(ModelHost& model) { return Applier{model, records, options, watcher}.recover(mdev); }
    [[nodiscard]] bool has_record() const { return std::filesystem::exists(records.path(mdev)); }

    const Uuid mdev = test::uuid(test::example_mdev);
    test::TemporaryDirectory directory;
    AppliedRecords records{directory.path() + "/plans"};
    ApplyOptions options{
        directory.path() + "/lock", std::chrono::milliseconds{50}, std::chrono::seconds{5}, {}};
    Watcher watcher;
};

std::string texts(const std::vector<ApplyReport::Item>& items) {
    std::string text;
    for (const auto& item : items)
        text += item.text + '\n';
    return text;
}

std::string all_of(const ApplyReport& report) {
    return render_apply_json(report);
}

TEST_F(Apply, makes_the_check_green_and_is_taken_back_without_a_trace) {
    for (const auto& [name, before] : scenarios()) {
        SCOPED_TRACE(name);
        ModelHost model{before};
        const auto report = apply(model);
        ASSERT_EQ(report.state, ApplyState::done) << all_of(report);
        EXPECT_EQ(report.verdict, Verdict::compatible);
        EXPECT_GT(report.steps.size(), 0U);
        EXPECT_THAT(report.undone, IsEmpty());
        EXPECT_EQ(records.read(mdev)->finished, records.read(mdev)->changes.size());
        EXPECT_FALSE(std::filesystem::exists(options.lock));
        const auto after = model.inventory;
        const int writes = model.writes;
        EXPECT_EQ(apply(model).plan_state, Plan::State::nothing_to_do);
        EXPECT_EQ(model.writes, writes) << "a second apply writes";

        const auto undone = take_back(model);
        EXPECT_EQ(undone.state, ApplyState::undone) << all_of(undone);
        EXPECT_THAT(undone.left, IsEmpty());
        EXPECT_EQ(test::differences(before, model.inventory), "");
        EXPECT_NE(test::differences(after, model.inventory), "");
        EXPECT_FALSE(has_record());
        EXPECT_EQ(take_back(model).state, ApplyState::refused) << "twice";
    }
}

TEST_F(Apply, undoes_everything_where_one_write_fails) {
    for (const auto& [name, before] : scenarios()) {
        ModelHost whole{before};
        ASSERT_EQ(apply(whole).state, ApplyState::done);
        ASSERT_EQ(take_back(whole).state, ApplyState::undone);
        for (int fault = 1;; ++fault) {
            SCOPED_TRACE(name + ", write " + std::to_string(fault));
            ModelHost model{before};
            bool failed = false;
            model.on_write = [&](ModelHost& self, const SysfsWrite& write) {
                if (self.writes != fault || failed) return;
                failed = true;
                throw SystemError{"write", write.path, EIO};
            };
            const auto report = apply(model);
            if (!failed) {
                EXPECT_GT(fault, 1);
                take_back(model);
                break;
            }
            EXPECT_EQ(report.state, ApplyState::undone) << all_of(report);
            EXPECT_THAT(report.reason, HasSubstr("Input/output error"));
            const auto& first = report.steps.front();
            EXPECT_EQ(first.outcome, fault == 1 ? ApplyReport::Step::Outcome::failed : first.outcome);
            EXPECT_NE(report.steps.back().outcome, ApplyReport::Step::Outcome::done);
            EXPECT_EQ(test::differences(before, model.inventory), "");
            EXPECT_FALSE(has_record());
            EXPECT_FALSE(std::filesystem::exists(options.lock));
        }
    }
}

TEST_F(Apply, undoes_what_a_killed_one_left_wherever_it_was_killed) {
    for (const auto& [name, before] : scenarios()) {
        for (const bool done : {false, true}) {
            for (int fault = 1;; ++fault) {
                SCOPED_TRACE(name + (done ? ", after write " : ", before write ") + std::to_string(fault));
                ModelHost model{before};
                const auto kill = [&](ModelHost& self, const SysfsWrite& /*write*/) {
                    if (self.writes == fault) throw Killed{};
                };
                (done ? model.after_write : model.on_write) = kill;
                bool killed = false;
                try {
                    apply(model);
                } catch (const Killed&) {
                    killed = true;
                }
                model.after_write = model.on_write = nullptr;
                if (!killed) {
                    take_back(model);
                    break;
                }
                std::vector<std::string> problems;
                ASSERT_THAT(records.all(problems), SizeIs(1));
                EXPECT_TRUE(records.all(problems).front().unfinished());
                EXPECT_THAT(apply(model).reason, HasSubstr("not undone"));
                const auto report = recover(model);
                EXPECT_EQ(report.state, ApplyState::undone) << all_of(report);
                EXPECT_EQ(test::differences(before, model.inventory), "");
                EXPECT_FALSE(has_record());
            }
        }
    }
}

TEST_F(Apply, is_cancelled_at_every_step) {
    ModelHost model{host("there").mdev(other).assign({7}, {0xab}).build()};
    const auto before = model.inventory;
    apply(model);
    take_back(model);
    const auto steps = watcher.said;
    for (const auto& step : steps) {
        SCOPED_TRACE(step);
        if (step.starts_with("undoing") || step.starts_with("keeping")) continue;
        watcher.cancel_at = step;
        watcher.cancel = false;
        const auto report = apply(model);
        // Looking is too short to be cancelled: the first step is.
        EXPECT_TRUE(report.state == ApplyState::undone || step == "waiting for the AP lock")
            << all_of(report);
        EXPECT_EQ(test::differences(before, model.inventory), "");
    }
}

TEST_F(Apply, gives_up_when_queues_are_not_bound_in_time) {
    ModelHost model{host("there").build()};
    const auto before = model.inventory;
    model.shows = [](Inventory& seen) {
        for (auto& queue : seen.queues) {
            if (queue.apqn == Apqn{5, 4}) queue.driver.clear();
        }
    };
    const auto report = apply(model);
    EXPECT_EQ(report.state, ApplyState::undone);
    EXPECT_THAT(report.reason, HasSubstr("not all queues of the guest are bound to vfio_ap after 5 s"));
    EXPECT_GE(model.now, std::chrono::seconds{5});
    EXPECT_EQ(test::differences(before, model.inventory), "");
}

TEST_F(Apply, waits_no_longer_for_queues_that_are_not_the_guests) {
    ModelHost model{host("there").build()};
    model.shows = [](Inventory& seen) { seen.ap->bindings = "8/9"; };
    EXPECT_EQ(apply(model).state, ApplyState::done);
}

TEST_F(Apply, plans_again_with_what_is_there_and_not_with_what_was) {
    // Whoever looked before the lock was held saw nobody on the queues.
    ModelHost model{host("there").free_domains(domains).build()};
    bool came = false;
    model.on_read = [&](ModelHost& self) {
        if (std::exchange(came, true)) return;
        self.change([](test::KernelModel& kernel) {
            kernel.write("devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create", other);
            kernel.write("devices/vfio_ap/matrix/" + std::string{other} + "/assign_adapter", "5");
            kernel.write("devices/vfio_ap/matrix/" + std::string{other} + "/assign_domain", "4");
            kernel.settle();
            kernel.use(test::uuid(other), true);
        });
    };
    const auto report = apply(model);
    EXPECT_EQ(report.state, ApplyState::refused);
    EXPECT_EQ(report.plan_state, Plan::State::blocked);
    EXPECT_THAT(texts(report.remaining), HasSubstr("which a guest uses"));
    EXPECT_EQ(model.writes, 0);
    EXPECT_FALSE(has_record());
}

TEST_F(Apply, takes_nothing_from_an_mdev_that_a_guest_has_come_to_use) {
    ModelHost model{host("there").free_domains(domains).mdev(other).assign({5, 7}, domains).build()};
    const auto before = model.inventory;
    int reads = 0;
    model.on_read = [&](ModelHost& self) {
        // The plan is made of the first reading.
        if (++reads == 2) self.change([](test::KernelModel& kernel) { kernel.use(test::uuid(other), true); });
    };
    const auto report = apply(model);
    EXPECT_EQ(report.state, ApplyState::undone);
    EXPECT_THAT(report.reason, HasSubstr("is used by a guest now"));
    EXPECT_EQ(model.writes, 0);
    EXPECT_EQ(model.inventory.mdevs, before.mdevs);
}

TEST_F(Apply, leaves_unused_mdevs_alone_where_that_is_wanted) {
    ModelHost model{host("there").free_domains(domains).mdev(other).assign({5, 7}, domains).build()};
    EXPECT_EQ(apply(model, true).state, ApplyState::refused);
    EXPECT_EQ(model.writes, 0);
}

TEST_F(Apply, undoes_all_else_where_one_undo_fails_and_can_be_asked_again) {
    ModelHost model{host("there").build()};
    const auto before = model.inventory;
    bool stuck = true;
    model.on_write = [&](ModelHost& /*self*/, const SysfsWrite& write) {
        if (write.path.ends_with("/assign_domain") && write.value == "0x47")
            throw SystemError{"write", write.path, ENODEV};
        if (stuck && write.path == "bus/ap/apmask" && write.value.starts_with("+"))
            throw SystemError{"write", write.path, EBUSY};
    };
    const auto report = apply(model);
    EXPECT_EQ(report.state, ApplyState::failed);
    EXPECT_THAT(texts(report.failed), HasSubstr("left to vfio_ap by apmask: bus/ap/apmask: cannot write"));
    EXPECT_THAT(model.inventory.mdevs, IsEmpty());
    EXPECT_TRUE(has_record());
    stuck = false;
    EXPECT_EQ(take_back(model).state, ApplyState::undone);
    EXPECT_EQ(test::differences(before, model.inventory), "");
    EXPECT_FALSE(has_record());
}

TEST_F(Apply, takes_back_only_what_others_have_not_changed) {
    ModelHost model{host("there").build()};
    ASSERT_EQ(apply(model).state, ApplyState::done);
    model.change(
        [&](test::KernelModel& kernel) { kernel.write(mdev_path(mdev) + "/assign_control_domain", "0xab"); });
    auto report = take_back(model);
    EXPECT_THAT(texts(report.left),
                HasSubstr("created: it holds control domain 00ab, which was not given to it here"));
    // The masks are left, too, while the mdev has their queues.
    EXPECT_THAT(texts(report.left), HasSubstr("by apmask: mdev " + mdev.to_string() + " has queues of it"));
    EXPECT_THAT(report.failed, IsEmpty());
    EXPECT_EQ(report.state, ApplyState::undone);
    EXPECT_THAT(model.inventory.mdevs, SizeIs(1));
    EXPECT_FALSE(has_record());
}

TEST_F(Apply, leaves_a_mask_that_another_mdev_needs) {
    ModelHost model{host("there").build()};
    ASSERT_EQ(apply(model).state, ApplyState::done);
    const auto create = "devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create";
    const auto path = mdev_path(test::uuid(other));
    model.change([&](test::KernelModel& kernel) {
        kernel.write(create, other);
        kernel.write(path + "/assign_adapter", "5");
        kernel.write(path + "/assign_domain", "0xab");
    });
    const auto masks = model.inventory.ap;
    const auto report = take_back(model);
    EXPECT_EQ(report.state, ApplyState::undone) << all_of(report);
    EXPECT_THAT(report.failed, IsEmpty());
    EXPECT_THAT(report.left, SizeIs(1));
    EXPECT_THAT(texts(report.left), HasSubstr(fmt::format("by apmask: mdev {} has queues of it", other)));
    EXPECT_EQ(model.inventory.ap->apmask, masks->apmask);
    // Nothing was taken from it, and what is the guest's is gone.
    ASSERT_THAT(model.inventory.mdevs, SizeIs(1));
    EXPECT_EQ(model.inventory.mdevs.front().uuid, test::uuid(other));
    EXPECT_EQ(model.inventory.find_queue(Apqn{5, 0xab})->driver, vfio_ap_driver_name);
    EXPECT_FALSE(has_record());
}

TEST_F(Apply, takes_nothing_back_from_a_guest) {
    ModelHost model{host("there").build()};
    ASSERT_EQ(apply(model).state, ApplyState::done);
    const int writes = model.writes;
    EXPECT_THAT(take_back(model, "guest7").reason, HasSubstr("is used by guest guest7"));
    model.change([&](test::KernelModel& kernel) { kernel.use(mdev, true); });
    const auto report = take_back(model);
    EXPECT_EQ(report.state, ApplyState::refused);
    EXPECT_THAT(report.reason, HasSubstr("is used by a guest"));
    EXPECT_EQ(model.writes, writes);
    EXPECT_TRUE(has_record());
}

TEST_F(Apply, leaves_the_driver_that_it_loaded) {
    ModelHost model{host("there").without_vfio_ap().build()};
    ASSERT_EQ(apply(model).state, ApplyState::done);
    EXPECT_TRUE(model.inventory.vfio_ap.has_value());
    const auto report = take_back(model);
    EXPECT_EQ(report.state, ApplyState::undone);
    EXPECT_THAT(texts(report.left), HasSubstr("modprobe -r vfio_ap"));
    EXPECT_FALSE(has_record());
}

TEST_F(Apply, adds_to_what_an_earlier_one_made) {
    ModelHost model{host("there").build()};
    const auto before = model.inventory;
    ASSERT_EQ(apply(model).state, ApplyState::done);
    model.change(
        [&](test::KernelModel& kernel) { kernel.write(mdev_path(mdev) + "/unassign_adapter", "6"); });
    // A second one that fails takes nothing back of the first.
    const auto between = model.inventory;
    model.on_write = [](ModelHost& self, const SysfsWrite& write) {
        self.on_write = nullptr;
        throw SystemError{"write", write.path, EIO};
    };
    EXPECT_EQ(apply(model).state, ApplyState::undone);
    EXPECT_EQ(test::differences(between, model.inventory), "");
    ASSERT_EQ(apply(model).state, ApplyState::done);
    EXPECT_EQ(take_back(model).state, ApplyState::undone);
    EXPECT_EQ(test::differences(before, model.inventory), "");
}

TEST_F(Apply, does_nothing_that_it_cannot_write_down) {
    ModelHost model{host("there").build()};
    std::ofstream{directory.path() + "/plans"} << "in the way";
    const auto report = apply(model);
    EXPECT_EQ(report.state, ApplyState::refused) << all_of(report);
    EXPECT_EQ(model.writes, 0);
}

TEST_F(Apply, waits_for_the_lock_and_gives_up) {
    ModelHost model{host("there").build()};
    {
        const ApLock held{options.lock, std::chrono::milliseconds{0}, [] { return false; }};
        const auto report = apply(model);
        EXPECT_EQ(report.state, ApplyState::refused);
        EXPECT_THAT(report.reason, HasSubstr("changes the AP configuration of this host"));
        EXPECT_EQ(model.writes, 0);
    }
    EXPECT_EQ(apply(model).state, ApplyState::done);
}

TEST_F(Apply, keeps_it_for_the_next_boot_and_takes_that_back) {
    const auto etc = directory.path() + "/etc";
    std::filesystem::create_directories(etc + "/mdevctl.d/matrix");
    std::filesystem::create_directories(etc + "/udev/rules.d");
    const auto rules = etc + "/udev/rules.d/41-ap.rules";
    const auto definition = etc + "/mdevctl.d/matrix/" + mdev.to_string();
    const auto text = [](const std::string& path) {
        std::ostringstream out;
        out << std::ifstream{path}.rdbuf();
        return out.str();
    };
    std::ofstream{rules} << "as it was\n";
    std::filesystem::permissions(rules, std::filesystem::perms{0640});
    std::vector<std::string> tools;
    options.keeping = Keeping{etc, [&](std::string_view tool, const std::string& /*command*/) {
                                  EXPECT_FALSE(std::filesystem::exists(options.lock))
                                      << "they take it themselves";
                                  tools.emplace_back(tool);
                                  if (tool == "chzdev") std::ofstream{rules} << "chzdev wrote it\n";
                                  if (tool == "mdevctl") std::ofstream{definition} << "{}\n";
                                  return true;
                              }};
    ModelHost model{host("there").build()};
    auto report = apply(model);
    EXPECT_EQ(report.state, ApplyState::done);
    EXPECT_THAT(tools, ElementsAre("chzdev", "mdevctl", "mdevctl"));
    EXPECT_THAT(report.kept, SizeIs(3));
    EXPECT_THAT(report.left, IsEmpty());
    EXPECT_THAT(records.read(mdev)->files, SizeIs(2));
    // What somebody else wrote stays.
    std::ofstream{definition} << "mine\n";
    report = take_back(model);
    EXPECT_EQ(report.state, ApplyState::undone);
    EXPECT_EQ(text(rules), "as it was\n");
    EXPECT_EQ(std::filesystem::status(rules).permissions(), std::filesystem::perms{0640});
    EXPECT_EQ(text(definition), "mine\n");
    EXPECT_THAT(texts(report.left), HasSubstr("nor what was written here"));
    // What cannot be kept is said, and no reason to undo.
    options.keeping->run = [](std::string_view, const std::string&) { return false; };
    report = apply(model);
    EXPECT_EQ(report.state, ApplyState::done);
    EXPECT_THAT(report.left, SizeIs(3));
    options.keeping.reset();
    EXPECT_EQ(take_back(model).state, ApplyState::undone);
    report = apply(model);
    EXPECT_THAT(texts(report.left), HasSubstr("not kept for the next boot"));
}

TEST_F(Apply, refuses_records_that_are_damaged) {
    ModelHost model{host("there").build()};
    apply(model);
    const auto whole = nlohmann::json::parse(std::ifstream{records.path(mdev)});
    const auto refuses = [&](const nlohmann::json& json) {
        std::ofstream{records.path(mdev)} << json;
        EXPECT_THROW((void)records.read(mdev), InputError) << json;
        std::vector<std::string> problems;
        EXPECT_THAT(records.all(problems), IsEmpty());
        EXPECT_THAT(problems, SizeIs(1));
        EXPECT_EQ(take_back(model).state, ApplyState::refused);
        EXPECT_EQ(apply(model).state, ApplyState::refused);
    };
    for (const auto* name : {"schema", "guest", "guest_uuid", "mdev", "changes", "finished", "files"}) {
        auto json = whole;
        json[name] = 4711;
        refuses(json);
        json.erase(name);
        refuses(json);
    }
    for (const auto* name : {"kind", "numbers", "attribute", "before", "after", "mdev"}) {
        auto json = whole;
        bool found = false;
        for (auto& change : json["changes"]) {
            if (change.contains(name) && !std::exchange(found, true)) change[name] = "nonsense";
        }
        EXPECT_TRUE(found) << name;
        refuses(json);
    }
    std::ofstream{records.path(mdev)} << whole;
    EXPECT_EQ(take_back(model).state, ApplyState::undone);
}

TEST_F(Apply, takes_records_that_cannot_be_listed_for_no_empty_ones) {
    std::vector<std::string> problems;
    EXPECT_THAT(AppliedRecords{directory.path() + "/none"}.all(problems), IsEmpty());
    EXPECT_THAT(problems, IsEmpty());
    const auto file = directory.path() + "/file";
    std::ofstream{file} << "x";
    EXPECT_THAT(AppliedRecords{file}.all(problems), IsEmpty());
    EXPECT_THAT(problems, ElementsAre(file + ": cannot read directory: Not a directory"));
}

TEST_F(Apply, keeps_nothing_where_it_could_not_be_put_back) {
    ModelHost model{host("there").build()};
    const auto etc = directory.path() + "/etc";
    std::filesystem::create_directories(etc + "/mdevctl.d");
    std::ofstream{etc + "/mdevctl.d/matrix"} << "no directory";
    std::vector<std::string> commands;
    options.keeping = Keeping{etc, [&](std::string_view /*tool*/, const std::string& command) {
                                  commands.push_back(command);
                                  return true;
                              }};
    const auto report = apply(model);
    EXPECT_EQ(report.state, ApplyState::done);
    EXPECT_THAT(commands, IsEmpty());
    EXPECT_THAT(texts(report.left), HasSubstr("/mdevctl.d/matrix: cannot read directory: Not a directory"));
}

TEST_F(Apply, has_nothing_to_do_for_a_guest_without_a_device) {
    ModelHost model{host("there").build()};
    const auto report = Applier{model, records, options, watcher}.apply({"plain", {}, {}}, {}, {});
    EXPECT_EQ(report.state, ApplyState::done);
    EXPECT_EQ(model.writes, 0);
}

TEST(RunCommand, says_whether_a_command_went_well) {
    const test::TemporaryDirectory directory;
    const auto file = directory.path() + "/made";
    const auto before = ::umask(077);
    EXPECT_TRUE(run_command("sh", "echo x > " + file));
    ::umask(before);
    EXPECT_EQ(std::filesystem::status(file).permissions(), std::filesystem::perms{0644});
    EXPECT_FALSE(run_command("sh", "exit 3"));
    EXPECT_FALSE(run_command("no-such-program-here", "rm " + file));
    EXPECT_TRUE(std::filesystem::exists(file));
}

TEST(RunCommand, gives_it_no_ignored_signal) {
    // As programs that would rather be told by write than be ended.
    auto* const before = std::signal(SIGPIPE, SIG_IGN);
    EXPECT_TRUE(run_command("grep", "grep -q '^SigIgn:.*[02468ace]...$' /proc/self/status"));
    std::signal(SIGPIPE, before);
}

TEST(LocalHost, writes_to_what_is_there_and_loads_nothing_on_another_root) {
    const test::FakeRoot root{host("there").build()};
    LocalHost local{root.path(), {}};
    local.write({"bus/ap/apmask", "-0x05"});
    EXPECT_THAT(root.read("bus/ap/apmask"), testing::StartsWith("-0x05\n"));
    EXPECT_THROW(local.write({"bus/ap/nothing", "1"}), SystemError);
    EXPECT_FALSE(std::filesystem::exists(root.path() + "/bus/ap/nothing"));
    EXPECT_THROW(local.load_driver(), Error);
    EXPECT_EQ(local.driver_override(Apqn{5, 4}), "");
    const test::FakeRoot newest{host("there", Kernel::newest).bind_to_vfio_ap(Apqn{5, 4}).build()};
    LocalHost overriding{newest.path(), {}};
    EXPECT_EQ(overriding.driver_override(Apqn{5, 4}), "vfio_ap");
    EXPECT_EQ(overriding.driver_override(Apqn{5, 0x47}), "");
}

TEST(ApLock, takes_the_place_of_processes_that_are_gone) {
    const test::TemporaryDirectory directory;
    const auto path = directory.path() + "/lock";
    const auto never = [] { return false; };
    const auto held = [&] {
        try {
            const ApLock lock{path, std::chrono::milliseconds{0}, never};
            return false;
        } catch (const SystemError&) {
            throw;
        } catch (const Error&) {
            return true;
        }
    };
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    std::ofstream{path} << child << '\n';
    // The first look finds it stale, the second takes it.
    const ApLock lock{path, std::chrono::seconds{10}, never};
    std::string holder;
    std::ifstream{path} >> holder;
    EXPECT_EQ(holder, std::to_string(::getpid()));
    EXPECT_TRUE(held());
    EXPECT_THROW((ApLock{path, std::chrono::hours{1}, [] { return true; }}), Error);
    // Nobody has written down yet who it is; after a while nobody will.
    std::filesystem::remove(path);
    std::ofstream{path} << "";
    EXPECT_TRUE(held());
    std::filesystem::last_write_time(path,
                                     std::filesystem::file_time_type::clock::now() - std::chrono::minutes{3});
    { const ApLock taken{path, std::chrono::seconds{10}, never}; }
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_THROW((ApLock{directory.path() + "/no/lock", std::chrono::milliseconds{0}, never}), SystemError);
    for (const auto& entry : std::filesystem::directory_iterator{directory.path()})
        ADD_FAILURE() << entry.path() << " was left";
}

}  // namespace
}  // namespace vfioap
