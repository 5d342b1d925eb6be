// SPDX-License-Identifier: LGPL-2.1-or-later
#include "domain/printable.h"

#include <algorithm>

namespace vfioap {

std::string printable(std::string_view text, std::size_t max_bytes) {
    static constexpr std::string_view blanks = " \t\r\n";
    static constexpr std::string_view ellipsis = "...";
    const auto first = text.find_first_not_of(blanks);
    if (first == std::string_view::npos) return {};
    text = text.substr(first, text.find_last_not_of(blanks) - first + 1);

    const bool cut = text.size() > max_bytes;
    if (cut) text = text.substr(0, max_bytes - std::min(max_bytes, ellipsis.size()));
    std::string line{text};
    for (char& c : line)
        if (c < ' ' || c > '~') c = '?';
    if (cut) line += ellipsis.substr(0, max_bytes);
    return line;
}

std::size_t utf8_length(std::string_view text) {
    const auto byte = [text](std::size_t i) {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
    };
    const auto continues = [byte](std::size_t i) { return (byte(i) & 0xc0U) == 0x80; };
    const unsigned lead = byte(0);
    if (lead < 0x80) return 1;
    if (lead >= 0xc2 && lead <= 0xdf) return continues(1) ? 2 : 0;
    if (lead >= 0xe0 && lead <= 0xef) {
        const bool valid = !(lead == 0xe0 && byte(1) < 0xa0) && !(lead == 0xed && byte(1) > 0x9f);
        return valid && continues(1) && continues(2) ? 3 : 0;
    }
    if (lead >= 0xf0 && lead <= 0xf4) {
        const bool valid = !(lead == 0xf0 && byte(1) < 0x90) && !(lead == 0xf4 && byte(1) > 0x8f);
        return valid && continues(1) && continues(2) && continues(3) ? 4 : 0;
    }
    return 0;
}

bool has_control(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        // U+0080 to U+009F: C2 80 to C2 9F.
        const bool c1 = byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
        if (byte < ' ' || byte == 0x7f || c1) return true;
    }
    return false;
}

}  // namespace vfioap
