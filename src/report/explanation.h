// SPDX-License-Identifier: LGPL-2.1-or-later
// What explain found, for people and for programs: format `vfioap-explanation/1`,
// xml/vfioap-explanation.schema.json.
#pragma once

#include "explain/explain.h"
#include "report/text.h"

#include <string>
#include <string_view>

namespace vfioap {

inline constexpr std::string_view explanation_schema = "vfioap-explanation/1";

/// Each migration: how it ended, then its causes, the likeliest first, each with its evidence and what to do,
/// and what is missing. Ends with a newline. Whatever comes from a log is harmless to a terminal.
std::string render_explanation_text(const Explanation& explanation, const TextOptions& options);

/// One JSON document, indented by two blanks, ending with a newline.
std::string render_explanation_json(const Explanation& explanation);

}  // namespace vfioap
