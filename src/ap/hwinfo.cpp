// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ap/hwinfo.h"

#include <array>

#include <fmt/format.h>

namespace vfioap {

std::string ap_type_text(unsigned at) {
    // Numbers of kernel: arch/s390/include/asm/ap.h, AP_DEVICE_TYPE_*.
    static constexpr std::array<std::string_view, 15> names{"",       "",      "",      "PCICC", "PCICA",
                                                            "PCIXCC", "CEX2A", "CEX2C", "CEX3A", "CEX3C",
                                                            "CEX4",   "CEX5",  "CEX6",  "CEX7",  "CEX8"};
    if (at < names.size() && !names[at].empty()) return std::string{names[at]};
    return fmt::format("type {}", at);
}

std::string mode_text(unsigned mode) {
    std::string text;
    const auto add = [&text](std::string_view word) {
        if (!text.empty()) text += '+';
        text += word;
    };
    if ((mode & 4U) != 0) add("CCA coprocessor");
    if ((mode & 2U) != 0) add("accelerator");
    if ((mode & 1U) != 0) add("EP11 coprocessor");
    return text.empty() ? "no mode" : text;
}

std::string class_text(unsigned klass) {
    if (klass == 0x80) return "native";
    if (klass == 0x40) return "stateless only";
    return fmt::format("class 0x{:02x}", klass);
}

std::string model_text(Hwinfo hwinfo) {
    auto type = ap_type_text(hwinfo.at());
    // Before CEX4 the type already names the mode.
    if (hwinfo.at() < oldest_vfio_ap_type) return type;
    switch (hwinfo.mode()) {
        case 4:
            return type + "C";
        case 2:
            return type + "A";
        case 1:
            return type + "P";
        default:
            return type;
    }
}

}  // namespace vfioap
