// SPDX-License-Identifier: LGPL-2.1-or-later
// What all programs share: how they end, and how they write.
#pragma once

#include "compat/report.h"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace vfioap {

/// What to do; gives the exit code.
using Command = std::function<int()>;

/// Options that stand before or after a subcommand, the same in every program.
struct CommonOptions {
    std::string source = "local";
    std::string destination;
    std::string sysfs_root;
    std::string uri = "qemu:///system";
    std::string profile = "auto";
    std::string format = "text";
    std::string color = "auto";
};

// Exit codes of all programs (man 1 vfioap-check).
inline constexpr int exit_compatible = 0;
inline constexpr int exit_incompatible = 1;
inline constexpr int exit_usage = 2;  ///< also unreadable or invalid input
inline constexpr int exit_undetermined = 3;

/// Help that starts with `usage` and leaves enough room for the options' names.
void set_usage(CLI::App& app, std::string usage);

/// An option that takes one of a few words. `type` stands for them in the help.
void add_choice(CLI::App& app, const std::string& names, std::string& value,
                const std::vector<std::string>& words, const std::string& help, const std::string& type);

/// Options that every program has.
void add_common_options(CLI::App& app, CommonOptions& options);

/// How a report is shown.
struct ReportOptions {
    bool strict = false;
    bool all_queues = false;
    bool quiet = false;
};
void add_report_options(CLI::App& app, ReportOptions& options);

/// Writes the report as asked for, and gives the exit code that its verdict is.
int show_report(const Report& report, const CommonOptions& common, const ReportOptions& options);
int exit_code(Verdict verdict);

/// A whole program: `set_up` describes its command line and gives what to run once that has been parsed.
/// Errors become one line on standard error, `NAME: …`, and an exit code: UnreachableError gives
/// exit_undetermined, every other exception and usage errors exit_usage.
int run_program(const std::string& name, int argc, char** argv,
                const std::function<Command(CLI::App&)>& set_up) noexcept;

/// One line on standard error.
void warn(std::string_view name, std::string_view what);

/// Writes all of `text` to standard output. Throws SystemError; a reader that went away (EPIPE) is no error.
void write_output(std::string_view text);

/// `--color auto|always|never`; auto: a terminal that is not dumb, and NO_COLOR is not set.
bool use_color(std::string_view when);

/// Columns of the terminal on standard output, from 60 to 120; 80 where there is none.
unsigned output_width();

}  // namespace vfioap
