// SPDX-License-Identifier: LGPL-2.1-or-later
// Writing the state. Reading it: state_reader.cpp, from domain_xml.cpp.
#include "domain/state.h"

#include "ap/queue_list.h"
#include "text/safe.h"
#include "text/utf8.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vfioap {
namespace {

// What the element may take as libvirt formats it; the rest of state_max_bytes is for the line of the element
// itself, and for what a later libvirt may add.
constexpr std::size_t room = 1'000'000;
// Lists that people can read as long as they are not longer than this.
constexpr std::size_t readable = std::size_t{128} * 1024;
// Of each child: libvirt puts it on a line of its own, six blanks in, and prefixes its start and end tags.
constexpr std::size_t formatting = 1 + 6 + 2 * (state_key.size() + 1);

std::string domain_list(const Mask& domains) {
    std::string list;
    for (unsigned first = 0; first < ap_devices;) {
        if (!domains.test(first)) {
            ++first;
            continue;
        }
        unsigned last = first;
        while (domains.test(last + 1))
            ++last;
        // As in lists of queues, two in a row are no range.
        if (last == first + 1) last = first;
        list += fmt::format("{}{}{}", list.empty() ? "" : " ", domain_text(first),
                            last == first ? "" : '-' + domain_text(last));
        first = last + 1;
    }
    return list;
}

std::string base64(const std::vector<std::uint64_t>& values) {
    static constexpr std::string_view digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((values.size() * 8 + 2) / 3 * 4);
    unsigned pending = 0;
    unsigned bits = 0;
    for (const auto value : values) {
        for (unsigned shift = 64; shift > 0;) {
            shift -= 8;
            pending = (pending << 8U | static_cast<unsigned>(value >> shift & 0xffU)) & 0xffffU;
            for (bits += 8; bits >= 6;) {
                bits -= 6;
                text += digits[pending >> bits & 0x3fU];
            }
        }
    }
    if (bits > 0) text += digits[pending << (6 - bits) & 0x3fU];
    while (text.size() % 4 != 0)
        text += '=';
    return text;
}

std::string attribute_text(std::string_view text) {
    std::string escaped;
    for (const char c : text) {
        switch (c) {
            case '&':
                escaped += "&amp;";
                break;
            case '<':
                escaped += "&lt;";
                break;
            case '>':
                escaped += "&gt;";
                break;
            case '"':
                escaped += "&quot;";
                break;
            default:
                escaped += c;
        }
    }
    return escaped;
}

/// A host that the reader takes.
std::string host_text(const std::string& host) {
    bool plain = !host.empty() && host.size() <= state_max_host && !has_control(host);
    for (std::size_t i = 0; plain && i < host.size();) {
        const auto length = utf8_length(std::string_view{host}.substr(i));
        plain = length != 0;
        i += length;
    }
    // U+FFFE and U+FFFF are no XML characters: EF BF BE, EF BF BF.
    plain = plain && host.find("\xef\xbf\xbe") == std::string::npos &&
            host.find("\xef\xbf\xbf") == std::string::npos;
    if (plain) return host;
    auto line = printable(host, state_max_host);
    return line.empty() ? "unknown" : line;
}

bool is_layout(std::string_view text) {
    return !text.empty() && text.size() <= 16 &&
           text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789") == std::string_view::npos;
}

/// Queues that have something in common, in the order of their first ones.
template <typename Value>
struct Group {
    Value value;
    std::vector<Apqn> queues;
};

class Writer {
  public:
    /// `prefix`: `vfioap:` or nothing.
    explicit Writer(std::string_view prefix) : prefix_{prefix} {}

    std::string write(const DomainState& state) {
        const auto& configuration = state.configuration;
        add_queues(configuration.queues);
        if (!configuration.control_domains.none())
            add("control-domains", "", domain_list(configuration.control_domains));
        add_keys(configuration.queues);

        std::string attributes;
        if (!prefix_.empty()) attributes = fmt::format(" xmlns:{}=\"{}\"", state_key, state_namespace);
        attributes += fmt::format(" mdev=\"{}\" host=\"{}\"", state.mdev.to_string(),
                                  attribute_text(host_text(state.host)));
        if (is_layout(state.layout)) attributes += fmt::format(" layout=\"{}\"", state.layout);
        if (state.detached) attributes += " detached=\"yes\"";
        return fmt::format("<{0}config{1}>{2}</{0}config>", prefix_, attributes, children_);
    }

  private:
    [[nodiscard]] std::string element(std::string_view name, std::string_view attributes,
                                      std::string_view text) const {
        return fmt::format("<{0}{1}{2}>{3}</{0}{1}>", prefix_, name, attributes, text);
    }
    /// What an element of that length takes once libvirt formats it. The same with a prefix and without, so
    /// that both say the same of a state.
    [[nodiscard]] std::size_t formatted(const std::string& text) const {
        return text.size() - 2 * prefix_.size() + formatting;
    }
    void add(std::string_view name, std::string_view attributes, std::string_view text) {
        const auto made = element(name, attributes, text);
        used_ += formatted(made);
        children_ += made;
    }

    void add_queues(const std::vector<GuestQueue>& queues) {
        std::vector<Group<Hwinfo>> groups;
        std::unordered_map<std::uint64_t, std::size_t> index;
        std::vector<Apqn> known;
        std::vector<Apqn> unknown;
        for (const auto& queue : queues) {
            if (!queue.hwinfo) {
                unknown.push_back(queue.apqn);
                continue;
            }
            known.push_back(queue.apqn);
            const auto [place, added] = index.try_emplace(queue.hwinfo->value(), groups.size());
            if (added) groups.push_back({*queue.hwinfo, {}});
            groups[place->second].queues.push_back(queue.apqn);
        }
        std::string each;
        std::size_t size = 0;
        for (const auto& group : groups) {
            const auto made = element("queues", fmt::format(" tapq=\"0x{:016x}\"", group.value.value()),
                                      queue_list_text(group.queues));
            size += formatted(made);
            each += made;
        }
        std::string packed;
        if (size > readable) {
            std::vector<std::uint64_t> values;
            for (const auto& queue : queues) {
                if (queue.hwinfo) values.push_back(queue.hwinfo->value());
            }
            packed = element("hwinfo", fmt::format(" queues=\"{}\"", queue_list_text(known)), base64(values));
        }
        const bool pack = !packed.empty() && formatted(packed) < size;
        used_ += pack ? formatted(packed) : size;
        children_ += pack ? packed : each;
        if (!unknown.empty()) add("queues", "", queue_list_text(unknown));
    }

    void add_keys(const std::vector<GuestQueue>& queues) {
        std::vector<Group<std::string>> groups;
        std::map<std::string, std::size_t> index;
        std::unordered_map<const MasterKeys*, std::size_t> seen;
        for (const auto& queue : queues) {
            const auto* const keys = queue.master_keys.get();
            if (keys == nullptr || keys->registers().empty()) continue;
            auto place = seen.find(keys);
            if (place == seen.end()) {
                auto registers = fmt::format("{}", fmt::join(keys->lines(), "; "));
                const auto group = index.try_emplace(registers, groups.size()).first->second;
                if (group == groups.size()) groups.push_back({std::move(registers), {}});
                place = seen.emplace(keys, group).first;
            }
            groups[place->second].queues.push_back(queue.apqn);
        }
        // The keys of the most queues first: with so many different ones there is not room for all. Unknown
        // keys are a warning at the destination, and no worse.
        std::vector<std::size_t> order(groups.size());
        for (std::size_t i = 0; i < order.size(); ++i)
            order[i] = i;
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
            return groups[a].queues.size() > groups[b].queues.size();
        });
        std::vector<std::string> made(groups.size());
        for (const auto i : order) {
            auto text = element("master-keys", fmt::format(" registers=\"{}\"", groups[i].value),
                                queue_list_text(groups[i].queues));
            if (used_ + formatted(text) > room) continue;
            used_ += formatted(text);
            made[i] = std::move(text);
        }
        for (const auto& text : made)
            children_ += text;
    }

    std::string_view prefix_;
    std::string children_;
    std::size_t used_ = 0;
};

bool same(const GuestQueue& a, const GuestQueue& b) {
    const bool same_keys = a.master_keys == b.master_keys ||
                           (a.master_keys && b.master_keys && *a.master_keys == *b.master_keys);
    return a.apqn == b.apqn && a.hwinfo == b.hwinfo && same_keys;
}

}  // namespace

bool operator==(const DomainState& a, const DomainState& b) {
    const auto& ours = a.configuration.queues;
    const auto& theirs = b.configuration.queues;
    return a.mdev == b.mdev && a.host == b.host && a.layout == b.layout && a.detached == b.detached &&
           a.configuration.control_domains == b.configuration.control_domains &&
           std::equal(ours.begin(), ours.end(), theirs.begin(), theirs.end(), same);
}

std::string state_element(const DomainState& state) {
    return Writer{"vfioap:"}.write(state);
}

std::string state_metadata(const DomainState& state) {
    return Writer{""}.write(state);
}

}  // namespace vfioap
