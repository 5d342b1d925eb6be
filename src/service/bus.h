// SPDX-License-Identifier: LGPL-2.1-or-later
// The only place that knows which sdbus-c++ this is: 1.2 takes plain strings where 2.x has types for names.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sdbus-c++/sdbus-c++.h>

namespace vfioap::bus {

inline constexpr const char* service_name = "org.vfioap1";
inline constexpr const char* root_path = "/org/vfioap1";
/// Prefix of all error names.
inline constexpr const char* error_prefix = "org.vfioap1.Error.";

#if VFIOAP_SDBUS >= 2
using ErrorName = sdbus::Error::Name;
using InterfaceName = sdbus::InterfaceName;
using MemberName = sdbus::MethodName;
using ServiceName = sdbus::ServiceName;
using ObjectPath = sdbus::ObjectPath;
#else
using ErrorName = std::string;
using InterfaceName = std::string;
using MemberName = std::string;
using ServiceName = std::string;
using ObjectPath = std::string;
#endif

/// What the callback of an asynchronous call is given for an error: something that is false without one, and
/// has getMessage() with one.
#if VFIOAP_SDBUS >= 2
using ReplyError = std::optional<sdbus::Error>;
#else
using ReplyError = const sdbus::Error*;
#endif

/// An error reply.
inline sdbus::Error error(const std::string& name, const std::string& message) {
    return sdbus::Error{ErrorName{name}, message};
}

inline std::unique_ptr<sdbus::IConnection> open_system_bus() {
    return sdbus::createSystemBusConnection();
}
inline std::unique_ptr<sdbus::IConnection> open_session_bus() {
    return sdbus::createSessionBusConnection();
}
inline void request_name(sdbus::IConnection& connection) {
    connection.requestName(ServiceName{service_name});
}
inline std::unique_ptr<sdbus::IProxy> proxy(sdbus::IConnection& connection, const std::string& service,
                                            const std::string& path) {
    return sdbus::createProxy(connection, ServiceName{service}, ObjectPath{path});
}

/// PropertiesChanged with the new values.
void emit_changed(sdbus::IObject& object, const std::string& interface,
                  const std::vector<std::string>& properties);

/// Who sent the message that `object` is handling, and whether he may be asked for a password (flag
/// ALLOW_INTERACTIVE_AUTHORIZATION of the D-Bus specification, which sdbus-c++ hides). No name: there is
/// none.
struct Sender {
    std::string name;
    bool allows_interaction = false;
};
Sender sender_of(const sdbus::IObject& object);

/// Has `handler` called for all messages that fit, as long as the connection lives.
void add_match(sdbus::IConnection& connection, const std::string& rule,
               std::function<void(sdbus::Message&)> handler);

/// Handles one message that waits; false: none does.
bool process_one(sdbus::IConnection& connection);

}  // namespace vfioap::bus
