// SPDX-License-Identifier: LGPL-2.1-or-later
// The name of another host, as people write it for ssh.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace vfioap {

/// `[USER@]HOST[:PORT]`. An IPv6 address, with or without a zone (`fe80::1%eth0`), stands in brackets where a
/// port follows (RFC 3986, section 3.2.2); without one it may do without: all of `fe80::1:22` is an address.
struct RemoteHost {
    std::string user;  ///< empty: whoever ssh takes
    std::string name;  ///< of the host, or its address, without brackets
    std::string port;  ///< a number from 1 to 65535; empty: ssh's

    /// Nothing that ssh could take for an option or a shell for anything but a word.
    static std::optional<RemoteHost> parse(std::string_view text);
    /// `[USER@]HOST`, the destination of ssh(1): without brackets, and with the port as an option before it.
    [[nodiscard]] std::string ssh_destination() const;
    /// As URIs have it: an IPv6 address in brackets, and the `%` of its zone as `%25` (RFC 6874).
    [[nodiscard]] std::string authority() const;
    friend bool operator==(const RemoteHost&, const RemoteHost&) = default;
};

/// The name of the host of a URI, `qemu+ssh://root@[fe80::1%25eth0]:22/system`, without user, brackets and
/// port; `otherwise` where it has none. What is no host stays as it is.
std::string host_of_uri(std::string_view uri, std::string_view otherwise);

}  // namespace vfioap
