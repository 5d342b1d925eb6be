// SPDX-License-Identifier: LGPL-2.1-or-later
// The subcommands of vfioapctl, one file each.
#pragma once

#include <functional>
#include <string>

namespace CLI {
class App;
}

namespace vfioap {

/// Options that stand before or after a subcommand.
struct CommonOptions {
    std::string source = "local";
    std::string destination;
    std::string sysfs_root;
    std::string uri = "qemu:///system";
    std::string profile = "auto";
    std::string format = "text";
    std::string color = "auto";
};

/// What a subcommand does once its command line has been parsed; gives the exit code.
using Command = std::function<int()>;

/// Each adds its subcommand to `app` and tells what to run through `chosen`.
void add_snapshot(CLI::App& app, const CommonOptions& common, Command& chosen);
void add_materialize(CLI::App& app, const CommonOptions& common, Command& chosen);
void add_status(CLI::App& app, const CommonOptions& common, Command& chosen);

}  // namespace vfioap
