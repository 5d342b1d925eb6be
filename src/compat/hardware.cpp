// SPDX-License-Identifier: LGPL-2.1-or-later
#include "compat/hardware.h"

#include "compat/findings.h"
#include "compat/messages.h"
#include "compat/remedies.h"

#include <string_view>

#include <fmt/format.h>

namespace vfioap {
namespace {

/// A facility that is there or not.
struct Facility {
    RuleId rule;
    std::string_view name;
    std::string_view messages;   // what the ids of the kernel's messages begin with
    std::string_view installed;  // `installed` or `available`
    unsigned bit;                // for those of mode: the bit of Hwinfo::mode()
};

constexpr std::array<Facility, 5> facilities{{
    {RuleId::queue_apsc, "APSC", "apsc", "installed", 0},
    {RuleId::queue_ap4km, "AP4KM", "ap4km", "installed", 0},
    {RuleId::queue_ap4kc, "AP4KC", "ap4kc", "installed", 0},
    {RuleId::queue_apxa, "APXA", "apxa", "installed", 0},
    {RuleId::queue_slcf, "SLCF", "slcf", "available", 0},
}};

constexpr std::array<Facility, 3> modes{{
    {RuleId::queue_mode, "CCA", "cca", "installed", 4},
    {RuleId::queue_mode, "accelerator", "accelerator", "installed", 2},
    {RuleId::queue_mode, "EP11", "ep11", "installed", 1},
}};

const Facility* facility_of(RuleId rule) {
    for (const auto& facility : facilities) {
        if (facility.rule == rule) return &facility;
    }
    return nullptr;
}

std::string has_text(const Facility& facility, bool has) {
    return fmt::format("{}{}", has ? "" : "not ", facility.installed);
}

std::string adapters_text(const std::vector<Apqn>& queues) {
    const auto adapters = adapters_of(queues);
    std::string text = adapters.count() == 1 ? "adapter" : "adapters";
    for (const auto apid : adapters.bits())
        text += ' ' + adapter_text(apid);
    return text;
}

}  // namespace

void HardwareCheck::compare_unequal(Apqn apqn, Hwinfo ours, Hwinfo theirs) {
    bool differs = false;
    const auto note = [&](RuleId rule, unsigned a, unsigned b) {
        add(rule, a, b, apqn, ours, theirs);
        differs = true;
    };
    if (ours.apsc() != theirs.apsc()) note(RuleId::queue_apsc, ours.apsc(), theirs.apsc());
    if (ours.mex4k() != theirs.mex4k()) note(RuleId::queue_ap4km, ours.mex4k(), theirs.mex4k());
    if (ours.crt4k() != theirs.crt4k()) note(RuleId::queue_ap4kc, ours.crt4k(), theirs.crt4k());
    if (ours.mode() != theirs.mode()) note(RuleId::queue_mode, ours.mode(), theirs.mode());
    if (ours.apxa() != theirs.apxa()) note(RuleId::queue_apxa, ours.apxa(), theirs.apxa());
    if (ours.slcf() != theirs.slcf()) note(RuleId::queue_slcf, ours.slcf(), theirs.slcf());
    if (theirs.at() < ours.at()) note(RuleId::queue_type, ours.at(), theirs.at());
    if (ours.klass() != theirs.klass() && !(ours.stateless_only() && theirs.native())) {
        note(RuleId::queue_class, ours.klass(), theirs.klass());
    }
    const bool bs = ours.bs() != 0 || theirs.bs() != 0;
    if (bs) add(RuleId::queue_bs, ours.bs(), theirs.bs(), apqn, ours, theirs);
    if (profile_) compare_with_drivers(apqn, ours, theirs, differs, bs);
}

/// v1 and v2 (compare) and v3 and v4 as posted (restore) want all 32 upper bits equal. For v1 and v2 those
/// are the card's, so that the bind state of a queue is not seen at all; v3 and v4 see it, and let equal ones
/// pass.
void HardwareCheck::compare_with_drivers(Apqn apqn, Hwinfo ours, Hwinfo theirs, bool differs, bool bs) {
    if (differs) return;
    constexpr std::uint64_t bs_bits = 0x0000'c000'0000'0000;
    const std::uint64_t upper = (ours.value() ^ theirs.value()) & Hwinfo::upper_bits;
    // As `ap_functions` prints it.
    const auto a = static_cast<std::uint32_t>(ours.value() >> 32U);
    const auto b = static_cast<std::uint32_t>(theirs.value() >> 32U);
    if (bs) {
        const bool passes = profile_ == Profile::compare ? (upper & ~bs_bits) == 0 : upper == 0;
        if (passes) add(RuleId::driver_laxer, ours.bs(), theirs.bs(), apqn, ours, theirs);
    } else if (upper != 0) {
        add(RuleId::driver_stricter, a, b, apqn, ours, theirs);
    }
}

void HardwareCheck::add(RuleId rule, std::uint32_t source, std::uint32_t destination, Apqn apqn, Hwinfo ours,
                        Hwinfo theirs) {
    const auto slot = static_cast<std::size_t>(rule);
    if (const auto last = last_[slot]; last != no_group) {
        auto& group = groups_[last];
        if (group.source == source && group.destination == destination) {
            group.one_type =
                group.one_type && group.source_type == ours.at() && group.destination_type == theirs.at();
            group.queues.push_back(apqn);
            return;
        }
    }
    const auto [found, fresh] = index_.try_emplace({rule, source, destination}, groups_.size());
    if (fresh) groups_.push_back({rule, source, destination, {}, ours.at(), theirs.at(), true});
    auto& group = groups_[found->second];
    last_[slot] = found->second;
    group.one_type =
        group.one_type && group.source_type == ours.at() && group.destination_type == theirs.at();
    group.queues.push_back(apqn);
}

Severity HardwareCheck::severity(const Group& group) const {
    const auto& entry = vfioap::rule(group.rule);
    if (mode_ == Mode::native) {
        // Both versions of profile compare refuse; of profile restore only the drafts.
        if (group.rule == RuleId::driver_stricter && profile_ == Profile::compare) return Severity::error;
        return entry.native.value_or(Severity::info);
    }
    // Attached anew at the destination, only what the queue is there counts.
    if (group.rule == RuleId::queue_bs && group.destination == 0) return Severity::warning;
    return entry.detached.value_or(Severity::info);
}

std::vector<std::string> HardwareCheck::kernel_lines(const Group& group) const {
    if (!profile_) return {};
    const bool compare = profile_ == Profile::compare;
    const auto& uuid = mdev_.to_string();
    std::vector<std::string> lines{
        message_line("queues-incompatible", {{"uuid", uuid}, {"queues", "{queue}"}})};
    const auto add = [&](std::string_view id, bool has) {
        lines.push_back(message_line(id, {{"uuid", uuid}, {"not", has ? "" : "not "}}));
    };
    if (const auto* const facility = facility_of(group.rule)) {
        add(fmt::format("{}-source", facility->messages), group.source != 0);
        add(fmt::format("{}-target", facility->messages), group.destination != 0);
    } else if (group.rule == RuleId::queue_mode) {
        for (const auto& mode : modes) {
            const bool source = (group.source & mode.bit) != 0;
            const bool target = (group.destination & mode.bit) != 0;
            if (source == target) continue;
            // Before the newest driver these had a wording of their own.
            const bool coprocessor = mode.bit == 4;
            add(fmt::format("{}-source{}", mode.messages, compare && !coprocessor ? "-old" : ""), source);
            add(fmt::format("{}-target{}", mode.messages,
                            !compare      ? ""
                            : coprocessor ? "-blanks"
                                          : "-old"),
                target);
        }
    } else if (group.rule == RuleId::queue_class) {
        if ((group.source & 0x80U) != 0 && (group.destination & 0xc0U) == 0x40U) {
            add("class-source", true);
            add("class-target", true);
        }
    } else if (group.rule == RuleId::queue_bs) {
        // Drivers of profile compare look at the card, which has no bind state.
        if (compare) return {};
        lines.push_back(message_line("bs", {{"uuid", uuid},
                                            {"x", fmt::format("{:x}", group.source)},
                                            {"y", fmt::format("{:x}", group.destination)}}));
    } else if (group.rule == RuleId::driver_laxer || (group.rule == RuleId::driver_stricter && !compare)) {
        // The newest driver of the profile has nothing to say here.
        return {};
    }
    if ((compare && group.one_type) || group.rule == RuleId::queue_type) {
        lines.push_back(message_line("type", {{"uuid", uuid},
                                              {"x", fmt::format("{:02x}", group.source_type)},
                                              {"y", fmt::format("{:02x}", group.destination_type)}}));
    }
    return lines;
}

void HardwareCheck::move_to(std::vector<Finding>& findings, const std::string& source,
                            const std::string& destination) {
    for (auto& group : groups_) {
        Finding finding;
        finding.rule = group.rule;
        finding.severity = severity(group);
        finding.host = Side::destination;
        finding.kernel_lines = kernel_lines(group);
        const auto count = count_of(group.queues.size());
        const auto adapters = adapters_text(group.queues);
        const bool one = group.queues.size() == 1;
        const auto* const facility = facility_of(group.rule);
        if (facility != nullptr) {
            finding.source = has_text(*facility, group.source != 0);
            finding.destination = has_text(*facility, group.destination != 0);
            finding.message = fmt::format("{}: {} is {} at {} and {} at {}", count, facility->name,
                                          finding.source, source, finding.destination, destination);
            finding.remedies = advise(
                Side::destination, fmt::format("use a card with the same facilities and firmware as {} at {}",
                                               adapters, source));
        } else if (group.rule == RuleId::queue_mode) {
            finding.source = mode_text(group.source);
            finding.destination = mode_text(group.destination);
            finding.message =
                fmt::format("{} {} another mode at {}: {} instead of {}", count, one ? "has" : "have",
                            destination, finding.destination, finding.source);
            finding.remedies =
                advise(Side::destination,
                       fmt::format("change the mode of {} to {} at the HMC (configure it off before), or use "
                                   "another destination; no command does it",
                                   adapters, finding.source));
        } else if (group.rule == RuleId::queue_type) {
            finding.source = ap_type_text(group.source);
            finding.destination = ap_type_text(group.destination);
            finding.message =
                fmt::format("{} {} on an older card at {}: {} instead of {}", count, one ? "is" : "are",
                            destination, finding.destination, finding.source);
            finding.remedies =
                advise(Side::destination,
                       fmt::format("use {} or newer as {}: assign such a card to the LPAR at the HMC; no "
                                   "command does it",
                                   finding.source, adapters));
        } else if (group.rule == RuleId::queue_class) {
            finding.source = class_text(group.source);
            finding.destination = class_text(group.destination);
            finding.message =
                fmt::format("{} {} of another class at {}: {} instead of {}", count, one ? "is" : "are",
                            destination, finding.destination, finding.source);
            finding.remedies =
                advise(Side::destination,
                       fmt::format("give the LPAR {} with the same functions as at {}; no command does it",
                                   adapters, source));
        } else if (group.rule == RuleId::queue_bs) {
            finding.host = group.source != 0 && group.destination != 0 ? Side::both
                           : group.source != 0                         ? Side::source
                                                                       : Side::destination;
            finding.source = fmt::format("{:x}", group.source);
            finding.destination = fmt::format("{:x}", group.destination);
            finding.message = fmt::format(
                "{} {} bound or associated for Secure Execution: state {} at {}, {} at {}, both must be 0",
                count, one ? "is" : "are", finding.source, source, finding.destination, destination);
            finding.remedies = advise(
                finding.host,
                "release the queue in the Secure Execution guest that has bound it (se_bind), or reset it");
        } else if (group.rule == RuleId::driver_stricter) {
            finding.source = fmt::format("0x{:08X}", group.source);
            finding.destination = fmt::format("0x{:08X}", group.destination);
            finding.message =
                fmt::format("{}: the rule allows the difference, {}", count,
                            profile_ == Profile::compare
                                ? "drivers v1 and v2 want all functions equal and refuse it"
                                : "driver drafts v3 and v4 want all functions equal and refuse it");
            finding.remedies = advise(
                Side::both, profile_ == Profile::compare
                                ? "detach the device, migrate, attach it again: check with --mode detached"
                                : "use a kernel with a later driver than v4");
        } else {
            finding.source = fmt::format("{:x}", group.source);
            finding.destination = fmt::format("{:x}", group.destination);
            finding.message =
                fmt::format("{}: the rule forbids a bind/associate state other than 0, {}", count,
                            profile_ == Profile::compare ? "drivers v1 and v2 do not see it"
                                                         : "driver drafts v3 and v4 let an equal one pass");
        }
        finding.queues = std::move(group.queues);
        findings.push_back(std::move(finding));
    }
}

}  // namespace vfioap
