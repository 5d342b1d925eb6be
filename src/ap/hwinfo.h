// SPDX-License-Identifier: LGPL-2.1-or-later
// TAPQ hwinfo: what one AP queue is and can do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vfioap {

/// GR2 of PQAP(TAPQ), 64 bits, bit 0 the most significant (kernel: arch/s390/include/asm/ap.h,
/// struct ap_tapq_hwinfo). From sysfs only the upper half (`ap_functions`) and the type (`raw_hwtype`) are
/// known.
class Hwinfo {
  public:
    constexpr Hwinfo() = default;
    explicit constexpr Hwinfo(std::uint64_t value) : value_{value} {}
    /// `ap_functions` of a queue or card and `raw_hwtype` of the card.
    static constexpr Hwinfo from_sysfs(std::uint32_t ap_functions, std::uint8_t raw_hwtype) {
        return Hwinfo{std::uint64_t{ap_functions} << 32U | std::uint64_t{raw_hwtype} << 24U};
    }

    /// The bits that decide compatibility: facilities, mode, class, bind state and type.
    static constexpr std::uint64_t compared_bits = 0xffff'c000'ff00'0000;
    /// The upper half, which the drivers of some patch versions compare whole.
    static constexpr std::uint64_t upper_bits = 0xffff'ffff'0000'0000;

    [[nodiscard]] constexpr std::uint64_t value() const { return value_; }
    [[nodiscard]] constexpr bool apsc() const { return bit(0); }
    [[nodiscard]] constexpr bool mex4k() const { return bit(1); }
    [[nodiscard]] constexpr bool crt4k() const { return bit(2); }
    [[nodiscard]] constexpr bool cca() const { return bit(3); }
    [[nodiscard]] constexpr bool accel() const { return bit(4); }
    [[nodiscard]] constexpr bool ep11() const { return bit(5); }
    [[nodiscard]] constexpr bool apxa() const { return bit(6); }
    [[nodiscard]] constexpr bool slcf() const { return bit(7); }
    /// cca, accel and ep11 as a number 0–7, cca the highest.
    [[nodiscard]] constexpr unsigned mode() const { return field(3, 3); }
    /// Bits 8–15.
    [[nodiscard]] constexpr unsigned klass() const { return field(8, 8); }
    /// Bit 8: full native card function.
    [[nodiscard]] constexpr bool native() const { return bit(8); }
    /// Bit 9 without bit 8: only stateless functions.
    [[nodiscard]] constexpr bool stateless_only() const { return bit(9) && !bit(8); }
    /// Bits 16–17, the Secure Execution bind and associate state; 0: usable for all.
    [[nodiscard]] constexpr unsigned bs() const { return field(16, 2); }
    /// Bits 32–39, the AP type: 10 CEX4 … 14 CEX8.
    [[nodiscard]] constexpr unsigned at() const { return field(32, 8); }

    friend constexpr bool operator==(Hwinfo, Hwinfo) = default;

  private:
    [[nodiscard]] constexpr bool bit(unsigned number) const { return ((value_ >> (63U - number)) & 1U) != 0; }
    [[nodiscard]] constexpr unsigned field(unsigned first, unsigned width) const {
        return static_cast<unsigned>((value_ >> (64U - first - width)) & ((std::uint64_t{1} << width) - 1U));
    }

    std::uint64_t value_ = 0;
};

/// Oldest AP type that can be bound to vfio_ap (CEX4; kernel: vfio_ap_drv.c, ap_queue_ids).
inline constexpr unsigned oldest_vfio_ap_type = 10;

/// `CEX8` for 14, `CEX2C` for 7 …; `type 15` for one that has no name yet.
std::string ap_type_text(unsigned at);
/// `CCA coprocessor`, `accelerator`, `EP11 coprocessor`, `no mode`, or several joined with `+`, from
/// Hwinfo::mode().
std::string mode_text(unsigned mode);
/// `native`, `stateless only` or `class 0x%02x`, from Hwinfo::klass().
std::string class_text(unsigned klass);
/// What people call the card: `CEX8C`, `CEX7P`, `CEX6A`.
std::string model_text(Hwinfo hwinfo);

}  // namespace vfioap
