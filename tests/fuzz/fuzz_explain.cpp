// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes, taken for a log, give an explanation whose text and JSON are harmless and within the limits;
// read in another chunking they give the same. Seeds: tests/data/logs.
#include "explain/explain.h"
#include "report/explanation.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "require.h"

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using vfioap::fuzz::require;
    const std::string_view bytes{reinterpret_cast<const char*>(data), size};
    vfioap::Explainer explainer;
    explainer.read("log", bytes);
    const auto explanation = explainer.finish({});
    const auto lines = static_cast<std::uint64_t>(std::count(bytes.begin(), bytes.end(), '\n')) + 1;
    require(explanation.migrations.size() <= vfioap::Explainer::most_migrations);
    for (const auto& migration : explanation.migrations) {
        for (const auto& cause : migration.causes) {
            require(!cause.message.empty() && !cause.remedies.empty() && !cause.evidence.empty());
            require(cause.evidence.size() <= vfioap::Explainer::most_evidence);
            require(std::is_sorted(cause.queues.begin(), cause.queues.end()));
            for (const auto& evidence : cause.evidence)
                require(evidence.line >= 1 && evidence.line <= lines && evidence.text.size() <= 400);
        }
    }
    const auto text = vfioap::render_explanation_text(explanation, {});
    require(std::all_of(text.begin(), text.end(), [](char c) {
        return c == '\n' || (static_cast<unsigned char>(c) >= ' ' && c != 0x7f);
    }));
    const auto json = vfioap::render_explanation_json(explanation);

    vfioap::Explainer again;
    auto rest = bytes;
    again.read("log", [&rest](char* into, std::size_t most) {
        const auto given = std::min({most, rest.size(), std::size_t{7}});
        if (given > 0) std::memcpy(into, rest.data(), given);
        rest.remove_prefix(given);
        return given;
    });
    require(vfioap::render_explanation_json(again.finish({})) == json);
    return 0;
}
