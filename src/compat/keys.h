// SPDX-License-Identifier: LGPL-2.1-or-later
// Compares master keys: no kernel does, and applications fail after a "successful" migration when they
// differ.
#pragma once

#include "ap/configuration.h"
#include "compat/report.h"

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace vfioap {

/// Takes queue by queue and makes one finding of all that have the same values.
class KeyCheck {
  public:
    /// `most`: how many queues there are at most.
    KeyCheck(std::size_t most, const std::string& source, const std::string& destination)
        : source_{source}, destination_{destination}, unknown_both_(most) {}

    /// `mode`: what the queue is, on both sides; only CCA and EP11 queues have keys. In another mode at the
    /// destination they are lost anyway, and another rule says so. Null keys are not known.
    void compare(Apqn apqn, Hwinfo mode, const MasterKeys* source, const MasterKeys* destination) {
        if (!mode.cca() && !mode.ep11()) return;
        if (source == nullptr && destination == nullptr) {
            unknown_both_[unknown_both_count_++] = apqn;
        } else {
            compare_known(apqn, mode.cca(), source, destination);
        }
    }

    void move_to(std::vector<Finding>& findings);

  private:
    // Rule, severity, side, what is concerned, value at the source, value at the destination.
    using Key = std::tuple<RuleId, Severity, Side, std::string, std::string, std::string>;

    void compare_known(Apqn apqn, bool cca, const MasterKeys* source, const MasterKeys* destination);
    void compare_key(Apqn apqn, std::string_view name, const MasterKeys& ours, const MasterKeys& theirs);
    void note_pending(Apqn apqn, Side side, const MasterKeys* keys);

    const std::string& source_;
    const std::string& destination_;
    std::map<Key, std::vector<Apqn>> groups_;
    std::vector<Apqn> unknown_source_;
    std::vector<Apqn> unknown_destination_;
    // The usual case, and then of all queues: filled by index.
    std::vector<Apqn> unknown_both_;
    std::size_t unknown_both_count_ = 0;
};

}  // namespace vfioap
