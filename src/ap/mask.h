// SPDX-License-Identifier: LGPL-2.1-or-later
// The 256-bit masks of the AP bus. The only place that knows which end bit 0 is.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// A set of adapters, usage domains or control domains: 256 bits, **bit 0 the leftmost** (the kernel's
/// `*_bit_inv`).
class Mask {
  public:
    constexpr Mask() = default;

    /// All 256 bits set, the default of apmask and aqmask.
    static constexpr Mask all() {
        Mask mask;
        mask.words_.fill(~std::uint64_t{0});
        return mask;
    }
    static Mask of(const std::vector<std::uint8_t>& bits);
    /// As words() gives them.
    static constexpr Mask of_words(const std::array<std::uint64_t, 4>& words) {
        Mask mask;
        mask.words_ = words;
        return mask;
    }

    /// From `0x` (optional) and 1 to 64 hexadecimal digits; a shorter mask is padded with zeros on the right,
    /// as the kernel does (drivers/s390/crypto/ap_bus.c, ap_hex2bitmap). Anything else gives nothing.
    static std::optional<Mask> parse(std::string_view text);

    /// What a write of `text` to apmask or aqmask would make of this mask: either a whole mask as for
    /// parse(), or a comma list of `+n`, `-n`, `+a-b`, `-a-b` (set, clear; numbers decimal, 0x hexadecimal or
    /// 0 octal).
    [[nodiscard]] std::optional<Mask> updated(std::string_view text) const;

    /// `0x` and 64 hexadecimal digits, as sysfs prints it.
    [[nodiscard]] std::string to_string() const;

    [[nodiscard]] constexpr bool test(unsigned bit) const {
        return bit < 256 && ((words_[bit / 64] >> (63U - bit % 64U)) & 1U) != 0;
    }
    constexpr void set(unsigned bit, bool value = true) {
        const std::uint64_t one = std::uint64_t{1} << (63U - bit % 64U);
        auto& word = words_[bit / 64 % 4];
        word = value ? word | one : word & ~one;
    }
    [[nodiscard]] constexpr bool none() const { return count() == 0; }
    [[nodiscard]] constexpr unsigned count() const {
        unsigned sum = 0;
        for (const auto word : words_)
            sum += static_cast<unsigned>(std::popcount(word));
        return sum;
    }
    /// The numbers whose bits are set, ascending.
    [[nodiscard]] std::vector<std::uint8_t> bits() const;

    friend constexpr Mask operator&(Mask a, const Mask& b) {
        for (unsigned i = 0; i < 4; ++i)
            a.words_[i] &= b.words_[i];
        return a;
    }
    friend constexpr Mask operator|(Mask a, const Mask& b) {
        for (unsigned i = 0; i < 4; ++i)
            a.words_[i] |= b.words_[i];
        return a;
    }
    /// What is in `a` and not in `b`.
    friend constexpr Mask operator-(Mask a, const Mask& b) {
        for (unsigned i = 0; i < 4; ++i)
            a.words_[i] &= ~b.words_[i];
        return a;
    }
    friend constexpr bool operator==(const Mask&, const Mask&) = default;

    /// Word 0 holds bits 0–63, bit 0 its most significant one: the `adm[4]` of the migration stream.
    [[nodiscard]] constexpr const std::array<std::uint64_t, 4>& words() const { return words_; }

  private:
    std::array<std::uint64_t, 4> words_{};
};

}  // namespace vfioap
