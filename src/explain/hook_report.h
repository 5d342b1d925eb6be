// SPDX-License-Identifier: LGPL-2.1-or-later
// The report that our hook wrote into a log when it refused a guest: what src/report/text prints, cut off
// somewhere, perhaps indented by the journal.
#pragma once

#include "compat/report.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

class HookReport {
  public:
    /// Lines behind the first that can belong to it. Untrusted: no more is kept.
    static constexpr unsigned most_lines = 40;

    struct Finding {
        RuleId rule{};
        Severity severity = Severity::error;
        std::string what;
        std::vector<Apqn> queues;
        std::vector<std::uint8_t> control_domains;
        std::vector<Remedy> remedies;
    };

    /// `first`: from `INCOMPATIBLE: GUEST cannot move from A to B` on; rule ids may follow, or, of a journal
    /// that puts all in one line, the rest of the report.
    explicit HookReport(std::string_view first);
    /// False where the line is no part of it.
    bool add_line(std::string_view line);
    /// Errors only where there are any, in their order.
    [[nodiscard]] std::vector<Finding> findings() const;
    [[nodiscard]] const std::optional<Uuid>& mdev() const { return mdev_; }
    [[nodiscard]] const std::string& source() const { return source_; }
    [[nodiscard]] const std::string& destination() const { return destination_; }

  private:
    enum class Label : std::uint8_t { none, what, queues, control, action, other };
    void take_words(std::string_view words);
    [[nodiscard]] Side side_of(std::string_view host) const;

    unsigned lines_ = 0;
    std::size_t indent_ = 0;
    Label label_ = Label::none;
    std::optional<Uuid> mdev_;
    std::string source_;
    std::string destination_;
    std::vector<Finding> findings_;
};

}  // namespace vfioap
