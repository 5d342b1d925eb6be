// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapd: the D-Bus service of a host with vfio-ap guests.
#include "ap/error.h"
#include "cli/host_location.h"
#include "cli/program.h"
#include "service/log.h"
#include "service/service.h"

#include <cstdlib>
#include <memory>
#include <string>

#include <fmt/format.h>

#include <CLI/CLI.hpp>

namespace vfioap {
namespace {

/// Until it is asked to end. Where there is no bus the error says which.
int serve(const ServiceOptions& options) {
    try {
        return Service{options}.run();
    } catch (const sdbus::Error& error) {
        const char* const variable = options.session ? "DBUS_SESSION_BUS_ADDRESS" : "DBUS_SYSTEM_BUS_ADDRESS";
        const char* const address = ::secure_getenv(variable);
        throw Error{fmt::format("{} bus ({}): {}", options.session ? "session" : "system",
                                address != nullptr ? fmt::format("{}={}", variable, address)
                                                   : fmt::format("{} is not set", variable),
                                error.getMessage())};
    }
}

Command set_up(CLI::App& app) {
    const auto options = std::make_shared<ServiceOptions>();
    const auto root = std::make_shared<std::string>();
    app.description(
        "Serves org.vfioap1 on the system bus: what this host has of vfio-ap, whether guests can move, and "
        "migrations.");
    set_usage(app, "vfioapd [OPTIONS]");
    app.footer("man 8 vfioapd tells more, man 7 vfioap-dbus what is on the bus.");
    app.set_help_flag("-h,--help", "Print this help and exit");
    app.set_version_flag("--version", "vfioapd " VFIOAP_VERSION, "Print the version and exit");
    app.add_option("--sysfs-root", *root, "The sysfs root to serve (default: $SYSFS_ROOT or /sys)")
        ->type_name("DIR");
    app.add_flag("--session", options->session, "Serve the session bus, for its own user, without polkit");
    app.add_option("-c,--connect", options->uri,
                   "libvirt to ask for guests (default: qemu:///system; with --session none)")
        ->type_name("URI");
    app.add_option("-d,--destination", options->destinations,
                   "A known destination, where guests may go; may be given again")
        ->type_name("HOST");
    app.add_option("--config", options->config, "Configuration (default: /etc/vfioap/vfioap.conf)")
        ->type_name("FILE");
    app.add_option(
           "--state-directory", options->state_directory,
           "Where master keys and what plans made are remembered (default: $STATE_DIRECTORY, else nowhere)")
        ->type_name("DIR");
    app.add_option("--ap-lock", options->ap_lock,
                   "The lock of s390-tools (default: /run/lock/s390apconfig.lock for /sys)")
        ->type_name("FILE");
    return [options, root, &app] {
        if (options->session && app.count("--connect") == 0) options->uri.clear();
        options->sysfs_root = local_sysfs_root(*root);
        const char* const directory = ::secure_getenv("STATE_DIRECTORY");
        if (options->state_directory.empty() && directory != nullptr) options->state_directory = directory;
        try {
            return serve(*options);
        } catch (...) {
            // With a priority, which run_program() knows nothing of.
            log_message(LogLevel::error, error_text(std::current_exception()));
            return exit_usage;
        }
    };
}

}  // namespace
}  // namespace vfioap

int main(int argc, char** argv) {
    return vfioap::run_program("vfioapd", argc, argv, vfioap::set_up);
}
