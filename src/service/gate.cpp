// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/gate.h"

#include <array>
#include <tuple>
#include <utility>

namespace vfioap {
namespace {

struct Row {
    std::string_view member;
    Permission permission;
};

constexpr std::array<Row, 15> table{{
    {"org.vfioap1.Manager.GetInventory", Permission::inspect},
    {"org.vfioap1.Manager.CheckXml", Permission::inspect},
    {"org.vfioap1.Manager.CheckGuest", Permission::inspect},
    {"org.vfioap1.Manager.OpenMigration", Permission::manage},
    {"org.vfioap1.Manager.ApplyPlan", Permission::manage},
    {"org.vfioap1.Manager.UndoPlan", Permission::manage},
    {"org.vfioap1.Manager.HookCalled", Permission::manage},
    {"org.vfioap1.Migration.SetState", Permission::owner},
    {"org.vfioap1.Migration.TakeStream", Permission::owner},
    {"org.vfioap1.Migration.GetReport", Permission::owner},
    {"org.vfioap1.Migration.Reset", Permission::owner},
    {"org.vfioap1.Migration.Close", Permission::owner},
    {"org.vfioap1.Plan.Cancel", Permission::owner},
    {"org.vfioap1.Plan.GetReport", Permission::owner},
    {"org.vfioap1.Plan.Close", Permission::owner},
}};

sdbus::Error access_denied(const std::string& why) {
    return bus::error(std::string{bus::error_prefix} + "NotAuthorized", why);
}

}  // namespace

Permission permission_of(std::string_view member) {
    for (const auto& row : table) {
        if (row.member == member) return row.permission;
    }
    return Permission::nobody;
}

Gate::Gate(sdbus::IConnection& connection, bool ask) : connection_{connection}, ask_{ask} {}

void Gate::check(const Caller& caller, Permission permission, const std::string& owner, Answer answer) {
    if (permission == Permission::nobody) {
        const auto refused = access_denied("nobody may call this");
        answer(&refused);
    } else if (permission == Permission::owner) {
        const auto refused = access_denied("only the client that opened it may call this");
        answer(caller.name == owner ? nullptr : &refused);
    } else if (!ask_) {
        answer(nullptr);
    } else {
        ask(caller, permission, std::move(answer));
    }
}

void Gate::ask(const Caller& caller, Permission permission, Answer answer) {
    if (!authority_)
        authority_ =
            bus::proxy(connection_, "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority");
    using Subject = sdbus::Struct<std::string, std::map<std::string, sdbus::Variant>>;
    using PolkitAnswer = sdbus::Struct<bool, bool, std::map<std::string, std::string>>;
    const Subject subject{"system-bus-name", {{"name", sdbus::Variant{caller.name}}}};
    const bool manage = permission == Permission::manage;
    constexpr std::uint32_t allow_interaction = 1;
    // A password takes a person a while.
    constexpr std::uint64_t patience = std::uint64_t{5} * 60 * 1000 * 1000;
    authority_->callMethodAsync("CheckAuthorization")
        .onInterface("org.freedesktop.PolicyKit1.Authority")
        .withTimeout(patience)
        .withArguments(subject, std::string{manage ? "org.vfioap1.manage" : "org.vfioap1.inspect"},
                       std::map<std::string, std::string>{}, caller.interactive ? allow_interaction : 0U,
                       std::string{})
        .uponReplyInvoke([this, caller, manage, answer = std::move(answer)](bus::ReplyError error,
                                                                            const PolkitAnswer& polkit) {
            if (error) {
                const auto refused = access_denied("polkit did not answer: " + error->getMessage());
                answer(&refused);
            } else if (std::get<0>(polkit)) {
                answer(nullptr);
            } else if (!manage) {
                // manage implies inspect, but nobody is asked for a password for it.
                ask({caller.name, false}, Permission::manage, answer);
            } else {
                const auto refused = access_denied(std::get<1>(polkit) ? "authentication is needed"
                                                                       : "polkit refused org.vfioap1.manage");
                answer(&refused);
            }
        });
}

}  // namespace vfioap
