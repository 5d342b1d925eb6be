// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plan/render.h"

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

Json uuid_json(const std::optional<Uuid>& uuid) {
    return uuid ? Json(uuid->to_string()) : Json(nullptr);
}

Json host_json(const ReportHost& host) {
    return Json{{"name", host.name}, {"location", host.location}};
}

Json step_json(const PlanStep& step) {
    Json writes = Json::array();
    for (const auto& write : step.writes)
        writes.push_back({{"path", write.path}, {"value", write.value}});
    return Json{{"step", to_text(step.kind)},
                {"host", to_text(step.host)},
                {"rule", rule(step.rule).name},
                {"text", step.what},
                {"reason", step.why},
                {"mdev", uuid_json(step.mdev)},
                {"queues", queues_json(step.queues)},
                {"also_taken", queues_json(step.also_taken)},
                {"writes", std::move(writes)},
                {"commands", commands_of(step)},
                {"persistent", !step.persistent.empty()},
                {"persistent_commands", step.persistent}};
}

Json obstacle_json(const PlanObstacle& obstacle) {
    Json domains = Json::array();
    for (const auto domain : obstacle.control_domains)
        domains.push_back(domain_text(domain));
    return Json{{"rule", rule(obstacle.rule).name},
                {"host", to_text(obstacle.host)},
                {"queues", queues_json(obstacle.queues)},
                {"control_domains", std::move(domains)},
                {"owner", uuid_json(obstacle.owner)},
                {"text", obstacle.message},
                {"todo", obstacle.todo}};
}

}  // namespace

std::string render_plan_json(const Plan& plan) {
    Json steps = Json::array();
    for (const auto& step : plan.steps)
        steps.push_back(step_json(step));
    Json obstacles = Json::array();
    for (const auto& obstacle : plan.obstacles)
        obstacles.push_back(obstacle_json(obstacle));
    const auto& report = plan.report;
    const Json document{{"schema", plan_schema},
                        {"state", to_text(plan.state)},
                        {"mode", to_text(report.mode)},
                        {"profile", report.profile ? Json(to_text(*report.profile)) : Json(nullptr)},
                        {"mechanism", plan.mechanism == Reservation::masks ? "masks" : "driver_override"},
                        {"guest",
                         {{"name", report.guest.name},
                          {"uuid", uuid_json(report.guest.uuid)},
                          {"mdev", uuid_json(report.guest.mdev)}}},
                        {"source", host_json(report.source)},
                        {"destination", host_json(report.destination)},
                        {"steps", std::move(steps)},
                        {"remaining", std::move(obstacles)},
                        {"warnings", report.count(Severity::warning)}};
    return document.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace vfioap
