// SPDX-License-Identifier: LGPL-2.1-or-later
#include "explain/pattern.h"

#include <algorithm>
#include <array>

namespace vfioap {
namespace {

constexpr std::size_t uuid_size = 36;
constexpr std::size_t queue_size = 7;
constexpr std::size_t domain_size = 4;
constexpr std::size_t most_digits = 18;
constexpr std::size_t most_field = 256;
constexpr std::size_t most_field_queues = 256;

bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

std::string_view without_ends(std::string_view text, std::string_view dropped) {
    const auto first = text.find_first_not_of(dropped);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(dropped) - first + 1);
}

/// Text up to the first of `stops`, at most so much as is kept.
std::size_t run(std::string_view text, std::size_t at, std::string_view stops) {
    const auto within = text.substr(at, most_field);
    return std::min(within.find_first_of(stops), within.size());
}

/// The mdev in front of a message: `UUID: `, `UUID ` or `UUID`, whatever stands before it.
std::optional<Uuid> mdev_before(std::string_view text, std::size_t at) {
    auto front = text.substr(0, at);
    // What some versions put between: `migration failed: Failed to get …`, `Userspace may not re-assign …`.
    static constexpr std::array<std::string_view, 2> between{"migration failed: ", "Userspace may not "};
    for (const auto words : between) {
        if (front.ends_with(words)) front.remove_suffix(words.size());
    }
    while (!front.empty() && (front.back() == ' ' || front.back() == ':'))
        front.remove_suffix(1);
    if (front.size() < uuid_size) return {};
    return Uuid::parse(front.substr(front.size() - uuid_size));
}

}  // namespace

Pattern::Pattern(const Message& record) : record_{&record} {
    auto rest = record.pattern;
    while (!rest.empty()) {
        const auto open = rest.find('{');
        if (open != 0) parts_.push_back({rest.substr(0, open), {}});
        if (open == std::string_view::npos) break;
        const auto close = rest.find('}', open);
        parts_.push_back({{}, rest.substr(open + 1, close - open - 1)});
        rest.remove_prefix(close + 1);
    }
}

std::string_view Pattern::anchor() const {
    std::string_view longest;
    for (const auto& part : parts_)
        if (part.literal.size() > longest.size()) longest = part.literal;
    return longest;
}

bool Pattern::match_here(std::string_view text, std::size_t at, MessageMatch& match) const {
    match = {};
    match.message = record_;
    match.begin = at;
    const auto take_digits = [&](std::string& into) {
        std::size_t count = 0;
        if (text.substr(at, 2) == "0x") count = 2;
        while (count < most_digits && at + count < text.size() && is_hex(text[at + count]))
            ++count;
        into = text.substr(at, count);
        at += count;
        return count > 0;
    };
    const auto take_uuid = [&](std::optional<Uuid>& into) {
        into = Uuid::parse(text.substr(std::min(at, text.size()), uuid_size));
        at += uuid_size;
        return into.has_value();
    };
    const auto take_queue = [&] {
        const auto queue = Apqn::parse(text.substr(std::min(at, text.size()), queue_size));
        if (!queue || match.queues.size() >= most_field_queues) return false;
        match.queues.push_back(*queue);
        at += queue_size;
        return true;
    };
    for (std::size_t i = 0; i < parts_.size(); ++i) {
        const auto& part = parts_[i];
        if (at > text.size()) return false;
        if (!part.literal.empty()) {
            if (text.substr(at, part.literal.size()) != part.literal) return false;
            at += part.literal.size();
        } else if (part.name == "uuid") {
            if (!take_uuid(match.mdev)) return false;
        } else if (part.name == "other") {
            if (!take_uuid(match.other)) return false;
        } else if (part.name == "queue") {
            if (!take_queue()) return false;
        } else if (part.name == "queues") {
            if (!take_queue()) return false;
            while (true) {
                const auto before = at;
                while (at < text.size() && (text[at] == ' ' || text[at] == ','))
                    ++at;
                if (at == before || !take_queue()) {
                    at = before;
                    break;
                }
            }
        } else if (part.name == "domain") {
            match.domain = parse_domain(text.substr(at, domain_size));
            if (!match.domain) return false;
            at += domain_size;
        } else if (part.name == "x") {
            if (!take_digits(match.x)) return false;
        } else if (part.name == "y") {
            if (!take_digits(match.y)) return false;
        } else if (part.name == "rc") {
            if (!take_digits(match.rc)) return false;
        } else if (part.name == "not") {
            match.negated = text.substr(at, 4) == "not ";
            if (match.negated) at += 4;
        } else if (part.name == "device") {
            const auto size = run(text, at, " '\"\\\r\n");
            match.text = without_ends(text.substr(at, size), "().,;:");
            at += size;
        } else if (part.name == "error") {
            const auto size = run(text, at, ":.\"\\\r\n");
            match.text = without_ends(text.substr(at, size), " ");
            at += size;
        } else if (part.name == "guest") {
            const auto next = i + 1 < parts_.size() ? parts_[i + 1].literal : std::string_view{"\n"};
            const auto size = std::min(text.substr(at, most_field).find(next), most_field);
            if (size == most_field || size == 0) return false;
            match.text = text.substr(at, size);
            at += size;
        } else {  // text
            const auto size = run(text, at, "\r\n");
            if (match.text.empty()) match.text = text.substr(at, size);
            at += size;
        }
    }
    match.end = at;
    if (!match.mdev) match.mdev = mdev_before(text, match.begin);
    return true;
}

std::optional<MessageMatch> Pattern::find(std::string_view text, std::size_t from, std::size_t to) const {
    const auto first = parts_.front().literal;
    MessageMatch match;
    for (auto at = text.find(first, from); at < to; at = text.find(first, at + 1)) {
        if (match_here(text, at, match)) return match;
    }
    return {};
}

}  // namespace vfioap
