// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ap/master_keys.h"

#include <algorithm>
#include <array>

namespace vfioap {
namespace {

struct KeyForm {
    std::string_view key;
    std::size_t digits;
    std::string_view slots;
};
// CCA: AES and APKA 8 bytes, ASYM 16; EP11: WK 32 bytes, without OLD.
constexpr std::array<KeyForm, 4> key_forms{{{"AES", 16, "NEW CUR OLD"},
                                            {"APKA", 16, "NEW CUR OLD"},
                                            {"ASYM", 32, "NEW CUR OLD"},
                                            {"WK", 64, "CUR NEW"}}};

bool state_fits(std::string_view key, std::string_view slot, std::string_view state) {
    const auto among = [state](std::initializer_list<std::string_view> words) {
        return std::find(words.begin(), words.end(), state) != words.end();
    };
    if (slot != "NEW") return among({"valid", "invalid", "-"});
    return key == "WK" ? among({"empty", "uncommitted", "committed", "-"})
                       : among({"empty", "partial", "full", "-"});
}

/// `AES CUR: valid 0x0123456789abcdef`, `WK CUR: invalid -`, `AES NEW: - -`.
std::optional<MasterKeyRegister> parse_line(std::string_view line) {
    std::array<std::string_view, 4> words;
    for (std::size_t i = 0; i < 4; ++i) {
        const auto blank = line.find(' ');
        if ((blank == std::string_view::npos) != (i == 3)) return {};
        words[i] = line.substr(0, blank);
        line.remove_prefix(i == 3 ? line.size() : blank + 1);
    }
    auto [key, slot, state, pattern] = words;
    if (!slot.ends_with(':')) return {};
    slot.remove_suffix(1);
    const auto* const form = std::find_if(key_forms.begin(), key_forms.end(),
                                          [key = key](const KeyForm& f) { return f.key == key; });
    if (form == key_forms.end() || slot.size() != 3 || form->slots.find(slot) == std::string_view::npos)
        return {};
    if (!state_fits(key, slot, state)) return {};
    if (pattern == "-") {
        // A valid key without its pattern could not be compared, and would seem equal to any other.
        if (state == "valid") return {};
        return MasterKeyRegister{std::string{key}, std::string{slot}, std::string{state}, "-"};
    }
    if (!pattern.starts_with("0x") || pattern.size() != form->digits + 2) return {};
    pattern.remove_prefix(2);
    std::string digits{pattern};
    for (char& c : digits) {
        if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return {};
    }
    return MasterKeyRegister{std::string{key}, std::string{slot}, std::string{state}, std::move(digits)};
}

}  // namespace

std::optional<MasterKeys> MasterKeys::from_lines(const std::vector<std::string>& lines) {
    if (lines.empty() || lines.size() > 9) return {};
    MasterKeys keys;
    for (const auto& line : lines) {
        auto entry = parse_line(line);
        if (!entry || keys.find(entry->key, entry->slot) != nullptr) return {};
        keys.registers_.push_back(std::move(*entry));
    }
    return keys;
}

std::optional<MasterKeys> MasterKeys::parse(std::string_view text) {
    std::vector<std::string> lines;
    while (!text.empty()) {
        const auto end = text.find('\n');
        const auto line = text.substr(0, end);
        if (line.empty() || lines.size() == 9) return {};
        lines.emplace_back(line);
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    return from_lines(lines);
}

std::vector<std::string> MasterKeys::lines() const {
    std::vector<std::string> result;
    for (const auto& entry : registers_) {
        result.push_back(entry.key + ' ' + entry.slot + ": " + entry.state + ' ' +
                         (entry.pattern == "-" ? "-" : "0x" + entry.pattern));
    }
    return result;
}

const MasterKeyRegister* MasterKeys::find(std::string_view key, std::string_view slot) const {
    const auto found =
        std::find_if(registers_.begin(), registers_.end(),
                     [&](const MasterKeyRegister& entry) { return entry.key == key && entry.slot == slot; });
    return found == registers_.end() ? nullptr : &*found;
}

}  // namespace vfioap
