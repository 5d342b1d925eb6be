// SPDX-License-Identifier: LGPL-2.1-or-later
// The text forms of sysfs attributes that are read by sysfs.h. Text only: nothing here opens a file, so that
// every form can be tested with any bytes.
//
// Each function takes the text without the newline at its end (trimmed()) and gives nothing for anything but
// the form that it names. An empty text is none of the forms, except where it is said. Numbers have no sign,
// no blanks and no limit on leading zeros. The forms are those of the kernel's show functions: Linux,
// drivers/s390/crypto/{ap_bus,ap_card,ap_queue,zcrypt_card,zcrypt_queue,vfio_ap_ops}.c, here by file name.
// Other forms: Mask::parse() (`apmask`, `aqmask`), MasterKeys::parse() (`mkvps`), and inventory.h (`status`,
// `se_bind`).
#pragma once

#include "ap/apqn.h"
#include "ap/mask.h"
#include "host/inventory.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// Without the newlines and blanks at the end. sysfs ends each attribute in one newline; a file that was
/// made by hand need not.
std::string_view trimmed(std::string_view text);

/// Exactly `0` or `1` (`%d`): `config`, `chkstop` (ap_card.c, ap_queue.c), `online` (zcrypt_card.c,
/// zcrypt_queue.c), `migratable` (vfio_ap_ops.c of patch version v1), `prot_virt_guest`, `prot_virt_host`
/// (arch/s390/kernel/uv.c).
std::optional<bool> parse_flag(std::string_view text);

/// Decimal digits (`%d`, `%u`), up to 4294967295: `max_msg_size` (ap_card.c),
/// `available_instances` (drivers/vfio/mdev/mdev_sysfs.c).
std::optional<unsigned> parse_unsigned(std::string_view text);

/// Decimal digits, up to 2^64 - 1: `scans` (ap_bus.c, `%llu`).
std::optional<std::uint64_t> parse_count(std::string_view text);

/// Decimal digits, up to 255: `ap_max_adapter_id`, `ap_max_domain_id` (ap_bus.c), `hwtype`, `raw_hwtype`
/// (ap_card.c; AP types are 8 bits of TAPQ's GR2).
std::optional<unsigned> parse_number_256(std::string_view text);

/// Decimal digits, up to 65535: `depth` (ap_card.c; 5 bits of TAPQ's GR2, but 65535 is what snapshots allow).
std::optional<unsigned> parse_number_65536(std::string_view text);

/// `0x` and hexadecimal digits of either case, the value of at most 32 bits: `ap_functions` of a card or
/// queue, the upper half of TAPQ's GR2 (ap_card.c, ap_queue.c: `0x%08X`). `0X` is refused.
std::optional<std::uint32_t> parse_functions(std::string_view text);

/// A mask as Mask::parse() takes it, or `not supported` where the machine has no QCI:
/// `ap_adapter_mask`, `ap_usage_domain_mask`, `ap_control_domain_mask` (ap_bus.c). Never State::absent.
std::optional<HostMask> parse_host_mask(std::string_view text);

/// Up to 200 characters of printable ASCII, also none: `bindings`, `type`, `serialnr`, `op_modes`,
/// `driver_override`, `device_api`, which are shown to people or compared whole.
std::optional<std::string> parse_text(std::string_view text);

/// Words between blanks, in their order: up to 64, as in a snapshot, of printable ASCII, up to 200 characters
/// in all. `-` alone stands for none, and so does an empty text: `features` of the AP bus (ap_bus.c, `APSC
/// APXA …`) and of the vfio_ap driver (vfio_ap_drv.c, `guest_matrix hotplug ap_config`).
std::optional<std::vector<std::string>> parse_words(std::string_view text);

/// Attribute `se_associate`.
struct SeAssociation {
    SeAssociate state;    ///< never absent
    std::uint16_t index;  ///< 0 unless associated
    friend bool operator==(const SeAssociation&, const SeAssociation&) = default;
};

/// `-`, `unassociated`, `association pending` or `associated N`, N decimal (`%u`) up to 65535: ap_queue.c,
/// se_associate_show.
std::optional<SeAssociation> parse_association(std::string_view text);

/// Attributes `matrix` and `guest_matrix` of an mdev.
struct MatrixLines {
    Mask adapters;             ///< of any line
    Mask domains;              ///< of any line
    std::vector<Apqn> queues;  ///< of the lines XX.YYYY; sorted, each once
    friend bool operator==(const MatrixLines&, const MatrixLines&) = default;
};

/// Lines XX.YYYY; `XX.` where only adapters are assigned, `.YYYY` where only domains are (vfio_ap_ops.c,
/// vfio_ap_mdev_matrix_show). No line at all: nothing is assigned. Hexadecimal digits of either case, YYYY at
/// most 00ff; empty lines are refused. Lines may come in any order, be doubled and differ in shape, which no
/// kernel prints. The last line needs no newline: the kernel cuts the text after 4095 bytes without a word,
/// which happens to be the end of the 512th line.
std::optional<MatrixLines> parse_matrix(std::string_view text);

/// Lines YYYY, hexadecimal of either case, at most 00ff, also none: `control_domains` of an mdev
/// (vfio_ap_ops.c, control_domains_show). In any order, doubles allowed, the last without its newline.
std::optional<Mask> parse_control_domains(std::string_view text);

}  // namespace vfioap
