// SPDX-License-Identifier: LGPL-2.1-or-later
// A report for programs: format `vfioap-report/1`, xml/vfioap-report.schema.json.
#pragma once

#include "compat/report.h"

#include <string>
#include <string_view>

namespace vfioap {

inline constexpr std::string_view report_schema = "vfioap-report/1";

/// One JSON document, indented by two blanks, ending with a newline. Says the same as the text, with every
/// queue.
std::string render_json(const Report& report);

}  // namespace vfioap
