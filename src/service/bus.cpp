// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/bus.h"

#include <systemd/sd-bus.h>

namespace vfioap::bus {
namespace {

/// Lets a member of Message out that is protected.
struct Opened : sdbus::Message {
    static sd_bus_message* raw(const sdbus::Message& message) {
        return static_cast<sd_bus_message*>(message.*(&Opened::msg_));
    }
};

}  // namespace

void emit_changed(sdbus::IObject& object, const std::string& interface,
                  const std::vector<std::string>& properties) {
#if VFIOAP_SDBUS >= 2
    std::vector<sdbus::PropertyName> names;
    for (const auto& property : properties)
        names.emplace_back(property);
    object.emitPropertiesChangedSignal(InterfaceName{interface}, names);
#else
    object.emitPropertiesChangedSignal(interface, properties);
#endif
}

bool allows_interaction(const sdbus::Message& message) {
    return sd_bus_message_get_allow_interactive_authorization(Opened::raw(message)) > 0;
}

}  // namespace vfioap::bus
