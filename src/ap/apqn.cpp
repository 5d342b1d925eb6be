// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ap/apqn.h"

#include <charconv>

#include <fmt/format.h>

namespace vfioap {
namespace {

std::optional<unsigned> parse_hex(std::string_view text) {
    unsigned value = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, value, 16);
    if (error != std::errc{} || rest != end) return {};
    return value;
}

}  // namespace

std::optional<std::uint8_t> parse_adapter(std::string_view text) {
    if (text.size() != 2) return {};
    const auto value = parse_hex(text);
    if (!value) return {};
    return static_cast<std::uint8_t>(*value);
}

std::optional<std::uint8_t> parse_domain(std::string_view text) {
    if (text.size() != 4) return {};
    const auto value = parse_hex(text);
    if (!value || *value >= ap_devices) return {};
    return static_cast<std::uint8_t>(*value);
}

std::optional<Apqn> Apqn::parse(std::string_view text) {
    if (text.size() != 7 || text[2] != '.') return {};
    const auto apid = parse_adapter(text.substr(0, 2));
    const auto apqi = parse_domain(text.substr(3));
    if (!apid || !apqi) return {};
    return Apqn{*apid, *apqi};
}

std::string Apqn::to_string() const {
    // A hundred thousand of these are printed for a large report: written digit by digit.
    static constexpr std::string_view digits = "0123456789abcdef";
    const unsigned a = apid();
    const unsigned d = apqi();
    return {digits[a >> 4U], digits[a & 15U], '.', '0', '0', digits[d >> 4U], digits[d & 15U]};
}

std::string adapter_text(unsigned apid) {
    return fmt::format("{:02x}", apid);
}

std::string domain_text(unsigned number) {
    return fmt::format("{:04x}", number);
}

}  // namespace vfioap
