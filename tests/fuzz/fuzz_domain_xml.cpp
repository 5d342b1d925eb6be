// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes give a guest that keeps the promises of domain_xml.h, or an InputError of one clean line that
// names a place in the document. The guest, written as a document of our own, is read again as the same.
// Seeds: tests/data/domains.
#include "ap/error.h"
#include "domain/domain_xml.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "require.h"

namespace {

using vfioap::DomainXml;
using vfioap::fuzz::require;

bool has_no_controls(std::string_view text) {
    return std::none_of(text.begin(), text.end(), [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte < ' ' || byte == 0x7f;
    });
}

std::string escaped(std::string_view text) {
    std::string result;
    for (const char c : text) {
        switch (c) {
            case '<':
                result += "&lt;";
                break;
            case '>':
                result += "&gt;";
                break;
            case '&':
                result += "&amp;";
                break;
            case '\'':
                result += "&apos;";
                break;
            default:
                result += c;
        }
    }
    return result;
}

/// As libvirt lays it out. In attributes libxml2 gives an ampersand as `&#38;` (domain_xml.cpp says why), so
/// a guest with one does not come back the same.
std::string written(const DomainXml& domain) {
    std::string text =
        fmt::format("<domain type='{}'>\n  <name>{}</name>\n", escaped(domain.type), escaped(domain.name));
    if (domain.uuid) text += fmt::format("  <uuid>{}</uuid>\n", domain.uuid->to_string());
    text += fmt::format("  <os><type arch='{}' machine='{}'>hvm</type></os>\n", escaped(domain.arch),
                        escaped(domain.machine));
    if (domain.state)
        text += fmt::format("  <metadata>{}</metadata>\n", vfioap::state_element(*domain.state));
    if (domain.secure_execution) text += "  <launchSecurity type='s390-pv'/>\n";
    text += fmt::format("  <devices>\n    <emulator>{}</emulator>\n", escaped(domain.emulator));
    for (const auto& hostdev : domain.vfio_ap) {
        text += fmt::format(
            "    <hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address uuid='{}'/></source>"
            "<alias name='{}'/></hostdev>\n",
            hostdev.mdev.to_string(), escaped(hostdev.alias));
    }
    return text + "  </devices>\n</domain>\n";
}

bool has_ampersand(const DomainXml& domain) {
    const auto has = [](std::string_view text) { return text.find('&') != std::string_view::npos; };
    return has(domain.type) || has(domain.arch) || has(domain.machine) ||
           std::any_of(domain.vfio_ap.begin(), domain.vfio_ap.end(),
                       [&](const auto& hostdev) { return has(hostdev.alias); });
}

void without_lines(DomainXml& domain) {
    for (auto& hostdev : domain.vfio_ap)
        hostdev.line = 0;
}

void require_promises(const DomainXml& domain, unsigned lines) {
    require(!domain.name.empty());
    for (const auto* text : {&domain.name, &domain.type, &domain.arch, &domain.machine, &domain.emulator})
        require(has_no_controls(*text) && text->size() <= vfioap::domain_xml_max_value);
    unsigned line = 1;
    for (const auto& hostdev : domain.vfio_ap) {
        require(hostdev.line >= line && hostdev.line <= lines && has_no_controls(hostdev.alias));
        line = hostdev.line;
    }
}

/// `fuzz: line N, column M: REASON`.
void require_clean(std::string_view message, unsigned lines) {
    require(message.size() < 500);
    require(std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; }));
    const auto take = [&message](std::string_view text) {
        require(message.starts_with(text));
        message.remove_prefix(text.size());
    };
    const auto take_number = [&message] {
        unsigned number = 0;
        const auto* const end = message.data() + message.size();
        const auto [rest, error] = std::from_chars(message.data(), end, number);
        require(error == std::errc{} && number >= 1);
        message.remove_prefix(static_cast<std::size_t>(rest - message.data()));
        return number;
    };
    take("fuzz: line ");
    require(take_number() <= lines);
    take(", column ");
    take_number();
    take(": ");
    require(!message.empty());
}

void require_clean_state(const DomainXml& domain) {
    const auto& error = domain.state_error;
    require(error.size() < 500 &&
            std::all_of(error.begin(), error.end(), [](char c) { return c >= ' ' && c <= '~'; }));
    require(error.empty() || (!domain.state && error.starts_with("line ")));
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes{reinterpret_cast<const char*>(data), size};
    const auto lines = static_cast<unsigned>(std::count(bytes.begin(), bytes.end(), '\n')) + 1;
    DomainXml domain;
    try {
        domain = vfioap::parse_domain_xml(bytes, "fuzz");
    } catch (const vfioap::InputError& error) {
        require_clean(error.what(), lines);
        return 0;
    }
    require_promises(domain, lines);

    // What may follow a document changes nothing.
    require(vfioap::parse_domain_xml(std::string{bytes} + "\n<!-- -->\n", "longer") == domain);

    require_clean_state(domain);
    // What is not read cannot come back.
    domain.state_error.clear();
    if (has_ampersand(domain)) return 0;
    auto again = vfioap::parse_domain_xml(written(domain), "again");
    // Is not written.
    domain.live_update = {};
    for (auto& hostdev : domain.vfio_ap)
        hostdev.iommufd = false;
    without_lines(again);
    without_lines(domain);
    require(again == domain);
    return 0;
}
