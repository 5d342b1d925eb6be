// SPDX-License-Identifier: LGPL-2.1-or-later
// Finds in a log of any size, in constant memory, the lines that may matter.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// Finds any of a few strings in much text, skipping most of it: after S. Wu and U. Manber, "A fast algorithm
/// for multi-pattern searching" (1994), with blocks of three bytes.
class AnchorSearch {
  public:
    /// Each at least `shortest` bytes; empty ones are refused by an assertion of the tests.
    static constexpr std::size_t shortest = 8;
    explicit AnchorSearch(const std::vector<std::string_view>& anchors);
    /// Where the first of them begins, from `from` on; npos where there is none.
    [[nodiscard]] std::size_t find(std::string_view text, std::size_t from) const;

  private:
    static constexpr std::size_t slots = std::size_t{1} << 15U;
    static std::size_t slot(const char* block);

    std::size_t window_ = 0;  ///< bytes of each anchor that are searched for
    std::array<std::uint8_t, slots> shift_{};
    std::array<std::uint16_t, slots> first_{};  ///< 1 + index of the first anchor of a slot
    std::vector<std::string> anchors_;
    std::vector<std::uint16_t> next_;
};

/// A piece of a log that may matter: a line, or a part of one that is too long to look at at once.
struct LogPiece {
    std::uint64_t line = 0;  ///< from 1
    std::string_view text;   ///< without its line end
    std::size_t from = 0;    ///< only what begins in [from, to) is new; all of a line that is whole
    std::size_t to = 0;
    bool whole = true;
};

/// Reads a log piece by piece. Lines longer than `longest_line` come in overlapping parts.
class LogScanner {
  public:
    static constexpr std::size_t longest_line = std::size_t{64} * 1024;
    static constexpr std::size_t buffer_size = std::size_t{1024} * 1024;
    /// Gets a piece; gives how many of the following lines it wants to see, whatever is in them.
    using Handler = std::function<unsigned(const LogPiece&)>;
    /// Gives up to `size` bytes; 0 at the end.
    using Input = std::function<std::size_t(char* into, std::size_t size)>;

    /// `search` outlives it.
    explicit LogScanner(const AnchorSearch& search);
    /// Reads all of `input`.
    void scan(const Input& input, const Handler& handler);

  private:
    const AnchorSearch& search_;
    std::string buffer_;
};

/// The number of line feeds.
std::uint64_t count_lines(std::string_view text);

}  // namespace vfioap
