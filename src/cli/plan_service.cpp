// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cli/plan_service.h"

#include "ap/error.h"
#include "cli/program.h"
#include "host/snapshot.h"
#include "plan/apply.h"
#include "text/safe.h"

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using Json = nlohmann::ordered_json;

ServiceClient open_service(const HostLocation& location) {
    switch (location.kind) {
        case HostLocation::Kind::remote:
            return ServiceClient{ServiceClient::Remote{location.value}};
        case HostLocation::Kind::sysfs: {
            auto client = ServiceClient::local(true);
            std::error_code error;
            if (const auto root = client.sysfs_root();
                !std::filesystem::equivalent(root, location.value, error))
                throw InputError{location.value,
                                 fmt::format("the service of this host serves {}", safe(root))};
            return client;
        }
        case HostLocation::Kind::snapshot:
            break;
    }
    throw InputError{location.value, "a snapshot cannot be changed; expected a host with a service"};
}

std::string escaped(const std::string& text) {
    std::string result;
    for (const char c : text) {
        switch (c) {
            case '&':
                result += "&amp;";
                break;
            case '<':
                result += "&lt;";
                break;
            default:
                result += c;
        }
    }
    return result;
}

/// A domain's other devices, disks and passwords are nobody's business there.
std::string domain_xml_of(const Guest& guest) {
    auto xml = fmt::format("<domain><name>{}</name>", escaped(guest.name));
    if (guest.uuid) xml += fmt::format("<uuid>{}</uuid>", guest.uuid->to_string());
    if (guest.secure_execution) xml += "<launchSecurity type='s390-pv'/>";
    xml += "<devices>";
    for (const auto& mdev : guest.mdevs) {
        xml += fmt::format(
            "<hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address "
            "uuid='{}'/></source></hostdev>",
            mdev.to_string());
    }
    return xml + "</devices></domain>";
}

/// Of a whole host no more than the guest has.
std::string snapshot_for(const Uuid& uuid, const Host& source) {
    auto inventory = *source.read_for(uuid, {});
    const auto* const mdev = inventory.find_mdev(uuid);
    std::erase_if(inventory.queues,
                  [&](const Queue& queue) { return mdev == nullptr || !mdev->assigned(queue.apqn); });
    std::ostringstream text;
    write_snapshot(text, inventory, {});
    return std::move(text).str();
}

std::string member(const Json& json, const char* name, const std::string& origin) {
    const auto found = json.find(name);
    if (found == json.end()) throw InputError{origin, fmt::format("$.{}: expected a string", name)};
    if (found->is_null()) return {};
    if (!found->is_string()) throw InputError{origin, fmt::format("$.{}: expected a string", name)};
    return safe(found->get<std::string>());
}

std::vector<ServiceReport::Item> items(const Json& json, const char* name, const std::string& origin) {
    const auto found = json.find(name);
    if (found == json.end() || !found->is_array())
        throw InputError{origin, fmt::format("$.{}: expected an array", name)};
    std::vector<ServiceReport::Item> result;
    for (const auto& each : *found) {
        if (!each.is_object()) throw InputError{origin, fmt::format("$.{}: expected objects", name)};
        auto& item = result.emplace_back();
        item.text = member(each, "text", origin);
        const auto commands = each.find("commands");
        if (commands == each.end() || !commands->is_array()) continue;
        for (const auto& command : *commands) {
            if (command.is_string()) item.commands.push_back(safe(command.get<std::string>()));
        }
    }
    return result;
}

}  // namespace

ServiceReport parse_service_report(const std::string& text, const std::string& origin) {
    const auto json = Json::parse(text, nullptr, false);
    if (!json.is_object() || member(json, "schema", origin) != apply_schema)
        throw InputError{origin, fmt::format("expected a document {}", apply_schema)};
    ServiceReport report;
    report.json = json.dump(2, ' ', true, Json::error_handler_t::replace) + '\n';
    report.action = member(json, "action", origin);
    report.state = member(json, "state", origin);
    report.reason = member(json, "reason", origin);
    report.guest = member(json, "guest", origin);
    report.host = member(json, "host", origin);
    report.plan = member(json, "plan", origin);
    report.steps = items(json, "steps", origin);
    report.undone = items(json, "undone", origin);
    report.failed = items(json, "failed", origin);
    report.left = items(json, "left", origin);
    report.remaining = items(json, "remaining", origin);
    return report;
}

std::string render_service_report(const ServiceReport& report) {
    std::string text;
    const auto list = [&](std::string_view label, const std::vector<ServiceReport::Item>& all) {
        for (const auto& item : all) {
            text += fmt::format("  {:<8} {}\n", label, item.text);
            for (const auto& command : item.commands)
                text += fmt::format("             {}\n", command);
        }
    };
    const auto because = report.reason.empty() ? std::string{} : ": " + report.reason;
    if (report.state == "done" && report.steps.empty()) {
        text = fmt::format("NOTHING TO DO: {} has all that {} needs\n", report.host, report.guest);
    } else if (report.state == "done") {
        text = fmt::format("DONE: {} can come to {}\n", report.guest, report.host);
        list("done", report.steps);
    } else if (report.state == "undone" && report.action == "undo") {
        text = fmt::format("TAKEN BACK: what was made at {} for {}\n", report.host, report.guest);
    } else if (report.state == "undone") {
        text = fmt::format("NOT DONE: {} is as before{}\n", report.host, because);
    } else if (report.state == "refused") {
        text = fmt::format("REFUSED: nothing was changed{}\n", because);
    } else {
        text = fmt::format("NEEDS YOU: {} is not as before{}\n", report.host, because);
    }
    if (report.state != "done") list("undone", report.undone);
    list("failed", report.failed);
    list("left", report.left);
    list("do", report.remaining);
    return text;
}

int exit_code(const ServiceReport& report) {
    if (report.state == "done" || (report.state == "undone" && report.action == "undo"))
        return exit_compatible;
    if (report.state == "undone") return exit_incompatible;
    if (report.state == "refused" && report.plan != "undetermined") return exit_incompatible;
    return exit_undetermined;
}

int show_service_report(const ServiceReport& report, const std::string& format) {
    write_output(format == "json" ? report.json : render_service_report(report));
    return exit_code(report);
}

ServiceClient::TellPlan plan_progress() {
    if (::isatty(STDERR_FILENO) != 1) return [](const ServicePlan&) { return true; };
    return [last = ServicePlan{}](const ServicePlan& plan) mutable {
        if (!(std::exchange(last, plan) == plan)) {
            const auto count = plan.total == 0 ? std::string{} : fmt::format("{}/{} ", plan.done, plan.total);
            fmt::print(stderr, "  {}{}\n", count, plan.step);
        }
        return true;
    };
}

PlanService::PlanService(const HostLocation& location)
    : name_{location.kind == HostLocation::Kind::remote ? location.value : "the service of this host"},
      client_{open_service(location)} {}

ServiceReport PlanService::apply(const Guest& guest, const Host& source, const PlanOptions& options,
                                 const ServiceClient::TellPlan& tell) {
    const std::map<std::string, std::string> words{{"mode", std::string{to_text(options.check.mode)}},
                                                   {"profile", std::string{to_text(options.check.profile)}}};
    return parse_service_report(
        client_.apply_plan(domain_xml_of(guest), snapshot_for(guest.mdevs.front(), source), words,
                           options.leave_unused, tell),
        name_);
}

ServiceReport PlanService::take_back(const std::string& guest, const ServiceClient::TellPlan& tell) {
    return parse_service_report(client_.undo_plan(guest, tell), name_);
}

}  // namespace vfioap
