// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapctl status: the mdevs of a host, whose they are, what they give, and where their guests could go.
#include "ap/error.h"
#include "cli/commands.h"
#include "cli/host_location.h"
#include "cli/libvirt_guest.h"
#include "cli/program.h"
#include "domain/domain_xml.h"
#include "host/guest_matrix.h"
#include "report/text.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

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
    std::size_t assigned = 0;        // queues in the matrix
    std::optional<Verdict> verdict;  // for the destination that was asked for
};

/// Domains that use an mdev, by libvirt; none where it cannot be asked: status is about the host first.
std::vector<DomainXml> domains_of(const std::string& uri, std::string& problem) {
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

std::string text_of(const std::vector<Row>& rows, const ReportHost& host,
                    const std::optional<ReportHost>& destination) {
    if (rows.empty()) return fmt::format("{} has no vfio-ap mdevs\n", terminal_safe(host.name));
    std::vector<std::vector<std::string>> table{{"MDEV", "GUEST", "STATE", "QUEUES", "CONTROL"}};
    if (destination) table.front().push_back("TO " + terminal_safe(destination->name));
    for (const auto& row : rows) {
        // Fewer than assigned: the kernel filters the rest.
        auto queues = std::to_string(row.queues.size());
        if (row.queues.size() != row.assigned) queues += fmt::format(" of {}", row.assigned);
        table.push_back({row.uuid.to_string(), row.guest.empty() ? "-" : terminal_safe(row.guest),
                         std::string{state_text(row)}, queues, std::to_string(row.control_domains.count())});
        if (destination) table.back().emplace_back(row.verdict ? to_text(*row.verdict) : "-");
    }
    std::vector<std::size_t> widths(table.front().size());
    for (const auto& line : table) {
        for (std::size_t i = 0; i < line.size(); ++i)
            widths[i] = std::max(widths[i], line[i].size());
    }
    std::string text;
    for (const auto& line : table) {
        std::string row;
        for (std::size_t i = 0; i < line.size(); ++i)
            row += fmt::format("{:<{}}  ", line[i], widths[i]);
        row.erase(row.find_last_not_of(' ') + 1);
        text += row + '\n';
    }
    return text;
}

std::string json_of(const std::vector<Row>& rows, const ReportHost& host,
                    const std::optional<ReportHost>& destination) {
    Json mdevs = Json::array();
    for (const auto& row : rows) {
        Json queues = Json::array();
        for (const auto apqn : row.queues)
            queues.push_back(apqn.to_string());
        Json control_domains = Json::array();
        for (const auto domain : row.control_domains.bits())
            control_domains.push_back(domain_text(domain));
        Json verdicts = Json::object();
        if (destination && row.verdict) verdicts[destination->location] = to_text(*row.verdict);
        mdevs.push_back({{"uuid", row.uuid.to_string()},
                         {"guest", row.guest.empty() ? Json(nullptr) : Json(row.guest)},
                         {"in_use", row.in_use ? Json(*row.in_use) : Json(nullptr)},
                         {"queues", std::move(queues)},
                         {"assigned_queues", row.assigned},
                         {"control_domains", std::move(control_domains)},
                         {"verdicts", std::move(verdicts)}});
    }
    const Json document{{"schema", "vfioap-status/1"},
                        {"host", {{"name", host.name}, {"location", host.location}}},
                        {"mdevs", std::move(mdevs)}};
    return document.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

int show_status(const CommonOptions& common, bool ask_libvirt) {
    const auto root = local_sysfs_root(common.sysfs_root);
    const Host host{parse_host_location(common.source, root)};
    std::optional<Host> destination;
    if (!common.destination.empty()) destination.emplace(parse_host_location(common.destination, root));
    std::string problem;
    const auto domains = ask_libvirt ? domains_of(common.uri, problem) : std::vector<DomainXml>{};

    std::vector<Row> rows;
    for (const auto& uuid : host.mdevs()) {
        const auto inventory = host.read_for(uuid, {});
        const auto* const mdev = inventory->find_mdev(uuid);
        if (mdev == nullptr) continue;  // removed since it was listed
        Row& row = rows.emplace_back(uuid);
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
            row.verdict = check_between(guest, host, *destination,
                                        {Mode::automatic, parse_profile(common.profile).value(), false})
                              .verdict;
        }
    }
    std::optional<ReportHost> to;
    if (destination) to = destination->identity();
    write_output(common.format == "json" ? json_of(rows, host.identity(), to)
                                         : text_of(rows, host.identity(), to));
    if (!problem.empty()) warn("vfioapctl", "guests are not known: " + problem);
    return 0;
}

}  // namespace

void add_status(CLI::App& app, const CommonOptions& common, Command& chosen) {
    auto* const command = app.add_subcommand(
        "status", "List vfio-ap mdevs, their guests and queues, and with -d where they could go");
    set_usage(*command, "vfioapctl status [-s HOST] [-d HOST]");
    command->callback([&chosen, &common, &app] {
        // The guests of another host are not the local libvirt's, unless it was named.
        const bool ask =
            app.count("--connect") > 0 || (common.source == "local" && app.count("--sysfs-root") == 0);
        chosen = [&common, ask] { return show_status(common, ask); };
    });
}

}  // namespace vfioap
