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

Sender sender_of(const sdbus::IObject& object) {
    const auto describe = [](const sdbus::Message& message) {
        return Sender{message.getSender(),
                      sd_bus_message_get_allow_interactive_authorization(Opened::raw(message)) > 0};
    };
#if VFIOAP_SDBUS >= 2
    const auto message = object.getCurrentlyProcessedMessage();
    return message.isValid() ? describe(message) : Sender{};
#else
    const auto* const message = object.getCurrentlyProcessedMessage();
    return message != nullptr ? describe(*message) : Sender{};
#endif
}

void add_match(sdbus::IConnection& connection, const std::string& rule,
               std::function<void(sdbus::Message&)> handler) {
#if VFIOAP_SDBUS >= 2
    connection.addMatch(rule, [handler = std::move(handler)](sdbus::Message message) { handler(message); });
#else
    connection.addMatch(rule, std::move(handler), sdbus::floating_slot);
#endif
}

bool process_one(sdbus::IConnection& connection) {
#if VFIOAP_SDBUS >= 2
    return connection.processPendingEvent();
#else
    return connection.processPendingRequest();
#endif
}

}  // namespace vfioap::bus
