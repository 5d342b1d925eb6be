// SPDX-License-Identifier: LGPL-2.1-or-later
#include "domain/state_reader.h"

#include "ap/queue_list.h"
#include "text/safe.h"
#include "text/utf8.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include <fmt/format.h>

namespace vfioap {
namespace {

constexpr std::string_view blanks = " \t\r\n";

template <typename... Arguments>
[[noreturn]] void refuse(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    throw StateProblem{fmt::format(format, std::forward<Arguments>(arguments)...)};
}

template <typename Action>
void each_word(std::string_view text, Action action) {
    while (true) {
        const auto first = text.find_first_not_of(blanks);
        if (first == std::string_view::npos) return;
        text.remove_prefix(first);
        const auto end = std::min(text.find_first_of(blanks), text.size());
        action(text.substr(0, end));
        text.remove_prefix(end);
    }
}

/// `YYYY` or `YYYY-YYYY`, the second not below the first.
std::optional<std::pair<unsigned, unsigned>> parse_domains(std::string_view text) {
    const auto hyphen = text.find('-');
    const auto first = parse_domain(text.substr(0, hyphen));
    const auto last = hyphen == std::string_view::npos ? first : parse_domain(text.substr(hyphen + 1));
    if (!first || !last || *last < *first) return {};
    return std::pair<unsigned, unsigned>{*first, *last};
}

/// The queues of a list, of which none may be in `seen`.
std::vector<Apqn> parse_queues(std::string_view text, std::bitset<ap_queues>& seen) {
    auto list = parse_queue_list(text, seen);
    if (list.bad_item)
        refuse("\"{}\" in a list of queues; expected XX.YYYY, or ascending ranges: 05-07.0004-0047",
               printable(*list.bad_item));
    if (list.twice) refuse("queue {} twice; expected each once", list.twice->to_string());
    if (list.queues.empty()) refuse("a list of queues with nothing in it; expected at least one queue");
    return std::move(list.queues);
}

std::optional<std::uint64_t> parse_tapq(std::string_view text) {
    if (text.size() != 18 || !text.starts_with("0x")) return {};
    std::uint64_t value = 0;
    const auto* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + 2, end, value, 16);
    if (error != std::errc{} || rest != end) return {};
    return value;
}

constexpr std::array<std::int8_t, 256> base64_values = [] {
    std::array<std::int8_t, 256> values{};
    values.fill(-1);
    constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (std::size_t i = 0; i < digits.size(); ++i)
        values[static_cast<unsigned char>(digits[i])] = static_cast<std::int8_t>(i);
    return values;
}();

/// The bytes; nothing where the text is not base64 (RFC 4648, section 4). Blanks are passed over.
std::optional<std::vector<std::uint8_t>> parse_base64(std::string_view text) {
    std::vector<std::uint8_t> bytes;
    std::size_t digits = 0;
    std::size_t padding = 0;
    unsigned pending = 0;
    unsigned bits = 0;
    for (const char c : text) {
        if (blanks.find(c) != std::string_view::npos) continue;
        if (c == '=') {
            ++padding;
            continue;
        }
        const auto value = base64_values[static_cast<unsigned char>(c)];
        if (value < 0 || padding > 0) return {};
        ++digits;
        pending = (pending << 6U | static_cast<unsigned>(value)) & 0xffffU;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes.push_back(static_cast<std::uint8_t>(pending >> bits & 0xffU));
        }
    }
    const bool rest = (pending & ((1U << bits) - 1U)) != 0;
    if (rest || padding > 2 || (digits + padding) % 4 != 0) return {};
    return bytes;
}

std::optional<MasterKeys> parse_registers(std::string_view text) {
    static constexpr std::string_view separator = "; ";
    std::vector<std::string> lines;
    while (lines.size() < 10) {
        const auto end = text.find(separator);
        lines.emplace_back(text.substr(0, end));
        if (end == std::string_view::npos) break;
        text.remove_prefix(end + separator.size());
    }
    return MasterKeys::from_lines(lines);
}

/// An attribute's value with its ampersands (XmlAttributes).
std::string unescaped(std::string_view text) {
    static constexpr std::string_view ampersand = "&#38;";
    std::string result;
    while (true) {
        const auto at = text.find(ampersand);
        result += text.substr(0, at);
        if (at == std::string_view::npos) return result;
        result += '&';
        text.remove_prefix(at + ampersand.size());
    }
}

}  // namespace

void StateReader::begin(const XmlAttributes& attributes) {
    const auto mdev = attributes.find("mdev");
    if (!mdev) refuse("a state without an mdev; expected the UUID of one");
    mdev_ = Uuid::parse(*mdev);
    if (!mdev_) refuse("a state with mdev \"{}\"; expected a UUID of the form 8-4-4-4-12", printable(*mdev));
    host_ = unescaped(attributes.find("host").value_or(""));
    if (host_.empty() || host_.size() > state_max_host || has_control(host_))
        refuse("a state with host \"{}\"; expected a name of 1 to {} bytes on one line", printable(host_),
               state_max_host);
    layout_ = attributes.find("layout").value_or("");
    if (attributes.find("layout") &&
        (layout_.empty() || layout_.size() > 16 ||
         layout_.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789") != std::string::npos))
        refuse("a state with layout \"{}\"; expected 1 to 16 lower-case letters and digits",
               printable(layout_));
    const auto detached = attributes.find("detached").value_or("no");
    if (detached != "yes" && detached != "no")
        refuse("a state with detached \"{}\"; expected yes or no", printable(detached));
    detached_ = detached == "yes";
}

bool StateReader::begin_part(std::string_view name, const XmlAttributes& attributes) {
    text_.clear();
    if (name == "queues") {
        part_ = Part::queues;
        tapq_.reset();
        if (const auto text = attributes.find("tapq")) {
            const auto value = parse_tapq(*text);
            if (!value) refuse("tapq \"{}\"; expected 0x and 16 hexadecimal digits", printable(*text));
            tapq_ = Hwinfo{*value};
        }
        return true;
    }
    if (name == "hwinfo") {
        part_ = Part::hwinfo;
        hwinfo_queues_ = parse_queues(attributes.find("queues").value_or(""), seen_);
        std::sort(hwinfo_queues_.begin(), hwinfo_queues_.end());
        return true;
    }
    if (name == "control-domains") {
        part_ = Part::control_domains;
        if (control_domains_) refuse("more than one <control-domains>; expected one");
        return true;
    }
    if (name == "master-keys") {
        part_ = Part::master_keys;
        const auto text = attributes.find("registers");
        auto keys = parse_registers(text.value_or(""));
        if (!keys)
            refuse("registers \"{}\"; expected lines as of mkvps, each register once, parted by \"; \"",
                   printable(text.value_or("")));
        keys_ = std::make_shared<const MasterKeys>(*std::move(keys));
        return true;
    }
    return false;
}

void StateReader::end_part() {
    switch (part_) {
        case Part::queues:
            return end_queues();
        case Part::hwinfo:
            return end_hwinfo();
        case Part::control_domains:
            return end_control_domains();
        case Part::master_keys:
            return end_master_keys();
    }
}

void StateReader::end_queues() {
    for (const auto apqn : parse_queues(text_, seen_))
        queues_.push_back({apqn, tapq_, nullptr});
}

void StateReader::end_hwinfo() {
    const auto bytes = parse_base64(text_);
    if (!bytes || bytes->size() != hwinfo_queues_.size() * 8)
        refuse("hwinfo that does not fit its {} queues; expected 8 bytes for each in base64",
               hwinfo_queues_.size());
    const auto* next = bytes->data();
    for (const auto apqn : hwinfo_queues_) {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < 8; ++i)
            value = value << 8U | *next++;
        queues_.push_back({apqn, Hwinfo{value}, nullptr});
    }
}

void StateReader::end_control_domains() {
    control_domains_.emplace();
    each_word(text_, [&](std::string_view item) {
        const auto range = parse_domains(item);
        if (!range)
            refuse("\"{}\" in <control-domains>; expected YYYY, or an ascending range: 0004-0047",
                   printable(item));
        for (auto number = range->first; number <= range->second; ++number) {
            if (control_domains_->test(number))
                refuse("control domain {} twice; expected each once", domain_text(number));
            control_domains_->set(number);
        }
    });
}

void StateReader::end_master_keys() {
    for (const auto apqn : parse_queues(text_, keys_seen_))
        queue_keys_.emplace_back(apqn, keys_);
}

DomainState StateReader::end() {
    for (const auto& [apqn, keys] : queue_keys_) {
        if (!seen_.test(apqn.number()))
            refuse("master keys of queue {}; expected those of a queue of the state", apqn.to_string());
    }
    std::sort(queues_.begin(), queues_.end(),
              [](const GuestQueue& a, const GuestQueue& b) { return a.apqn < b.apqn; });
    std::sort(queue_keys_.begin(), queue_keys_.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    auto next = queue_keys_.begin();
    for (auto& queue : queues_) {
        if (next == queue_keys_.end()) break;
        if (next->first == queue.apqn) queue.master_keys = std::move(next++->second);
    }
    return {std::move(*mdev_),
            std::move(host_),
            std::move(layout_),
            detached_,
            {std::move(queues_), control_domains_.value_or(Mask{})}};
}

}  // namespace vfioap
