// SPDX-License-Identifier: LGPL-2.1-or-later
#include "hosts/remote_host.h"

#include <algorithm>
#include <charconv>

#include <arpa/inet.h>
#include <fmt/format.h>

namespace vfioap {
namespace {

/// Letters, digits, and `more`; not empty, and nothing that ssh could take for an option.
bool is_word(std::string_view text, std::string_view more) {
    return !text.empty() && text.front() != '-' && std::all_of(text.begin(), text.end(), [more](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               more.find(c) != std::string_view::npos;
    });
}

bool is_ipv6(std::string_view text) {
    const auto percent = text.find('%');
    if (percent != std::string_view::npos && !is_word(text.substr(percent + 1), ".-_")) return false;
    in6_addr address{};
    return ::inet_pton(AF_INET6, std::string{text.substr(0, percent)}.c_str(), &address) == 1;
}

bool is_port(std::string_view text) {
    unsigned number = 0;
    const auto* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, number);
    return error == std::errc{} && rest == end && number >= 1 && number <= 65'535;
}

std::string replaced(std::string text, std::string_view what, std::string_view by) {
    for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
        text.replace(at, what.size(), by);
    return text;
}

}  // namespace

std::optional<RemoteHost> RemoteHost::parse(std::string_view text) {
    RemoteHost host;
    // Users of a directory service have an @ in their own names.
    if (const auto at = text.rfind('@'); at != std::string_view::npos) {
        host.user = text.substr(0, at);
        if (!is_word(host.user, ".-_@")) return std::nullopt;
        text.remove_prefix(at + 1);
    }
    std::string_view rest;
    if (text.starts_with('[')) {
        const auto end = text.find(']');
        if (end == std::string_view::npos) return std::nullopt;
        host.name = text.substr(1, end - 1);
        rest = text.substr(end + 1);
        if (!is_ipv6(host.name)) return std::nullopt;
    } else if (is_ipv6(text)) {
        host.name = text;
    } else {
        host.name = text.substr(0, text.find(':'));
        rest = text.substr(host.name.size());
        if (!is_word(host.name, ".-_")) return std::nullopt;
    }
    if (rest.empty()) return host;
    host.port = rest.substr(1);
    if (rest.front() != ':' || !is_port(host.port)) return std::nullopt;
    return host;
}

std::string RemoteHost::ssh_destination() const {
    return user.empty() ? name : fmt::format("{}@{}", user, name);
}

std::string RemoteHost::authority() const {
    const bool ipv6 = name.find(':') != std::string::npos;
    return fmt::format("{}{}{}{}", user.empty() ? "" : replaced(user, "@", "%40") + '@',
                       ipv6 ? fmt::format("[{}]", replaced(name, "%", "%25")) : name, port.empty() ? "" : ":",
                       port);
}

std::string host_of_uri(std::string_view uri, std::string_view otherwise) {
    constexpr std::string_view before = "://";
    const auto begin = uri.find(before);
    if (begin == std::string_view::npos) return std::string{otherwise};
    uri.remove_prefix(begin + before.size());
    const auto authority = uri.substr(0, uri.find_first_of("/?#"));
    if (authority.empty()) return std::string{otherwise};
    const auto host =
        RemoteHost::parse(replaced(std::string{authority.substr(authority.rfind('@') + 1)}, "%25", "%"));
    return host ? host->name : std::string{authority};
}

}  // namespace vfioap
