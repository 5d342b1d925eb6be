// SPDX-License-Identifier: LGPL-2.1-or-later
// A plan as text for people, as a shell script and as JSON.
#pragma once

#include "plan/plan.h"
#include "report/text.h"

#include <string>
#include <string_view>

namespace vfioap {

inline constexpr std::string_view plan_schema = "vfioap-plan/1";

/// What is to be done and why, a step after the other; or what stands in the way. Ends with a newline.
std::string render_plan_text(const Plan& plan, const TextOptions& options);

/// One JSON document, xml/vfioap-plan.schema.json, ending with a newline.
std::string render_plan_json(const Plan& plan);

/// A script for /bin/sh, to be run by root at the destination. Safe to run twice: it looks before each step.
/// With SYSFS_ROOT in the environment it works on that root, and then keeps nothing for the next boot unless
/// KEEP=yes. Of a plan that is blocked or undetermined it says why, does nothing and ends with exit status 1.
std::string render_plan_script(const Plan& plan);

}  // namespace vfioap
