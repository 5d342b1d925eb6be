// SPDX-License-Identifier: LGPL-2.1-or-later
#include "compat/unreadable.h"

#include "ap/configuration.h"
#include "ap/error.h"
#include "ap/queue_list.h"
#include "compat/findings.h"
#include "compat/remedies.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include <fmt/format.h>

namespace vfioap {
namespace {

/// The queue that a path below devices/ap belongs to.
std::optional<Apqn> queue_of(std::string_view path) {
    constexpr std::string_view start = "devices/ap/cardXX/";
    if (!path.starts_with("devices/ap/card") || path.size() < start.size() + 7) return {};
    return Apqn::parse(path.substr(start.size(), 7));
}

/// Decides what an unreadable attribute of a host means to the check of one guest.
class Needs {
  public:
    /// `mdev`: the guest's on this host, or null. `queues`: of the guest, sorted. `mdev_matters`: what the
    /// mdev holds there is compared.
    Needs(Side side, Mode mode, const Uuid& uuid, const Mdev* mdev, const std::vector<Apqn>& queues,
          bool mdev_matters)
        : destination_{side == Side::destination},
          mode_{mode},
          uuid_{uuid},
          mdev_{mdev},
          queues_{queues},
          adapters_{adapters_of(queues)},
          mdev_matters_{mdev_matters} {}

    /// error: a rule needs it; info: none does; nothing: it is about something that the guest has no part in,
    /// which a partial inventory does not even hold.
    [[nodiscard]] std::optional<Severity> severity(const Unreadable& item) const {
        const std::string_view path = item.path;
        if (const auto apqn = queue_of(path)) return of_queue(*apqn, leaf_of(path));
        if (path.starts_with(card_start)) return of_card(path);
        if (path.starts_with("devices/vfio_ap/matrix") || path.starts_with("bus/mdev/devices"))
            return of_mdevs(item);
        return needed(of_host(path));
    }

  private:
    static constexpr std::string_view card_start = "devices/ap/card";

    static std::string_view leaf_of(std::string_view path) { return path.substr(path.rfind('/') + 1); }
    static bool among(std::string_view leaf, std::initializer_list<std::string_view> names) {
        return std::find(names.begin(), names.end(), leaf) != names.end();
    }
    static Severity needed(bool is) { return is ? Severity::error : Severity::info; }

    [[nodiscard]] std::optional<Severity> of_queue(Apqn apqn, std::string_view leaf) const {
        if (is_among(queues_, apqn)) {
            // What its keys are is asked by another rule.
            return needed(leaf == "ap_functions" || leaf == "driver" ||
                          (destination_ && mode_ == Mode::detached && among(leaf, {"config", "chkstop"})));
        }
        if (mdev_ != nullptr && mdev_->assigned(apqn)) return Severity::info;
        return {};
    }

    [[nodiscard]] std::optional<Severity> of_card(std::string_view path) const {
        const auto apid = parse_adapter(path.substr(card_start.size(), 2));
        if (!apid) return {};
        if (adapters_.test(*apid)) {
            return needed(path.ends_with('/') || path.size() == card_start.size() + 2 ||
                          among(leaf_of(path), {"raw_hwtype", "ap_functions"}));
        }
        if (mdev_ != nullptr && mdev_->adapters.test(*apid)) return Severity::info;
        return {};
    }

    [[nodiscard]] std::optional<Severity> of_mdevs(const Unreadable& item) const {
        const std::string_view path = item.path;
        const auto leaf = leaf_of(path);
        // Gone is gone: mdev.missing says so where it matters.
        if (item.error == ENOENT) return Severity::info;
        if (leaf == "features") return needed(mode_ == Mode::native);
        const bool of_guest = path.find(uuid_.to_string()) != std::string_view::npos;
        if (!of_guest && names_an_mdev(path)) {
            // Only what is assigned to it may concern the guest.
            if (!destination_) return {};
            if (leaf == "matrix" || Uuid::parse(leaf)) return Severity::error;
            return {};
        }
        if (of_guest) {
            // ap_config only stands in for what else could not be had; config.truncated says so.
            return needed(mdev_matters_ &&
                          (among(leaf, {"matrix", "guest_matrix", "control_domains"}) || Uuid::parse(leaf)));
        }
        return needed(leaf.empty() || among(leaf, {"matrix", "devices"}));
    }

    static bool names_an_mdev(std::string_view path) {
        while (true) {
            const auto slash = path.find('/');
            if (Uuid::parse(path.substr(0, slash))) return true;
            if (slash == std::string_view::npos) return false;
            path.remove_prefix(slash + 1);
        }
    }

    [[nodiscard]] bool of_host(std::string_view path) const {
        const auto leaf = leaf_of(path);
        if (among(leaf, {"prot_virt_guest", "ap_control_domain_mask"})) return true;
        // The filter rule goes by them where the kernel does not tell what the guest has.
        if (among(leaf, {"ap_adapter_mask", "ap_usage_domain_mask"})) {
            return mdev_ != nullptr && mdev_matters_ &&
                   (!mdev_->guest_matrix || mdev_->guest_matrix_truncated());
        }
        return among(path, {"bus/ap", "devices/ap", "devices/ap/", "bus/ap/drivers", "bus/ap/drivers/"}) ||
               path.starts_with("bus/ap/drivers/vfio_ap");
    }

    bool destination_;
    Mode mode_;
    const Uuid& uuid_;
    const Mdev* mdev_;
    const std::vector<Apqn>& queues_;
    Mask adapters_;
    bool mdev_matters_;
};

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
                                    first.error == 0 ? first.detail : errno_text(first.error));
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

void add_unreadable(const Inventory& host, Side side, const GuestPart& guest,
                    std::vector<Apqn> unknown_hardware, std::vector<Finding>& findings) {
    UnreadableFindings unreadable{side, host.name};
    const Needs needs{side,         guest.mode,        guest.mdev, host.find_mdev(guest.mdev),
                      guest.queues, guest.mdev_matters};
    for (const auto& item : host.unreadable) {
        if (const auto severity = needs.severity(item)) unreadable.add(*severity, item);
    }
    const auto not_read = [&host](const std::string& path) { return host.find_unreadable(path) != nullptr; };
    std::erase_if(unknown_hardware, [&](Apqn apqn) {
        return not_read(queue_path(apqn) + "/ap_functions") ||
               not_read(card_path(apqn.apid()) + "/ap_functions") ||
               not_read(card_path(apqn.apid()) + "/raw_hwtype");
    });
    unreadable.add_absent(std::move(unknown_hardware), "such queue, or no raw_hwtype or ap_functions");
    unreadable.move_to(findings);
}

}  // namespace vfioap
