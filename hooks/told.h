// SPDX-License-Identifier: LGPL-2.1-or-later
// What is told after the answer, by a program of its own, vfioap-hook-tell: the libraries of the journal and
// the bus are more to load than all that is judged.
#pragma once

#include <string>

#include "hook.h"

namespace vfioap {

struct Told {
    HookCall call;
    std::optional<Uuid> mdev;
    std::vector<HookLog> log;
    bool service = false;  ///< whether the service is to hear of it, too
};

/// As JSON, and back. What is no UTF-8 is replaced. from_json() throws InputError.
std::string to_json(const Told& told);
Told told_from_json(const std::string& text);

/// Becomes vfioap-hook-tell, which is beside this program; where that cannot be run, syslog has the messages.
[[noreturn]] void tell(const Told& told);

/// Line by line.
void write_syslog(const Told& told);

}  // namespace vfioap
