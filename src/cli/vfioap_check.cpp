// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioap-check: may this guest move there?
#include "ap/error.h"
#include "cli/guest_argument.h"
#include "cli/host_location.h"
#include "cli/program.h"
#include "compat/check.h"
#include "report/json.h"
#include "report/text.h"

#include <string>

#include <CLI/CLI.hpp>

namespace vfioap {
namespace {

struct Options {
    std::string guest;
    std::string source = "local";
    std::string destination;
    std::string sysfs_root;
    std::string uri = "qemu:///system";
    std::string mode = "auto";
    std::string profile = "auto";
    std::string format = "text";
    std::string color = "auto";
    bool strict = false;
    bool all_queues = false;
    bool quiet = false;
};

int exit_code(Verdict verdict) {
    switch (verdict) {
        case Verdict::compatible:
            return exit_compatible;
        case Verdict::incompatible:
            return exit_incompatible;
        case Verdict::undetermined:
            break;
    }
    return exit_undetermined;
}

int check_guest(const Options& options) {
    const auto root = local_sysfs_root(options.sysfs_root);
    const auto source_location = parse_host_location(options.source, root);
    const auto destination_location = parse_host_location(options.destination, root);
    const auto guest = load_guest(options.guest, options.uri);
    const auto report = check_between(
        guest, Host{source_location}, Host{destination_location},
        {parse_mode(options.mode).value(), parse_profile(options.profile).value(), options.strict});
    if (!options.quiet) {
        write_output(options.format == "json" ? render_json(report)
                                              : render_text(report, {use_color(options.color),
                                                                     options.all_queues, output_width()}));
    }
    return exit_code(report.verdict);
}

}  // namespace
}  // namespace vfioap

int main(int argc, char** argv) {
    using vfioap::Options;
    Options options;
    CLI::App app{
        "Tells whether a guest with a vfio-ap device can move to another host, with every reason and its "
        "remedy.",
        "vfioap-check"};
    vfioap::set_usage(app, "vfioap-check [OPTIONS] -d HOST GUEST");
    app.footer(
        "HOST is a sysfs root (a directory), a snapshot (a .json file), local, or the name of a host.\n"
        "Exit status: 0 compatible, 1 incompatible, 2 usage or unreadable input, 3 undetermined.\n"
        "Rules: man 7 vfioap-rules");
    app.set_version_flag("--version", "vfioap-check " VFIOAP_VERSION);
    app.set_help_flag("-h,--help", "Print this help");
    const auto words = [](const char* a, const char* b, const char* c) {
        return CLI::IsMember{std::vector<std::string>{a, b, c}};
    };
    app.add_option("GUEST", options.guest,
                   "Domain name or UUID, domain XML file, or - for XML on standard input")
        ->required()
        ->type_name("");
    app.add_option("-d,--destination", options.destination, "Where the guest is to go")
        ->required()
        ->type_name("HOST");
    app.add_option("-s,--source", options.source, "Where the guest runs (default: local)")->type_name("HOST");
    app.add_option("--sysfs-root", options.sysfs_root, "The local sysfs root (default: $SYSFS_ROOT or /sys)")
        ->type_name("DIR");
    app.add_option("-c,--connect", options.uri, "libvirt to ask for the guest (default: qemu:///system)")
        ->type_name("URI");
    app.add_option("--mode", options.mode, "How the guest moves: auto, native, detached")
        ->check(words("auto", "native", "detached"))
        ->type_name("MODE");
    app.add_option("--profile", options.profile, "What the destination's driver does: auto, compare, restore")
        ->check(words("auto", "compare", "restore"))
        ->type_name("PROFILE");
    app.add_option("--format", options.format, "text or json")
        ->check(CLI::IsMember{std::vector<std::string>{"text", "json"}})
        ->type_name("FORMAT");
    app.add_option("--color", options.color, "auto, always, never")
        ->check(words("auto", "always", "never"))
        ->type_name("WHEN");
    app.add_flag("--strict", options.strict, "Take warnings for errors");
    app.add_flag("--all-queues", options.all_queues, "Name every queue instead of folding long lists");
    app.add_flag("-q,--quiet", options.quiet, "Print nothing; the exit status tells");
    return vfioap::run_program(app, "vfioap-check", argc, argv, [&] { return vfioap::check_guest(options); });
}
