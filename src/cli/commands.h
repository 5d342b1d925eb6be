// SPDX-License-Identifier: LGPL-2.1-or-later
// The subcommands of vfioapctl, one file each.
#pragma once

#include "cli/program.h"

namespace CLI {
class App;
}

namespace vfioap {

/// Each adds its subcommand to `app` and tells what to run through `chosen`.
void add_snapshot(CLI::App& app, const CommonOptions& common, Command& chosen);
void add_materialize(CLI::App& app, Command& chosen);
void add_stream(CLI::App& app, const CommonOptions& common, Command& chosen);
void add_migrate(CLI::App& app, const CommonOptions& common, Command& chosen);
void add_state(CLI::App& app, const CommonOptions& common, Command& chosen);
void add_plan(CLI::App& app, const CommonOptions& common, Command& chosen);
void add_unplan(CLI::App& app, const CommonOptions& common, Command& chosen);
void add_status(CLI::App& app, const CommonOptions& common, Command& chosen);
void add_explain(CLI::App& app, const CommonOptions& common, Command& chosen);

}  // namespace vfioap
