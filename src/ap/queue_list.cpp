// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ap/queue_list.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace vfioap {
namespace {

constexpr std::string_view blanks = " \t\r\n";

/// Numbers from `first` to `last`, as they stand in a list: three or more as a range.
template <typename Text, typename Action>
void each_item(unsigned first, unsigned last, Text text, Action action) {
    if (last - first >= 2) {
        action(text(first) + '-' + text(last));
        return;
    }
    for (unsigned number = first; number <= last; ++number)
        action(text(number));
}

/// Calls `action` with the first and last number of each run of `numbers`, which are sorted.
template <typename Numbers, typename Action>
void each_run(const Numbers& numbers, Action action) {
    for (std::size_t i = 0; i < numbers.size();) {
        const std::size_t first = i++;
        while (i < numbers.size() && numbers[i] == numbers[i - 1] + 1)
            ++i;
        action(numbers[first], numbers[i - 1]);
    }
}

void append(std::string& list, std::string_view item) {
    if (!list.empty()) list += ' ';
    list += item;
}

/// `NN` or `NN-NN`, the second not below the first.
template <typename Parse>
std::optional<std::pair<unsigned, unsigned>> parse_range(std::string_view text, Parse parse) {
    const auto hyphen = text.find('-');
    const auto first = parse(text.substr(0, hyphen));
    if (!first) return {};
    if (hyphen == std::string_view::npos) return std::pair<unsigned, unsigned>{*first, *first};
    const auto last = parse(text.substr(hyphen + 1));
    if (!last || *last < *first) return {};
    return std::pair<unsigned, unsigned>{*first, *last};
}

}  // namespace

bool is_among(const std::vector<Apqn>& queues, Apqn apqn) {
    return std::binary_search(queues.begin(), queues.end(), apqn);
}

std::string queue_list_text(const std::vector<Apqn>& queues) {
    struct Adapter {
        unsigned apid;
        std::vector<std::uint8_t> domains;
    };
    std::string list;
    std::vector<Adapter> alike;  // adapters in a row with the same domains
    const auto flush = [&] {
        if (alike.empty()) return;
        each_item(alike.front().apid, alike.back().apid, adapter_text, [&](const std::string& adapters) {
            each_run(alike.front().domains, [&](unsigned first, unsigned last) {
                each_item(first, last, domain_text,
                          [&](const std::string& domains) { append(list, adapters + '.' + domains); });
            });
        });
        alike.clear();
    };
    for (std::size_t i = 0; i < queues.size();) {
        Adapter adapter{queues[i].apid(), {}};
        for (; i < queues.size() && queues[i].apid() == adapter.apid; ++i)
            adapter.domains.push_back(queues[i].apqi());
        if (!alike.empty() &&
            (adapter.apid != alike.back().apid + 1 || adapter.domains != alike.front().domains))
            flush();
        alike.push_back(std::move(adapter));
    }
    flush();
    return list;
}

QueueList parse_queue_list(std::string_view text, std::bitset<ap_queues>& seen) {
    QueueList list;
    while (true) {
        text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
        if (text.empty()) return list;
        const auto item = text.substr(0, text.find_first_of(blanks));
        text.remove_prefix(item.size());
        const auto point = item.find('.');
        const auto adapters = parse_range(item.substr(0, point), parse_adapter);
        const auto domains = point == std::string_view::npos
                                 ? std::nullopt
                                 : parse_range(item.substr(point + 1), parse_domain);
        if (!adapters || !domains) {
            list.bad_item = item;
            return list;
        }
        for (auto apid = adapters->first; apid <= adapters->second; ++apid) {
            for (auto apqi = domains->first; apqi <= domains->second; ++apqi) {
                const Apqn apqn{static_cast<std::uint8_t>(apid), static_cast<std::uint8_t>(apqi)};
                if (seen.test(apqn.number())) {
                    list.twice = apqn;
                    return list;
                }
                seen.set(apqn.number());
                list.queues.push_back(apqn);
            }
        }
    }
}

}  // namespace vfioap
