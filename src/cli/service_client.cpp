// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cli/remote_host.h"

#include "ap/error.h"
#include "host/snapshot.h"

#include <cerrno>
#include <cstring>
#include <memory>
#include <sstream>

#include <fmt/format.h>

#include <systemd/sd-bus.h>

namespace vfioap {
namespace {

/// A host of 65,536 queues takes a moment to say so.
constexpr std::uint64_t patience = std::uint64_t{60} * 1000 * 1000;

struct Unref {
    void operator()(sd_bus* bus) const { sd_bus_flush_close_unref(bus); }
    void operator()(sd_bus_message* message) const { sd_bus_message_unref(message); }
};

[[noreturn]] void unreachable(const std::string& host, std::string_view why) {
    throw UnreachableError{fmt::format(
        "{0}: its service cannot be asked: {1}; without it, take a snapshot: ssh {0} vfioapctl snapshot "
        "> {2}.json",
        host, why, host.substr(host.find('@') + 1))};
}

}  // namespace

Inventory remote_inventory(const std::string& host) {
    sd_bus* opened = nullptr;
    if (const int result = sd_bus_open_system_remote(&opened, host.c_str()); result < 0)
        unreachable(host, strerrordesc_np(-result));
    const std::unique_ptr<sd_bus, Unref> bus{opened};
    sd_bus_message* call = nullptr;
    if (const int result = sd_bus_message_new_method_call(bus.get(), &call, "org.vfioap1", "/org/vfioap1",
                                                          "org.vfioap1.Manager", "GetInventory");
        result < 0) {
        unreachable(host, strerrordesc_np(-result));
    }
    const std::unique_ptr<sd_bus_message, Unref> request{call};
    sd_bus_message* answered = nullptr;
    sd_bus_error error = SD_BUS_ERROR_NULL;
    const int result = sd_bus_call(bus.get(), request.get(), patience, &error, &answered);
    const std::unique_ptr<sd_bus_message, Unref> answer{answered};
    const std::unique_ptr<sd_bus_error, decltype(&sd_bus_error_free)> freed{&error, &sd_bus_error_free};
    if (result < 0) unreachable(host, error.message != nullptr ? error.message : strerrordesc_np(-result));
    const char* text = nullptr;
    if (sd_bus_message_read_basic(answer.get(), 's', static_cast<void*>(&text)) < 0)
        unreachable(host, "its answer is not what was expected");
    std::istringstream in{text};
    auto inventory = read_snapshot(in, host);
    inventory.location = "host:" + host;
    return inventory;
}

}  // namespace vfioap
