// SPDX-License-Identifier: LGPL-2.1-or-later
#include "compat/keys.h"

#include "compat/findings.h"
#include "compat/remedies.h"

#include <array>

#include <fmt/format.h>

namespace vfioap {
namespace {

constexpr std::array<std::string_view, 3> cca_keys{"AES", "APKA", "ASYM"};
constexpr std::array<std::string_view, 1> ep11_keys{"WK"};

enum class State { unknown, unset, set };

State key_state(const MasterKeyRegister* current) {
    if (current == nullptr || current->state == "-") return State::unknown;
    return current->state == "valid" ? State::set : State::unset;
}

std::string value_of(const MasterKeyRegister& current) {
    return current.state == "valid" ? "0x" + current.pattern : current.state;
}

template <typename Keys>
bool all_known(const Keys& names, const MasterKeys* keys) {
    if (keys == nullptr) return false;
    for (const auto name : names) {
        if (key_state(keys->find(name, "CUR")) == State::unknown) return false;
    }
    return true;
}

}  // namespace

void KeyCheck::compare_known(Apqn apqn, bool cca, const MasterKeys* ours, const MasterKeys* destination) {
    const bool source_known = cca ? all_known(cca_keys, ours) : all_known(ep11_keys, ours);
    const bool destination_known = cca ? all_known(cca_keys, destination) : all_known(ep11_keys, destination);
    if (!source_known || !destination_known) {
        if (source_known || destination_known) {
            (source_known ? unknown_destination_ : unknown_source_).push_back(apqn);
        } else {
            unknown_both_[unknown_both_count_++] = apqn;
        }
    }
    note_pending(apqn, Side::source, ours);
    note_pending(apqn, Side::destination, destination);
    if (ours == nullptr || destination == nullptr || ours == destination) return;
    if (cca) {
        for (const auto name : cca_keys)
            compare_key(apqn, name, *ours, *destination);
    } else {
        for (const auto name : ep11_keys)
            compare_key(apqn, name, *ours, *destination);
    }
}

void KeyCheck::compare_key(Apqn apqn, std::string_view name, const MasterKeys& ours,
                           const MasterKeys& theirs) {
    const auto* const current = ours.find(name, "CUR");
    const auto* const there = theirs.find(name, "CUR");
    const auto source = key_state(current);
    const auto destination = key_state(there);
    if (source == State::unknown || destination == State::unknown) return;
    if (source == State::unset && destination == State::unset) return;
    if (source == destination && current->pattern == there->pattern) return;
    // No key is set at the source: nothing there can depend on it. CCA still unwraps with the old key.
    const auto* const old = theirs.find(name, "OLD");
    const bool still_unwraps =
        source == State::set && key_state(old) == State::set && old->pattern == current->pattern;
    const bool harmless = source == State::unset || still_unwraps;
    auto& queues = groups_[{RuleId::masterkey_mismatch, harmless ? Severity::warning : Severity::error,
                            Side::destination, std::string{name} + (still_unwraps ? "/OLD" : ""),
                            value_of(*current), value_of(*there)}];
    queues.push_back(apqn);
}

void KeyCheck::note_pending(Apqn apqn, Side side, const MasterKeys* keys) {
    if (keys == nullptr) return;
    for (const auto& entry : keys->registers()) {
        if (entry.slot != "NEW" || entry.state == "empty" || entry.state == "-") continue;
        groups_[{RuleId::masterkey_pending, Severity::warning, side, entry.key,
                 side == Side::source ? entry.state : "", side == Side::source ? "" : entry.state}]
            .push_back(apqn);
    }
}

void KeyCheck::move_to(std::vector<Finding>& findings) {
    const auto add = [&](RuleId rule, Severity severity, Side side, std::string message) -> Finding& {
        findings.push_back(make_finding(rule, severity, side, std::move(message)));
        return findings.back();
    };
    for (auto& [key, queues] : groups_) {
        const auto& [rule, severity, side, name, source, destination] = key;
        if (rule == RuleId::masterkey_pending) {
            const auto& host = side == Side::source ? source_ : destination_;
            auto& finding = add(rule, severity, side,
                                fmt::format("{}: a change of the {} master key is under way at {} ({})",
                                            count_of(queues.size()), name, host, source + destination));
            finding.source = source;
            finding.destination = destination;
            finding.remedies =
                advise(side, "finish or discard the key change (TKE or panel.exe), then check again");
            finding.queues = std::move(queues);
            continue;
        }
        const bool old = name.ends_with("/OLD");
        auto& finding = add(rule, severity, side,
                            fmt::format("{}: the current {} master key differs{}", count_of(queues.size()),
                                        name.substr(0, name.find('/')),
                                        old ? "; the destination still has the source's as its old one"
                                        : severity == Severity::warning
                                            ? "; the source has none set"
                                            : ": secure keys of the guest would fail after the move"));
        finding.source = source;
        finding.destination = destination;
        finding.remedies =
            advise(Side::destination,
                   "load and set the same master keys at the destination (TKE or panel.exe); no "
                   "command of Linux does it");
        finding.queues = std::move(queues);
    }
    const auto unknown = [&](std::vector<Apqn>& queues, Side side, std::string_view where) {
        if (queues.empty()) return;
        auto& finding =
            add(RuleId::masterkey_unknown, rule(RuleId::masterkey_unknown).native.value_or(Severity::warning),
                side, fmt::format("{}: master keys are not known at {}", count_of(queues.size()), where));
        finding.remedies = advise(
            side, "compare them by hand (TKE, or mkvps while a queue is bound to zcrypt): no kernel does");
        finding.queues = std::move(queues);
    };
    unknown_both_.resize(unknown_both_count_);
    unknown(unknown_both_, Side::both, fmt::format("{} and {}", source_, destination_));
    unknown(unknown_source_, Side::source, source_);
    unknown(unknown_destination_, Side::destination, destination_);
}

}  // namespace vfioap
