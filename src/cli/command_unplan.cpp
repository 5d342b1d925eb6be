// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapctl unplan: takes back what plan --apply and migrate --prepare made at a destination.
#include "ap/error.h"
#include "cli/commands.h"
#include "cli/guest_argument.h"
#include "cli/host_location.h"
#include "cli/plan_service.h"
#include "cli/program.h"

#include <memory>

#include <CLI/CLI.hpp>

namespace vfioap {
namespace {

/// A name is the service's to know: the guest need not be known here any more.
std::string guest_argument(const std::string& argument, const std::string& uri) {
    if (argument != "-" && argument.find('/') == std::string::npos && !argument.ends_with(".xml"))
        return argument;
    return mdev_of(argument, uri).to_string();
}

int take_back(const CommonOptions& common, const std::string& guest) {
    if (common.destination.empty()) throw CLI::RequiredError{"--destination"};
    const auto location = parse_host_location(common.destination, local_sysfs_root(common.sysfs_root));
    const auto name = guest_argument(guest, common.uri);
    PlanService service{location};
    try {
        return show_service_report(service.take_back(name, plan_progress()), common.format);
    } catch (const ServiceError& error) {
        if (!error.name().ends_with(".NoSuchPlan")) throw;
        warn("vfioapctl", error.what());
        return exit_incompatible;
    }
}

}  // namespace

void add_unplan(CLI::App& app, const CommonOptions& common, Command& chosen) {
    const auto guest = std::make_shared<std::string>();
    auto* const command = app.add_subcommand(
        "unplan", "Take back what plan --apply and migrate --prepare made at a destination");
    set_usage(*command, "vfioapctl unplan -d HOST GUEST");
    command
        ->add_option("GUEST", *guest,
                     "Domain name or UUID, UUID of its mdev, domain XML file, or - for standard input")
        ->required()
        ->type_name("");
    command->callback(
        [&chosen, &common, guest] { chosen = [&common, guest] { return take_back(common, *guest); }; });
}

}  // namespace vfioap
