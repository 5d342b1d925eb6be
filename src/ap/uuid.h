// SPDX-License-Identifier: LGPL-2.1-or-later
// The UUID that names a mediated device or a guest.
#pragma once

#include <compare>
#include <optional>
#include <string>
#include <string_view>

namespace vfioap {

/// A UUID in the form 8-4-4-4-12, kept in lower case as the kernel prints it. Valid from birth, so that it
/// may become part of a path.
class Uuid {
  public:
    /// From 32 hexadecimal digits of either case with the four hyphens in their places; anything else gives
    /// nothing.
    static std::optional<Uuid> parse(std::string_view text);
    [[nodiscard]] const std::string& to_string() const { return text_; }
    friend auto operator<=>(const Uuid&, const Uuid&) = default;

  private:
    explicit Uuid(std::string text) : text_{std::move(text)} {}
    std::string text_;
};

}  // namespace vfioap
