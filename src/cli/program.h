// SPDX-License-Identifier: LGPL-2.1-or-later
// What all programs share: how they end, and how they write.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace vfioap {

// Exit codes of all programs (man 1 vfioap-check).
inline constexpr int exit_compatible = 0;
inline constexpr int exit_incompatible = 1;
inline constexpr int exit_usage = 2;  ///< also unreadable or invalid input
inline constexpr int exit_undetermined = 3;

/// Help that starts with `usage` and leaves enough room for the options' names.
void set_usage(CLI::App& app, std::string usage);

/// Parses the command line and runs `body`. Errors become one line on standard error, `NAME: …`, and an exit
/// code: UnreachableError gives exit_undetermined, every other exception and usage errors exit_usage.
int run_program(CLI::App& app, std::string_view name, int argc, char** argv,
                const std::function<int()>& body);

/// One line on standard error.
void warn(std::string_view name, std::string_view what);

/// Writes all of `text` to standard output. Throws SystemError; a reader that went away (EPIPE) is no error.
void write_output(std::string_view text);

/// `--color auto|always|never`; auto: a terminal that is not dumb, and NO_COLOR is not set.
bool use_color(std::string_view when);

/// Columns of the terminal on standard output, from 60 to 120; 80 where there is none.
unsigned output_width();

}  // namespace vfioap
