// SPDX-License-Identifier: LGPL-2.1-or-later
// Builds inventories of hosts that could exist, with the verbs of the people who run them.
#pragma once

#include "host/inventory.h"

#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// Its name: what GoogleTest prints of a parameter.
inline void PrintTo(const Inventory& host, std::ostream* out) {
    *out << host.name;
}  // NOLINT(readability-identifier-naming)

}  // namespace vfioap

namespace vfioap::test {

/// What a Linux shows of its AP devices depends on its age.
enum class Kernel : std::uint8_t {
    old,        ///< about 5.4: no guest_matrix, ap_config, features; no config, chkstop
    current,    ///< about 6.12: all of these
    newest,     ///< also driver_override and ap_functions of queues
    series_v1,  ///< current, with the first patch version: mdevs have the attribute `migratable`
    restore,    ///< newest, with the later patch versions: the driver advertises `migratable`
};

/// Facilities as real cards have them, with which `lszcrypt -V` prints what it prints on real machines.
inline constexpr std::uint32_t cca_functions = 0x92800000;          ///< S--D--NF-
inline constexpr std::uint32_t accelerator_functions = 0x6a800000;  ///< -MC-A-NF-
inline constexpr std::uint32_t ep11_functions = 0x06800000;         ///< -----XNF-
inline constexpr std::uint32_t stateless_class = 0x00400000;        ///< in the place of 0x00800000

/// Master keys whose patterns follow from `seed`: the nine lines of a CCA queue with valid AES, APKA and ASYM
/// keys and no change under way, or the two of an EP11 queue.
MasterKeys cca_keys(std::uint64_t seed);
MasterKeys ep11_keys(std::uint64_t seed);
/// What the driver prints of a CCA queue that did not answer: nine lines `AES NEW: - -`.
MasterKeys unknown_cca_keys();
/// The same keys with `line` in the place of the line of the same register, for example
/// `AES NEW: full 0x0123456789abcdef`.
MasterKeys with_register(const MasterKeys& keys, const std::string& line);

/// The UUID that `text` is; throws std::logic_error when it is none, as do all verbs that ask for what no
/// kernel would do.
Uuid uuid(std::string_view text);

/// The same as a row of verbs:
///
///     const Inventory host = HostBuilder("lpar1").z16()
///         .card(0x05, "CEX8C").card(0x06, "CEX8P").domains({0x04, 0x47})
///         .free_domains({0x04, 0x47})
///         .mdev("62177883-f1bb-47f0-914d-32a22e3a8804").assign({0x05}, {0x04}, {0x04}).in_use()
///         .build();
///
/// Every card has a queue in every domain. Where nothing else is said, all queues are the host's (masks all
/// ones), everything is configured and online, and vfio_ap is loaded. build() derives what a kernel derives:
/// drivers from masks or overrides, guest_matrix by the filter rule, the status of queues, the bindings line.
class HostBuilder {
  public:
    using Numbers = std::vector<std::uint8_t>;

    explicit HostBuilder(std::string name);

    // The machine: which maxima, facilities and kernel are usual on it. Call first.
    HostBuilder& z14();  ///< CEX6, Kernel::old
    HostBuilder& z15();  ///< CEX7, Kernel::current
    HostBuilder& z16();  ///< CEX8, Kernel::current
    HostBuilder& kernel(Kernel kernel);
    HostBuilder& secure_execution_guest();   ///< this Linux itself; queues have se_bind and se_associate
    HostBuilder& without_ap_bus();           ///< and without anything that hangs on it
    HostBuilder& without_vfio_ap();          ///< the driver is not loaded
    HostBuilder& feature(std::string word);  ///< one more word in the features of vfio_ap
    HostBuilder& qemu(std::string version, bool vfio_ap_migration);
    HostBuilder& masks_not_supported();  ///< no QCI: ap_adapter_mask and its kin say so

    // The hardware.
    /// `CEX6C` … `CEX8P`: type and mode. `CEX9C` is a card newer than the kernel, which treats it as CEX8.
    HostBuilder& card(std::uint8_t apid, std::string_view model);
    HostBuilder& cards(const Numbers& apids, std::string_view model);
    HostBuilder& card_functions(std::uint8_t apid, std::uint32_t ap_functions);
    HostBuilder& serial(std::uint8_t apid, std::string serialnr);
    HostBuilder& domains(
        const Numbers& apqis);  ///< usage domains; also the control domains if none are named
    HostBuilder& control_domains(const Numbers& numbers);
    HostBuilder& vanish(Apqn queue);              ///< the queue is not there
    HostBuilder& deconfigure(std::uint8_t apid);  ///< the card, and with it its queues
    HostBuilder& check_stop(std::uint8_t apid);
    HostBuilder& check_stop(Apqn queue);
    HostBuilder& offline(Apqn queue);
    /// Facilities of one queue, of which the card has others; needs Kernel::newest.
    HostBuilder& queue_functions(Apqn queue, std::uint32_t ap_functions);
    /// The Secure Execution bind and associate state 0–3; needs Kernel::newest.
    HostBuilder& bind_state(Apqn queue, unsigned bs);
    /// TAPQ fails: reading ap_functions of the queue gives EIO; needs Kernel::newest.
    HostBuilder& no_answer(Apqn queue);
    /// vfio_ap could not reset the queue: no guest gets its adapter, and no attribute says why.
    HostBuilder& fail_reset(Apqn queue);
    /// Remembered ones too, of a queue that vfio_ap has meanwhile.
    HostBuilder& master_keys(Apqn queue, MasterKeys keys);
    HostBuilder& master_keys(std::uint8_t apid, const MasterKeys& keys);  ///< in every domain
    HostBuilder& op_modes(std::uint8_t apid, const std::string& modes);

    // Whose queues they are. Masks and overrides exclude each other, as in the kernel.
    HostBuilder& free_adapters(const Numbers& apids);  ///< clears bits of apmask
    HostBuilder& free_domains(const Numbers& apqis);   ///< clears bits of aqmask
    HostBuilder& bind_to_vfio_ap();            ///< all: by overrides from Kernel::newest on, else by aqmask
    HostBuilder& bind_to_vfio_ap(Apqn queue);  ///< by driver_override
    HostBuilder& bind_to_host(Apqn queue);     ///< takes the override away again

    // Mediated devices. The verbs after mdev() are about the last one.
    HostBuilder& mdev(std::string_view uuid);
    HostBuilder& assign(const Numbers& adapters, const Numbers& domains, const Numbers& control_domains = {});
    HostBuilder& in_use();             ///< a guest runs with it
    HostBuilder& migratable(bool on);  ///< the attribute of Kernel::series_v1

    HostBuilder& unreadable(std::string path, int error, std::string detail = {});

    [[nodiscard]] Inventory build() const;

  private:
    struct MdevPlan {
        Mdev mdev;
        bool in_use = false;
    };
    [[nodiscard]] bool overrides() const { return kernel_ == Kernel::newest || kernel_ == Kernel::restore; }
    [[nodiscard]] bool shows_config() const { return kernel_ != Kernel::old; }
    [[nodiscard]] Card& find_card(std::uint8_t apid);
    [[nodiscard]] MdevPlan& last_mdev();
    [[nodiscard]] std::string driver_of(Apqn queue) const;
    [[nodiscard]] Queue make_queue(const Card& card, Apqn apqn) const;
    [[nodiscard]] Mdev make_mdev(const MdevPlan& plan, const Inventory& host) const;
    void set_statuses(Inventory& host) const;

    Inventory host_;
    Kernel kernel_ = Kernel::current;
    std::vector<std::string> bus_features_;
    std::vector<std::string> more_features_;
    bool has_vfio_ap_ = true;
    bool has_ap_bus_ = true;
    bool qci_ = true;
    bool secure_ = false;
    Mask domains_;
    std::optional<Mask> control_domains_;
    Mask apmask_ = Mask::all();
    Mask aqmask_ = Mask::all();
    std::set<Apqn> overridden_;
    std::set<Apqn> vanished_;
    std::set<Apqn> check_stopped_;
    std::set<Apqn> offline_;
    std::set<Apqn> silent_;
    std::set<Apqn> failed_resets_;
    std::map<Apqn, std::uint32_t> queue_functions_;
    std::map<Apqn, unsigned> bind_states_;
    std::map<Apqn, MasterKeys> master_keys_;
    std::map<std::uint8_t, MasterKeys> card_keys_;
    std::map<std::uint8_t, std::string> op_modes_;
    std::vector<MdevPlan> mdevs_;
};

}  // namespace vfioap::test
