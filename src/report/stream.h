// SPDX-License-Identifier: LGPL-2.1-or-later
// What is in a migration stream, for people and for programs.
#pragma once

#include "stream/reader.h"

#include <string>
#include <string_view>

namespace vfioap {

inline constexpr std::string_view stream_schema = "vfioap-stream/1";

/// Header, control domains and anomalies, then a line for each queue that was taken, with its offset and its
/// TAPQ hwinfo in words. Ends with a newline.
std::string render_stream_text(const StreamReader& stream);

/// The same, with the fault where there is one: xml/vfioap-stream.schema.json. Ends with a newline.
std::string render_stream_json(const StreamReader& stream);

}  // namespace vfioap
