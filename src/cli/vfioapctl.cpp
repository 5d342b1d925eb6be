// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapctl: the administrator's tool.
#include "cli/commands.h"
#include "cli/program.h"

#include <CLI/CLI.hpp>

int main(int argc, char** argv) {
    vfioap::CommonOptions common;
    vfioap::Command chosen;
    CLI::App app{"Looks after the vfio-ap devices of a host and its guests.", "vfioapctl"};
    vfioap::set_usage(app, "vfioapctl [OPTIONS] COMMAND …");
    app.footer(
        "HOST is a sysfs root (a directory), a snapshot (a .json file), local, or the name of a host.\n"
        "vfioapctl COMMAND --help tells more; so does man 1 vfioapctl.");
    app.set_version_flag("--version", "vfioapctl " VFIOAP_VERSION);
    app.set_help_flag("-h,--help", "Print this help");
    // That there is one is asked below: asked here, a mistyped one would be told as a missing one.
    app.require_subcommand(0, 1);
    // Options of the program are understood behind the subcommand as well.
    app.fallthrough();
    app.add_option("-s,--source", common.source, "The host to look at (default: local)")->type_name("HOST");
    app.add_option("-d,--destination", common.destination, "Where guests are to go")->type_name("HOST");
    app.add_option("--sysfs-root", common.sysfs_root, "The local sysfs root (default: $SYSFS_ROOT or /sys)")
        ->type_name("DIR");
    app.add_option("-c,--connect", common.uri, "libvirt to ask for guests (default: qemu:///system)")
        ->type_name("URI");
    app.add_option("--profile", common.profile, "What a destination's driver does: auto, compare, restore")
        ->check(CLI::IsMember{std::vector<std::string>{"auto", "compare", "restore"}})
        ->type_name("PROFILE");
    app.add_option("--format", common.format, "text or json")
        ->check(CLI::IsMember{std::vector<std::string>{"text", "json"}})
        ->type_name("FORMAT");
    app.add_option("--color", common.color, "auto, always, never")
        ->check(CLI::IsMember{std::vector<std::string>{"auto", "always", "never"}})
        ->type_name("WHEN");
    vfioap::add_status(app, common, chosen);
    vfioap::add_snapshot(app, common, chosen);
    vfioap::add_materialize(app, common, chosen);
    return vfioap::run_program(app, "vfioapctl", argc, argv, [&] {
        if (!chosen) throw CLI::RequiredError{"a command"};
        return chosen();
    });
}
