// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes give a guest that keeps the promises of domain_xml.h, or an InputError of one clean line. Seeds:
// tests/data/domains.
#include "ap/error.h"
#include "domain/domain_xml.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

bool has_no_controls(std::string_view text) {
    return std::none_of(text.begin(), text.end(), [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte < ' ' || byte == 0x7f;
    });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        const auto domain = vfioap::parse_domain_xml({reinterpret_cast<const char*>(data), size}, "fuzz");
        require(!domain.name.empty());
        for (const auto* text : {&domain.name, &domain.type, &domain.arch, &domain.machine, &domain.emulator})
            require(has_no_controls(*text) && text->size() <= vfioap::domain_xml_max_value);
        unsigned line = 1;
        for (const auto& hostdev : domain.vfio_ap) {
            require(hostdev.line >= line && has_no_controls(hostdev.alias));
            line = hostdev.line;
        }
    } catch (const vfioap::InputError& error) {
        const std::string_view message = error.what();
        require(message.starts_with("fuzz: ") && message.size() < 500);
        require(std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; }));
    }
    return 0;
}
