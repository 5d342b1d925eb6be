// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapctl plan: what the destination still needs before a guest can come.
#include "ap/error.h"
#include "cli/commands.h"
#include "cli/guest_argument.h"
#include "cli/host_location.h"
#include "cli/plan_service.h"
#include "cli/program.h"
#include "plan/render.h"

#include <memory>

#include <CLI/CLI.hpp>

namespace vfioap {
namespace {

struct PlanArguments {
    std::string guest;
    std::string mode = "auto";
    bool leave_unused = false;
    bool script = false;
    bool apply = false;
    bool all_queues = false;
};

int plan_exit_code(Plan::State state) {
    switch (state) {
        case Plan::State::nothing_to_do:
        case Plan::State::complete:
            return exit_compatible;
        case Plan::State::blocked:
            return exit_incompatible;
        case Plan::State::undetermined:
            break;
    }
    return exit_undetermined;
}

Plan plan_between(const Guest& guest, const Host& source, const Host& destination,
                  const PlanOptions& options) {
    if (guest.mdevs.empty()) {
        // Nothing of either host matters, but who they are.
        Source from;
        from.host = source.identity();
        Inventory to;
        to.name = destination.identity().name;
        to.location = destination.identity().location;
        return make_plan(guest, from, to, options);
    }
    const auto from = describe_source(guest, *source.read_for(guest.mdevs.front(), {}));
    return make_plan(
        guest, from,
        [&](const Uuid& mdev, const std::vector<Apqn>& queues) {
            return *destination.read_for(mdev, queues);
        },
        options);
}

int apply_plan(const CommonOptions& common, const HostLocation& source, const HostLocation& destination,
               const Guest& guest, const PlanOptions& with) {
    if (guest.mdevs.empty()) throw InputError{guest.name, "the guest has no vfio-ap device"};
    PlanService service{destination};
    return show_service_report(service.apply(guest, Host{source}, with, plan_progress()), common.format);
}

int show_plan(const CommonOptions& common, const PlanArguments& options) {
    if (common.destination.empty()) throw CLI::RequiredError{"--destination"};
    if (options.script && options.apply)
        throw CLI::ValidationError{"--script", "is for those who apply it by hand: not with --apply"};
    if (options.script && common.format == "json")
        throw CLI::ValidationError{"--script", "is a form of its own: not with --format json"};
    const auto root = local_sysfs_root(common.sysfs_root);
    const auto from = parse_host_location(common.source, root);
    const auto to = parse_host_location(common.destination, root);
    const auto guest = load_guest(options.guest, common.uri);
    const PlanOptions with{{parse_mode(options.mode).value(), parse_profile(common.profile).value()},
                           options.leave_unused};
    if (options.apply) return apply_plan(common, from, to, guest, with);
    const auto plan = plan_between(guest, Host{from}, Host{to}, with);
    if (options.script) {
        write_output(render_plan_script(plan));
    } else if (common.format == "json") {
        write_output(render_plan_json(plan));
    } else {
        write_output(render_plan_text(plan, {use_color(common.color), options.all_queues, output_width()}));
    }
    return plan_exit_code(plan.state);
}

}  // namespace

void add_plan(CLI::App& app, const CommonOptions& common, Command& chosen) {
    const auto options = std::make_shared<PlanArguments>();
    auto* const command = app.add_subcommand(
        "plan", "Say what a destination still needs before a guest can come, with commands");
    set_usage(*command, "vfioapctl plan [OPTIONS] -d HOST GUEST");
    command
        ->add_option("GUEST", options->guest, "Domain name or UUID, domain XML file, or - for standard input")
        ->required()
        ->type_name("");
    add_choice(*command, "--mode", options->mode, {"auto", "native", "detached"},
               "How the guest moves: auto, native, detached", "MODE");
    command->add_flag("--script", options->script, "Print a shell script that does it at the destination");
    command->add_flag("--apply", options->apply, "Do it, through the service of the destination");
    command->add_flag("--leave-unused", options->leave_unused,
                      "Take no queues from mdevs that no guest uses");
    command->add_flag("--all-queues", options->all_queues,
                      "Name every queue and command instead of folding long lists");
    command->callback(
        [&chosen, &common, options] { chosen = [&common, options] { return show_plan(common, *options); }; });
}

}  // namespace vfioap
