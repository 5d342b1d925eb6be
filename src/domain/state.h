// SPDX-License-Identifier: LGPL-2.1-or-later
// The AP configuration of a running guest, kept in the metadata of its libvirt domain: it travels with every
// migration, save and dump, so that the destination knows what the guest had. man 5 vfioap-state,
// xml/vfioap-domain.rng.
//
//     <vfioap:config xmlns:vfioap="urn:vfioap:domain:1" mdev="UUID" host="lpar-a" layout="l3">
//       <vfioap:queues tapq="0x928000000e000000">05.0004 05.0047</vfioap:queues>
//       <vfioap:control-domains>0004 0047</vfioap:control-domains>
//       <vfioap:master-keys registers="AES CUR: valid 0x…; …">05.0004 05.0047</vfioap:master-keys>
//     </vfioap:config>
//
// Queues are `XX.YYYY`, parted by blanks; either number may be a range, `05-07.0004-0047`, which then means
// all that its adapters and domains make. Where so many differ that these lists are longer than 128 KiB, and
// longer than this, the hwinfo stands for each queue in `<vfioap:hwinfo queues="QUEUES">`: 8 bytes a queue,
// big-endian, in the order of the APQNs, base64.
#pragma once

#include "ap/configuration.h"
#include "ap/uuid.h"

#include <cstddef>
#include <string>
#include <string_view>

namespace vfioap {

inline constexpr std::string_view state_namespace = "urn:vfioap:domain:1";
/// The prefix of the namespace, and libvirt's key of the metadata.
inline constexpr std::string_view state_key = "vfioap";
/// The element as libvirt formats it is shorter, whatever the guest has: libvirt takes 4 MiB for the whole
/// domain. A longer one is not read.
inline constexpr std::size_t state_max_bytes = std::size_t{1024} * 1024;
/// Longest host, bytes.
inline constexpr std::size_t state_max_host = 256;

/// What the element says.
struct DomainState {
    Uuid mdev;
    std::string host;    ///< Where the guest runs: one line of UTF-8, 1 to state_max_host bytes.
    std::string layout;  ///< Of the migration stream, `l3`: 1 to 16 of `a`–`z`, `0`–`9`; empty: not said.
    bool detached = false;  ///< The device is away for a move, and is to come back.
    /// Whole. Null master_keys: not known, or there was no room for them.
    GuestConfiguration configuration;

    /// Master keys by value.
    friend bool operator==(const DomainState& a, const DomainState& b);
};

/// As it stands in a domain XML: prefix `vfioap`, and its declaration. The same state gives the same bytes.
/// A host that is not as DomainState wants it is made so. When all master keys would take more than there is
/// room for, those of the most queues are written and the others left out.
std::string state_element(const DomainState& state);

/// The same without prefix and declaration: for virDomainSetMetadata(VIR_DOMAIN_METADATA_ELEMENT, …,
/// state_key, state_namespace), which adds both, and refuses an element that declares the prefix itself
/// (libvirt, src/util/virxml.c, virXMLInjectNamespace; seen with 9.0).
std::string state_metadata(const DomainState& state);

/// Reads the element alone: with its namespace, or without one, as virDomainGetMetadata gives it. Untrusted.
/// Attributes and elements not known here are ignored: later versions may have them. Throws InputError, as
/// parse_domain_xml() does. A state within a domain XML: DomainXml::state.
DomainState parse_state(std::string_view bytes, const std::string& origin);

}  // namespace vfioap
