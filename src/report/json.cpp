// SPDX-License-Identifier: LGPL-2.1-or-later
#include "report/json.h"

#include "ap/error.h"

#include <optional>

#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using Json = nlohmann::ordered_json;

Json queues_json(const std::vector<Apqn>& queues) {
    Json array = Json::array();
    for (const auto apqn : queues)
        array.push_back(apqn.to_string());
    return array;
}

Json domains_json(const std::vector<std::uint8_t>& domains) {
    Json array = Json::array();
    for (const auto domain : domains)
        array.push_back(domain_text(domain));
    return array;
}

Json text_or_null(const std::string& text) {
    return text.empty() ? Json(nullptr) : Json(text);
}

Json uuid_or_null(const std::optional<Uuid>& uuid) {
    return uuid ? Json(uuid->to_string()) : Json(nullptr);
}

Json host_json(const ReportHost& host) {
    return Json{{"name", host.name}, {"location", host.location}};
}

Json finding_json(const Finding& finding) {
    Json remedies = Json::array();
    for (const auto& remedy : finding.remedies) {
        remedies.push_back(
            {{"host", to_text(remedy.host)}, {"text", remedy.text}, {"commands", remedy.commands}});
    }
    return Json{{"rule", rule(finding.rule).name},
                {"severity", to_text(finding.severity)},
                {"host", to_text(finding.host)},
                {"queues", queues_json(finding.queues)},
                {"control_domains", domains_json(finding.control_domains)},
                {"source", text_or_null(finding.source)},
                {"destination", text_or_null(finding.destination)},
                {"message", finding.message},
                {"kernel_messages", kernel_messages(finding)},
                {"remedies", std::move(remedies)}};
}

}  // namespace

std::string render_json(const Report& report) {
    Json findings = Json::array();
    for (const auto& finding : report.findings)
        findings.push_back(finding_json(finding));
    Json prediction;
    prediction["errno"] =
        report.prediction.error ? Json(errno_name(*report.prediction.error)) : Json(nullptr);
    prediction["virsh"] = report.prediction.virsh ? Json(*report.prediction.virsh) : Json(nullptr);
    prediction["kernel_messages"] = predicted_kernel_log(report);
    Json document;
    document["schema"] = report_schema;
    document["verdict"] = to_text(report.verdict);
    document["mode"] = to_text(report.mode);
    document["mode_reason"] = text_or_null(report.mode_reason);
    document["profile"] = report.profile ? Json(to_text(*report.profile)) : Json(nullptr);
    document["guest"] = {{"name", report.guest.name},
                         {"uuid", uuid_or_null(report.guest.uuid)},
                         {"mdev", uuid_or_null(report.guest.mdev)}};
    document["source"] = host_json(report.source);
    document["destination"] = host_json(report.destination);
    document["configuration"] = {{"queues", queues_json(report.queues)},
                                 {"control_domains", domains_json(report.control_domains.bits())}};
    document["findings"] = std::move(findings);
    document["prediction"] = std::move(prediction);
    // What came from outside need not be UTF-8; the document is.
    return document.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace vfioap
