// SPDX-License-Identifier: LGPL-2.1-or-later
#include "compat/unreadable.h"

#include "ap/error.h"
#include "compat/findings.h"
#include "compat/remedies.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include <fmt/format.h>

namespace vfioap {
namespace {

bool contains(const std::vector<Apqn>& sorted, Apqn apqn) {
    return std::binary_search(sorted.begin(), sorted.end(), apqn);
}

/// The queue that a path below devices/ap belongs to.
std::optional<Apqn> queue_of(std::string_view path) {
    constexpr std::string_view start = "devices/ap/cardXX/";
    if (!path.starts_with("devices/ap/card") || path.size() < start.size() + 7) return {};
    return Apqn::parse(path.substr(start.size(), 7));
}

/// The adapter that a path below devices/ap belongs to.
std::optional<std::uint8_t> card_of(std::string_view path) {
    constexpr std::string_view start = "devices/ap/card";
    if (!path.starts_with(start) || path.size() < start.size() + 2) return {};
    return parse_adapter(path.substr(start.size(), 2));
}

/// Other guests' queues and cards are none of this check's business.
bool concerns(const Needs& needs, const Unreadable& item) {
    if (const auto apqn = queue_of(item.path)) return contains(needs.queues, *apqn);
    const auto apid = card_of(item.path);
    return !apid || needs.adapters.test(*apid);
}

/// Whether a rule could not be asked without it.
bool needed(const Needs& needs, const Unreadable& item) {
    const std::string_view path = item.path;
    const auto leaf = path.substr(path.rfind('/') + 1);
    const auto among = [leaf](std::initializer_list<std::string_view> names) {
        return std::find(names.begin(), names.end(), leaf) != names.end();
    };
    if (const auto apqn = queue_of(path)) {
        // A queue that vanished is simply missing; what its keys are is asked by another rule.
        if (!contains(needs.queues, *apqn)) return false;
        if (leaf == "ap_functions" || leaf == "driver") return true;
        return needs.destination && needs.mode == Mode::detached && among({"config", "chkstop"});
    }
    if (const auto apid = card_of(path)) {
        if (!needs.adapters.test(*apid)) return false;
        return path.ends_with('/') || path.size() == 17 || among({"raw_hwtype", "ap_functions"});
    }
    if (path.starts_with("devices/vfio_ap/matrix") || path.starts_with("bus/mdev/devices")) {
        // Gone is gone: mdev.missing says so where it matters.
        if (item.error == ENOENT) return false;
        // ap_config only stands in for what else could not be had; config.truncated says so.
        if (among({"device_api", "mdev_type", "ap_config", "available_instances"})) return false;
        if (leaf == "features") return needs.mode == Mode::native;
        if (path.find(needs.mdev.to_string()) != std::string_view::npos) return needs.mdev_matters;
        return needs.destination;
    }
    if (leaf == "prot_virt_guest") return true;
    if (leaf == "ap_control_domain_mask") return true;
    return path == "bus/ap" || path == "devices/ap" || path == "devices/ap/" || path == "bus/ap/drivers" ||
           path == "bus/ap/drivers/" || path.starts_with("bus/ap/drivers/vfio_ap");
}

/// What could not be read on one host, grouped into findings: per attribute and errno one, whatever the
/// queue.
class UnreadableFindings {
  public:
    UnreadableFindings(Side side, const std::string& host) : side_{side}, host_{host} {}

    void add(Severity severity, const Unreadable& item) {
        const auto slash = item.path.rfind('/');
        const auto attribute = item.path.substr(slash == std::string::npos ? 0 : slash + 1);
        auto& group =
            groups_[std::make_tuple(severity, queue_of(item.path) ? attribute : item.path, item.error)];
        group.items.push_back(&item);
        if (const auto apqn = queue_of(item.path)) group.queues.push_back(*apqn);
    }

    /// `queues` whose hardware is not known although nothing failed: the attribute is not there.
    void add_absent(std::vector<Apqn> queues, std::string_view attribute) {
        if (queues.empty()) return;
        auto finding =
            make_finding(RuleId::host_unreadable, Severity::error, side_,
                         fmt::format("{}: the hardware of {} is not known: {} has no {}", host_,
                                     count_of(queues.size()), card_path(queues.front().apid()), attribute));
        finding.queues = std::move(queues);
        finding.remedies = advise(side_, "compare the cards by hand (lszcrypt -V), or use a newer kernel");
        absent_.push_back(std::move(finding));
    }

    void move_to(std::vector<Finding>& findings) {
        for (auto& [key, group] : groups_) {
            const auto& first = *group.items.front();
            auto text = fmt::format("{}: {}: {}", host_, first.path,
                                    first.error == 0 ? first.detail : strerrordesc_np(first.error));
            if (first.error != 0 && !first.detail.empty()) text += fmt::format(" ({})", first.detail);
            if (group.items.size() > 1) text += fmt::format(", and {} more like it", group.items.size() - 1);
            auto finding = make_finding(RuleId::host_unreadable, std::get<0>(key), side_, std::move(text));
            std::sort(group.queues.begin(), group.queues.end());
            finding.queues = std::move(group.queues);
            (side_ == Side::source ? finding.source : finding.destination) =
                first.error == 0 ? "unintelligible" : errno_name(first.error);
            finding.remedies =
                advise(side_, first.error == EACCES || first.error == EPERM
                                  ? "check again as root"
                                  : "look at the attribute and at the kernel log, then check again");
            findings.push_back(std::move(finding));
        }
        for (auto& finding : absent_)
            findings.push_back(std::move(finding));
    }

  private:
    struct Group {
        std::vector<const Unreadable*> items;
        std::vector<Apqn> queues;
    };
    Side side_;
    const std::string& host_;
    std::map<std::tuple<Severity, std::string, int>, Group> groups_;
    std::vector<Finding> absent_;
};

}  // namespace

void add_unreadable(const Inventory& host, Side side, const Needs& needs, std::vector<Apqn> unknown_hardware,
                    std::vector<Finding>& findings) {
    UnreadableFindings unreadable{side, host.name};
    for (const auto& item : host.unreadable) {
        if (concerns(needs, item))
            unreadable.add(needed(needs, item) ? Severity::error : Severity::info, item);
    }
    const auto failed = [&host](const std::string& path) { return host.find_unreadable(path) != nullptr; };
    std::erase_if(unknown_hardware, [&](Apqn apqn) {
        return failed(queue_path(apqn) + "/ap_functions") ||
               failed(card_path(apqn.apid()) + "/ap_functions") ||
               failed(card_path(apqn.apid()) + "/raw_hwtype");
    });
    unreadable.add_absent(std::move(unknown_hardware), "such queue, or no raw_hwtype or ap_functions");
    unreadable.move_to(findings);
}

}  // namespace vfioap
