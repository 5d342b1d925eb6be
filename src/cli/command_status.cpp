// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapctl status: the mdevs of a host, whose they are, what they give, and where their guests could go.
#include "ap/error.h"
#include "cli/commands.h"
#include "cli/host_location.h"
#include "cli/libvirt_guest.h"
#include "cli/program.h"
#include "cli/service_client.h"
#include "domain/domain_xml.h"
#include "host/guest_matrix.h"
#include "hosts/remote_host.h"
#include "text/columns.h"
#include "text/safe.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <sys/utsname.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using Json = nlohmann::ordered_json;

struct Row {
    explicit Row(Uuid name) : uuid{std::move(name)} {}
    Uuid uuid;
    std::string guest;           // empty: none known
    std::optional<bool> in_use;  // nothing where the kernel does not say
    std::vector<Apqn> queues;    // what a guest gets
    Mask control_domains;
    std::size_t assigned = 0;                     // queues in the matrix
    std::map<std::string, std::string> verdicts;  // by the location of the destination
};

/// What is shown: from the service, or read here.
struct Status {
    ReportHost host;
    std::vector<std::string> destinations;              // in the order of the columns
    std::map<std::string, std::string> names;           // of destinations, where they are not their locations
    std::map<std::string, DestinationState> reachable;  // what the service knows of them
    std::vector<Row> rows;
};

/// Domains that use an mdev, by libvirt; none where it cannot be asked: status is about the host first.
std::vector<DomainXml> all_domains(const std::string& uri, std::string& problem) {
    std::vector<DomainXml> domains;
    try {
        for (const auto& xml : all_domain_xml_from_libvirt(uri))
            domains.push_back(parse_domain_xml(xml, uri));
    } catch (const Error& error) {
        problem = error.what();
    }
    return domains;
}

std::string_view state_text(const Row& row) {
    if (!row.in_use) return "-";
    return *row.in_use ? "in use" : "free";
}

/// `12 s`, `5 min`, `3 h`, `2 d`.
std::string age_text(std::int64_t seconds) {
    seconds = std::max<std::int64_t>(seconds, 0);
    constexpr std::int64_t minute = 60;
    constexpr std::int64_t hour = 60 * minute;
    constexpr std::int64_t day = 24 * hour;
    if (seconds < 2 * minute) return fmt::format("{} s", seconds);
    if (seconds < 2 * hour) return fmt::format("{} min", seconds / minute);
    if (seconds < 2 * day) return fmt::format("{} h", seconds / hour);
    return fmt::format("{} d", seconds / day);
}

std::string status_text(const Status& status) {
    if (status.rows.empty()) return fmt::format("{} has no vfio-ap mdevs\n", safe(status.host.name));
    std::vector<std::vector<std::string>> table{{"MDEV", "GUEST", "STATE", "QUEUES", "CONTROL"}};
    for (const auto& destination : status.destinations) {
        const auto name = status.names.find(destination);
        table.front().push_back("TO " + safe(name != status.names.end()
                                                 ? name->second
                                                 : destination.substr(destination.find_last_of('/') + 1)));
    }
    for (const auto& row : status.rows) {
        // Fewer than assigned: the kernel filters the rest.
        auto queues = std::to_string(row.queues.size());
        if (row.queues.size() != row.assigned) queues += fmt::format(" of {}", row.assigned);
        table.push_back({row.uuid.to_string(), row.guest.empty() ? "-" : safe(row.guest),
                         std::string{state_text(row)}, queues, std::to_string(row.control_domains.count())});
        for (const auto& destination : status.destinations) {
            const auto verdict = row.verdicts.find(destination);
            table.back().push_back(verdict == row.verdicts.end() ? "-" : safe(verdict->second));
        }
    }
    std::vector<std::size_t> widths(table.front().size());
    for (const auto& line : table) {
        for (std::size_t i = 0; i < line.size(); ++i)
            widths[i] = std::max(widths[i], columns(line[i]));
    }
    std::string text;
    for (const auto& line : table) {
        std::string row;
        for (std::size_t i = 0; i < line.size(); ++i)
            row += padded(line[i], widths[i]) + "  ";
        row.erase(row.find_last_not_of(' ') + 1);
        text += row + '\n';
    }
    const auto now = static_cast<std::int64_t>(std::time(nullptr));
    // The reason names it.
    for (const auto& [location, known] : status.reachable) {
        if (known.state == "reachable") continue;
        text += fmt::format("unreachable for {}: {}\n", age_text(now - known.since), safe(known.reason));
    }
    return text;
}

std::string status_json(const Status& status) {
    Json mdevs = Json::array();
    for (const auto& row : status.rows) {
        Json queues = Json::array();
        for (const auto apqn : row.queues)
            queues.push_back(apqn.to_string());
        Json control_domains = Json::array();
        for (const auto domain : row.control_domains.bits())
            control_domains.push_back(domain_text(domain));
        mdevs.push_back({{"uuid", row.uuid.to_string()},
                         {"guest", row.guest.empty() ? Json(nullptr) : Json(row.guest)},
                         {"in_use", row.in_use ? Json(*row.in_use) : Json(nullptr)},
                         {"queues", std::move(queues)},
                         {"assigned_queues", row.assigned},
                         {"control_domains", std::move(control_domains)},
                         {"verdicts", row.verdicts}});
    }
    Json document{{"schema", "vfioap-status/1"},
                  {"host", {{"name", status.host.name}, {"location", status.host.location}}}};
    if (!status.reachable.empty()) {
        Json& destinations = document["destinations"] = Json::object();
        for (const auto& [location, known] : status.reachable)
            destinations[location] = {
                {"state", known.state}, {"since", known.since}, {"reason", known.reason}};
    }
    document["mdevs"] = std::move(mdevs);
    return document.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

/// Verdicts of all known destinations are ready there.
Status ask(ServiceClient& service, ReportHost host) {
    Status status{std::move(host), {}, {}, {}, {}};
    for (auto& mdev : service.mdevs()) {
        auto& row = status.rows.emplace_back(std::move(mdev.uuid));
        row.guest = std::move(mdev.guest);
        row.in_use = mdev.in_use;
        row.queues = std::move(mdev.queues);
        row.control_domains = mdev.control_domains;
        row.assigned = mdev.assigned;
        row.verdicts = std::move(mdev.verdicts);
        for (const auto& [destination, verdict] : row.verdicts) {
            if (std::find(status.destinations.begin(), status.destinations.end(), destination) ==
                status.destinations.end())
                status.destinations.push_back(destination);
        }
    }
    if (!status.destinations.empty()) status.reachable = service.destinations();
    return status;
}

Status read(const CommonOptions& common, const std::string& root, const std::vector<DomainXml>& domains) {
    const Host host{parse_host_location(common.source, root)};
    Status status{host.identity(), {}, {}, {}, {}};
    std::optional<Host> destination;
    if (!common.destination.empty()) {
        destination.emplace(parse_host_location(common.destination, root));
        const auto to = destination->identity();
        status.destinations.push_back(to.location);
        status.names[to.location] = to.name;
    }
    for (const auto& uuid : host.mdevs()) {
        const auto inventory = host.read_for(uuid, {});
        const auto* const mdev = inventory->find_mdev(uuid);
        if (mdev == nullptr) continue;  // removed since it was listed
        Row& row = status.rows.emplace_back(uuid);
        auto matrix = guest_matrix_of(*inventory, *mdev);
        row.queues = std::move(matrix.queues);
        row.control_domains = matrix.control_domains;
        row.assigned = std::size_t{mdev->adapters.count()} * mdev->domains.count();
        row.in_use = is_in_use(*inventory, *mdev);
        Guest guest{"-", {}, {uuid}};
        for (const auto& domain : domains) {
            const auto uses = [&](const VfioApHostdev& hostdev) { return hostdev.mdev == uuid; };
            if (!std::any_of(domain.vfio_ap.begin(), domain.vfio_ap.end(), uses)) continue;
            row.guest += (row.guest.empty() ? "" : ",") + domain.name;
            guest.secure_execution = domain.secure_execution;
        }
        if (destination) {
            row.verdicts[destination->identity().location] =
                to_text(check_between(guest, host, *destination,
                                      {Mode::automatic, parse_profile(common.profile).value(), false})
                            .verdict);
        }
    }
    return status;
}

/// What `vfioapctl status` asks the service for, and what it reads itself.
struct Asked {
    bool service = false;  ///< of this host, if it runs
    bool libvirt = false;
};

int show_status(const CommonOptions& common, const Asked& asked) {
    const auto root = local_sysfs_root(common.sysfs_root);
    const auto show = [&](const Status& status) {
        write_output(common.format == "json" ? status_json(status) : status_text(status));
    };
    if (asked.service) {
        try {
            auto service = ServiceClient::local();
            utsname names{};
            show(ask(service, {::uname(&names) == 0 ? names.nodename : "localhost", "local"}));
            return 0;
        } catch (const ServiceNotRunning&) {
            // It need not.
        } catch (const Error& error) {
            warn("vfioapctl", error.what());
        }
    }
    if (common.destination.empty() && common.source != "local") {
        const auto location = parse_host_location(common.source, root);
        if (location.kind == HostLocation::Kind::remote) {
            ServiceClient service{{location.value}};
            const auto host = RemoteHost::parse(location.value).value();
            show(ask(service, {host.name, "host:" + location.value}));
            return 0;
        }
    }
    std::string problem;
    const auto domains = asked.libvirt ? all_domains(common.uri, problem) : std::vector<DomainXml>{};
    show(read(common, root, domains));
    if (!problem.empty()) warn("vfioapctl", "guests are not known: " + problem);
    return 0;
}

}  // namespace

void add_status(CLI::App& app, const CommonOptions& common, Command& chosen) {
    auto* const command = app.add_subcommand(
        "status", "List vfio-ap mdevs, their guests and queues, and with -d where they could go");
    set_usage(*command, "vfioapctl status [-s HOST] [-d HOST]");
    command->callback([&chosen, &common, &app] {
        // The guests of another host are not the local libvirt's, unless it was named. Who names a libvirt,
        // or a root, wants to know of that one.
        const char* const variable = ::secure_getenv("SYSFS_ROOT");
        const bool this_host = common.source == "local" && app.count("--sysfs-root") == 0;
        Asked asked;
        asked.libvirt = app.count("--connect") > 0 || this_host;
        asked.service = this_host && (variable == nullptr || *variable == '\0') &&
                        app.count("--connect") == 0 && common.destination.empty() && common.profile == "auto";
        chosen = [&common, asked] { return show_status(common, asked); };
    });
}

}  // namespace vfioap
