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
    KeyCheck(Mode mode, const std::string& source, const std::string& destination)
        : mode_{mode}, source_{source}, destination_{destination} {}

    /// `destination`: null when not known. Only CCA and EP11 queues that are of the same mode on both sides
    /// have keys to compare; in another mode they are lost anyway, and another rule says so.
    void compare(const GuestQueue& source, std::optional<Hwinfo> hwinfo, const MasterKeys* destination);

    void move_to(std::vector<Finding>& findings);

  private:
    // Rule, severity, side, what is concerned, value at the source, value at the destination.
    using Key = std::tuple<RuleId, Severity, Side, std::string, std::string, std::string>;

    void compare_key(Apqn apqn, std::string_view name, const MasterKeys& ours, const MasterKeys& theirs);
    void note_pending(Apqn apqn, Side side, const MasterKeys* keys);

    Mode mode_;
    const std::string& source_;
    const std::string& destination_;
    std::map<Key, std::vector<Apqn>> groups_;
    std::vector<Apqn> unknown_source_;
    std::vector<Apqn> unknown_destination_;
    std::vector<Apqn> unknown_both_;
};

}  // namespace vfioap
