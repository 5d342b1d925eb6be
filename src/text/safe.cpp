// SPDX-License-Identifier: LGPL-2.1-or-later
#include "text/safe.h"

#include "text/utf8.h"

#include <algorithm>
#include <array>

namespace vfioap {
namespace {

// Controls, and DerivedCoreProperties.txt of Unicode 14, Default_Ignorable_Code_Point (which has the marks of
// direction in it), with U+2028, U+2029 and U+FFF9 to U+FFFB added. Sorted.
constexpr std::array unsafe_ranges{
    CharacterRange{0x0000, 0x001f},    // C0 controls
    CharacterRange{0x007f, 0x009f},    // delete and C1 controls
    CharacterRange{0x00ad, 0x00ad},    // soft hyphen
    CharacterRange{0x034f, 0x034f},    // combining grapheme joiner
    CharacterRange{0x061c, 0x061c},    // Arabic letter mark
    CharacterRange{0x115f, 0x1160},    // Hangul fillers
    CharacterRange{0x17b4, 0x17b5},    // Khmer inherent vowels
    CharacterRange{0x180b, 0x180f},    // Mongolian variation selectors, vowel separator
    CharacterRange{0x200b, 0x200f},    // zero-width space and joiners, marks of direction
    CharacterRange{0x2028, 0x202e},    // separators; embeddings and overrides of direction
    CharacterRange{0x2060, 0x206f},    // word joiner, invisible operators, isolates of direction
    CharacterRange{0x3164, 0x3164},    // Hangul filler
    CharacterRange{0xfe00, 0xfe0f},    // variation selectors
    CharacterRange{0xfeff, 0xfeff},    // zero-width no-break space, or byte order mark
    CharacterRange{0xffa0, 0xffa0},    // halfwidth Hangul filler
    CharacterRange{0xfff0, 0xfffb},    // not assigned; marks of annotations
    CharacterRange{0x1bca0, 0x1bca3},  // controls of shorthand
    CharacterRange{0x1d173, 0x1d17a},  // controls of musical notation
    CharacterRange{0xe0000, 0xe0fff},  // tags, further variation selectors
};

}  // namespace

bool is_safe(char32_t character) {
    return !is_in(unsafe_ranges, character);
}

std::string safe(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    while (!text.empty()) {
        const auto length = utf8_length(text.substr(0, 4));
        const auto character = text.substr(0, std::max<std::size_t>(length, 1));
        if (length > 0 && is_safe(utf8_code_point(character)))
            result += character;
        else
            result += '?';
        text.remove_prefix(character.size());
    }
    return result;
}

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

}  // namespace vfioap
