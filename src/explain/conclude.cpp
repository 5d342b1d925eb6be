// SPDX-License-Identifier: LGPL-2.1-or-later
// From what the lines of an attempt told to its causes.
#include "ap/error.h"
#include "compat/findings.h"
#include "explain/attempt.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vfioap {
namespace {

/// What to do, and what shows it, where no inventory is at hand to fill in the numbers.
struct Advice {
    RuleId rule;
    Side host;
    std::string_view text;
    std::string_view command;  ///< that shows it; {uuid} {queue} {guest} {domain}
};

constexpr std::array advices{
    Advice{RuleId::queue_not_bound, Side::destination,
           "take the queue from the host's own drivers, by apmask and aqmask or driver_override, so that "
           "vfio_ap gets it",
           "ls -l /sys/bus/ap/devices/{queue}/driver"},
    Advice{RuleId::queue_missing, Side::destination,
           "assign the adapter and the domain to this LPAR at the HMC", "lszcrypt -V"},
    Advice{RuleId::queue_not_assigned, Side::destination,
           "assign the guest's adapters and domains to the mdev",
           "cat /sys/devices/vfio_ap/matrix/{uuid}/matrix"},
    Advice{
        RuleId::config_filtered, Side::destination,
        "have every queue of the adapter bound to vfio_ap: the kernel withholds the whole adapter otherwise",
        "cat /sys/devices/vfio_ap/matrix/{uuid}/guest_matrix"},
    Advice{RuleId::queue_count, Side::destination, "give the mdev the very queues of the guest",
           "cat /sys/devices/vfio_ap/matrix/{uuid}/guest_matrix"},
    Advice{RuleId::queue_assigned_elsewhere, Side::destination,
           "unassign the queue from the other mdev, if its guest can do without it",
           "grep . /sys/devices/vfio_ap/matrix/*/matrix"},
    Advice{RuleId::queue_checkstopped, Side::destination,
           "configure the card off and on at the HMC, or have it repaired", "lszcrypt -V"},
    Advice{RuleId::queue_deconfigured, Side::destination, "configure the card on", "lszcrypt -V"},
    Advice{RuleId::control_domain_missing, Side::destination,
           "assign the control domain to this LPAR at the HMC", "cat /sys/bus/ap/ap_control_domain_mask"},
    Advice{RuleId::mdev_missing, Side::destination,
           "create the mdev with the same UUID and assign the guest's queues",
           "ls /sys/devices/vfio_ap/matrix"},
    Advice{RuleId::mdev_in_use, Side::destination,
           "stop the guest that uses the mdev, or detach the device from it", "virsh list --all"},
    Advice{RuleId::mdev_not_migratable, Side::source, "allow the mdev to migrate",
           "cat /sys/devices/vfio_ap/matrix/{uuid}/migratable"},
    Advice{RuleId::qemu_no_migration, Side::source,
           "detach the device, migrate, attach it again at the destination: check with --mode detached", ""},
    Advice{RuleId::kernel_no_migration, Side::source,
           "detach the device, migrate, attach it again at the destination: check with --mode detached",
           "cat /sys/devices/vfio_ap/matrix/features"},
    Advice{RuleId::guest_secure_execution, Side::source,
           "shut the guest down and start it at the destination", ""},
    Advice{RuleId::host_secure_execution, Side::both, "use a host that is an LPAR or an ordinary guest",
           "cat /sys/firmware/uv/prot_virt_guest"},
    Advice{RuleId::host_unreadable, Side::destination, "look at the queue and the kernel log", "lszcrypt -V"},
    Advice{RuleId::queue_type, Side::destination, "use a card of the same type or a newer one",
           "lszcrypt -V"},
    Advice{RuleId::queue_mode, Side::destination,
           "change the mode of the card at the HMC, or use another destination", "lszcrypt -V"},
    Advice{RuleId::queue_class, Side::destination, "give the LPAR the adapter with the same functions",
           "lszcrypt -V"},
    Advice{RuleId::queue_bs, Side::both,
           "release the queue in the Secure Execution guest that has bound it (se_bind), or reset it",
           "cat /sys/bus/ap/devices/{queue}/ap_functions"},
    Advice{RuleId::driver_stricter, Side::both,
           "detach the device, migrate, attach it again, or use a kernel with a later driver",
           "cat /sys/bus/ap/devices/*/ap_functions"},
    Advice{RuleId::kernel_layout, Side::both, "use the same kernel on both hosts", "uname -r"},
};

const Advice* advice_for(RuleId rule) {
    const auto* const found = std::find_if(advices.begin(), advices.end(),
                                           [rule](const Advice& advice) { return advice.rule == rule; });
    return found == advices.end() ? nullptr : found;
}

bool overlap(const std::vector<Apqn>& a, const std::vector<Apqn>& b) {
    if (a.empty() || b.empty()) return true;
    return std::any_of(a.begin(), a.end(),
                       [&](Apqn queue) { return std::binary_search(b.begin(), b.end(), queue); });
}

std::string named(const std::vector<Apqn>& queues) {
    std::vector<std::string> words;
    for (const auto queue : queues) {
        if (words.size() == 4) break;
        words.push_back(queue.to_string());
    }
    auto text = fmt::format("{}", fmt::join(words, " "));
    if (queues.size() > words.size()) text += fmt::format(" and {} more", queues.size() - words.size());
    return text;
}

class Conclusion {
  public:
    Conclusion(const Attempt& attempt, const ExplainContext& context)
        : attempt_{attempt}, context_{context} {}

    Migration run() {
        out_.guest = attempt_.guest.empty() ? context_.guest : attempt_.guest;
        out_.mdev = attempt_.mdev;
        if (!out_.mdev && context_.mdevs.size() == 1) out_.mdev = context_.mdevs.front();
        out_.source_host = attempt_.source_host.empty() ? context_.source : attempt_.source_host;
        out_.destination_host =
            attempt_.destination_host.empty() ? context_.destination : attempt_.destination_host;
        out_.evidence = attempt_.evidence;
        // A source that refuses leaves a destination behind that fails for want of a guest.
        out_.outcome = attempt_.kernel_seen || attempt_.error != 0 ? AttemptOutcome::failed
                       : attempt_.refused                          ? AttemptOutcome::refused
                       : attempt_.failed                           ? AttemptOutcome::failed
                       : attempt_.completed                        ? AttemptOutcome::completed
                                                                   : AttemptOutcome::unknown;
        add_drafts();
        add_headlines();
        if (out_.causes.empty()) add_candidates();
        if (out_.outcome != AttemptOutcome::completed) ask_inventories();
        for (auto& cause : out_.causes)
            if (cause.remedies.empty()) advise_generally(cause);
        std::stable_sort(out_.causes.begin(), out_.causes.end(),
                         [](const Cause& a, const Cause& b) { return a.confidence < b.confidence; });
        add_missing();
        return std::move(out_);
    }

  private:
    [[nodiscard]] std::string uuid() const { return out_.mdev ? out_.mdev->to_string() : "UUID"; }
    [[nodiscard]] std::string guest() const { return out_.guest.empty() ? "GUEST" : out_.guest; }
    [[nodiscard]] std::string where(Side side) const {
        if (side == Side::both) return "on both hosts";
        const auto& name = side == Side::source ? out_.source_host : out_.destination_host;
        if (!name.empty()) return "on " + name;
        return side == Side::source ? "on the source" : "on the destination";
    }

    void add_drafts() {
        for (const auto& key : attempt_.order) {
            const auto& draft = attempt_.drafts.at(key);
            if (draft.message->kind != MessageKind::refused) continue;
            add_draft(draft);
        }
        for (const auto& key : attempt_.order) {
            const auto& draft = attempt_.drafts.at(key);
            if (draft.message->kind == MessageKind::refused) continue;
            if (is_harmless_type(draft)) continue;
            add_draft(draft);
        }
        // Equal types stand beside every reason; alone they mean that the driver wanted more than the rule.
        if (!out_.causes.empty()) return;
        for (const auto& key : attempt_.order)
            if (is_harmless_type(attempt_.drafts.at(key))) add_draft(attempt_.drafts.at(key));
    }

    static bool is_harmless_type(const Draft& draft) {
        return draft.rules.size() == 1 && draft.rules.front() == RuleId::driver_stricter &&
               draft.line.empty();
    }

    void add_draft(const Draft& draft) {
        const auto queues = draft.queues.sorted();
        std::string text = draft.text;
        if (!draft.facility.empty()) {
            text = fmt::format("{} is {} at the source and {} at the destination", draft.facility,
                               draft.source_has ? "there" : "not there", draft.source_has ? "not" : "there");
            // The modes of one queue exclude each other, and two lines tell of one change.
            for (auto& cause : out_.causes) {
                if (cause.rule != RuleId::queue_mode || draft.rules.front() != RuleId::queue_mode ||
                    cause.queues != queues)
                    continue;
                cause.message += "; " + text;
                for (const auto& evidence : draft.evidence)
                    if (cause.evidence.size() < Explainer::most_evidence) cause.evidence.push_back(evidence);
                return;
            }
        }
        for (std::size_t i = 0; i < draft.rules.size(); ++i) {
            Cause cause;
            cause.rule = draft.rules[i];
            cause.host = draft.message->host;
            cause.queues = queues;
            cause.control_domains.assign(draft.domains.begin(), draft.domains.end());
            cause.confidence = draft.rules.size() == 1 ? Certainty::certain
                               : i == 0                ? Certainty::likely
                                                       : Certainty::possible;
            cause.evidence = draft.evidence;
            cause.remedies = draft.remedies;
            cause.message = draft.line.empty() ? message_of(draft, text, queues) : draft.line;
            if (cause.message.empty()) cause.message = broken(cause.rule);
            if (draft.rules.size() > 1) cause.message += fmt::format(": {}", alternative(cause.rule));
            out_.causes.push_back(std::move(cause));
        }
    }

    static std::string message_of(const Draft& draft, const std::string& text,
                                  const std::vector<Apqn>& queues) {
        if (!draft.domains.empty()) {
            std::string domains;
            for (const auto domain : draft.domains)
                domains += ' ' + domain_text(domain);
            return fmt::format("control domain{}{}: {}", draft.domains.size() == 1 ? "" : "s", domains, text);
        }
        return queues.empty() ? text : fmt::format("{}: {}", count_of(queues.size()), text);
    }

    static std::string broken(RuleId id) { return fmt::format("by this rule: {}", rule(id).title); }

    /// What tells apart the rules that one line can mean.
    static std::string_view alternative(RuleId id) {
        switch (id) {
            case RuleId::queue_not_bound:
                return "bound to another driver, or to none";
            case RuleId::queue_missing:
                return "not there at all";
            case RuleId::queue_not_assigned:
                return "not assigned to it";
            case RuleId::config_filtered:
                return "assigned, but withheld with its whole adapter";
            case RuleId::driver_stricter:
                return "drivers v1 and v2 want all functions equal, also those that the rule lets differ";
            case RuleId::queue_class:
                return "of another class at the destination";
            default:
                return rule(id).title;
        }
    }

    /// Queues that do not fit and of which no line says why.
    void add_headlines() {
        if (!attempt_.has_headlines) return;
        std::vector<Apqn> open;
        for (const auto queue : attempt_.headlines.sorted()) {
            const bool told = std::any_of(out_.causes.begin(), out_.causes.end(), [&](const Cause& cause) {
                return cause.confidence != Certainty::possible && !cause.queues.empty() &&
                       std::binary_search(cause.queues.begin(), cause.queues.end(), queue);
            });
            if (!told) open.push_back(queue);
        }
        if (open.empty()) return;
        unexplained_ = open;
        const auto* const meaning = errno_meaning(EFAULT);
        bool first = true;
        for (const auto id : meaning->rules) {
            Cause cause;
            cause.rule = id;
            cause.queues = open;
            cause.confidence = first && attempt_.drafts.empty() ? Certainty::likely : Certainty::possible;
            first = false;
            cause.message = fmt::format("{}: {}; the line that says why is lost ({})", count_of(open.size()),
                                        message("queues-incompatible").meaning, rule(id).title);
            cause.evidence = attempt_.headline_evidence;
            out_.causes.push_back(std::move(cause));
        }
    }

    /// Nothing but an errno.
    void add_candidates() {
        if (attempt_.error == 0 || (!attempt_.other_device.empty() && !attempt_.about_vfio_ap)) return;
        const auto* const meaning = errno_meaning(attempt_.error);
        if (meaning == nullptr) return;
        candidates_ = true;
        bool first = true;
        for (const auto id : meaning->rules) {
            Cause cause;
            cause.rule = id;
            const auto* const advice = advice_for(id);
            cause.host = advice != nullptr ? advice->host : Side::destination;
            cause.confidence = first && (meaning->typical || attempt_.about_vfio_ap) ? Certainty::likely
                                                                                     : Certainty::possible;
            first = false;
            cause.message =
                fmt::format("{} ({}) is what a driver answers by this rule: {}", errno_text(attempt_.error),
                            errno_name(attempt_.error), rule(id).title);
            cause.evidence = attempt_.evidence;
            out_.causes.push_back(std::move(cause));
        }
    }

    /// Compares with what vfioap-check says of the two hosts' inventories.
    void ask_inventories() {
        if (!context_.judge) return;
        const auto profile = attempt_.profile_clashes ? Profile::automatic : attempt_.profile;
        const auto report = context_.judge(out_.guest, out_.mdev, profile);
        if (!report) return;
        asked_ = true;
        const auto shows = [&](const Cause& cause) {
            std::vector<const Finding*> found;
            for (const auto& finding : report->findings) {
                if (finding.rule != cause.rule || !overlap(cause.queues, finding.queues)) continue;
                if (finding.severity == Severity::info) continue;
                // What nobody knows explains nothing.
                if (finding.rule == RuleId::qemu_no_migration && finding.severity != Severity::error)
                    continue;
                found.push_back(&finding);
            }
            return found;
        };
        std::vector<std::vector<const Finding*>> found;
        for (const auto& cause : out_.causes)
            found.push_back(shows(cause));
        // Of what the same lines leave open, the hosts choose; of queues that they show nothing of, nothing
        // is left out.
        std::vector<Cause> kept;
        for (std::size_t i = 0; i < found.size(); ++i) {
            auto cause = out_.causes[i];
            if (cause.confidence != Certainty::certain && drop_superseded(cause, i, found)) continue;
            if (found[i].empty()) {
                if (cause.confidence == Certainty::certain) note_unshown(cause);
                kept.push_back(std::move(cause));
            } else {
                add_shown(std::move(cause), found[i], kept);
            }
        }
        out_.causes = std::move(kept);
    }

    void note_unshown(const Cause& cause) {
        if (cause.rule == RuleId::qemu_no_migration) return;
        unshown_.push_back(cause.queues.empty()
                               ? std::string{rule(cause.rule).name}
                               : fmt::format("{} of {}", rule(cause.rule).name, named(cause.queues)));
    }

    static bool is_shown(const std::vector<const Finding*>& findings, Apqn queue) {
        return std::any_of(findings.begin(), findings.end(), [queue](const Finding* finding) {
            return finding->queues.empty() ||
                   std::binary_search(finding->queues.begin(), finding->queues.end(), queue);
        });
    }

    /// Takes from a cause the queues that another cause of the same lines has by the inventories; true:
    /// nothing is left.
    bool drop_superseded(Cause& cause, std::size_t own,
                         const std::vector<std::vector<const Finding*>>& found) const {
        if (!found[own].empty()) return false;
        const auto queues = cause.queues.size();
        for (std::size_t i = 0; i < found.size(); ++i) {
            if (found[i].empty() || out_.causes[i].evidence != cause.evidence) continue;
            if (cause.queues.empty()) return true;
            cause.queues.erase(std::remove_if(cause.queues.begin(), cause.queues.end(),
                                              [&](Apqn queue) { return is_shown(found[i], queue); }),
                               cause.queues.end());
        }
        return queues > 0 && cause.queues.empty();
    }

    /// The cause of the queues that `findings` show, with their remedies, and what is left of it.
    void add_shown(Cause cause, const std::vector<const Finding*>& findings, std::vector<Cause>& causes) {
        shown_ = true;
        Cause rest = cause;
        rest.queues.clear();
        for (const auto queue : cause.queues)
            if (!is_shown(findings, queue)) rest.queues.push_back(queue);
        const bool any_queue = cause.queues.empty();
        cause.queues.erase(std::remove_if(cause.queues.begin(), cause.queues.end(),
                                          [&](Apqn queue) { return !is_shown(findings, queue); }),
                           cause.queues.end());
        if (cause.confidence != Certainty::certain)
            cause.confidence = candidates_ ? Certainty::likely : Certainty::certain;
        for (const auto* const finding : findings) {
            if (any_queue)
                cause.queues.insert(cause.queues.end(), finding->queues.begin(), finding->queues.end());
            if (cause.control_domains.empty()) cause.control_domains = finding->control_domains;
            cause.message += fmt::format(" (the inventories show it: {})", finding->message);
            cause.remedies.insert(cause.remedies.end(), finding->remedies.begin(), finding->remedies.end());
        }
        std::sort(cause.queues.begin(), cause.queues.end());
        causes.push_back(std::move(cause));
        if (rest.queues.empty()) return;
        note_unshown(rest);
        causes.push_back(std::move(rest));
    }

    void advise_generally(Cause& cause) const {
        const auto* const advice = advice_for(cause.rule);
        if (advice == nullptr) {
            // Facilities.
            cause.remedies = {{cause.host, "use cards with the same facilities and firmware", {}}};
            return;
        }
        Remedy remedy{advice->host == Side::both ? cause.host : advice->host, std::string{advice->text}, {}};
        if (cause.rule == RuleId::mdev_not_migratable && out_.mdev)
            remedy.commands = {fmt::format("echo 1 > /sys/devices/vfio_ap/matrix/{}/migratable", uuid())};
        cause.remedies = {std::move(remedy)};
    }

    [[nodiscard]] std::string shown_by(const Cause& cause) const {
        const auto* const advice = advice_for(cause.rule);
        if (advice == nullptr || advice->command.empty()) return {};
        const auto queue = cause.queues.empty() ? std::string{"XX.YYYY"} : cause.queues.front().to_string();
        return fill(advice->command, {{"uuid", uuid()}, {"queue", queue}, {"guest", guest()}});
    }

    void miss(std::string text) {
        auto& list = out_.missing;
        if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(std::move(text));
    }

    [[nodiscard]] std::string check_command() const {
        return fmt::format("vfioap-check {} -s SOURCE.json -d DESTINATION.json",
                           out_.outcome == AttemptOutcome::refused ? guest() : "--mode native " + guest());
    }

    void add_missing() {
        if (!attempt_.other_device.empty() && !attempt_.about_vfio_ap && out_.causes.empty()) {
            miss(fmt::format(
                "the lines are about another device than vfio-ap, {}: look for its own reasons in the log "
                "of QEMU {}: less /var/log/libvirt/qemu/{}.log",
                attempt_.other_device, where(Side::destination), guest()));
            return;
        }
        if (out_.outcome == AttemptOutcome::completed) {
            miss(
                "nothing failed that is in the log; no kernel compares master keys, so if secure keys fail "
                "in the "
                "guest, compare them: " +
                fmt::format("vfioap-check {} -s SOURCE.json -d DESTINATION.json", guest()));
            return;
        }
        if (out_.outcome == AttemptOutcome::unknown) {
            miss(
                fmt::format("how it ended: what virsh printed, or the log of QEMU on both hosts: less "
                            "/var/log/libvirt/qemu/{}.log",
                            guest()));
        }
        if (out_.outcome == AttemptOutcome::refused && attempt_.by_hook && attempt_.drafts.empty()) {
            miss(fmt::format(
                "what the hook said; it stands behind the line in what virsh printed, and {}: journalctl "
                "-t vfioap-hook --since -1h",
                where(Side::destination)));
        }
        if (out_.outcome == AttemptOutcome::refused && out_.causes.empty() && !attempt_.by_hook) {
            miss(fmt::format("why libvirt refused it: {}: virsh migrate --live {} DESTINATION",
                             where(Side::source), guest()));
        }
        if (out_.outcome == AttemptOutcome::failed && !attempt_.kernel_seen) {
            miss(fmt::format(
                "the kernel's lines, which name queue and reason; {}: journalctl -k --since -1h -g "
                "vfio_ap",
                where(Side::destination)));
        }
        if (!unexplained_.empty()) {
            miss(fmt::format(
                "the line that says why, for {}: the kernel's rate limit or a filter took it; {}: "
                "journalctl -k --since -1h -g 'facility|AP type|functions|Bind'",
                named(unexplained_), where(Side::destination)));
        }
        for (const auto& cause : out_.causes) {
            if (cause.confidence == Certainty::certain || out_.missing.size() >= 8) continue;
            const auto command = shown_by(cause);
            if (!command.empty())
                miss(fmt::format("whether it is {}; {}: {}", rule(cause.rule).name, where(cause.host),
                                 command));
        }
        for (const auto& unshown : unshown_) {
            miss(
                fmt::format("the inventories do not show {}: something has changed between them and the "
                            "failure; take new ones on "
                            "both hosts: vfioapctl snapshot -o HOST.json",
                            unshown));
        }
        if (asked_ && !shown_ && unshown_.empty()) {
            miss(
                "the inventories do not explain it: something else must have changed between them and the "
                "failure; "
                "take new ones on both hosts: vfioapctl snapshot -o HOST.json");
        }
        if (!asked_ && out_.outcome != AttemptOutcome::completed) {
            miss(fmt::format(
                "what both hosts have, for remedies with the numbers filled in; on each: vfioapctl "
                "snapshot -o HOST.json; then: {}",
                check_command()));
        }
    }

    const Attempt& attempt_;
    const ExplainContext& context_;
    Migration out_;
    std::vector<Apqn> unexplained_;
    std::vector<std::string> unshown_;
    bool candidates_ = false;
    bool asked_ = false;
    bool shown_ = false;
};

}  // namespace

Migration conclude(const Attempt& attempt, const ExplainContext& context) {
    return Conclusion{attempt, context}.run();
}

}  // namespace vfioap
