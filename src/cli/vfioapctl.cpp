// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapctl: the administrator's tool.
#include "cli/commands.h"

#include <memory>

#include <CLI/CLI.hpp>

namespace vfioap {
namespace {

struct Options {
    CommonOptions common;
    Command chosen;
};

Command set_up(CLI::App& app) {
    const auto options = std::make_shared<Options>();
    app.description("Looks after the vfio-ap devices of a host and its guests.");
    set_usage(app, "vfioapctl [OPTIONS] COMMAND …");
    app.footer(
        "HOST is a sysfs root (a directory), a snapshot (a .json file), local, or the name of a host.\n"
        "vfioapctl COMMAND --help tells more; so does man 1 vfioapctl.");
    // That there is one is asked below: asked here, a mistyped one would be told as a missing one.
    app.require_subcommand(0, 1);
    // Options of the program are understood behind the subcommand as well.
    app.fallthrough();
    add_common_options(app, options->common);
    add_status(app, options->common, options->chosen);
    add_snapshot(app, options->common, options->chosen);
    add_materialize(app, options->chosen);
    add_migrate(app, options->common, options->chosen);
    add_state(app, options->common, options->chosen);
    add_stream(app, options->common, options->chosen);
    add_plan(app, options->common, options->chosen);
    add_unplan(app, options->common, options->chosen);
    add_explain(app, options->common, options->chosen);
    return [options] {
        if (!options->chosen) throw CLI::RequiredError{"a command"};
        return options->chosen();
    };
}

}  // namespace
}  // namespace vfioap

int main(int argc, char** argv) {
    return vfioap::run_program("vfioapctl", argc, argv, vfioap::set_up);
}
