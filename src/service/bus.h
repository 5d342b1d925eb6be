// SPDX-License-Identifier: LGPL-2.1-or-later
// The only place that knows which sdbus-c++ this is: 1.2 takes plain strings where 2.x has types for names.
#pragma once

#include <cstdint>
#include <memory>
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

/// Of the message that is being handled: may the caller be asked for a password? (Flag
/// ALLOW_INTERACTIVE_AUTHORIZATION, D-Bus specification; sdbus-c++ hides it.)
bool allows_interaction(const sdbus::Message& message);

}  // namespace vfioap::bus
