// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ap/mask.h"

#include <charconv>

#include <fmt/format.h>

namespace vfioap {
namespace {

/// A bit number as the kernel's simple_strtoul(base 0) takes it: 0x… hexadecimal, 0… octal, else decimal.
std::optional<unsigned> parse_bit(std::string_view text) {
    int base = 10;
    if (text.starts_with("0x") || text.starts_with("0X")) {
        base = 16;
        text.remove_prefix(2);
    } else if (text.size() > 1 && text.front() == '0') {
        base = 8;
    }
    unsigned value = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, value, base);
    if (error != std::errc{} || rest != end || value > 255) return {};
    return value;
}

}  // namespace

Mask Mask::of(const std::vector<std::uint8_t>& bits) {
    Mask mask;
    for (const auto bit : bits)
        mask.set(bit);
    return mask;
}

std::optional<Mask> Mask::parse(std::string_view text) {
    if (text.starts_with("0x") || text.starts_with("0X")) text.remove_prefix(2);
    if (text.empty() || text.size() > 64) return {};
    Mask mask;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned digit = 0;
        const auto [rest, error] = std::from_chars(&text[i], &text[i] + 1, digit, 16);
        if (error != std::errc{} || rest != &text[i] + 1) return {};
        mask.words_[i / 16] |= std::uint64_t{digit} << (60U - i % 16 * 4U);
    }
    return mask;
}

std::optional<Mask> Mask::updated(std::string_view text) const {
    if (text.empty() || (text.front() != '+' && text.front() != '-')) return parse(text);
    Mask mask = *this;
    while (true) {
        const auto item = text.substr(0, text.find(','));
        if (item.empty() || (item.front() != '+' && item.front() != '-')) return {};
        const auto dash = item.find('-', 1);
        const auto first = parse_bit(item.substr(1, dash == std::string_view::npos ? dash : dash - 1));
        const auto last = dash == std::string_view::npos ? first : parse_bit(item.substr(dash + 1));
        if (!first || !last || *last < *first) return {};
        for (unsigned bit = *first; bit <= *last; ++bit)
            mask.set(bit, item.front() == '+');
        if (item.size() == text.size()) return mask;
        text.remove_prefix(item.size() + 1);
    }
}

std::string Mask::to_string() const {
    return fmt::format("0x{:016x}{:016x}{:016x}{:016x}", words_[0], words_[1], words_[2], words_[3]);
}

std::vector<std::uint8_t> Mask::bits() const {
    std::vector<std::uint8_t> result;
    for (unsigned i = 0; i < 4; ++i) {
        auto word = words_[i];
        while (word != 0) {
            const auto lead = static_cast<unsigned>(std::countl_zero(word));
            result.push_back(static_cast<std::uint8_t>(i * 64 + lead));
            word &= ~(std::uint64_t{1} << (63U - lead));
        }
    }
    return result;
}

}  // namespace vfioap
