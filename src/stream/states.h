// SPDX-License-Identifier: LGPL-2.1-or-later
// The states of a VFIO device during a migration and the ways between them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace vfioap {

/// Names and numbers of <linux/vfio.h>, enum vfio_device_mig_state.
enum class DeviceState : std::uint8_t {
    error = 0,
    stop = 1,
    running = 2,
    stop_copy = 3,     ///< saving: gives its data
    resuming = 4,      ///< takes data
    running_p2p = 5,   ///< optional
    pre_copy = 6,      ///< optional; saving while it runs
    pre_copy_p2p = 7,  ///< optional
};
inline constexpr std::array<DeviceState, 8> all_device_states{
    DeviceState::error,    DeviceState::stop,        DeviceState::running,  DeviceState::stop_copy,
    DeviceState::resuming, DeviceState::running_p2p, DeviceState::pre_copy, DeviceState::pre_copy_p2p};

/// `RUNNING`, `STOP_COPY` …, as in VFIO_DEVICE_STATE_*.
std::string_view to_text(DeviceState state);
std::optional<DeviceState> parse_device_state(std::string_view text);

/// The optional parts of the protocol that a device takes part in (VFIO_MIGRATION_P2P,
/// VFIO_MIGRATION_PRE_COPY). Drivers of vfio-ap take part in neither.
struct OptionalStates {
    bool p2p = false;
    bool pre_copy = false;
};

/// Whether a device with these has the state at all.
bool has_state(DeviceState state, OptionalStates optional);
/// PRE_COPY, PRE_COPY_P2P, STOP_COPY: they share one data transfer.
bool is_saving(DeviceState state);

/// The states to go through from `from` to `to`, without `from` and with `to`; nothing to do is an empty way.
/// No value: the request is refused (EINVAL). As <linux/vfio.h> defines combination transitions: the shortest
/// way over the arcs, no saving state in between unless both ends are saving, never from STOP_COPY back to
/// PRE_COPY or PRE_COPY_P2P; nothing leads to or from ERROR.
std::optional<std::vector<DeviceState>> device_path(DeviceState from, DeviceState to,
                                                    OptionalStates optional);

}  // namespace vfioap
