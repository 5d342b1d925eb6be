// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes give a state that keeps the promises of state.h, or an InputError of one clean line. The state,
// written, is read again as the same, and written again as the same bytes; so it is in the metadata of a
// domain, where a bad one does the domain no harm. Seeds: tests/data/states.
#include "ap/error.h"
#include "domain/domain_xml.h"
#include "domain/state.h"
#include "text/utf8.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "require.h"

namespace {

using vfioap::DomainState;
using vfioap::fuzz::require;

bool is_clean(std::string_view message) {
    return message.size() < 500 &&
           std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

std::optional<DomainState> parse(std::string_view bytes) {
    try {
        return vfioap::parse_state(bytes, "fuzz");
    } catch (const vfioap::InputError& error) {
        const std::string_view message = error.what();
        require(is_clean(message) && message.starts_with("fuzz: "));
        return {};
    }
}

void require_promises(const DomainState& state) {
    require(!state.host.empty() && state.host.size() <= vfioap::state_max_host &&
            !vfioap::has_control(state.host));
    require(state.layout.size() <= 16);
    const auto& queues = state.configuration.queues;
    require(std::adjacent_find(queues.begin(), queues.end(), [](const auto& a, const auto& b) {
                return a.apqn >= b.apqn;
            }) == queues.end());
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes{reinterpret_cast<const char*>(data), size};
    // In a domain, whatever it is: the domain is read, or refused as a whole.
    try {
        const auto domain = vfioap::parse_domain_xml(
            "<domain><name>g</name><metadata>" + std::string{bytes} + "</metadata></domain>", "domain");
        require(is_clean(domain.state_error) && (domain.state_error.empty() || !domain.state));
    } catch (const vfioap::InputError& error) {
        require(is_clean(error.what()));
    }

    const auto state = parse(bytes);
    if (!state) return 0;
    require_promises(*state);
    const auto text = vfioap::state_element(*state);
    require(text.size() < vfioap::state_max_bytes);
    const auto again = parse(text);
    require(again.has_value());
    require(vfioap::state_element(*again) == text);
    // Master keys can be left out where there are very many.
    if (size < vfioap::state_max_bytes / 4) require(*again == *state);
    const auto domain = vfioap::parse_domain_xml(
        "<domain><name>g</name><metadata>" + text + "</metadata></domain>", "domain");
    require(domain.state == *again && domain.state_error.empty());
    require(vfioap::parse_state(vfioap::state_metadata(*again), "metadata") == *again);
    return 0;
}
