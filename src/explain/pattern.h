// SPDX-License-Identifier: LGPL-2.1-or-later
// One pattern of the catalogue, found in text.
#pragma once

#include "ap/apqn.h"
#include "ap/uuid.h"
#include "compat/messages.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// A message found in a line.
struct MessageMatch {
    const Message* message = nullptr;
    std::size_t begin = 0;     ///< in the text, without the prefix
    std::size_t end = 0;       ///< behind it
    std::optional<Uuid> mdev;  ///< from the prefix or the pattern
    std::optional<Uuid> other;
    std::vector<Apqn> queues;  ///< as they stand there
    std::optional<std::uint8_t> domain;
    std::string x;  ///< digits
    std::string y;
    std::string rc;
    std::string text;      ///< of {device}, {error}, {guest} or {text}, at most 256 bytes
    bool negated = false;  ///< {not} stood there
};

class Pattern {
  public:
    /// `record` outlives it. Its pattern begins with literal text.
    explicit Pattern(const Message& record);

    /// The first match that begins in [from, to). The prefix may be lost: then there is no mdev in it.
    [[nodiscard]] std::optional<MessageMatch> find(std::string_view text, std::size_t from,
                                                   std::size_t to) const;
    /// The longest literal text in it: no line has a match without it.
    [[nodiscard]] std::string_view anchor() const;
    [[nodiscard]] const Message& record() const { return *record_; }

  private:
    struct Part {
        std::string_view literal;  ///< empty: a placeholder
        std::string_view name;
    };
    bool match_here(std::string_view text, std::size_t at, MessageMatch& match) const;

    const Message* record_;
    std::vector<Part> parts_;
};

}  // namespace vfioap
