// SPDX-License-Identifier: LGPL-2.1-or-later
// A migration stream comes from another host. Any bytes, in any pieces, under any layout: what comes of them
// does not depend on the pieces, nothing is kept that did not come, and what is good is what the writer makes
// of it. The first byte chooses the layout and the pieces.
#include "report/stream.h"
#include "stream/reader.h"
#include "stream/writer.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "require.h"
#include <nlohmann/json.hpp>

namespace {

using namespace vfioap;
using fuzz::require;
using Bytes = std::span<const std::uint8_t>;

StreamReader read(Bytes bytes, std::optional<Layout> layout, std::size_t piece) {
    StreamReader reader{layout};
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
        const auto count = std::min(piece, bytes.size() - at);
        const bool taken = reader.feed(bytes.subspan(at, count));
        require(taken == !reader.fault());
        require(reader.size() <= at + count);
        require(reader.memory() <= std::max<std::size_t>(2 * (at + count), 64));
        if (!taken) break;
    }
    require(reader.finish() == !reader.fault());
    return reader;
}

void require_same(const StreamReader& a, const StreamReader& b) {
    require(a.fault() == b.fault() && a.layout() == b.layout() && a.confidence() == b.confidence());
    require(a.size() == b.size() && a.queue_count() == b.queue_count());
    require(a.control_domains() == b.control_domains());
    require(render_stream_json(a) == render_stream_json(b));
}

void judge(Bytes bytes, std::optional<Layout> layout) {
    const auto reader = read(bytes, layout, std::max<std::size_t>(bytes.size(), 1));
    for (const auto piece : {std::size_t{1}, std::size_t{7}})
        require_same(reader, read(bytes, layout, piece));

    int previous = -1;
    for (std::size_t i = 0; i < reader.queue_count(); ++i) {
        const auto queue = reader.queue(i);
        require(queue.apqn.number() > previous);
        previous = queue.apqn.number();
        require(reader.queue_offset(i) + stream_entry_size <= reader.size());
    }
    require(!layout || reader.layout() == *layout);
    if (reader.fault()) {
        require(reader.fault()->offset == reader.size() && reader.fault()->offset <= bytes.size());
    } else {
        require(reader.size() == bytes.size() && bytes.size() <= longest_stream);
        require(reader.num_queues() == reader.queue_count());
        const auto written = write_stream(reader.configuration(), reader.layout());
        require(written.size() == bytes.size());
        // Padding and reserved bytes are all that the writer does not give back.
        StreamReader again{reader.layout()};
        require(again.feed(written) && again.finish());
        for (std::size_t i = 0; i < again.queue_count(); ++i) {
            require(again.queue(i).apqn == reader.queue(i).apqn);
            require(again.queue(i).hwinfo == reader.queue(i).hwinfo);
        }
        require(again.control_domains() == reader.control_domains());
        require(std::equal(written.begin(), written.end(), bytes.begin()) ||
                reader.anomalies(0).total > again.anomalies(0).total);
    }
    require(nlohmann::json::accept(render_stream_json(reader)));
    require(render_stream_text(reader).ends_with('\n'));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Bytes bytes{data, size};
    judge(bytes, {});
    for (const auto layout : all_layouts)
        judge(bytes, layout);
    return 0;
}
