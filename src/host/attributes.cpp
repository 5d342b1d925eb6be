// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/attributes.h"

#include "host/snapshot_limits.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace vfioap {
namespace {

template <typename Number>
std::optional<Number> parse_number(std::string_view text, int base) {
    Number value{};
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, value, base);
    if (error != std::errc{} || rest != end) return {};
    return value;
}

/// Calls `use` with each line; false when one does not please it. The last line needs no newline.
template <typename Use>
bool for_each_line(std::string_view text, Use use) {
    while (!text.empty()) {
        const auto end = text.find('\n');
        if (!use(text.substr(0, end))) return false;
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    return true;
}

}  // namespace

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' '))
        text.remove_suffix(1);
    return text;
}

std::optional<bool> parse_flag(std::string_view text) {
    if (text == "0") return false;
    if (text == "1") return true;
    return {};
}

std::optional<unsigned> parse_unsigned(std::string_view text) {
    return parse_number<unsigned>(text, 10);
}
std::optional<std::uint64_t> parse_count(std::string_view text) {
    return parse_number<std::uint64_t>(text, 10);
}

std::optional<unsigned> parse_number_256(std::string_view text) {
    const auto number = parse_unsigned(text);
    return number && *number < ap_devices ? number : std::nullopt;
}

std::optional<unsigned> parse_number_65536(std::string_view text) {
    const auto number = parse_unsigned(text);
    return number && *number <= 0xffff ? number : std::nullopt;
}

std::optional<std::uint32_t> parse_functions(std::string_view text) {
    if (!text.starts_with("0x")) return {};
    return parse_number<std::uint32_t>(text.substr(2), 16);
}

std::optional<HostMask> parse_host_mask(std::string_view text) {
    if (text == "not supported") return HostMask{HostMask::State::not_supported, {}};
    const auto mask = Mask::parse(text);
    if (!mask) return {};
    return HostMask{HostMask::State::value, *mask};
}

std::optional<std::string> parse_text(std::string_view text) {
    const bool printable = std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
    if (!printable || text.size() > 200) return {};
    return std::string{text};
}

std::optional<std::vector<std::string>> parse_words(std::string_view text) {
    const auto line = parse_text(text);
    if (!line) return {};
    std::vector<std::string> words;
    std::string word;
    for (const char c : *line + ' ') {
        if (c != ' ') {
            word += c;
        } else if (!word.empty()) {
            words.push_back(std::exchange(word, {}));
        }
    }
    if (words.size() > max_words) return {};
    if (words.size() == 1 && words.front() == "-") words.clear();
    return words;
}

std::optional<SeAssociation> parse_association(std::string_view text) {
    constexpr std::string_view associated = "associated ";
    if (text == "-") return SeAssociation{SeAssociate::none, 0};
    if (text == "unassociated") return SeAssociation{SeAssociate::unassociated, 0};
    if (text == "association pending") return SeAssociation{SeAssociate::pending, 0};
    if (!text.starts_with(associated)) return {};
    const auto index = parse_number<std::uint16_t>(text.substr(associated.size()), 10);
    if (!index) return {};
    return SeAssociation{SeAssociate::associated, *index};
}

std::optional<MatrixLines> parse_matrix(std::string_view text) {
    MatrixLines matrix;
    const bool good = for_each_line(text, [&](std::string_view line) {
        if (const auto apqn = Apqn::parse(line)) {
            matrix.adapters.set(apqn->apid());
            matrix.domains.set(apqn->apqi());
            matrix.queues.push_back(*apqn);
        } else if (line.size() == 3 && line[2] == '.' && parse_adapter(line.substr(0, 2))) {
            matrix.adapters.set(*parse_adapter(line.substr(0, 2)));
        } else if (line.size() == 5 && line[0] == '.' && parse_domain(line.substr(1))) {
            matrix.domains.set(*parse_domain(line.substr(1)));
        } else {
            return false;
        }
        return true;
    });
    if (!good) return {};
    std::sort(matrix.queues.begin(), matrix.queues.end());
    matrix.queues.erase(std::unique(matrix.queues.begin(), matrix.queues.end()), matrix.queues.end());
    return matrix;
}

std::optional<Mask> parse_control_domains(std::string_view text) {
    Mask mask;
    const bool good = for_each_line(text, [&](std::string_view line) {
        const auto domain = parse_domain(line);
        if (domain) mask.set(*domain);
        return domain.has_value();
    });
    if (!good) return {};
    return mask;
}

}  // namespace vfioap
