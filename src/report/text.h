// SPDX-License-Identifier: LGPL-2.1-or-later
// A report for people.
#pragma once

#include "compat/report.h"

#include <string>
#include <string_view>

namespace vfioap {

struct TextOptions {
    bool color = false;       ///< ANSI colours
    bool all_queues = false;  ///< name every queue, kernel line and command; else long lists are folded
    unsigned width = 80;      ///< columns to wrap prose at; commands and kernel lines are never wrapped
};

/// The verdict, then the findings, errors first, each with what, why, what the kernel would say and what to
/// do. Ends with a newline. Whatever comes from outside is made harmless to a terminal.
std::string render_text(const Report& report, const TextOptions& options);

/// `text` with control characters and invalid UTF-8 replaced by `?`.
std::string terminal_safe(std::string_view text);

}  // namespace vfioap
