// SPDX-License-Identifier: LGPL-2.1-or-later
// What one host has of AP hardware, drivers and mediated devices. Values only: read by sysfs.h, kept by
// snapshot.h.
//
// Everywhere: an empty optional is an attribute that this kernel does not have; what is there but could not
// be read or understood is also empty, and stands in Inventory::unreadable. The names are those of the sysfs
// attributes (kernel: Documentation/arch/s390/vfio-ap.rst, drivers/s390/crypto/ap_bus.c, ap_card.c,
// ap_queue.c, vfio_ap_ops.c).
#pragma once

#include "ap/apqn.h"
#include "ap/configuration.h"
#include "ap/hwinfo.h"
#include "ap/mask.h"
#include "ap/master_keys.h"
#include "ap/uuid.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// Name of the driver whose queues are for guests.
inline constexpr std::string_view vfio_ap_driver_name = "vfio_ap";
/// Feature words of the vfio_ap driver (`devices/vfio_ap/matrix/features`).
inline constexpr std::string_view feature_migratable = "migratable";

/// A mask of what the machine gives this Linux (QCI); may read `not supported`.
struct HostMask {
    enum class State : std::uint8_t { absent, not_supported, value };
    State state = State::absent;
    Mask mask;  ///< meaningful for State::value only
    /// The mask, or all ones where the kernel cannot tell, as vfio_ap itself assumes then.
    [[nodiscard]] Mask effective() const { return state == State::value ? mask : Mask::all(); }
    friend bool operator==(const HostMask&, const HostMask&) = default;
};

/// `bus/ap`.
struct ApBus {
    std::optional<Mask> apmask;  ///< bit set: adapter reserved for the host's zcrypt drivers
    std::optional<Mask> aqmask;  ///< bit set: domain reserved for them
    HostMask ap_adapter_mask;
    HostMask ap_usage_domain_mask;
    HostMask ap_control_domain_mask;
    std::optional<unsigned> ap_max_adapter_id;         ///< 0–255
    std::optional<unsigned> ap_max_domain_id;          ///< 0–255
    std::optional<std::string> bindings;               ///< `12/12 (complete)`
    std::optional<std::vector<std::string>> features;  ///< `APSC APXA …`; empty for `-`
    std::optional<std::uint64_t> scans;
    friend bool operator==(const ApBus&, const ApBus&) = default;
};

/// `devices/ap/cardXX`.
struct Card {
    std::uint8_t apid = 0;
    std::optional<unsigned> hwtype;      ///< the type the kernel treats the card as
    std::optional<unsigned> raw_hwtype;  ///< the type the card says it is (TAPQ `at`): what drivers compare
    std::optional<std::uint32_t> ap_functions;
    std::optional<unsigned> depth;
    std::optional<unsigned> max_msg_size;  ///< bytes
    std::optional<bool> config;
    std::optional<bool> chkstop;
    std::optional<bool> online;
    std::optional<std::string> type;      ///< `CEX8P`; with a zcrypt driver only
    std::optional<std::string> serialnr;  ///< with a zcrypt driver only; read costs a request to the card
    std::string driver;                   ///< empty: none bound
    friend bool operator==(const Card&, const Card&) = default;
};

/// Attribute `status` of a queue bound to vfio_ap.
enum class QueueStatus : std::uint8_t { absent, unassigned, assigned, in_use };
/// Attribute `se_bind`; `none` is `-`.
enum class SeBind : std::uint8_t { absent, none, bound, unbound };
/// Attribute `se_associate`; `none` is `-`.
enum class SeAssociate : std::uint8_t { absent, none, unassociated, pending, associated };

/// The words of the attributes, as sysfs, snapshots and reports have them; nothing for `absent`.
std::string_view to_text(QueueStatus status);
std::string_view to_text(SeBind bind);
std::optional<QueueStatus> parse_queue_status(std::string_view text);
std::optional<SeBind> parse_se_bind(std::string_view text);

/// What few queues have. Shared and constant, so that a queue stays small: there can be 65,536.
struct QueueDetail {
    std::string driver_override;      ///< empty: not set
    std::optional<MasterKeys> mkvps;  ///< of a queue bound to zcrypt, or remembered from when it was
    std::optional<std::string> op_modes;
    friend bool operator==(const QueueDetail&, const QueueDetail&) = default;
};

/// `devices/ap/cardXX/XX.YYYY`.
struct Queue {
    Apqn apqn;
    std::optional<bool> config;
    std::optional<bool> chkstop;
    std::optional<bool> online;
    QueueStatus status = QueueStatus::absent;
    SeBind se_bind = SeBind::absent;
    SeAssociate se_associate = SeAssociate::absent;
    bool has_driver_override = false;           ///< the kernel has the attribute
    std::uint16_t association = 0;              ///< the index of `associated N`
    std::optional<std::uint32_t> ap_functions;  ///< of the queue itself, with its BS bits; newer kernels
    std::string driver;                         ///< empty: none bound
    std::shared_ptr<const QueueDetail> detail;  ///< null: nothing in it

    [[nodiscard]] bool bound_to_vfio_ap() const { return driver == vfio_ap_driver_name; }
    [[nodiscard]] const MasterKeys* mkvps() const {
        return detail && detail->mkvps ? &*detail->mkvps : nullptr;
    }
    [[nodiscard]] std::string_view driver_override() const {
        return detail ? std::string_view{detail->driver_override} : std::string_view{};
    }
    friend bool operator==(const Queue& a, const Queue& b);
};

/// `devices/vfio_ap/matrix/<uuid>`.
struct Mdev {
    explicit Mdev(Uuid name) : uuid{std::move(name)} {}

    Uuid uuid;
    std::optional<std::string> type;        ///< `vfio_ap-passthrough`
    std::optional<std::string> device_api;  ///< `vfio-ap`
    Mask adapters;                          ///< assigned
    Mask domains;                           ///< assigned
    std::optional<Mask> control_domains;    ///< assigned
    /// What the guest has, **as read**: sorted, and possibly cut at one page (truncated()).
    std::optional<std::vector<Apqn>> guest_matrix;
    /// The kernel has `ap_config`.
    bool ap_config = false;
    /// `matrix` filled its page and there was no `ap_config` to read the rest from: adapters and domains are
    /// not whole.
    bool matrix_truncated = false;
    std::optional<bool> migratable;  ///< the attribute of patch version v1

    /// Whether `queue` is in the assigned matrix.
    [[nodiscard]] bool assigned(Apqn queue) const {
        return adapters.test(queue.apid()) && domains.test(queue.apqi());
    }
    /// All that is assigned; no control domains where they are not known.
    [[nodiscard]] MdevContents contents() const {
        return {adapters, domains, control_domains.value_or(Mask{})};
    }
    /// The assigned matrix, sorted.
    [[nodiscard]] std::vector<Apqn> matrix() const;
    /// 512 entries fill the page exactly: there may be more, up to 65,536.
    [[nodiscard]] bool guest_matrix_truncated() const { return guest_matrix && guest_matrix->size() == 512; }

    friend bool operator==(const Mdev&, const Mdev&) = default;
};

/// The vfio_ap driver: `bus/ap/drivers/vfio_ap`, `devices/vfio_ap/matrix`.
struct VfioAp {
    std::optional<std::vector<std::string>> features;  ///< `guest_matrix hotplug ap_config …`
    std::optional<unsigned> available_instances;
    friend bool operator==(const VfioAp&, const VfioAp&) = default;
};

/// What the kernel's iommufd can, of which sysfs tells nothing; asked by probe_iommufd or from a snapshot.
struct Iommufd {
    bool present = false;                ///< there is a /dev/iommu
    std::optional<bool> map_file;        ///< IOMMU_IOAS_MAP_FILE
    std::optional<bool> change_process;  ///< IOMMU_IOAS_CHANGE_PROCESS
    friend bool operator==(const Iommufd&, const Iommufd&) = default;
};

/// What sysfs cannot tell of the emulator; from a snapshot that says so, or asked by probe_emulator.
struct Qemu {
    std::optional<std::string> version;
    std::optional<bool> vfio_ap_migration;  ///< whether it can migrate an attached vfio-ap device
    std::optional<bool> cpr_transfer;       ///< it has the migration mode
    std::optional<bool> vfio_ap_iommufd;    ///< its vfio-ap has the property `iommufd`
    friend bool operator==(const Qemu&, const Qemu&) = default;
};

/// Something that is there and could not be read or understood.
struct Unreadable {
    std::string path;    ///< relative to the sysfs root
    int error = 0;       ///< errno; 0: it was read, and made no sense
    std::string detail;  ///< what was found or expected; may be empty
    friend bool operator==(const Unreadable&, const Unreadable&) = default;
};

struct Inventory {
    std::string name;  ///< what people call the host
    std::string
        location;  ///< where this came from: `sysfs:/sys`, `snapshot:/a/b.json`; the same text, the same host
    bool complete = true;  ///< false: cards and queues only as far as one guest's check needs them

    /// In a partial inventory: the driver has queues, whether they are in it or not.
    bool vfio_ap_has_queues = false;

    std::optional<ApBus> ap;              ///< empty: this Linux has no AP bus
    std::optional<VfioAp> vfio_ap;        ///< empty: the driver is not loaded
    std::optional<bool> prot_virt_guest;  ///< this Linux is a Secure Execution guest
    std::optional<bool> prot_virt_host;
    std::optional<Qemu> qemu;
    std::optional<Iommufd> iommufd;
    std::vector<Card> cards;             ///< sorted by adapter
    std::vector<Queue> queues;           ///< sorted by APQN
    std::vector<Mdev> mdevs;             ///< sorted by UUID
    std::vector<Unreadable> unreadable;  ///< sorted by path

    [[nodiscard]] const Card* find_card(unsigned apid) const;
    [[nodiscard]] const Queue* find_queue(Apqn apqn) const;
    [[nodiscard]] const Mdev* find_mdev(const Uuid& uuid) const;
    /// The record of `path`, or null where it was read or is absent.
    [[nodiscard]] const Unreadable* find_unreadable(std::string_view path) const;
    /// The vfio_ap driver advertises `word`.
    [[nodiscard]] bool has_feature(std::string_view word) const;
    /// Whether the kernel can migrate a vfio-ap device: the driver says so, or its mdevs have the attribute
    /// of patch version v1. Nothing where the driver's features could not be read.
    [[nodiscard]] std::optional<bool> kernel_migrates() const;
    /// Whether QEMU can migrate an attached vfio-ap device; nothing where it is not known.
    [[nodiscard]] std::optional<bool> qemu_migrates() const;
    /// Brings everything into the order that the members promise.
    void sort();
};

/// Whether two inventories say the same of the hardware, drivers and mdevs. Where they came from (name,
/// location) and how far they reach (complete) is not compared.
bool operator==(const Inventory& a, const Inventory& b);

/// TAPQ hwinfo of a queue as far as sysfs tells it: `ap_functions` of the queue, else of its card, and the
/// card's `raw_hwtype`, else `hwtype`. Empty when either half is unknown.
inline std::optional<Hwinfo> hwinfo_of(const Queue& queue, const Card* card) {
    if (card == nullptr) return {};
    const auto& functions = queue.ap_functions ? queue.ap_functions : card->ap_functions;
    const auto& type = card->raw_hwtype ? card->raw_hwtype : card->hwtype;
    if (!functions || !type || *type > 255) return {};
    return Hwinfo::from_sysfs(*functions, static_cast<std::uint8_t>(*type));
}

/// Whether a guest runs with an mdev; nothing where the kernel does not say. `inventory` must hold the queues
/// that are assigned to it, with their status.
std::optional<bool> is_in_use(const Inventory& inventory, const Mdev& mdev);

/// Paths relative to the sysfs root, as Unreadable::path has them.
std::string card_path(unsigned apid);
std::string queue_path(Apqn apqn);
std::string mdev_path(const Uuid& uuid);

}  // namespace vfioap
