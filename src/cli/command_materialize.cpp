// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapctl materialize: a directory that looks like the sysfs of a snapshot's host.
#include "cli/commands.h"
#include "host/materialize.h"
#include "host/snapshot.h"

#include <memory>

#include <CLI/CLI.hpp>

namespace vfioap {

void add_materialize(CLI::App& app, Command& chosen) {
    struct Options {
        std::string snapshot;
        std::string directory;
    };
    const auto options = std::make_shared<Options>();
    auto* const command = app.add_subcommand("materialize", "Make a fake sysfs root from a snapshot");
    set_usage(*command, "vfioapctl materialize SNAPSHOT DIR");
    command->add_option("SNAPSHOT", options->snapshot, "A file that vfioapctl snapshot wrote")
        ->required()
        ->type_name("");
    command->add_option("DIR", options->directory, "Directory to make; must be absent or empty")
        ->required()
        ->type_name("");
    command->callback([&chosen, options] {
        chosen = [options] {
            materialize(load_snapshot(options->snapshot), options->directory);
            return 0;
        };
    });
}

}  // namespace vfioap
