// SPDX-License-Identifier: LGPL-2.1-or-later
// Plans: which steps, in which order, and that the kernel takes them and the check is green afterwards.
#include "plan/plan.h"

#include "ap/error.h"
#include "host/sysfs.h"
#include "plan/render.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/example_hosts.h"
#include "support/fake_root.h"
#include "support/host_builder.h"
#include "support/kernel_model.h"
#include "support/move.h"
#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using test::HostBuilder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

using Kind = PlanStep::Kind;
using State = Plan::State;

constexpr std::string_view other = "11111111-2222-3333-4444-555555555555";
const HostBuilder::Numbers both{5, 6};
const HostBuilder::Numbers domains{4, 0x47};

Guest guest1() {
    return {"guest1", {}, {test::uuid(test::example_mdev)}};
}

/// Three cards, three domains; nothing is a guest's yet.
HostBuilder host(const std::string& name) {
    return HostBuilder{name}.z16().cards({5, 6, 7}, "CEX8A").domains({4, 0x47, 0xab});
}

/// Where guest1 runs, with 05 and 06, 0004 and 0047.
Inventory source() {
    return host("here")
        .free_domains(domains)
        .mdev(test::example_mdev)
        .assign(both, domains, domains)
        .in_use()
        .build();
}

Plan plan_for(const Inventory& destination,
              const CheckOptions& options = {Mode::detached, Profile::automatic}, bool leave_unused = false,
              const Inventory& from = source()) {
    return make_plan(guest1(), describe_source(guest1(), from), destination, {options, leave_unused});
}

std::vector<Kind> kinds(const Plan& plan) {
    std::vector<Kind> result;
    for (const auto& step : plan.steps)
        result.push_back(step.kind);
    return result;
}

const PlanStep& step_of(const Plan& plan, Kind kind) {
    const auto found = std::find_if(plan.steps.begin(), plan.steps.end(),
                                    [kind](const PlanStep& step) { return step.kind == kind; });
    if (found == plan.steps.end()) throw std::logic_error{"no such step"};
    return *found;
}

/// Does the steps on a kernel; what it refuses fails the test.
Inventory carried_out(const Plan& plan, Inventory destination) {
    test::Hidden hidden;
    test::KernelModel kernel{destination, hidden};
    for (const auto& step : plan.steps) {
        if (step.host == Side::source) continue;
        if (step.kind == Kind::load_driver) kernel.load_vfio_ap();
        for (const auto& write : step.writes) {
            try {
                kernel.write(write.path, write.value);
            } catch (const test::Refusal& refusal) {
                ADD_FAILURE() << command_of(write) << ": " << errno_name(refusal.error);
            }
            kernel.settle();
        }
        kernel.settle();
    }
    return destination;
}

// Every guest, every pair of example hosts, every mode.

class PlanOfExamples : public testing::TestWithParam<Inventory> {};

/// The same location would be the same host, whose guest uses the mdev itself.
std::vector<Inventory> located_hosts() {
    auto hosts = test::example_hosts();
    for (auto& candidate : hosts)
        candidate.location = "snapshot:/hosts/" + candidate.name + ".json";
    return hosts;
}

TEST_P(PlanOfExamples, carried_out_makes_the_check_green_and_is_then_empty) {
    const auto& destination = GetParam();
    const std::vector<CheckOptions> modes{{Mode::detached, Profile::automatic},
                                          {Mode::native, Profile::compare},
                                          {Mode::native, Profile::restore}};
    for (const auto& from : located_hosts()) {
        if (from.name == destination.name) continue;
        for (const auto& mdev : from.mdevs) {
            const Guest guest{"guest", {}, {mdev.uuid}};
            const auto described = describe_source(guest, from);
            for (const auto& mode : modes) {
                const auto plan = make_plan(guest, described, destination, {mode, false});
                SCOPED_TRACE(mdev.uuid.to_string() + ' ' + from.name + " -> " + destination.name);
                const auto verdict = plan.report.verdict;
                EXPECT_EQ(plan.steps.empty(), plan.state != State::complete);
                EXPECT_EQ(plan.obstacles.empty(),
                          plan.state == State::complete || plan.state == State::nothing_to_do);
                if (plan.state == State::nothing_to_do) {
                    EXPECT_EQ(verdict, Verdict::compatible);
                }
                if (verdict == Verdict::compatible) {
                    EXPECT_NE(plan.state, State::blocked);
                }
                if (plan.state != State::complete) continue;
                const bool source_too =
                    std::any_of(plan.steps.begin(), plan.steps.end(),
                                [](const auto& step) { return step.host == Side::source; });
                const auto after = carried_out(plan, destination);
                if (source_too) continue;
                const auto report = check(guest, described, after, mode);
                EXPECT_EQ(report.verdict, Verdict::compatible) << test::summary(report);
                EXPECT_EQ(make_plan(guest, described, after, {mode, false}).state, State::nothing_to_do)
                    << render_plan_text(make_plan(guest, described, after, {mode, false}), {});
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, PlanOfExamples, testing::ValuesIn(located_hosts()), [](const auto& param) {
    auto name = param.param.name;
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

// Single steps.

TEST(Plan, has_nothing_to_do_where_all_is_there) {
    const auto plan = plan_for(
        host("there").free_domains(domains).mdev(test::example_mdev).assign(both, domains, domains).build());
    EXPECT_EQ(plan.state, State::nothing_to_do);
    EXPECT_THAT(plan.steps, IsEmpty());
}

TEST(Plan, prepares_nothing_for_a_guest_that_the_source_has_no_mdev_of) {
    const auto plan = plan_for(host("there").build(), {}, false, host("here").build());
    EXPECT_EQ(plan.state, State::blocked);
    ASSERT_FALSE(plan.obstacles.empty());
    EXPECT_EQ(plan.obstacles[0].host, Side::source);
    EXPECT_EQ(plan_for(host("there").build(), {}, false, host("here").without_vfio_ap().build()).state,
              State::blocked);
}

TEST(Plan, reserves_queues_waits_creates_the_mdev_and_fills_it) {
    const auto plan = plan_for(host("there").build());
    EXPECT_EQ(plan.state, State::complete);
    EXPECT_THAT(kinds(plan), ElementsAre(Kind::reserve, Kind::wait, Kind::create, Kind::fill));
    const auto& reserve = step_of(plan, Kind::reserve);
    EXPECT_THAT(commands_of(reserve), ElementsAre("echo -0x05,-0x06 > /sys/bus/ap/apmask"));
    EXPECT_THAT(reserve.persistent, ElementsAre("chzdev -t ap apmask=-5,-6"));
    EXPECT_THAT(reserve.also_taken, ElementsAre(Apqn{5, 0xab}, Apqn{6, 0xab}));
    EXPECT_THAT(step_of(plan, Kind::create).persistent, IsEmpty()) << "it is defined when it is filled";
    EXPECT_EQ(step_of(plan, Kind::fill).persistent.size(), 2U);
}

TEST(Plan, takes_the_mask_that_takes_least_from_the_host) {
    // 0047 is free already: by domain only 07.0004 goes, by adapter 05.00ab and 06.00ab.
    const auto plan = plan_for(host("there").free_domains({0x47}).build());
    const auto& reserve = step_of(plan, Kind::reserve);
    EXPECT_THAT(reserve.writes, ElementsAre(SysfsWrite{"bus/ap/aqmask", "-0x04"}));
    EXPECT_THAT(reserve.also_taken, ElementsAre(Apqn{7, 4}));
    EXPECT_THAT(reserve.queues, ElementsAre(Apqn{5, 4}, Apqn{6, 4}));
}

TEST(Plan, uses_overrides_where_they_are_in_use) {
    const auto plan =
        plan_for(host("there").kernel(test::Kernel::newest).bind_to_vfio_ap(Apqn{7, 4}).build());
    EXPECT_EQ(plan.mechanism, Reservation::driver_override);
    const auto& reserve = step_of(plan, Kind::reserve);
    ASSERT_EQ(reserve.writes.size(), 12U);
    EXPECT_EQ(reserve.writes[0], (SysfsWrite{"devices/ap/card05/05.0004/driver/unbind", "05.0004"}));
    EXPECT_EQ(reserve.writes[1], (SysfsWrite{"devices/ap/card05/05.0004/driver_override", "vfio_ap"}));
    EXPECT_EQ(reserve.writes[2], (SysfsWrite{"bus/ap/drivers_probe", "05.0004"}));
    EXPECT_THAT(reserve.also_taken, IsEmpty());
    EXPECT_THAT(render_plan_script(plan), HasSubstr("\noverride 05.0004 05.0047 06.0004 06.0047\n"));
}

TEST(Plan, binds_again_what_somebody_unbound) {
    auto destination = host("there").free_domains(domains).build();
    test::queue_of(destination, {6, 0x47}).driver.clear();
    const auto plan = plan_for(destination);
    EXPECT_THAT(step_of(plan, Kind::reserve).writes,
                ElementsAre(SysfsWrite{"bus/ap/drivers_probe", "06.0047"}));
    EXPECT_THAT(render_plan_script(plan), HasSubstr("\nprobe 06.0047\n"));
}

TEST(Plan, configures_cards) {
    const auto destination = host("there")
                                 .free_domains(domains)
                                 .deconfigure(6)
                                 .mdev(test::example_mdev)
                                 .assign(both, domains, domains)
                                 .build();
    const auto plan = plan_for(destination);
    EXPECT_THAT(kinds(plan), ElementsAre(Kind::configure, Kind::wait));
    EXPECT_THAT(step_of(plan, Kind::configure).writes,
                ElementsAre(SysfsWrite{"devices/ap/card06/config", "1"}));
    EXPECT_EQ(
        check(guest1(), describe_source(guest1(), source()), carried_out(plan, destination), {Mode::detached})
            .verdict,
        Verdict::compatible);
    EXPECT_THAT(render_plan_script(plan), HasSubstr("\nconfigure card06\n"));
}

TEST(Plan, loads_the_driver_which_binds_what_the_masks_leave) {
    const auto plan = plan_for(host("there").free_domains(domains).without_vfio_ap().build());
    EXPECT_THAT(kinds(plan), ElementsAre(Kind::load_driver, Kind::wait, Kind::create, Kind::fill));
    EXPECT_EQ(step_of(plan, Kind::load_driver).rule, RuleId::kernel_no_vfio_ap);
}

TEST(Plan, creates_an_empty_mdev_for_drivers_that_restore) {
    const auto here = host("here")
                          .kernel(test::Kernel::restore)
                          .qemu("12.0.0", true)
                          .bind_to_vfio_ap()
                          .mdev(test::example_mdev)
                          .assign(both, domains, domains)
                          .build();
    const auto there =
        host("there").kernel(test::Kernel::restore).qemu("12.0.0", true).bind_to_vfio_ap().build();
    const auto plan = plan_for(there, {Mode::native, Profile::restore}, false, here);
    EXPECT_THAT(kinds(plan), ElementsAre(Kind::create));
    EXPECT_EQ(step_of(plan, Kind::create).persistent.size(), 2U);
    EXPECT_THAT(kinds(plan_for(there, {Mode::detached}, false, here)), ElementsAre(Kind::create, Kind::fill));
}

TEST(Plan, allows_migration_at_the_source_of_the_first_drivers) {
    const auto at = [](const std::string& name) {
        return host(name)
            .kernel(test::Kernel::series_v1)
            .qemu("8.2.0", true)
            .free_domains(domains)
            .mdev(test::example_mdev)
            .assign(both, domains, domains);
    };
    const auto plan = plan_for(at("there").migratable(true).build(), {Mode::native, Profile::compare}, false,
                               at("here").migratable(false).build());
    EXPECT_THAT(kinds(plan), ElementsAre(Kind::allow));
    EXPECT_EQ(plan.steps[0].host, Side::source);
    EXPECT_THAT(render_plan_script(plan), HasSubstr("not here, but at here"));
    EXPECT_THAT(render_plan_script(plan), Not(HasSubstr("\nput ")));
}

TEST(Plan, gives_an_mdev_what_it_lacks_and_takes_what_the_guest_has_not) {
    const auto plan = plan_for(host("there")
                                   .free_domains({4, 0x47, 0xab})
                                   .mdev(test::example_mdev)
                                   .assign({5, 7}, domains, {4})
                                   .build());
    EXPECT_THAT(kinds(plan), ElementsAre(Kind::fill));
    const std::string mdev = "devices/vfio_ap/matrix/" + std::string{test::example_mdev};
    EXPECT_THAT(plan.steps[0].writes, ElementsAre(SysfsWrite{mdev + "/unassign_adapter", "0x07"},
                                                  SysfsWrite{mdev + "/assign_adapter", "0x06"},
                                                  SysfsWrite{mdev + "/assign_control_domain", "0x47"}));
}

TEST(Plan, takes_over_provisioning_away_where_it_would_block) {
    // 63.0047 does not exist, and is reserved by the masks all the same: domain 0047 could not be assigned.
    const auto destination =
        host("there").free_adapters(both).mdev(test::example_mdev).assign({5, 6}, {4}, {4}).build();
    auto with_63 = destination;
    test::mdev_of(with_63, test::example_mdev).adapters.set(0x63);
    const auto plan = plan_for(with_63);
    EXPECT_THAT(step_of(plan, Kind::fill).writes[0].path, HasSubstr("/unassign_adapter"));
    const auto after = carried_out(plan, with_63);
    EXPECT_FALSE(after.find_mdev(test::uuid(test::example_mdev))->adapters.test(0x63));
}

TEST(Plan, sets_many_at_once) {
    HostBuilder::Numbers many;
    for (std::uint8_t i = 0; i < 20; ++i)
        many.push_back(i);
    const auto big = [&](const std::string& name) {
        return HostBuilder{name}.z16().cards(both, "CEX8A").domains(many).free_adapters(both);
    };
    const auto here = big("here").mdev(test::example_mdev).assign(both, many, many).build();
    const auto plan = plan_for(big("there").build(), {Mode::detached}, false, here);
    ASSERT_EQ(step_of(plan, Kind::fill).writes.size(), 1U);
    EXPECT_THAT(step_of(plan, Kind::fill).writes[0].path, HasSubstr("/ap_config"));
    EXPECT_THAT(render_plan_script(plan), HasSubstr("\nset_all 62177883-f1bb-47f0-914d-32a22e3a8804 0x06"));
}

// Whose queues they are.

HostBuilder with_rival() {
    return host("there")
        .free_domains(domains)
        .mdev(test::example_mdev)
        .assign({6}, domains, domains)
        .mdev(other)
        .assign({5, 7}, {4}, {4});
}

TEST(Plan, takes_queues_only_from_an_mdev_that_no_guest_uses) {
    const auto unused = with_rival().build();
    const auto plan = plan_for(unused);
    EXPECT_THAT(kinds(plan), ElementsAre(Kind::release, Kind::fill));
    EXPECT_THAT(step_of(plan, Kind::release).writes,
                ElementsAre(SysfsWrite{"devices/vfio_ap/matrix/" + std::string{other} + "/unassign_adapter",
                                       "0x05"}));
    EXPECT_EQ(step_of(plan, Kind::release).mdev, test::uuid(other));
    EXPECT_THAT(render_plan_script(plan), HasSubstr("\ntake " + std::string{other} + " adapter 0x05\n"));

    const auto kept = plan_for(unused, {Mode::detached}, true);
    EXPECT_EQ(kept.state, State::blocked);
    ASSERT_EQ(kept.obstacles.size(), 1U);
    EXPECT_EQ(kept.obstacles[0].owner, test::uuid(other));

    const auto used = plan_for(with_rival().in_use().build());
    EXPECT_EQ(used.state, State::blocked);
    ASSERT_EQ(used.obstacles.size(), 1U);
    EXPECT_EQ(used.obstacles[0].owner, test::uuid(other));
    EXPECT_THAT(used.obstacles[0].queues, ElementsAre(Apqn{5, 4}));
    EXPECT_THAT(used.obstacles[0].message, HasSubstr("which a guest uses"));
    EXPECT_THAT(used.steps, IsEmpty());
}

TEST(Plan, leaves_an_mdev_alone_that_a_guest_uses_there_already) {
    auto destination = host("there")
                           .free_domains(domains)
                           .mdev(test::example_mdev)
                           .assign({5}, domains, {})
                           .in_use()
                           .build();
    destination.location = "sysfs:/there";
    const auto plan = plan_for(destination);
    EXPECT_EQ(plan.state, State::blocked);
    ASSERT_EQ(plan.obstacles.size(), 1U);
    EXPECT_EQ(plan.obstacles[0].rule, RuleId::mdev_in_use);
    EXPECT_THAT(plan.steps, IsEmpty());
}

TEST(Plan, takes_nothing_where_the_kernel_does_not_say_who_uses_it) {
    auto silent = with_rival().build();
    for (auto& queue : silent.queues)
        queue.status = QueueStatus::absent;
    const auto plan = plan_for(silent);
    EXPECT_EQ(plan.state, State::blocked);
    ASSERT_EQ(plan.obstacles.size(), 1U);
    EXPECT_EQ(plan.obstacles[0].owner, test::uuid(other));
}

TEST(Plan, asks_the_mdevs_that_have_one_of_the_guests_queues) {
    const auto described = describe_source(guest1(), source());
    EXPECT_THAT(rivals_of(guest1(), described, with_rival().build()), ElementsAre(test::uuid(other)));
    EXPECT_THAT(rivals_of(guest1(), described,
                          host("there").free_domains(domains).mdev(other).assign({7}, domains, {}).build()),
                IsEmpty());
}

TEST(Plan, sees_in_a_sysfs_root_who_uses_the_queues) {
    for (const bool used : {false, true}) {
        auto builder = with_rival();
        if (used) builder.in_use();
        const test::FakeRoot root{builder.build()};
        const SysfsRoot sysfs{root.path()};
        const auto described = describe_source(guest1(), source());
        auto there = sysfs.read_for(guest1().mdevs[0], apqns_of(described.configuration));
        add_queues(there, sysfs.read_for(test::uuid(other), {}));
        EXPECT_EQ(make_plan(guest1(), described, there, {{Mode::detached}}).state,
                  used ? State::blocked : State::complete);
    }
}

// What no command mends.

TEST(Plan, stops_at_what_no_command_mends) {
    const auto plan = plan_for(
        HostBuilder{"there"}.z16().cards({5}, "CEX8A").domains({4, 0x47}).control_domains({4}).build());
    EXPECT_EQ(plan.state, State::blocked);
    EXPECT_THAT(plan.steps, IsEmpty());
    std::string todo;
    for (const auto& obstacle : plan.obstacles) {
        ASSERT_FALSE(obstacle.todo.empty());
        todo += std::string{rule(obstacle.rule).name} + ": " + obstacle.todo[0] + '\n';
    }
    EXPECT_EQ(
        todo,
        "queue.missing: assign adapter 06 to this LPAR at the HMC; no command does it\n"
        "control-domain.missing: assign the control domains to this LPAR at the HMC; no command does it\n");
    EXPECT_THAT(render_plan_script(plan), HasSubstr("exit 1\n"));
    EXPECT_THAT(render_plan_script(plan), Not(HasSubstr("> /sys")));
    EXPECT_THAT(render_plan_script(plan), Not(HasSubstr("$SYSFS")));
}

TEST(Plan, is_undetermined_where_something_could_not_be_read) {
    auto destination = host("there").free_domains(domains).mdev(test::example_mdev).build();
    destination.unreadable.push_back({"devices/ap/card05/05.0004/driver", 5, ""});
    destination.unreadable.push_back(
        {"devices/vfio_ap/matrix/" + std::string{test::example_mdev} + "/matrix", 5, ""});
    destination.sort();
    const auto plan = plan_for(destination);
    EXPECT_EQ(plan.state, State::undetermined) << render_plan_text(plan, {});
    EXPECT_THAT(plan.steps, IsEmpty());
}

TEST(Plan, needs_no_bus_that_is_not_there) {
    const auto plan = plan_for(HostBuilder{"there"}.z16().without_ap_bus().without_vfio_ap().build());
    EXPECT_EQ(plan.state, State::blocked);
}

// How it is shown.

TEST(PlanScript, is_not_led_astray_by_a_name) {
    Guest guest = guest1();
    guest.name = "a'b$(touch pwned)`x`\nrm -rf /";
    auto destination = host("there").build();
    destination.name = "x'; reboot; '";
    const auto script =
        render_plan_script(make_plan(guest, describe_source(guest, source()), destination, {}));
    EXPECT_THAT(script, Not(HasSubstr("\nrm")));
    std::istringstream in{script};
    for (std::string line; std::getline(in, line);) {
        if (line.find("pwned") == std::string::npos && line.find("reboot;") == std::string::npos) continue;
        const bool comment = line.starts_with("# ");
        const bool quoted = line.starts_with("echo '") && line.ends_with("'") &&
                            std::count(line.begin(), line.end(), '\'') == 2;
        EXPECT_TRUE(comment || quoted) << line;
    }
}

TEST(PlanText, folds_long_lists_and_names_all_on_demand) {
    HostBuilder::Numbers many;
    for (std::uint8_t i = 0; i < 40; ++i)
        many.push_back(i);
    const auto here = HostBuilder{"here"}
                          .z16()
                          .kernel(test::Kernel::newest)
                          .cards(both, "CEX8A")
                          .domains(many)
                          .bind_to_vfio_ap()
                          .mdev(test::example_mdev)
                          .assign(both, many, many)
                          .build();
    const auto there = HostBuilder{"there"}
                           .z16()
                           .kernel(test::Kernel::newest)
                           .cards({5, 6, 7}, "CEX8A")
                           .domains(many)
                           .bind_to_vfio_ap(Apqn{7, 4})
                           .build();
    const auto plan = plan_for(there, {Mode::detached}, false, here);
    EXPECT_THAT(render_plan_text(plan, {}), HasSubstr("… and 232 more"));
    EXPECT_THAT(render_plan_text(plan, {false, true, 80}), Not(HasSubstr("more")));
    EXPECT_THAT(render_plan_text(plan, {true, false, 80}), StartsWith("\x1b[1mPLAN:\x1b[0m 4 steps"));
}

// Golden files.

struct Golden {
    std::string name;
    Plan plan;
};

void PrintTo(const Golden& golden, std::ostream* out) {
    *out << golden.name;
}

Inventory example(const std::string& name) {
    for (auto candidate : test::example_hosts()) {
        if (candidate.name != name) continue;
        candidate.location = "snapshot:/hosts/" + name + ".json";
        return candidate;
    }
    throw std::logic_error{"no example host " + name};
}

std::vector<Golden> goldens() {
    const auto of = [](const std::string& from, const std::string& to) {
        return make_plan(guest1(), describe_source(guest1(), example(from)), example(to), {});
    };
    return {{"lpar-a-to-lpar-b", of("lpar-a", "lpar-b")},
            {"lpar-a-to-lpar-c", of("lpar-a", "lpar-c")},
            {"lpar-a-to-itself", of("lpar-a", "lpar-a")},
            {"migratable-to-override", of("z16-migratable", "z16-override")}};
}

class GoldenPlan : public testing::TestWithParam<Golden> {};

TEST_P(GoldenPlan, is_as_recorded_in_every_form) {
    const auto& [name, plan] = GetParam();
    for (const auto& [ending, text] :
         {std::pair{".txt", render_plan_text(plan, {})}, std::pair{".json", render_plan_json(plan)},
          std::pair{".sh", render_plan_script(plan)}}) {
        const auto path = std::string{VFIOAP_TEST_DATA} + "/golden/plan/" + name + ending;
        if (std::getenv("VFIOAP_UPDATE_GOLDEN") != nullptr) {
            test::write_file(path, text);
            continue;
        }
        EXPECT_EQ(text, test::text_of(path))
            << path << ": if the new text is right, run the tests once with VFIOAP_UPDATE_GOLDEN=1";
    }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenPlan, testing::ValuesIn(goldens()), [](const auto& param) {
    auto name = param.param.name;
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

}  // namespace
}  // namespace vfioap
