// SPDX-License-Identifier: LGPL-2.1-or-later
// Who may call what. polkit decides, by one table; what is not in it is refused.
#pragma once

#include "service/bus.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace vfioap {

/// What a call needs.
enum class Permission : std::uint8_t {
    inspect,  ///< org.vfioap1.inspect, or manage
    manage,   ///< org.vfioap1.manage
    owner,    ///< to be the client that opened the object
    nobody,   ///< not in the table
};

/// Of `Interface.Member`, as the introspection files name it.
Permission permission_of(std::string_view member);

struct Caller {
    std::string name;  ///< unique name on the bus
    bool interactive = false;
};

/// Asks polkit (org.freedesktop.PolicyKit1.Authority.CheckAuthorization) without waiting for the answer.
class Gate {
  public:
    /// `ask`: false on a session bus, where the only user is the service's own.
    Gate(sdbus::IConnection& connection, bool ask);

    using Answer = std::function<void(const sdbus::Error* refused)>;
    /// Calls `answer` once, now or later, with null for yes.
    void check(const Caller& caller, Permission permission, const std::string& owner, Answer answer);

  private:
    void ask(const Caller& caller, Permission permission, Answer answer);

    sdbus::IConnection& connection_;
    bool ask_;
    std::unique_ptr<sdbus::IProxy> authority_;
};

}  // namespace vfioap
