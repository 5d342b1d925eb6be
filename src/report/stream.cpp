// SPDX-License-Identifier: LGPL-2.1-or-later
#include "report/stream.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using Json = nlohmann::ordered_json;

/// More of them help nobody; their number is told.
constexpr std::size_t told_anomalies = 100;

std::vector<std::string_view> facilities_of(Hwinfo hwinfo) {
    std::vector<std::string_view> words;
    if (hwinfo.apsc()) words.emplace_back("APSC");
    if (hwinfo.mex4k()) words.emplace_back("AP4KM");
    if (hwinfo.crt4k()) words.emplace_back("AP4KC");
    if (hwinfo.apxa()) words.emplace_back("APXA");
    if (hwinfo.slcf()) words.emplace_back("SLCF");
    return words;
}

std::string tapq_text(Hwinfo hwinfo) {
    return fmt::format("0x{:016x}", hwinfo.value());
}

std::string bs_text(Hwinfo hwinfo) {
    return fmt::format("{:02b}", hwinfo.bs());
}

std::vector<std::string> domains_of_mask(const Mask& mask) {
    std::vector<std::string> words;
    for (const auto domain : mask.bits())
        words.push_back(domain_text(domain));
    return words;
}

Json remark_json(const StreamRemark& remark) {
    return Json{{"offset", remark.offset},
                {"field", remark.field},
                {"found", remark.found},
                {"expected", remark.expected}};
}

Json queue_json(std::size_t offset, const StreamQueue& queue) {
    const auto hwinfo = queue.hwinfo;
    return Json{{"offset", offset},
                {"apqn", queue.apqn.to_string()},
                {"tapq", tapq_text(hwinfo)},
                {"card", model_text(hwinfo)},
                {"type", hwinfo.at()},
                {"mode", mode_text(hwinfo.mode())},
                {"class", class_text(hwinfo.klass())},
                {"facilities", facilities_of(hwinfo)},
                {"bs", bs_text(hwinfo)}};
}

}  // namespace

std::string render_stream_text(const StreamReader& stream) {
    std::string text;
    const auto out = std::back_inserter(text);
    const auto line = [&](std::string_view label, std::string_view words) {
        fmt::format_to(out, "{:<17}{}\n", label, words);
    };
    const auto count = stream.queue_count();
    line("layout", fmt::format("{} ({})", to_text(stream.layout()), to_text(stream.confidence())));
    line("bytes", std::to_string(stream.size()));
    line("queues", stream.num_queues() == count
                       ? std::to_string(count)
                       : fmt::format("{} of {}", count,
                                     stream.num_queues() ? std::to_string(*stream.num_queues()) : "unknown"));
    if (!control_domains_offset(stream.layout())) {
        line("control domains", "not in this layout");
    } else if (const auto mask = stream.control_domains()) {
        line("control domains",
             mask->none() ? "none" : fmt::format("{}", fmt::join(domains_of_mask(*mask), " ")));
    } else {
        line("control domains", "unknown");
    }
    const auto anomalies = stream.anomalies(told_anomalies);
    line("anomalies", anomalies.total == 0 ? "none" : std::to_string(anomalies.total));
    for (const auto& anomaly : anomalies.first)
        fmt::format_to(out, "  {}\n", to_text(anomaly));
    if (anomalies.total > anomalies.first.size())
        fmt::format_to(out, "  … and {} more\n", anomalies.total - anomalies.first.size());
    if (count == 0) return text;

    const auto row = [&](std::string_view offset, std::string_view queue, std::string_view tapq,
                         std::string_view card, std::string_view bs, std::string_view mode,
                         std::string_view klass, std::string_view facilities) {
        fmt::format_to(out, "{:<8}  {:<7}  {:<18}  {:<7}  {:<2}  {:<16}  {:<14}  {}\n", offset, queue, tapq,
                       card, bs, mode, klass, facilities);
    };
    text += '\n';
    row("OFFSET", "QUEUE", "TAPQ", "CARD", "BS", "MODE", "CLASS", "FACILITIES");
    for (std::size_t i = 0; i < count; ++i) {
        const auto queue = stream.queue(i);
        const auto facilities = facilities_of(queue.hwinfo);
        row(fmt::format("0x{:06x}", stream.queue_offset(i)), queue.apqn.to_string(), tapq_text(queue.hwinfo),
            model_text(queue.hwinfo), bs_text(queue.hwinfo), mode_text(queue.hwinfo.mode()),
            class_text(queue.hwinfo.klass()),
            facilities.empty() ? "-" : fmt::format("{}", fmt::join(facilities, " ")));
    }
    return text;
}

std::string render_stream_json(const StreamReader& stream) {
    const auto anomalies = stream.anomalies(told_anomalies);
    Json remarks = Json::array();
    for (const auto& anomaly : anomalies.first)
        remarks.push_back(remark_json(anomaly));
    const auto mask = stream.control_domains();
    Json head;
    head["schema"] = stream_schema;
    head["layout"] = to_text(stream.layout());
    head["confidence"] = to_text(stream.confidence());
    head["size"] = stream.size();
    head["num_queues"] = stream.num_queues() ? Json(*stream.num_queues()) : Json(nullptr);
    head["control_domains"] = mask ? Json(domains_of_mask(*mask)) : Json(nullptr);
    head["anomalies"] = std::move(remarks);
    head["anomaly_count"] = anomalies.total;
    head["error"] = stream.fault() ? remark_json(*stream.fault()) : Json(nullptr);
    // A document of 65,536 queues in memory would take a hundred times the stream: a line for each instead.
    auto text = head.dump(2);
    text.resize(text.size() - 2);
    text += ",\n  \"queues\": [";
    for (std::size_t i = 0; i < stream.queue_count(); ++i) {
        text += i == 0 ? "\n    " : ",\n    ";
        text += queue_json(stream.queue_offset(i), stream.queue(i)).dump();
    }
    text += stream.queue_count() == 0 ? "]\n}\n" : "\n  ]\n}\n";
    return text;
}

}  // namespace vfioap
