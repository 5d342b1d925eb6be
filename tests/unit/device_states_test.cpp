// SPDX-License-Identifier: LGPL-2.1-or-later
// Every state × every request, with and without the optional states.
#include "stream/states.h"

#include <algorithm>
#include <sstream>
#include <string>

#include <gtest/gtest.h>
#include <linux/vfio.h>

namespace vfioap {
namespace {

using State = DeviceState;

static_assert(static_cast<int>(State::error) == VFIO_DEVICE_STATE_ERROR);
static_assert(static_cast<int>(State::stop) == VFIO_DEVICE_STATE_STOP);
static_assert(static_cast<int>(State::running) == VFIO_DEVICE_STATE_RUNNING);
static_assert(static_cast<int>(State::stop_copy) == VFIO_DEVICE_STATE_STOP_COPY);
static_assert(static_cast<int>(State::resuming) == VFIO_DEVICE_STATE_RESUMING);
static_assert(static_cast<int>(State::running_p2p) == VFIO_DEVICE_STATE_RUNNING_P2P);
// 6 and 7 are PRE_COPY and PRE_COPY_P2P, in headers from Linux 6.2 on.

/// S STOP, R RUNNING, C STOP_COPY, M RESUMING, r RUNNING_P2P, P PRE_COPY, p PRE_COPY_P2P, E ERROR.
constexpr std::string_view letters = "ESRCMrPp";

State state_of(char letter) {
    return all_device_states[letters.find(letter)];
}

struct Table {
    std::string name;
    OptionalStates optional;
    /// A row for each state, in the order of `letters`; a word for each request: the states on the way, `.`
    /// for nothing to do, `-` for a refusal.
    std::string rows;
};

void PrintTo(const Table& table, std::ostream* out) {  // NOLINT(readability-identifier-naming)
    *out << table.name;
}

class DevicePath : public testing::TestWithParam<Table> {};
INSTANTIATE_TEST_SUITE_P(OptionalStates, DevicePath,
                         testing::Values(Table{"none",
                                               {false, false},
                                               // E  S   R   C   M   r  P  p
                                               "  -  -   -   -   -   -  -  - "    // ERROR
                                               "  -  .   R   C   M   -  -  - "    // STOP
                                               "  -  S   .   SC  SM  -  -  - "    // RUNNING
                                               "  -  S   SR  .   SM  -  -  - "    // STOP_COPY
                                               "  -  S   SR  SC  .   -  -  - "    // RESUMING
                                               "  -  -   -   -   -   -  -  - "    // RUNNING_P2P
                                               "  -  -   -   -   -   -  -  - "    // PRE_COPY
                                               "  -  -   -   -   -   -  -  - "},  // PRE_COPY_P2P
                                         Table{"p2p",
                                               {true, false},
                                               "  -  -   -    -    -    -   -  - "
                                               "  -  .   rR   C    M    r   -  - "
                                               "  -  rS  .    rSC  rSM  r   -  - "
                                               "  -  S   SrR  .    SM   Sr  -  - "
                                               "  -  S   SrR  SC   .    Sr  -  - "
                                               "  -  S   R    SC   SM   .   -  - "
                                               "  -  -   -    -    -    -   -  - "
                                               "  -  -   -    -    -    -   -  - "},
                                         Table{"pre_copy",
                                               {false, true},
                                               "  -  -   -   -    -    -  -    - "
                                               "  -  .   R   C    M    -  RP   - "
                                               "  -  S   .   SC   SM   -  P    - "
                                               "  -  S   SR  .    SM   -  -    - "
                                               "  -  S   SR  SC   .    -  SRP  - "
                                               "  -  -   -   -    -    -  -    - "
                                               "  -  RS  R   C    RSM  -  .    - "
                                               "  -  -   -   -    -    -  -    - "},
                                         Table{"both",
                                               {true, true},
                                               "  -  -    -    -    -     -   -      -   "
                                               "  -  .    rR   C    M     r   rRP    rp  "
                                               "  -  rS   .    rSC  rSM   r   P      rp  "
                                               "  -  S    SrR  .    SM    Sr  -      -   "
                                               "  -  S    SrR  SC   .     Sr  SrRP   Srp "
                                               "  -  S    R    SC   SM    .   RP     p   "
                                               "  -  RrS  R    pC   RrSM  Rr  .      p   "
                                               "  -  rS   rR   C    rSM   r   P      .   "}),
                         [](const auto& row) { return row.param.name; });

TEST_P(DevicePath, is_the_shortest_that_the_documentation_allows) {
    std::istringstream rows{GetParam().rows};
    for (const auto from : all_device_states) {
        for (const auto to : all_device_states) {
            std::string expected;
            ASSERT_TRUE(rows >> expected);
            const auto path = device_path(from, to, GetParam().optional);
            std::string found;
            if (!path) {
                found = "-";
            } else if (path->empty()) {
                found = ".";
            } else {
                for (const auto state : *path)
                    found += letters[static_cast<std::size_t>(state)];
            }
            EXPECT_EQ(found, expected) << to_text(from) << " to " << to_text(to);
        }
    }
}

TEST_P(DevicePath, never_goes_through_a_saving_state_nor_one_the_device_has_not_got) {
    for (const auto from : all_device_states) {
        for (const auto to : all_device_states) {
            const auto path = device_path(from, to, GetParam().optional);
            if (!path || path->empty()) continue;
            EXPECT_EQ(path->back(), to);
            for (const auto state : *path) {
                EXPECT_TRUE(has_state(state, GetParam().optional));
                if (state != to && is_saving(state)) {
                    EXPECT_TRUE(is_saving(from) && is_saving(to));
                }
            }
        }
    }
}

TEST(DeviceState, has_the_words_of_the_kernel) {
    for (const auto state : all_device_states)
        EXPECT_EQ(parse_device_state(to_text(state)), state);
    EXPECT_EQ(to_text(State::pre_copy_p2p), "PRE_COPY_P2P");
    EXPECT_FALSE(parse_device_state("stop"));
    EXPECT_FALSE(parse_device_state(""));
    EXPECT_EQ(state_of('M'), State::resuming);
}

}  // namespace
}  // namespace vfioap
