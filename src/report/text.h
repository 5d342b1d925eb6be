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

/// For a terminal far away, with little room: the errors only, each with the first thing to do about it, in
/// at most `lines` lines (10 or more) of 80 columns without colours. `headline` replaces the verdict's;
/// empty: the verdict's. The last line is `rest`: where everything is to be found.
std::string render_brief(const Report& report, std::string_view headline, std::size_t lines,
                         std::string_view rest);

}  // namespace vfioap
