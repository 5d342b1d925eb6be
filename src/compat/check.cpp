// SPDX-License-Identifier: LGPL-2.1-or-later
#include "compat/check.h"

#include "ap/error.h"
#include "compat/hardware.h"
#include "compat/keys.h"
#include "compat/prediction.h"
#include "compat/remedies.h"
#include "host/guest_matrix.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vfioap {
namespace {

Finding make_finding(RuleId id, Severity severity, Side host, std::string message) {
    Finding finding;
    finding.rule = id;
    finding.severity = severity;
    finding.host = host;
    finding.message = std::move(message);
    return finding;
}

std::string queues_are(std::size_t count, std::string_view singular, std::string_view plural) {
    return fmt::format("{} queue{} {}", count, count == 1 ? "" : "s", count == 1 ? singular : plural);
}

Mask adapters_in(const std::vector<Apqn>& queues) {
    Mask mask;
    for (const auto apqn : queues)
        mask.set(apqn.apid());
    return mask;
}

Mask domains_in(const std::vector<Apqn>& queues) {
    Mask mask;
    for (const auto apqn : queues)
        mask.set(apqn.apqi());
    return mask;
}

bool contains(const std::vector<Apqn>& sorted, Apqn apqn) {
    return std::binary_search(sorted.begin(), sorted.end(), apqn);
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
        auto finding = make_finding(
            RuleId::host_unreadable, Severity::error, side_,
            fmt::format("{}: the hardware of {} is not known: {} has no {}", host_,
                        queues_are(queues.size(), "", ""), card_path(queues.front().apid()), attribute));
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

    /// The queue that a path below devices/ap belongs to.
    static std::optional<Apqn> queue_of(std::string_view path) {
        constexpr std::string_view start = "devices/ap/cardXX/";
        if (!path.starts_with("devices/ap/card") || path.size() < start.size() + 7) return {};
        return Apqn::parse(path.substr(start.size(), 7));
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
          adapters_{adapters_in(queues)},
          mdev_matters_{mdev_matters} {}

    /// error: a rule needs it; info: none does; nothing: it is about something that the guest has no part in,
    /// which a partial inventory does not even hold.
    [[nodiscard]] std::optional<Severity> severity(const Unreadable& item) const {
        const std::string_view path = item.path;
        if (const auto apqn = UnreadableFindings::queue_of(path)) return of_queue(*apqn, leaf_of(path));
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
        if (contains(queues_, apqn)) {
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

std::string filter_reason(const FilteredAdapter& adapter) {
    switch (adapter.reason) {
        case FilteredAdapter::Reason::not_in_host:
            return "the host has not got it";
        case FilteredAdapter::Reason::queue_missing:
            return fmt::format("queue {} does not exist", adapter.culprits.front().to_string());
        case FilteredAdapter::Reason::queue_not_bound:
            return fmt::format("queue {} is not bound to vfio_ap", adapter.culprits.front().to_string());
        case FilteredAdapter::Reason::unknown:
            break;
    }
    return "the kernel gives no reason; a queue may have failed its reset";
}

class Check {
  public:
    Check(const Guest& guest, const Source& source, const Inventory& destination, const CheckOptions& options)
        : guest_{guest}, source_{source}, destination_{destination}, options_{options} {}

    Report run() {
        report_.guest = {guest_.name, guest_.uuid, {}};
        report_.source = source_.host;
        report_.destination = {destination_.name, destination_.location};
        choose_mode();
        if (guest_.mdevs.empty()) {
            add(RuleId::guest_no_vfio_ap, Side::source,
                fmt::format("guest {} has no vfio-ap device: nothing to compare", guest_.name));
            return finish();
        }
        report_.guest.mdev = guest_.mdevs.front();
        report_.queues.reserve(source_.configuration.queues.size());
        for (const auto& queue : source_.configuration.queues)
            report_.queues.push_back(queue.apqn);
        report_.control_domains = source_.configuration.control_domains;
        mdev_ = destination_.find_mdev(*report_.guest.mdev);

        check_guest();
        check_hosts();
        check_mdev();
        check_queues();
        check_control_domains();
        check_unreadable();
        for (auto finding : source_.findings)
            findings().push_back(std::move(finding));
        return finish();
    }

  private:
    std::vector<Finding>& findings() { return report_.findings; }
    [[nodiscard]] bool native() const { return report_.mode == Mode::native; }
    [[nodiscard]] bool restoring() const { return report_.profile == Profile::restore; }
    /// The destination's mdev has to hold the configuration before the guest comes.
    [[nodiscard]] bool set_up_beforehand() const { return !restoring(); }
    [[nodiscard]] const Uuid& uuid() const { return *report_.guest.mdev; }

    [[nodiscard]] Severity severity(RuleId id) const {
        const auto& entry = rule(id);
        return (native() ? entry.native : entry.detached).value_or(Severity::info);
    }

    Finding& add(RuleId id, Side host, std::string message) {
        findings().push_back(make_finding(id, severity(id), host, std::move(message)));
        return findings().back();
    }

    void choose_mode() {
        const bool destination_migrates = migrates(destination_).value_or(false);
        const auto destination_qemu = destination_.qemu ? destination_.qemu->vfio_ap_migration : std::nullopt;
        report_.mode = options_.mode;
        if (options_.mode == Mode::automatic) {
            std::string obstacle;
            if (!source_.kernel_migrates.value_or(false)) {
                obstacle = fmt::format("the kernel of {} cannot migrate a vfio-ap device", source_.host.name);
            } else if (!destination_migrates) {
                obstacle = fmt::format("the kernel of {} cannot migrate a vfio-ap device", destination_.name);
            } else if (!source_.qemu_migrates.value_or(false) || !destination_qemu.value_or(false)) {
                obstacle = "QEMU is not known to migrate a vfio-ap device";
            }
            report_.mode = obstacle.empty() ? Mode::native : Mode::detached;
            report_.mode_reason =
                obstacle.empty() ? "both kernels and both QEMUs migrate a vfio-ap device" : obstacle;
        }
        if (!native()) return;
        report_.profile = options_.profile;
        if (options_.profile == Profile::automatic) {
            const auto has_attribute = [](const Mdev& mdev) { return mdev.migratable.has_value(); };
            // The destination's driver decides; a host without an mdev does not show which it has, so that
            // the source's has to stand for both.
            const bool compares =
                destination_.mdevs.empty()
                    ? source_.has_migratable
                    : std::any_of(destination_.mdevs.begin(), destination_.mdevs.end(), has_attribute);
            report_.profile = compares ? Profile::compare : Profile::restore;
        }
    }

  public:
    /// Whether the kernel of a host can migrate a vfio-ap device; nothing where its features could not be
    /// read.
    static std::optional<bool> migrates(const Inventory& host) {
        if (host.has_feature(feature_migratable)) return true;
        for (const auto& mdev : host.mdevs) {
            if (mdev.migratable) return true;
        }
        if (host.vfio_ap && !host.vfio_ap->features &&
            host.find_unreadable("devices/vfio_ap/matrix/features") != nullptr) {
            return {};
        }
        return false;
    }

  private:
    void check_guest() {
        if (guest_.secure_execution) {
            auto& finding =
                add(RuleId::guest_secure_execution, Side::source,
                    fmt::format("guest {} runs in Secure Execution: QEMU does not migrate it", guest_.name));
            finding.remedies = advise(Side::source, "shut the guest down and start it at the destination");
        }
        if (guest_.mdevs.size() < 2) return;
        std::vector<std::string> names;
        for (const auto& mdev : guest_.mdevs)
            names.push_back(mdev.to_string());
        auto& finding =
            add(RuleId::guest_multiple_vfio_ap, Side::source,
                fmt::format(
                    "guest {} has {} vfio-ap devices, of which at most one works: {}; the first is checked",
                    guest_.name, names.size(), fmt::join(names, ", ")));
        finding.remedies = advise(
            Side::source, fmt::format("leave one vfio-ap hostdev in the domain: virsh edit {}", guest_.name));
    }

    void check_hosts() {
        const bool source_se = source_.secure_execution;
        const bool destination_se = destination_.prot_virt_guest.value_or(false);
        if (source_se || destination_se) {
            const Side side = source_se && destination_se ? Side::both
                              : source_se                 ? Side::source
                                                          : Side::destination;
            const auto& name = source_se ? source_.host.name : destination_.name;
            auto& finding =
                add(RuleId::host_secure_execution, side,
                    side == Side::both ? "both hosts are themselves Secure Execution guests"
                                       : fmt::format("{} is itself a Secure Execution guest", name));
            if (native())
                finding.kernel_lines = {"Migration not allowed from or to a Secure Execution guest"};
            finding.remedies = advise(side, "use a host that is an LPAR or an ordinary guest");
        }
        if (!destination_.vfio_ap) {
            auto& finding =
                add(RuleId::kernel_no_vfio_ap, Side::destination,
                    destination_.ap ? fmt::format("{} has not loaded the vfio_ap driver", destination_.name)
                                    : fmt::format("{} has no AP bus", destination_.name));
            finding.remedies = destination_.ap ? load_driver(Side::destination)
                                               : advise(Side::destination,
                                                        "assign crypto adapters and domains to the LPAR at "
                                                        "the HMC, and load the ap module");
        }
        if (!native()) return;
        const bool source_lacks = source_.kernel_migrates == false;
        const bool destination_lacks = migrates(destination_) == false;
        if (source_lacks || destination_lacks) {
            const Side side = source_lacks && destination_lacks ? Side::both
                              : source_lacks                    ? Side::source
                                                                : Side::destination;
            auto& finding =
                add(RuleId::kernel_no_migration, side,
                    side == Side::both ? "neither kernel can migrate a vfio-ap device"
                                       : fmt::format("the kernel of {} cannot migrate a vfio-ap device",
                                                     source_lacks ? source_.host.name : destination_.name));
            finding.remedies =
                advise(side, "detach the device, migrate, attach it again: check with --mode detached");
        } else {
            auto& finding = add(
                RuleId::kernel_layout, Side::both,
                "which stream layout each driver uses cannot be seen from outside: both hosts should run the "
                "same kernel");
            finding.source = "unknown";
            finding.destination = "unknown";
        }
        check_qemu();
        if (source_.mdev_migratable == false) {
            auto& finding = add(RuleId::mdev_not_migratable, Side::source,
                                fmt::format("{}: migration of mdev {} is switched off", source_.host.name,
                                            uuid().to_string()));
            finding.source = "0";
            finding.remedies = allow_migration(uuid());
        }
    }

    void check_qemu() {
        const auto destination_qemu = destination_.qemu ? destination_.qemu->vfio_ap_migration : std::nullopt;
        for (const bool known : {true, false}) {
            const auto lacks = [known](std::optional<bool> able) {
                return known ? able == false : !able.has_value();
            };
            const bool at_source = lacks(source_.qemu_migrates);
            const bool at_destination = lacks(destination_qemu);
            if (!at_source && !at_destination) continue;
            const Side side = at_source && at_destination ? Side::both
                              : at_source                 ? Side::source
                                                          : Side::destination;
            const auto whose = side == Side::both ? std::string{"both hosts"}
                                                  : (at_source ? source_.host.name : destination_.name);
            auto& finding = add(RuleId::qemu_no_migration, side,
                                known ? fmt::format("QEMU of {} cannot migrate a vfio-ap device", whose)
                                      : fmt::format("whether QEMU of {} can migrate a vfio-ap device is not "
                                                    "known; no released one was seen to",
                                                    whose));
            // What a sysfs root cannot tell by nature is at most a warning.
            if (!known) finding.severity = Severity::warning;
            finding.remedies =
                advise(side, "detach the device, migrate, attach it again: check with --mode detached");
        }
    }

    void check_mdev() {
        if (mdev_ == nullptr) {
            if (unread("devices/vfio_ap/matrix") || unread("bus/mdev/devices")) return;
            auto& finding = add(RuleId::mdev_missing, Side::destination,
                                fmt::format("{} has no mdev {}", destination_.name, uuid().to_string()));
            finding.remedies = create_mdev(uuid(), set_up_beforehand() ? &source_.configuration : nullptr);
            return;
        }
        const bool same_host = source_.host.location == destination_.location;
        const auto in_use = [&](const Queue& queue) {
            return queue.status == QueueStatus::in_use && mdev_->assigned(queue.apqn);
        };
        if (!same_host && std::any_of(destination_.queues.begin(), destination_.queues.end(), in_use)) {
            auto& finding = add(RuleId::mdev_in_use, Side::destination,
                                fmt::format("{}: mdev {} is in use by a guest already", destination_.name,
                                            uuid().to_string()));
            finding.destination = "in use";
            finding.remedies = advise(
                Side::destination,
                "find the guest that uses it (virsh dumpxml) and stop it or detach the device from it");
        }
    }

    [[nodiscard]] bool unread(std::string_view directory) const {
        return destination_.find_unreadable(directory) != nullptr ||
               destination_.find_unreadable(std::string{directory} + '/') != nullptr;
    }

    /// One pass over the guest's queues and, beside them, the destination's; both are sorted.
    void check_queues() {
        std::vector<Apqn> missing;
        std::vector<Apqn> not_bound;
        std::vector<Apqn> not_assigned;
        std::vector<Apqn> filtered;
        std::vector<Apqn> deconfigured;
        std::vector<Apqn> checkstopped;
        std::vector<std::vector<Apqn>> elsewhere(destination_.mdevs.size());
        std::vector<std::size_t> rivals;
        const auto adapters = adapters_in(report_.queues);
        const auto domains = domains_in(report_.queues);
        for (std::size_t i = 0; i < destination_.mdevs.size(); ++i) {
            const auto& mdev = destination_.mdevs[i];
            if (mdev.uuid != uuid() && !(mdev.adapters & adapters).none() &&
                !(mdev.domains & domains).none()) {
                rivals.push_back(i);
            }
        }
        GuestMatrix matrix;
        if (mdev_ != nullptr && set_up_beforehand()) matrix = guest_matrix_of(destination_, *mdev_);
        const bool matrix_known = matrix.origin != GuestMatrix::Origin::unknown;
        std::array<const Card*, ap_devices> cards{};
        for (const auto& card : destination_.cards)
            cards[card.apid] = &card;

        HardwareCheck hardware{uuid(), report_.mode, report_.profile};
        KeyCheck keys{report_.mode, source_.host.name, destination_.name};
        auto next = destination_.queues.begin();
        auto passed = matrix.queues.begin();
        for (const auto& ours : source_.configuration.queues) {
            const auto apqn = ours.apqn;
            while (next != destination_.queues.end() && next->apqn < apqn)
                ++next;
            const Queue* const theirs =
                next != destination_.queues.end() && next->apqn == apqn ? &*next : nullptr;
            for (const auto rival : rivals) {
                if (destination_.mdevs[rival].assigned(apqn)) elsewhere[rival].push_back(apqn);
            }
            const bool bound = theirs != nullptr && theirs->bound_to_vfio_ap();
            if (mdev_ != nullptr && set_up_beforehand()) {
                while (passed != matrix.queues.end() && *passed < apqn)
                    ++passed;
                const bool passes = passed != matrix.queues.end() && *passed == apqn;
                if (!passes && matrix_known) {
                    if (!mdev_->assigned(apqn)) {
                        not_assigned.push_back(apqn);
                    } else if (bound) {
                        filtered.push_back(apqn);
                    }
                }
            }
            if (theirs == nullptr) {
                missing.push_back(apqn);
                continue;
            }
            if (!bound) not_bound.push_back(apqn);
            const Card* const card = cards[apqn.apid()];
            if (theirs->config == false || (card != nullptr && card->config == false))
                deconfigured.push_back(apqn);
            if (theirs->chkstop == true || (card != nullptr && card->chkstop == true))
                checkstopped.push_back(apqn);
            const auto hwinfo = hwinfo_of(*theirs, card);
            if (!hwinfo) unknown_hardware_.push_back(apqn);
            hardware.compare(ours, hwinfo);
            keys.compare(ours, hwinfo, theirs->mkvps());
        }

        add_missing(std::move(missing));
        add_not_bound(std::move(not_bound));
        add_elsewhere(rivals, elsewhere);
        add_count(matrix, matrix_known);
        add_not_assigned(std::move(not_assigned));
        add_filtered(std::move(filtered), matrix);
        if (!matrix_known) add_truncated(matrix);
        if (!deconfigured.empty()) {
            auto& finding = add(RuleId::queue_deconfigured, Side::destination,
                                fmt::format("{}: {} deconfigured", destination_.name,
                                            queues_are(deconfigured.size(), "is", "are")));
            finding.remedies = configure_cards(destination_, deconfigured);
            finding.queues = std::move(deconfigured);
        }
        if (!checkstopped.empty()) {
            auto& finding = add(RuleId::queue_checkstopped, Side::destination,
                                fmt::format("{}: {} in checkstop", destination_.name,
                                            queues_are(checkstopped.size(), "is", "are")));
            finding.remedies =
                advise(Side::destination, "configure the card off and on at the HMC, or have it repaired");
            finding.queues = std::move(checkstopped);
        }
        hardware.move_to(findings(), source_.host.name, destination_.name);
        keys.move_to(findings());
    }

    void add_missing(std::vector<Apqn> queues) {
        if (queues.empty()) return;
        auto& finding =
            add(RuleId::queue_missing, Side::destination,
                fmt::format("{}: {} not exist", destination_.name, queues_are(queues.size(), "does", "do")));
        if (native()) finding.kernel_lines = unavailable_lines();
        finding.remedies = provide_queues(destination_, queues);
        finding.queues = std::move(queues);
    }

    void add_not_bound(std::vector<Apqn> queues) {
        if (queues.empty()) return;
        auto& finding = add(RuleId::queue_not_bound, Side::destination,
                            fmt::format("{}: {} not bound to vfio_ap", destination_.name,
                                        queues_are(queues.size(), "is", "are")));
        const Queue* const first = destination_.find_queue(queues.front());
        const auto same_driver = [&](Apqn apqn) {
            return destination_.find_queue(apqn)->driver == first->driver;
        };
        if (std::all_of(queues.begin(), queues.end(), same_driver)) {
            finding.destination = first->driver.empty() ? "no driver" : first->driver;
            finding.message +=
                fmt::format(" but {}", first->driver.empty() ? "to no driver" : "to " + first->driver);
        }
        if (native()) finding.kernel_lines = unavailable_lines();
        finding.remedies = bind_queues(destination_, queues);
        finding.queues = std::move(queues);
    }

    /// What the driver logs for a queue that is missing or not bound. Profile compare knows only whether it
    /// is in the matrix, and has none to look into without the mdev.
    [[nodiscard]] std::vector<std::string> unavailable_lines() const {
        if (restoring()) {
            return {
                fmt::format("vfio_ap_mdev {}: Queue {{queue}} not available to vfio_ap driver on target host",
                            uuid().to_string())};
        }
        if (mdev_ == nullptr) return {};
        return {not_in_matrix_line()};
    }

    void add_elsewhere(const std::vector<std::size_t>& rivals, std::vector<std::vector<Apqn>>& elsewhere) {
        for (const auto rival : rivals) {
            if (elsewhere[rival].empty()) continue;
            const auto& owner = destination_.mdevs[rival];
            auto& finding =
                add(RuleId::queue_assigned_elsewhere, Side::destination,
                    fmt::format("{}: {} assigned to another mdev, {}", destination_.name,
                                queues_are(elsewhere[rival].size(), "is", "are"), owner.uuid.to_string()));
            finding.destination = owner.uuid.to_string();
            if (native() && restoring()) {
                finding.kernel_lines = {
                    fmt::format("vfio_ap_mdev {}: Userspace may not assign queue {{queue}} to mdev: already "
                                "assigned to {}",
                                uuid().to_string(), owner.uuid.to_string())};
            }
            finding.remedies = take_from(owner, elsewhere[rival]);
            finding.queues = std::move(elsewhere[rival]);
        }
    }

    /// Profile compare wants as many queues as the source has; detached, more would be given to the guest
    /// than it had.
    void add_count(const GuestMatrix& matrix, bool known) {
        if (mdev_ == nullptr || !set_up_beforehand() || !known || !source_.configuration_known) return;
        const auto source_count = report_.queues.size();
        const auto destination_count = matrix.queues.size();
        std::vector<Apqn> extra;
        std::set_difference(matrix.queues.begin(), matrix.queues.end(), report_.queues.begin(),
                            report_.queues.end(), std::back_inserter(extra));
        if (native() ? source_count == destination_count : extra.empty()) return;
        auto& finding = add(RuleId::queue_count, Side::destination,
                            native() ? fmt::format("the guest has {} at {} and would have {} at {}",
                                                   queues_are(source_count, "", ""), source_.host.name,
                                                   destination_count, destination_.name)
                                     : fmt::format("{}: the mdev has {} that the guest did not have",
                                                   destination_.name, queues_are(extra.size(), "", "")));
        finding.source = std::to_string(source_count);
        finding.destination = std::to_string(destination_count);
        if (native() && source_count > destination_count) {
            // Layout L1: 8 bytes and 16 for each queue.
            finding.kernel_lines = {
                fmt::format("vfio_ap_mdev {}: migration failed: source guest's AP config size ({}) larger "
                            "than target's ({})",
                            uuid().to_string(), 8 + 16 * source_count, 8 + 16 * destination_count)};
        } else if (native()) {
            finding.kernel_lines = {
                fmt::format("vfio_ap_mdev {}: migration failed: number of queues on source ({}) and target "
                            "({}) guests differ",
                            uuid().to_string(), source_count, destination_count)};
        }
        if (!extra.empty()) {
            const auto adapters = adapters_in(extra) - adapters_in(report_.queues);
            const auto domains = domains_in(extra) - domains_in(report_.queues);
            finding.remedies = unassign(*mdev_, adapters, domains, {});
        } else {
            finding.remedies =
                advise(Side::destination, "give the mdev the queues that are named by the other findings");
        }
        finding.queues = std::move(extra);
    }

    void add_not_assigned(std::vector<Apqn> queues) {
        if (queues.empty()) return;
        auto& finding = add(RuleId::queue_not_assigned, Side::destination,
                            fmt::format("{}: {} not assigned to the mdev", destination_.name,
                                        queues_are(queues.size(), "is", "are")));
        if (native()) finding.kernel_lines = {not_in_matrix_line()};
        finding.remedies =
            assign(*mdev_, adapters_in(queues) - mdev_->adapters, domains_in(queues) - mdev_->domains, {});
        finding.queues = std::move(queues);
    }

    [[nodiscard]] std::string not_in_matrix_line() const {
        return fmt::format("vfio_ap_mdev {}: migration failed: queue {{queue}} not assigned to guest matrix",
                           uuid().to_string());
    }

    /// Queues that are assigned and bound and yet would not reach the guest: the whole adapter fell to the
    /// filter.
    void add_filtered(std::vector<Apqn> queues, const GuestMatrix& matrix) {
        if (queues.empty()) return;
        std::vector<std::string> reasons;
        std::vector<Apqn> to_bind;
        Mask needless_adapters;
        Mask needless_domains;
        const auto adapters = adapters_in(queues);
        for (const auto& adapter : matrix.filtered) {
            if (!adapters.test(adapter.apid)) continue;
            reasons.push_back(
                fmt::format("adapter {}: {}", adapter_text(adapter.apid), filter_reason(adapter)));
            for (const auto culprit : adapter.culprits) {
                // The guest's own queues have findings of their own.
                if (contains(report_.queues, culprit)) continue;
                const Queue* const queue = destination_.find_queue(culprit);
                if (queue == nullptr) {
                    needless_domains.set(culprit.apqi());
                } else {
                    to_bind.push_back(culprit);
                }
            }
        }
        auto& finding = add(RuleId::config_filtered, Side::destination,
                            fmt::format("{}: {} assigned but not passed through ({})", destination_.name,
                                        queues_are(queues.size(), "is", "are"),
                                        reasons.empty() ? "the kernel gives no reason"
                                                        : fmt::format("{}", fmt::join(reasons, "; "))));
        if (native()) finding.kernel_lines = {not_in_matrix_line()};
        needless_domains = needless_domains - domains_in(report_.queues);
        if (!to_bind.empty()) {
            // What the guest did not have need not be bound: taking it away mends the adapter as well.
            needless_domains = needless_domains | (domains_in(to_bind) - domains_in(report_.queues));
            needless_adapters = adapters_in(to_bind) - adapters_in(report_.queues);
        }
        if (!needless_domains.none() || !needless_adapters.none()) {
            finding.remedies = unassign(*mdev_, needless_adapters, needless_domains, {});
        } else {
            finding.remedies = advise(Side::destination,
                                      "mend what is said of the other queues of these adapters; the kernel "
                                      "then passes them through by itself");
        }
        finding.queues = std::move(queues);
    }

    void add_truncated(const GuestMatrix& matrix) {
        if (mdev_ == nullptr || !set_up_beforehand()) return;
        auto& finding = add(RuleId::config_truncated, Side::destination,
                            fmt::format("{}: the guest_matrix of mdev {} fills one page, or cannot be read, "
                                        "and there is no ap_config "
                                        "to make it from",
                                        destination_.name, uuid().to_string()));
        finding.destination = fmt::format("{} queues and perhaps more", matrix.queues.size());
        finding.remedies =
            advise(Side::destination,
                   "use a kernel with the vfio_ap feature ap_config, or give the guest at most 511 queues");
    }

    void check_control_domains() {
        const auto& wanted = source_.configuration.control_domains;
        const auto host = destination_.ap.value_or(ApBus{}).ap_control_domain_mask.effective();
        const auto not_in_host = destination_.ap ? wanted - host : wanted;
        if (!not_in_host.none()) {
            auto& finding =
                add(RuleId::control_domain_missing, Side::destination,
                    fmt::format("{} does not have {} control domain{} of the guest", destination_.name,
                                not_in_host.count(), not_in_host.count() == 1 ? "" : "s"));
            if (native() && restoring()) {
                finding.kernel_lines = {fmt::format(
                    "vfio_ap_mdev: {}: Control domain {{domain}} not available on the destination host",
                    uuid().to_string())};
            }
            finding.control_domains = not_in_host.bits();
            finding.remedies = advise(
                Side::destination, "assign the control domains to this LPAR at the HMC; no command does it");
        }
        if (native() && restoring() && !wanted.none()) {
            auto& finding =
                add(RuleId::driver_laxer, Side::destination,
                    "driver drafts v3 and v4 lose the control domains: the guest would arrive without them");
            finding.control_domains = wanted.bits();
        }
        if (mdev_ == nullptr || !set_up_beforehand() || !mdev_->control_domains) return;
        const auto not_assigned = (wanted & host) - *mdev_->control_domains;
        if (!not_assigned.none()) {
            auto& finding = add(RuleId::control_domain_missing, Side::destination,
                                fmt::format("{}: {} control domain{} of the guest not assigned to the mdev",
                                            destination_.name, not_assigned.count(),
                                            not_assigned.count() == 1 ? " is" : "s are"));
            finding.control_domains = not_assigned.bits();
            finding.remedies = assign(*mdev_, {}, {}, not_assigned);
        }
        const auto extra = (*mdev_->control_domains & host) - wanted;
        if (!extra.none() && source_.configuration_known) {
            auto& finding =
                add(RuleId::control_domain_extra, Side::destination,
                    fmt::format("{}: the mdev has {} control domain{} that the guest did not have",
                                destination_.name, extra.count(), extra.count() == 1 ? "" : "s"));
            finding.control_domains = extra.bits();
            finding.remedies = unassign(*mdev_, {}, {}, extra);
        }
    }

    void check_unreadable() {
        UnreadableFindings unreadable{Side::destination, destination_.name};
        const Needs needs{Side::destination, report_.mode,       uuid(), mdev_,
                          report_.queues,    set_up_beforehand()};
        for (const auto& item : destination_.unreadable) {
            if (const auto severity = needs.severity(item)) unreadable.add(*severity, item);
        }
        // Where the reason is an attribute that could not be read, that has been said.
        std::erase_if(unknown_hardware_, [&](Apqn apqn) {
            return destination_.find_unreadable(queue_path(apqn) + "/ap_functions") != nullptr ||
                   destination_.find_unreadable(card_path(apqn.apid()) + "/ap_functions") != nullptr ||
                   destination_.find_unreadable(card_path(apqn.apid()) + "/raw_hwtype") != nullptr;
        });
        unreadable.add_absent(std::move(unknown_hardware_), "raw_hwtype or ap_functions");
        unreadable.move_to(findings());
    }

    Report finish() {
        const auto effective = [this](const Finding& finding) {
            const bool raised = options_.strict && finding.severity == Severity::warning;
            return raised ? Severity::error : finding.severity;
        };
        std::stable_sort(findings().begin(), findings().end(), [&](const Finding& a, const Finding& b) {
            const auto first = [](const Finding& f) { return f.queues.empty() ? Apqn{} : f.queues.front(); };
            return std::make_tuple(effective(a), a.rule, first(a)) <
                   std::make_tuple(effective(b), b.rule, first(b));
        });
        // No driver becomes stricter because somebody asks here.
        report_.prediction = predict(report_);
        for (auto& finding : findings())
            finding.severity = effective(finding);
        bool undetermined = false;
        bool incompatible = false;
        for (const auto& finding : findings()) {
            if (finding.severity != Severity::error) continue;
            const bool unknown =
                finding.rule == RuleId::host_unreadable || finding.rule == RuleId::config_truncated;
            (unknown ? undetermined : incompatible) = true;
        }
        report_.verdict = incompatible   ? Verdict::incompatible
                          : undetermined ? Verdict::undetermined
                                         : Verdict::compatible;
        return std::move(report_);
    }

    const Guest& guest_;
    const Source& source_;
    const Inventory& destination_;
    const CheckOptions& options_;
    const Mdev* mdev_ = nullptr;
    std::vector<Apqn> unknown_hardware_;
    Report report_;
};

}  // namespace

Source describe_source(const Guest& guest, const Inventory& inventory) {
    Source source;
    source.host = {inventory.name, inventory.location};
    source.kernel_migrates = Check::migrates(inventory);
    source.qemu_migrates = inventory.qemu ? inventory.qemu->vfio_ap_migration : std::nullopt;
    source.has_migratable = std::any_of(inventory.mdevs.begin(), inventory.mdevs.end(),
                                        [](const Mdev& mdev) { return mdev.migratable.has_value(); });
    source.secure_execution = inventory.prot_virt_guest.value_or(false);
    if (guest.mdevs.empty()) return source;
    const auto& uuid = guest.mdevs.front();
    const auto add = [&source](RuleId id, Severity severity, std::string message) -> Finding& {
        source.findings.push_back(make_finding(id, severity, Side::source, std::move(message)));
        return source.findings.back();
    };
    if (!inventory.vfio_ap) {
        auto& finding = add(RuleId::kernel_no_vfio_ap, Severity::error,
                            inventory.ap ? fmt::format("{} has not loaded the vfio_ap driver", inventory.name)
                                         : fmt::format("{} has no AP bus", inventory.name));
        if (inventory.ap) finding.remedies = load_driver(Side::source);
    }
    const Mdev* const mdev = inventory.find_mdev(uuid);
    std::vector<Apqn> queues;
    std::vector<Apqn> unknown;
    if (mdev == nullptr) {
        source.configuration_known = false;
        auto& finding = add(RuleId::mdev_missing, Severity::error,
                            fmt::format("{} has no mdev {}: the guest's configuration is not known",
                                        inventory.name, uuid.to_string()));
        finding.remedies =
            advise(Side::source, "check on the host where the guest runs, or name it with --source");
    } else {
        source.mdev_migratable = mdev->migratable;
        auto matrix = guest_matrix_of(inventory, *mdev);
        queues = std::move(matrix.queues);
        source.configuration.control_domains = matrix.control_domains;
        source.configuration.queues.reserve(queues.size());
        source.configuration_known =
            matrix.origin != GuestMatrix::Origin::unknown && mdev->control_domains.has_value();
        for (const auto apqn : queues) {
            GuestQueue entry{apqn, {}, nullptr};
            if (const Queue* const queue = inventory.find_queue(apqn)) {
                entry.hwinfo = hwinfo_of(*queue, inventory.find_card(apqn.apid()));
                if (const auto* const keys = queue->mkvps()) entry.master_keys = {queue->detail, keys};
            }
            if (!entry.hwinfo) unknown.push_back(apqn);
            source.configuration.queues.push_back(std::move(entry));
        }
        if (matrix.origin == GuestMatrix::Origin::rebuilt) {
            add(RuleId::config_truncated, Severity::info,
                fmt::format("{}: guest_matrix fills its page and was made again from ap_config: {}",
                            inventory.name, queues_are(queues.size(), "", "")));
        } else if (matrix.origin == GuestMatrix::Origin::unknown && mdev->guest_matrix_truncated()) {
            auto& finding = add(
                RuleId::config_truncated, Severity::error,
                fmt::format("{}: guest_matrix of mdev {} fills one page and there is no ap_config to make it "
                            "from: the guest may have more than {} queues",
                            inventory.name, uuid.to_string(), queues.size()));
            finding.remedies = advise(Side::source, "use a kernel with the vfio_ap feature ap_config");
        }
        for (const auto& adapter : matrix.filtered) {
            add(RuleId::config_filtered, Severity::info,
                fmt::format("{}: adapter {} is assigned but the guest has not got it: {}", inventory.name,
                            adapter_text(adapter.apid), filter_reason(adapter)));
        }
    }
    UnreadableFindings unreadable{Side::source, source.host.name};
    // Which mode is chosen later makes no difference to what is needed here but for `features`, whose absence
    // is a finding of native migration.
    const Needs needs{Side::source, Mode::detached, uuid, mdev, queues, true};
    for (const auto& item : inventory.unreadable) {
        if (const auto severity = needs.severity(item)) unreadable.add(*severity, item);
    }
    std::erase_if(unknown, [&](Apqn apqn) {
        return inventory.find_unreadable(queue_path(apqn) + "/ap_functions") != nullptr ||
               inventory.find_unreadable(card_path(apqn.apid()) + "/ap_functions") != nullptr ||
               inventory.find_unreadable(card_path(apqn.apid()) + "/raw_hwtype") != nullptr;
    });
    unreadable.add_absent(std::move(unknown), "such queue, or no raw_hwtype or ap_functions");
    unreadable.move_to(source.findings);
    return source;
}

Report check(const Guest& guest, const Source& source, const Inventory& destination,
             const CheckOptions& options) {
    return Check{guest, source, destination, options}.run();
}

}  // namespace vfioap
