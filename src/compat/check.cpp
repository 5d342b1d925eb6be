// SPDX-License-Identifier: LGPL-2.1-or-later
#include "compat/check.h"

#include "ap/queue_list.h"
#include "compat/contents.h"
#include "compat/findings.h"
#include "compat/hardware.h"
#include "compat/keys.h"
#include "compat/messages.h"
#include "compat/prediction.h"
#include "compat/remedies.h"
#include "compat/unreadable.h"
#include "host/guest_matrix.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vfioap {
namespace {

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
        if (guest_.secure_execution) {
            auto& finding =
                add(RuleId::guest_secure_execution, Side::source,
                    fmt::format("guest {} runs in Secure Execution: QEMU does not migrate it", guest_.name));
            finding.remedies = advise(Side::source, "shut the guest down and start it at the destination");
        }
        report_.guest.mdev = guest_.mdevs.front();
        report_.control_domains = source_.configuration.control_domains;
        mdev_ = destination_.find_mdev(*report_.guest.mdev);

        check_guest();
        check_hosts();
        check_mdev();
        check_queues();
        check_control_domains();
        check_changed();
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
        const bool destination_migrates = destination_.kernel_migrates().value_or(false);
        report_.mode = options_.mode;
        if (options_.mode == Mode::automatic && source_.mode) {
            report_.mode = *source_.mode;
            report_.mode_reason =
                native() ? "the guest comes with its device" : "the guest comes without its device";
        } else if (options_.mode == Mode::automatic) {
            std::string obstacle;
            if (!source_.kernel_migrates) {
                obstacle = fmt::format("the kernel of {} is not known to migrate a vfio-ap device",
                                       source_.host.name);
            } else if (!*source_.kernel_migrates) {
                obstacle = fmt::format("the kernel of {} cannot migrate a vfio-ap device", source_.host.name);
            } else if (!destination_migrates) {
                obstacle = fmt::format("the kernel of {} cannot migrate a vfio-ap device", destination_.name);
            } else if (!source_.qemu_migrates.value_or(false) ||
                       !destination_.qemu_migrates().value_or(false)) {
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
            // the source's has to stand for both. A stream shows what its writer expects.
            const bool shown =
                std::any_of(destination_.mdevs.begin(), destination_.mdevs.end(), has_attribute);
            const bool compares =
                shown || (source_.has_migratable && (destination_.mdevs.empty() || source_.stream));
            report_.profile = compares ? Profile::compare : Profile::restore;
        }
    }

    void check_guest() {
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
            if (native()) finding.kernel_lines = {message_line("secure-host", {})};
            finding.remedies = advise(side, "use a host that is an LPAR or an ordinary guest");
        }
        if (!destination_.vfio_ap) findings().push_back(driver_missing(destination_, Side::destination));
        if (!native()) return;
        if (source_.stream) {
            check_stream();
            return;
        }
        const bool source_lacks = source_.kernel_migrates == false;
        const bool destination_lacks = destination_.kernel_migrates() == false;
        if (source_lacks || destination_lacks) {
            const Side side = source_lacks && destination_lacks ? Side::both
                              : source_lacks                    ? Side::source
                                                                : Side::destination;
            auto& finding =
                add(RuleId::kernel_no_migration, side,
                    side == Side::both ? "neither kernel can migrate a vfio-ap device"
                                       : fmt::format("the kernel of {} cannot migrate a vfio-ap device",
                                                     source_lacks ? source_.host.name : destination_.name));
            finding.remedies = without_native(side);
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

    /// What a guest can do that cannot be migrated with its device.
    [[nodiscard]] static std::vector<Remedy> without_native(Side side) {
        auto remedies =
            advise(side, "detach the device, migrate, attach it again: check with --mode detached");
        remedies.push_back(
            {Side::source,
             "where only QEMU is to be renewed, the guest can stay: check with --mode live-update",
             {}});
        return remedies;
    }

    /// What is known of the drivers when a stream is at hand.
    void check_stream() {
        if (destination_.kernel_migrates() == false) {
            // The stream is checked for the day that it can.
            auto& finding =
                add(RuleId::kernel_no_migration, Side::destination,
                    fmt::format("the kernel of {} does not take any stream yet", destination_.name));
            finding.severity = Severity::warning;
            finding.remedies =
                advise(Side::destination, "use a kernel whose vfio_ap has the feature migratable");
        }
        auto& finding = add(RuleId::kernel_layout, Side::destination,
                            fmt::format("which layout the driver of {} reads cannot be seen from outside",
                                        destination_.name));
        finding.source = *source_.stream;
        finding.destination = "unknown";
        // Drivers v1 and v2 write and read l1, all later ones another.
        if (restoring() == (*source_.stream == "l1")) {
            finding.severity = Severity::warning;
            finding.message = fmt::format("a driver of profile {} does not read layout {}",
                                          restoring() ? "restore" : "compare", *source_.stream);
            finding.destination = restoring() ? "l2, l2b or l3" : "l1";
            finding.remedies = advise(Side::both, "use the same kernel on both hosts");
        }
    }

    void check_qemu() {
        for (const bool known : {true, false}) {
            const auto lacks = [known](std::optional<bool> able) {
                return known ? able == false : !able.has_value();
            };
            const bool at_source = lacks(source_.qemu_migrates);
            const bool at_destination = lacks(destination_.qemu_migrates());
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
            finding.remedies = without_native(side);
        }
    }

    [[nodiscard]] MdevContents wanted() const { return wanted_contents(source_, destination_); }
    [[nodiscard]] MdevContents superfluous() const {
        return superfluous_contents(source_, *mdev_, destination_);
    }

    /// What the guest has where that is the whole truth, else null.
    [[nodiscard]] const MdevContents* whole() {
        if (!source_.configuration_known || !source_.control_domains_known) return nullptr;
        if (!whole_) whole_ = wanted();
        return &*whole_;
    }

    void check_mdev() {
        if (mdev_ == nullptr) {
            if (unread("devices/vfio_ap/matrix") || unread("bus/mdev/devices")) return;
            auto& finding = add(RuleId::mdev_missing, Side::destination,
                                fmt::format("{} has no mdev {}", destination_.name, uuid().to_string()));
            finding.remedies =
                create_mdev(destination_, uuid(), set_up_beforehand() ? wanted() : MdevContents{});
            if (options_.mdev_on_demand) finding.severity = Severity::warning;
            return;
        }
        if (options_.incoming || source_.host.location == destination_.location) return;
        // All queues that a guest has say so; the first page of them is enough.
        const auto queues = mdev_->guest_matrix ? *mdev_->guest_matrix : mdev_->matrix();
        if (std::any_of(queues.begin(), queues.end(), [&](Apqn apqn) {
                const Queue* const queue = destination_.find_queue(apqn);
                return queue != nullptr && queue->status == QueueStatus::in_use;
            })) {
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
        GuestMatrix matrix;
        if (mdev_ != nullptr && set_up_beforehand()) matrix = guest_matrix_of(destination_, *mdev_);
        const bool matrix_known = matrix.origin != GuestMatrix::Origin::unknown;
        HardwareCheck hardware{uuid(), report_.mode, report_.profile};
        KeyCheck keys{source_.configuration.queues.size(), source_.host.name, destination_.name};
        const Queue* next = destination_.queues.data();
        const Queue* const last = next + destination_.queues.size();
        const Apqn* passed = matrix.queues.data();
        const Apqn* const last_passed = passed + matrix.queues.size();
        // Memory is what this loop waits for: the largest guest and host are read once, and the report's own
        // lists are made on the way.
        report_.queues.resize(source_.configuration.queues.size());
        Apqn* out = report_.queues.data();
        std::array<bool, ap_devices> domains{};
        std::vector<std::size_t> rivals;  // of this adapter
        const bool ask_matrix = mdev_ != nullptr && set_up_beforehand() && matrix_known;
        // Of the card, which changes seldom.
        int adapter = -1;
        const Card* card = nullptr;
        bool card_off = false;
        bool card_stopped = false;
        std::optional<Hwinfo> card_hwinfo;
        for (const auto& ours : source_.configuration.queues) {
            const auto apqn = ours.apqn;
            if (apqn.apid() != adapter) {
                adapter = apqn.apid();
                adapters_.set(apqn.apid());
                rivals.clear();
                for (std::size_t i = 0; i < destination_.mdevs.size(); ++i) {
                    const auto& mdev = destination_.mdevs[i];
                    if (mdev.uuid != uuid() && mdev.adapters.test(apqn.apid())) rivals.push_back(i);
                }
                card = destination_.find_card(apqn.apid());
                card_off = card != nullptr && card->config == false;
                card_stopped = card != nullptr && card->chkstop == true;
                card_hwinfo = hwinfo_of(Queue{}, card);
            }
            *out++ = apqn;
            domains[apqn.apqi()] = true;
            while (next != last && next->apqn < apqn)
                ++next;
            const Queue* const theirs = next != last && next->apqn == apqn ? next : nullptr;
            for (const auto rival : rivals) {
                if (destination_.mdevs[rival].assigned(apqn)) elsewhere[rival].push_back(apqn);
            }
            const bool bound = theirs != nullptr && theirs->bound_to_vfio_ap();
            if (ask_matrix) {
                while (passed != last_passed && *passed < apqn)
                    ++passed;
                if (passed == last_passed || *passed != apqn) {
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
            if (card_off || theirs->config == false) deconfigured.push_back(apqn);
            if (card_stopped || theirs->chkstop == true) checkstopped.push_back(apqn);
            const auto hwinfo = theirs->ap_functions ? hwinfo_of(*theirs, card) : card_hwinfo;
            if (!hwinfo) {
                unknown_hardware_.push_back(apqn);
                if (ours.hwinfo) keys.compare(apqn, *ours.hwinfo, ours.master_keys.get(), theirs->mkvps());
                continue;
            }
            const Hwinfo mode = ours.hwinfo.value_or(*hwinfo);
            if (ours.hwinfo) hardware.compare(apqn, *ours.hwinfo, *hwinfo);
            if (mode.mode() == hwinfo->mode())
                keys.compare(apqn, mode, ours.master_keys.get(), theirs->mkvps());
        }
        for (unsigned i = 0; i < ap_devices; ++i)
            domains_.set(i, domains[i]);
        add_missing(std::move(missing));
        add_not_bound(std::move(not_bound));
        add_elsewhere(elsewhere);
        add_count(matrix, matrix_known);
        add_no_product();
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
            return {line("queue-not-available")};
        }
        if (mdev_ == nullptr) return {};
        return {line("not-in-matrix")};
    }

    /// By mdev.
    void add_elsewhere(std::vector<std::vector<Apqn>>& elsewhere) {
        for (std::size_t rival = 0; rival < elsewhere.size(); ++rival) {
            if (elsewhere[rival].empty()) continue;
            const auto& owner = destination_.mdevs[rival];
            auto& finding =
                add(RuleId::queue_assigned_elsewhere, Side::destination,
                    fmt::format("{}: {} assigned to another mdev, {}", destination_.name,
                                queues_are(elsewhere[rival].size(), "is", "are"), owner.uuid.to_string()));
            finding.destination = owner.uuid.to_string();
            if (native() && restoring()) {
                finding.kernel_lines = {message_line(
                    "already-assigned", {{"uuid", uuid().to_string()}, {"other", owner.uuid.to_string()}})};
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
        const bool differs = source_count != destination_count;
        if (extra.empty() && !(native() && differs)) return;
        auto& finding =
            add(RuleId::queue_count, Side::destination,
                native() && differs
                    ? fmt::format("the guest has {} at {} and would have {} at {}", count_of(source_count),
                                  source_.host.name, destination_count, destination_.name)
                    : fmt::format("{}: the mdev has {} that the guest did not have", destination_.name,
                                  count_of(extra.size())));
        finding.source = std::to_string(source_count);
        finding.destination = std::to_string(destination_count);
        if (native() && source_count > destination_count) {
            // Layout L1: 8 bytes and 16 for each queue.
            finding.kernel_lines = {
                message_line("config-size", {{"uuid", uuid().to_string()},
                                             {"x", std::to_string(8 + 16 * source_count)},
                                             {"y", std::to_string(8 + 16 * destination_count)}})};
        } else if (native() && differs) {
            finding.kernel_lines = {message_line("queue-count", {{"uuid", uuid().to_string()},
                                                                 {"x", std::to_string(source_count)},
                                                                 {"y", std::to_string(destination_count)}})};
        }
        if (!extra.empty()) {
            const auto adapters = adapters_of(extra) - adapters_;
            const auto domains = domains_of(extra) - domains_;
            finding.remedies = unassign(*mdev_, {adapters, domains, {}}, whole());
        } else {
            finding.remedies =
                advise(Side::destination, "give the mdev the queues that are named by the other findings");
        }
        finding.queues = std::move(extra);
    }

    /// A guest's queues are all that its adapters and domains make; others cannot be given to an mdev.
    void add_no_product() {
        const std::size_t product = std::size_t{adapters_.count()} * domains_.count();
        if (!restoring() || product == report_.queues.size()) return;
        auto& finding =
            add(RuleId::queue_count, Side::source,
                fmt::format("the guest has {}, which its adapters and domains do not make: restored, "
                            "the mdev would have {}",
                            count_of(report_.queues.size()), product));
        finding.source = std::to_string(report_.queues.size());
        finding.destination = std::to_string(product);
        finding.remedies = advise(Side::source, "save the configuration again: no driver writes such a one");
    }

    void add_not_assigned(std::vector<Apqn> queues) {
        if (queues.empty()) return;
        auto& finding = add(RuleId::queue_not_assigned, Side::destination,
                            fmt::format("{}: {} not assigned to the mdev", destination_.name,
                                        queues_are(queues.size(), "is", "are")));
        if (native()) finding.kernel_lines = {line("not-in-matrix")};
        const auto possible = wanted();
        const MdevContents missing{(possible.adapters & adapters_of(queues)) - mdev_->adapters,
                                   (possible.domains & domains_of(queues)) - mdev_->domains,
                                   {}};
        finding.remedies = missing.none()
                               ? advise(Side::destination,
                                        "use a host whose kernel knows such numbers: they are above its "
                                        "ap_max_adapter_id or ap_max_domain_id")
                               : exchange(*mdev_, superfluous(), missing, whole());
        finding.queues = std::move(queues);
    }

    /// A line of the kernel about this mdev, from the catalogue.
    [[nodiscard]] std::string line(std::string_view id) const {
        return message_line(id, {{"uuid", uuid().to_string()}});
    }

    /// Queues that are assigned and bound and yet would not reach the guest: the whole adapter fell to the
    /// filter.
    void add_filtered(std::vector<Apqn> queues, const GuestMatrix& matrix) {
        if (queues.empty()) return;
        std::vector<std::string> reasons;
        bool foreign = false;
        const auto adapters = adapters_of(queues);
        for (const auto& adapter : matrix.filtered) {
            if (!adapters.test(adapter.apid)) continue;
            reasons.push_back(fmt::format("adapter {}: {}", adapter_text(adapter.apid), to_text(adapter)));
            for (const auto culprit : adapter.culprits) {
                // The guest's own queues have findings of their own.
                if (!is_among(report_.queues, culprit)) foreign = true;
            }
        }
        auto& finding = add(RuleId::config_filtered, Side::destination,
                            fmt::format("{}: {} assigned but not passed through ({})", destination_.name,
                                        queues_are(queues.size(), "is", "are"),
                                        reasons.empty() ? "the kernel gives no reason"
                                                        : fmt::format("{}", fmt::join(reasons, "; "))));
        if (native()) finding.kernel_lines = {line("not-in-matrix")};
        if (foreign && source_.configuration_known) {
            // What the guest did not have need be neither there nor bound.
            finding.remedies = unassign(*mdev_, superfluous(), whole());
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
        if (!source_.control_domains_known) {
            auto& finding =
                add(RuleId::driver_laxer, Side::destination,
                    restoring() ? "the stream has no control domains: the guest would arrive without any"
                                : "the stream has no control domains: the guest gets those of the mdev");
            if (restoring()) finding.severity = Severity::warning;
            return;
        }
        const auto& wanted = source_.configuration.control_domains;
        const auto host = destination_.ap.value_or(ApBus{}).ap_control_domain_mask.effective();
        const auto not_in_host = destination_.ap ? wanted - host : wanted;
        if (!not_in_host.none()) {
            auto& finding =
                add(RuleId::control_domain_missing, Side::destination,
                    fmt::format("{} does not have {} control domain{} of the guest", destination_.name,
                                not_in_host.count(), not_in_host.count() == 1 ? "" : "s"));
            if (native() && restoring()) {
                finding.kernel_lines = {line("control-domain")};
            }
            finding.control_domains = not_in_host.bits();
            finding.remedies = advise(
                Side::destination, "assign the control domains to this LPAR at the HMC; no command does it");
        }
        if (native() && !restoring() && mdev_ != nullptr && mdev_->control_domains &&
            !(wanted - (*mdev_->control_domains & host)).none()) {
            auto& finding =
                add(RuleId::driver_laxer, Side::destination,
                    "drivers v1 and v2 do not compare control domains: the guest would arrive without them");
            finding.control_domains = (wanted - (*mdev_->control_domains & host)).bits();
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
            auto& finding =
                add(RuleId::control_domain_missing, Side::destination,
                    fmt::format("{}: {} control domain{} of the guest {} not assigned to the mdev",
                                destination_.name, not_assigned.count(), not_assigned.count() == 1 ? "" : "s",
                                not_assigned.count() == 1 ? "is" : "are"));
            finding.control_domains = not_assigned.bits();
            finding.remedies = assign(*mdev_, {{}, {}, not_assigned}, whole());
        }
        const auto extra = (*mdev_->control_domains & host) - wanted;
        if (!extra.none() && source_.configuration_known) {
            auto& finding =
                add(RuleId::control_domain_extra, Side::destination,
                    fmt::format("{}: the mdev has {} control domain{} that the guest did not have",
                                destination_.name, extra.count(), extra.count() == 1 ? "" : "s"));
            finding.control_domains = extra.bits();
            finding.remedies = unassign(*mdev_, {{}, {}, extra}, whole());
        }
    }

    /// A state that was written here, of a guest that was saved here or comes back: what its mdev gives may
    /// have changed meanwhile.
    void check_changed() {
        if (!source_.host.location.starts_with("state:") || source_.host.name != destination_.name ||
            mdev_ == nullptr || !source_.configuration_known) {
            return;
        }
        const auto now = guest_matrix_of(destination_, *mdev_);
        if (now.origin == GuestMatrix::Origin::unknown) return;
        // An mdev that waits to be filled.
        if (native() && restoring() && now.queues.empty()) return;
        std::vector<Apqn> changed;
        std::set_symmetric_difference(report_.queues.begin(), report_.queues.end(), now.queues.begin(),
                                      now.queues.end(), std::back_inserter(changed));
        const auto& before = source_.configuration.control_domains;
        const auto control_domains = (before - now.control_domains) | (now.control_domains - before);
        if (changed.empty() && control_domains.none()) return;
        auto& finding =
            add(RuleId::config_changed, Side::destination,
                fmt::format("{}: mdev {} does not give what it gave when the guest's state was written here",
                            destination_.name, uuid().to_string()));
        finding.source = count_of(report_.queues.size());
        finding.destination = count_of(now.queues.size());
        finding.queues = std::move(changed);
        finding.control_domains = control_domains.bits();
        finding.remedies = advise(Side::destination,
                                  "find out who changed the mdev; where it was meant, nothing is to be done");
    }

    void check_unreadable() {
        add_unreadable(destination_, Side::destination,
                       {uuid(), report_.queues, set_up_beforehand(), report_.mode},
                       std::move(unknown_hardware_), findings());
        if (native() && !source_.kernel_migrates) {
            auto& finding =
                add(RuleId::host_unreadable, Side::source,
                    fmt::format("whether the kernel of {} can migrate a vfio-ap device is not known",
                                source_.host.name));
            finding.remedies =
                advise(Side::source, "look at the features of the vfio_ap driver, then check again");
        }
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
            (leaves_undetermined(finding.rule) ? undetermined : incompatible) = true;
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
    std::optional<MdevContents> whole_;
    Mask adapters_;  // of the guest's queues
    Mask domains_;
    std::vector<Apqn> unknown_hardware_;
    Report report_;
};

}  // namespace

bool leaves_undetermined(RuleId rule) {
    return rule == RuleId::host_unreadable || rule == RuleId::config_truncated ||
           rule == RuleId::guest_state_missing;
}

Report check(const Guest& guest, const Source& source, const Inventory& destination,
             const CheckOptions& options) {
    return Check{guest, source, destination, options}.run();
}

}  // namespace vfioap
