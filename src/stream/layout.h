// SPDX-License-Identifier: LGPL-2.1-or-later
// The layouts of the migration stream of a vfio-ap device: what the kernel's driver gives in STOP_COPY and
// takes in RESUMING. man 5 vfioap-stream draws each byte by byte.
#pragma once

#include "ap/apqn.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace vfioap {

/// By the state of the patch series s390/vfio-ap "Add live guest migration support" that uses it. All
/// integers big-endian; after the header one entry of 16 bytes for each queue, sorted by APQN:
/// `u64 tapq; u16 apqn; u8 reserved[6]`.
enum class Layout : std::uint8_t {
    l1,   ///< v1, v2: `u32 num_queues; u8 pad[4]`
    l2,   ///< v3, v4 as posted: l1's header and `u64 config_size`, which they leave 0
    l2b,  ///< a later state: l1's header and `u64 adm[4]`
    l3,   ///< the newest: `u32 magic; u32 version; u32 num_queues; u8 pad[4]; u64 adm[4]`
};
inline constexpr std::array<Layout, 4> all_layouts{Layout::l1, Layout::l2, Layout::l2b, Layout::l3};

/// Length of one entry, bytes.
inline constexpr std::size_t stream_entry_size = 16;
/// `vfap`
inline constexpr std::uint32_t stream_magic = 0x76666170;
inline constexpr std::uint32_t stream_version = 1;

/// Length of the header, bytes.
constexpr std::size_t header_size(Layout layout) {
    constexpr std::array<std::size_t, 4> sizes{8, 16, 40, 48};
    return sizes[static_cast<std::size_t>(layout)];
}
/// Offset of num_queues.
constexpr std::size_t num_queues_offset(Layout layout) {
    return layout == Layout::l3 ? 8 : 0;
}
/// Offset of adm, the mask of control domains; empty where the layout has none.
constexpr std::optional<std::size_t> control_domains_offset(Layout layout) {
    if (layout == Layout::l2b) return 8;
    if (layout == Layout::l3) return 16;
    return {};
}
/// Length of a stream with that many queues, bytes.
constexpr std::size_t stream_size(Layout layout, std::size_t num_queues) {
    return header_size(layout) + num_queues * stream_entry_size;
}
/// Length of the longest stream there can be, bytes.
inline constexpr std::size_t longest_stream = stream_size(Layout::l3, ap_queues);

/// `l1`, `l2`, `l2b`, `l3`, as on the command line.
std::string_view to_text(Layout layout);
std::optional<Layout> parse_layout(std::string_view text);

}  // namespace vfioap
