// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapctl state: what the service keeps in a guest's domain, for where it does not run.
#include "cli/commands.h"
#include "cli/guest_argument.h"
#include "cli/host_location.h"
#include "compat/state.h"

#include <memory>
#include <string>

#include <CLI/CLI.hpp>

namespace vfioap {

void add_state(CLI::App& app, const CommonOptions& common, Command& chosen) {
    const auto argument = std::make_shared<std::string>();
    const auto metadata = std::make_shared<bool>(false);
    auto* const command =
        app.add_subcommand("state", "Print what a guest has, as its domain carries it to another host");
    set_usage(*command, "vfioapctl state [-s HOST] [--metadata] MDEV|GUEST");
    command->add_option("MDEV", *argument, "UUID of an mdev at --source, or the guest that has it")
        ->type_name("")
        ->required();
    command->add_flag("--metadata", *metadata, "As libvirt takes it: without the prefix of its namespace");
    command->callback([&chosen, &common, argument, metadata] {
        chosen = [&common, argument, metadata] {
            const Host host{parse_host_location(common.source, local_sysfs_root(common.sysfs_root))};
            const auto mdev = mdev_at(host, *argument, common.uri);
            const auto state = state_of(*host.read_for(mdev, {}), mdev);
            write_output((*metadata ? state_metadata(state) : state_element(state)) + '\n');
            return 0;
        };
    });
}

}  // namespace vfioap
