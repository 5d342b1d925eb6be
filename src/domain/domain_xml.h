// SPDX-License-Identifier: LGPL-2.1-or-later
// What the libvirt domain XML says of a guest, as far as its crypto devices go. The input is untrusted: any
// user of a host may name a file, and the hook is fed what another host sent.
//
// Read are documents as libvirt prints them (live, inactive and migratable ones), UTF-8 only, with the root
// <domain> in no namespace. Elements and attributes of other namespaces, comments, other metadata and
// whatever else is not named here may say what they like. No document type declaration is accepted, so there
// are no entities to expand and nothing is ever fetched.
//
// Elements: libvirt, docs/formatdomain.rst; the default of hostdev/@mode, and that the first of several
// <name>, <source> … counts, as libvirt 9.0 takes them.
#pragma once

#include "ap/uuid.h"
#include "domain/state.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// Larger documents are refused, and reading stops there. A domain of 65,536 queues with its state in the
/// metadata has less than 2 MiB.
inline constexpr std::size_t domain_xml_max_bytes = std::size_t{8} * 1024 * 1024;
/// Deeper nesting is refused. libvirt nests one <backingStore> per layer of a disk image and allows 200.
inline constexpr std::size_t domain_xml_max_depth = 256;
/// More attributes of one element, or more namespace declarations in force at one place, are refused:
/// libxml2 before 2.12 compares each with all others.
inline constexpr std::size_t domain_xml_max_attributes = 256;
/// More names of elements, attributes and processing instructions and of namespaces, each counted once, are
/// refused: libxml2 before 2.12 keeps them in lists of a table that does not grow, and takes 20 seconds over
/// 600,000. libvirt knows less than 2000.
inline constexpr std::size_t domain_xml_max_names = 16384;
/// A longer value of any member of DomainXml is refused.
inline constexpr std::size_t domain_xml_max_value = 4096;

/// `/domain/devices/hostdev[@mode='subsystem'][@type='mdev'][@model='vfio-ap']`, mode being optional.
struct VfioApHostdev {
    Uuid mdev;             ///< source/address/@uuid
    std::string alias;     ///< alias/@name, `hostdev0`; empty where there is none
    unsigned line = 0;     ///< where the element begins, from 1
    bool iommufd = false;  ///< driver/@iommufd is `yes` (libvirt 12.1 on)
    friend bool operator==(const VfioApHostdev&, const VfioApHostdev&) = default;
};

/// A vfio-ap device that QEMU is given by `<qemu:commandline>`, beside libvirt.
struct PassedDevice {
    Uuid mdev;             ///< the end of sysfsdev
    bool iommufd = false;  ///< the argument names an iommufd object
    friend bool operator==(const PassedDevice&, const PassedDevice&) = default;
};

/// What decides whether the guest can be handed to a new QEMU on the same host.
struct LiveUpdateXml {
    bool iommufd = false;        ///< /domain/iommufd/@enabled is `yes` (libvirt 12.2 on)
    std::string memory_source;   ///< memoryBacking/source/@type
    std::string memory_access;   ///< memoryBacking/access/@mode
    bool hugepages = false;      ///< memoryBacking/hugepages
    bool aux_ram_share = false;  ///< `aux-ram-share=on` in an argument of QEMU's
    std::vector<PassedDevice> devices;
    friend bool operator==(const LiveUpdateXml&, const LiveUpdateXml&) = default;
};

/// The parts of a domain that matter here. A string is empty where the document does not say; none has
/// control characters in it.
struct DomainXml {
    std::string name;  ///< never empty
    std::optional<Uuid> uuid;
    std::string type;                    ///< `kvm`
    std::string arch;                    ///< `s390x`
    std::string machine;                 ///< `s390-ccw-virtio-8.2`
    std::string emulator;                ///< path
    std::vector<VfioApHostdev> vfio_ap;  ///< in document order, as many as there are, doubles too
    bool secure_execution = false;       ///< launchSecurity/@type is `s390-pv`
    /// `/domain/metadata/config` of state_namespace; empty where there is none, or none that can be read.
    std::optional<DomainState> state{};
    /// Why it cannot be read: `line N, column M: REASON`; empty where nothing is wrong. More than one is
    /// wrong, too. The rest of the domain is as good as without it.
    std::string state_error{};
    LiveUpdateXml live_update{};
    friend bool operator==(const DomainXml&, const DomainXml&) = default;
};

/// Reads one document. `origin` names it in errors: `guest.xml`, `standard input`.
///
/// Throws InputError, `ORIGIN: line N, column M: REASON` (the column counted in characters, from 1), where
/// the document is not well-formed, cut off, empty, no domain or beyond a limit, has another encoding, a bad
/// UUID or no name, or where a vfio-ap hostdev has no UUID. One line, without control characters of the
/// input. Threads may read different documents at the same time.
DomainXml parse_domain_xml(std::string_view bytes, const std::string& origin);

/// Everything up to the end of `fd`, which stays open. Throws SystemError, and InputError as soon as there is
/// more than domain_xml_max_bytes.
std::string read_domain_xml(int fd, const std::string& origin);

/// From a file; any path, `-` has no meaning here. Throws SystemError where it cannot be read, InputError.
DomainXml load_domain_xml(const std::string& path);
/// From an open file, such as standard input.
DomainXml load_domain_xml(int fd, const std::string& origin);

}  // namespace vfioap
