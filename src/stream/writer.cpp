// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stream/writer.h"

#include "ap/error.h"

#include <utility>

#include <fmt/format.h>

namespace vfioap {
namespace {

/// Most significant byte first, on any machine. Written out, so that compilers see what it is.
template <typename Number, std::size_t... Index>
std::uint8_t* put(std::uint8_t* out, Number value, std::index_sequence<Index...> /*bytes*/) {
    ((out[Index] = static_cast<std::uint8_t>(value >> (8 * (sizeof(Number) - 1 - Index)))), ...);
    return out + sizeof(Number);
}
template <typename Number>
std::uint8_t* put(std::uint8_t* out, Number value) {
    return put(out, value, std::make_index_sequence<sizeof(Number)>{});
}

}  // namespace

std::vector<std::uint8_t> write_stream(const GuestConfiguration& configuration, Layout layout) {
    const auto& queues = configuration.queues;
    std::vector<std::uint8_t> stream(stream_size(layout, queues.size()));
    std::uint8_t* out = stream.data();
    if (layout == Layout::l3) {
        out = put(out, stream_magic);
        out = put(out, stream_version);
    }
    out = put(out, static_cast<std::uint32_t>(queues.size()));
    out += 4;                            // pad
    if (layout == Layout::l2) out += 8;  // config_size
    if (control_domains_offset(layout)) {
        for (const auto word : configuration.control_domains.words())
            out = put(out, word);
    }
    int previous = -1;
    for (const auto& queue : queues) {
        if (!queue.hwinfo) {
            throw InputError{"queue " + queue.apqn.to_string(),
                             "its TAPQ hwinfo (ap_functions and raw_hwtype) is not known"};
        }
        if (queue.apqn.number() <= previous)
            throw InputError{"queue " + queue.apqn.to_string(), "expected queues sorted, each once"};
        previous = queue.apqn.number();
        out = put(out, queue.hwinfo->value());
        out = put(out, queue.apqn.number());
        out += 6;  // reserved
    }
    return stream;
}

}  // namespace vfioap
