// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioap-check: may this guest move there?
#include "ap/error.h"
#include "cli/guest_argument.h"
#include "cli/host_location.h"
#include "cli/program.h"
#include "compat/check.h"

#include <memory>
#include <string>

#include <CLI/CLI.hpp>

namespace vfioap {
namespace {

struct Options {
    CommonOptions common;
    std::string guest;
    std::string mode = "auto";
    ReportOptions report;
    const CLI::Option* destination = nullptr;  ///< needed but for live update
};

int check_guest(const Options& options) {
    const auto root = local_sysfs_root(options.common.sysfs_root);
    const auto source_location = parse_host_location(options.common.source, root);
    const auto mode = parse_mode(options.mode).value();
    if (mode == Mode::live_update) {
        const auto domain = load_domain(options.guest, options.common.uri);
        return show_report(check_live_update_at(domain, source_location, options.report.strict),
                           options.common, options.report);
    }
    if (options.destination->count() == 0) throw CLI::RequiredError{"--destination"};
    const auto destination_location = parse_host_location(options.common.destination, root);
    const auto guest = load_guest(options.guest, options.common.uri);
    const auto report =
        check_between(guest, Host{source_location}, Host{destination_location},
                      {mode, parse_profile(options.common.profile).value(), options.report.strict});
    return show_report(report, options.common, options.report);
}

Command set_up(CLI::App& app) {
    const auto options = std::make_shared<Options>();
    app.description(
        "Tells whether a guest with a vfio-ap device can move to another host, with every reason and its "
        "remedy.");
    set_usage(app,
              "vfioap-check [OPTIONS] -d HOST GUEST\n       vfioap-check [OPTIONS] --mode live-update GUEST");
    app.footer(
        "HOST is a sysfs root (a directory), a snapshot (a .json file), local, or the name of a host.\n"
        "Exit status: 0 compatible, 1 incompatible, 2 usage or unreadable input, 3 undetermined.\n"
        "Rules: man 7 vfioap-rules");
    app.add_option("GUEST", options->guest,
                   "Domain name or UUID, domain XML file, or - for XML on standard input")
        ->required()
        ->type_name("");
    add_common_options(app, options->common);
    options->destination = app.get_option("--destination");
    add_choice(app, "--mode", options->mode, {"auto", "native", "detached", "live-update"},
               "How the guest moves: auto, native, detached, live-update", "MODE");
    add_report_options(app, options->report);
    return [options] { return check_guest(*options); };
}

}  // namespace
}  // namespace vfioap

int main(int argc, char** argv) {
    return vfioap::run_program("vfioap-check", argc, argv, vfioap::set_up);
}
