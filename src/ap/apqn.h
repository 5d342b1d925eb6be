// SPDX-License-Identifier: LGPL-2.1-or-later
// APQN: the number of one AP queue, adapter (APID) and usage domain (APQI) together.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vfioap {

/// Number of adapters, of usage domains and of control domains that the architecture knows (each 0–255).
inline constexpr unsigned ap_devices = 256;
/// Number of queues that can exist at all: adapters times usage domains.
inline constexpr unsigned ap_queues = ap_devices * ap_devices;

/// One AP queue. Any two numbers 0–255 make a valid one. Ordered by adapter, then domain.
///
/// Text form `%02x.%04x` (adapter, domain), for example `05.0047`: the name of the queue's sysfs directory
/// (kernel: drivers/s390/crypto/ap_queue.c).
class Apqn {
  public:
    constexpr Apqn() = default;
    constexpr Apqn(std::uint8_t apid, std::uint8_t apqi)
        : number_{static_cast<std::uint16_t>(apid << 8U | apqi)} {}

    /// From the number `apid << 8 | apqi`, as the migration stream carries it.
    static constexpr Apqn from_number(std::uint16_t number) {
        return {static_cast<std::uint8_t>(number >> 8U), static_cast<std::uint8_t>(number & 0xffU)};
    }
    /// From exactly `XX.YYYY`, hexadecimal of either case, YYYY at most 00ff; anything else gives nothing.
    static std::optional<Apqn> parse(std::string_view text);

    [[nodiscard]] constexpr std::uint8_t apid() const { return static_cast<std::uint8_t>(number_ >> 8U); }
    [[nodiscard]] constexpr std::uint8_t apqi() const { return static_cast<std::uint8_t>(number_ & 0xffU); }
    [[nodiscard]] constexpr std::uint16_t number() const { return number_; }
    [[nodiscard]] std::string to_string() const;

    friend constexpr auto operator<=>(Apqn, Apqn) = default;

  private:
    std::uint16_t number_ = 0;
};

/// `%02x`, as adapters are printed everywhere.
std::string adapter_text(unsigned apid);
/// `%04x`, as usage and control domains are printed everywhere.
std::string domain_text(unsigned number);
/// From exactly two hexadecimal digits.
std::optional<std::uint8_t> parse_adapter(std::string_view text);
/// From exactly four hexadecimal digits, at most 00ff.
std::optional<std::uint8_t> parse_domain(std::string_view text);

}  // namespace vfioap
