// SPDX-License-Identifier: LGPL-2.1-or-later
// Lists of queues as text: `05.0004 05.0047 06-08.0000-00ff`.
#pragma once

#include "ap/apqn.h"

#include <bitset>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// The text of sorted `queues`: parted by one blank; three or more numbers in a row as a range. A range of
/// adapters and one of domains together are all queues that these make. The same queues, the same text.
std::string queue_list_text(const std::vector<Apqn>& queues);

/// Whether sorted `queues` have this one.
[[nodiscard]] bool is_among(const std::vector<Apqn>& queues, Apqn apqn);

struct QueueList {
    std::vector<Apqn> queues;  ///< in the order of the text, each once
    /// The first item that is none, or whose range descends; within the text. Nothing follows it in `queues`.
    std::optional<std::string_view> bad_item;
    /// The first queue that was there before. Nothing follows it in `queues`.
    std::optional<Apqn> twice;

    [[nodiscard]] bool good() const { return !bad_item && !twice; }
};

/// From items `XX.YYYY`, each number hexadecimal or a range `NN-NN` of two, the second not below the first;
/// parted by blanks, tabs and line ends. `seen`: the queues that may not come (again); gets those of the
/// list. So a list, however long, gives no more queues than there are.
QueueList parse_queue_list(std::string_view text, std::bitset<ap_queues>& seen);

}  // namespace vfioap
