// SPDX-License-Identifier: LGPL-2.1-or-later
// What a kernel does with writes to the attributes of the AP bus and of vfio_ap: one model, with a front end
// for commands (FakeKernel) and one for a mounted file system (tests/fakesys).
#pragma once

#include "host/inventory.h"

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap::test {

/// What a directory holds: a file's text, `-> TARGET` of a link, `/` for a directory.
using Tree = std::map<std::string, std::string>;

/// The whole file; nothing where there is none.
std::string text_of(const std::filesystem::path& file);
/// Throws std::runtime_error.
void write_file(const std::filesystem::path& file, std::string_view text);

/// Brings a sysfs root from one state to another, and touches nothing else. What could not be read in it is
/// in no inventory, so it stays.
void update_root(const std::filesystem::path& root, const Inventory& from, const Inventory& to);

/// The kernel does not do it, with this errno.
struct Refusal {
    int error;
};

/// What hardware and kernel know and sysfs does not show at the moment.
struct Hidden {
    /// What the driver of zcrypt asks a card for.
    struct Keys {
        std::optional<MasterKeys> mkvps;
        std::optional<std::string> op_modes;
    };
    std::vector<Uuid> in_use;  ///< a guest keeps its mdev also when all its queues are gone
    std::map<Apqn, Keys> keys;
    std::map<std::uint8_t, Card> gone_cards;
    std::map<Apqn, Queue> gone_queues;
    std::set<Apqn> failed_resets;  ///< queues of vfio_ap that no guest can have
};

/// The store functions of the attributes: what is written changes the inventory, or is refused (Refusal).
/// After a refusal the inventory may be half changed: keep a copy.
class KernelModel {
  public:
    /// Mdevs of which queues are in use become used ones in `hidden`.
    KernelModel(Inventory& host, Hidden& hidden);

    /// `path` relative to the sysfs root; ENOENT or EACCES where nothing can be written.
    void write(const std::string& path, std::string_view text);

    /// What follows from all of it: the status of queues, what guests get, `bindings`.
    void settle();

    // What no attribute does.
    void load_vfio_ap();
    /// `mkvps` and `op_modes` of queues that zcrypt does not have: remembered in a snapshot, not to be read.
    void hide_keys();
    /// A guest starts or stops to run with an mdev. ENODEV: there is none; EBUSY: another has it.
    void use(const Uuid& uuid, bool on);
    /// Adapters leave the LPAR and come back with all that they had; single queues likewise. ENODEV: not
    /// here.
    void take_card(std::uint8_t apid);
    void return_card(std::uint8_t apid);
    void take_queue(Apqn apqn);
    void return_queue(Apqn apqn);
    void check_stop(std::uint8_t apid, bool on);
    /// vfio_ap cannot reset the queue, until it is bound again. ENODEV: vfio_ap has not got it.
    void fail_reset(Apqn apqn);

  private:
    [[nodiscard]] bool is_in_use(const Uuid& uuid) const;
    [[nodiscard]] Queue& queue(Apqn apqn);
    [[nodiscard]] bool reserved(Apqn apqn) const;
    [[nodiscard]] std::string_view driver_for(const Queue& queue) const;
    void set_driver(Queue& queue, std::string_view driver);
    void bind(Queue& queue);
    void write_mask(bool adapters, std::string_view text);
    void probe(std::string_view text);
    void write_driver(const std::string& path, bool bind, std::string_view text);
    void override_driver(Queue& queue, std::string_view driver) const;
    void configure(std::string_view name, std::string_view text);
    void set_online(Queue& queue, std::string_view text) const;
    void create(std::string_view text);
    void count_mdevs(int more);
    void write_mdev(Mdev& mdev, std::string_view leaf, std::string_view text);
    void set_config(Mdev& mdev, std::string_view text) const;
    void check_assigned(const Mdev& mdev) const;

    Inventory& host_;
    Hidden& hidden_;
};

}  // namespace vfioap::test
