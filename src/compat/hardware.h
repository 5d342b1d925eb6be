// SPDX-License-Identifier: LGPL-2.1-or-later
// Compares what queues are and can do: rules (a) to (d) of the live migration chapter, and where drivers
// deviate.
#pragma once

#include "ap/configuration.h"
#include "compat/report.h"

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace vfioap {

/// Takes queue by queue and makes one finding of all that have the same values.
class HardwareCheck {
  public:
    /// `profile`: empty where no driver compares.
    HardwareCheck(const Uuid& mdev, Mode mode, std::optional<Profile> profile)
        : mdev_{mdev}, mode_{mode}, profile_{profile} {
        last_.fill(no_group);
    }

    /// Queues in the order of their APQNs.
    void compare(Apqn apqn, Hwinfo source, Hwinfo destination) {
        // Nearly always so; 65,536 times in the largest guest.
        constexpr std::uint64_t looked_at = Hwinfo::upper_bits | Hwinfo::compared_bits;
        const auto difference = source.value() ^ destination.value();
        if ((difference & looked_at) == 0 && source.bs() == 0) return;
        compare_unequal(apqn, source, destination);
    }

    void move_to(std::vector<Finding>& findings, const std::string& source, const std::string& destination);

  private:
    struct Group {
        RuleId rule;
        std::uint32_t source;
        std::uint32_t destination;
        std::vector<Apqn> queues;
        // Drivers of profile compare print the types with each incompatible queue.
        unsigned source_type;
        unsigned destination_type;
        bool one_type;
    };
    static constexpr std::size_t no_group = ~std::size_t{0};

    void compare_unequal(Apqn apqn, Hwinfo ours, Hwinfo theirs);
    void add(RuleId rule, std::uint32_t source, std::uint32_t destination, Apqn apqn, Hwinfo ours,
             Hwinfo theirs);
    void compare_with_drivers(Apqn apqn, Hwinfo ours, Hwinfo theirs, bool differs, bool bs);
    [[nodiscard]] Severity severity(const Group& group) const;
    [[nodiscard]] std::vector<std::string> kernel_lines(const Group& group) const;

    const Uuid& mdev_;
    Mode mode_;
    std::optional<Profile> profile_;
    std::vector<Group> groups_;
    std::map<std::tuple<RuleId, std::uint32_t, std::uint32_t>, std::size_t> index_;
    std::array<std::size_t, 64> last_{};  // by rule, the group that was used last
};

}  // namespace vfioap
