// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stream/states.h"

#include <algorithm>
#include <deque>

namespace vfioap {
namespace {

using State = DeviceState;

constexpr std::array<std::string_view, 8> names{"ERROR",    "STOP",        "RUNNING",  "STOP_COPY",
                                                "RESUMING", "RUNNING_P2P", "PRE_COPY", "PRE_COPY_P2P"};

struct Arc {
    State from;
    State to;
    bool both_ways;
    /// There only while no device state keeps peers away in between.
    bool without_p2p = false;
};

/// An arc is there when both its states are.
constexpr std::array<Arc, 10> arcs{{
    {State::running, State::stop, true, true},
    {State::running, State::running_p2p, true},
    {State::running_p2p, State::stop, true},
    {State::stop, State::stop_copy, true},
    {State::stop, State::resuming, true},
    {State::running, State::pre_copy, true},
    {State::running_p2p, State::pre_copy_p2p, true},
    {State::pre_copy, State::pre_copy_p2p, true},
    {State::pre_copy, State::stop_copy, false, true},
    {State::pre_copy_p2p, State::stop_copy, false},
}};

constexpr std::size_t index_of(State state) {
    return static_cast<std::size_t>(state);
}

}  // namespace

std::string_view to_text(DeviceState state) {
    return names[index_of(state)];
}

std::optional<DeviceState> parse_device_state(std::string_view text) {
    for (const auto state : all_device_states) {
        if (to_text(state) == text) return state;
    }
    return {};
}

bool has_state(DeviceState state, OptionalStates optional) {
    switch (state) {
        case State::running_p2p:
            return optional.p2p;
        case State::pre_copy:
            return optional.pre_copy;
        case State::pre_copy_p2p:
            return optional.p2p && optional.pre_copy;
        default:
            return true;
    }
}

bool is_saving(DeviceState state) {
    return state == State::stop_copy || state == State::pre_copy || state == State::pre_copy_p2p;
}

std::optional<std::vector<DeviceState>> device_path(DeviceState from, DeviceState to,
                                                    OptionalStates optional) {
    if (from == State::error || to == State::error) return {};
    if (!has_state(from, optional) || !has_state(to, optional)) return {};
    if (from == State::stop_copy && is_saving(to) && from != to) return {};
    const bool within_saving = is_saving(from) && is_saving(to);
    // Breadth first; `before` tells where each state was reached from.
    std::array<std::optional<State>, 8> before{};
    std::deque<State> open{from};
    before[index_of(from)] = from;
    while (!open.empty() && !before[index_of(to)]) {
        const auto state = open.front();
        open.pop_front();
        if (state != from && is_saving(state) && !within_saving) continue;
        for (const auto& arc : arcs) {
            if (arc.without_p2p && optional.p2p) continue;
            const bool forth = arc.from == state;
            if (!forth && !(arc.both_ways && arc.to == state)) continue;
            const auto next = forth ? arc.to : arc.from;
            if (!has_state(next, optional) || before[index_of(next)]) continue;
            before[index_of(next)] = state;
            open.push_back(next);
        }
    }
    if (!before[index_of(to)]) return {};
    std::vector<State> path;
    for (auto state = to; state != from; state = *before[index_of(state)])
        path.push_back(state);
    std::reverse(path.begin(), path.end());
    return path;
}

}  // namespace vfioap
