// SPDX-License-Identifier: LGPL-2.1-or-later
// What is allowed and what follows is that of kernel drivers/s390/crypto/ap_bus.c (apmask_store,
// ap_bus_revise_bindings, ap_device_probe), vfio_ap_ops.c (assign_*_store, ap_config_store),
// drivers/vfio/mdev and the driver core.
#include "support/kernel_model.h"

#include "host/materialize.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "support/kernel_filter.h"
#include "support/temporary_directory.h"

namespace vfioap::test {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view host_driver = "cex4queue";

/// Everything below `root`, with paths from there.
Tree tree_of(const fs::path& root) {
    Tree tree;
    for (const auto& item : fs::recursive_directory_iterator{root}) {
        auto& entry = tree[item.path().lexically_relative(root).string()];
        if (item.is_symlink()) {
            entry = "-> " + fs::read_symlink(item.path()).string();
        } else if (item.is_directory()) {
            entry = "/";
        } else {
            // Attributes for writing only; who is not root could not look into them.
            if (::access(item.path().c_str(), R_OK) != 0)
                fs::permissions(item.path(), fs::perms::owner_read, fs::perm_options::add);
            entry = text_of(item.path());
        }
    }
    return tree;
}

/// The host's own attributes, its mdevs, and of its cards and queues those that are named.
Tree tree_of_part(Inventory host, const std::set<Apqn>& queues, const std::set<std::uint8_t>& cards) {
    std::erase_if(host.queues, [&](const Queue& queue) { return !queues.contains(queue.apqn); });
    std::erase_if(host.cards, [&](const Card& card) { return !cards.contains(card.apid); });
    const TemporaryDirectory directory;
    materialize(host, directory.path());
    return tree_of(directory.path());
}

std::optional<unsigned> number_of(std::string_view text) {
    int base = 10;
    if (text.starts_with("0x")) {
        base = 16;
        text.remove_prefix(2);
    }
    unsigned value = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc{} || rest != text.data() + text.size()) return {};
    return value;
}

/// Empty ones are none, as inventories have it.
void set_detail(Queue& queue, QueueDetail detail) {
    const bool none = detail == QueueDetail{};
    queue.detail = none ? nullptr : std::make_shared<const QueueDetail>(std::move(detail));
}

}  // namespace

std::string text_of(const fs::path& file) {
    std::ifstream in{file, std::ios::binary};
    return {std::istreambuf_iterator<char>{in}, {}};
}

void write_file(const fs::path& file, std::string_view text) {
    std::ofstream out{file, std::ios::binary | std::ios::trunc};
    out << text;
    if (!out.flush()) throw std::runtime_error{"cannot write " + file.string()};
}

void update_root(const fs::path& root, const Inventory& from, const Inventory& to) {
    std::set<Apqn> queues;
    std::set<std::uint8_t> cards;
    // What only one of them has differs as well.
    const auto compare = [&](const Inventory& a, const Inventory& b) {
        for (const auto& queue : a.queues) {
            const auto* const other = b.find_queue(queue.apqn);
            if (other == nullptr || !(queue == *other)) queues.insert(queue.apqn);
        }
        for (const auto& card : a.cards) {
            const auto* const other = b.find_card(card.apid);
            if (other == nullptr || !(card == *other)) cards.insert(card.apid);
        }
    };
    compare(from, to);
    compare(to, from);
    const auto before = tree_of_part(from, queues, cards);
    const auto after = tree_of_part(to, queues, cards);
    for (auto entry = before.rbegin(); entry != before.rend(); ++entry) {
        const auto found = after.find(entry->first);
        if (found != after.end() && (found->second == entry->second || !entry->second.starts_with("-> ")))
            continue;
        // A driver stays when its last queue goes.
        std::error_code not_empty;
        if (!entry->first.starts_with("bus/ap/drivers/") || entry->second != "/")
            fs::remove(root / entry->first, not_empty);
    }
    for (const auto& [path, entry] : after) {
        if (const auto found = before.find(path); found != before.end() && found->second == entry) continue;
        if (entry == "/") {
            fs::create_directory(root / path);
        } else if (entry.starts_with("-> ")) {
            fs::create_symlink(entry.substr(3), root / path);
        } else {
            write_file(root / path, entry);
        }
    }
}

KernelModel::KernelModel(Inventory& host, Hidden& hidden) : host_{host}, hidden_{hidden} {
    for (const auto& mdev : host.mdevs) {
        const bool used = std::any_of(host.queues.begin(), host.queues.end(), [&](const Queue& queue) {
            return queue.status == QueueStatus::in_use && mdev.assigned(queue.apqn);
        });
        if (used && !is_in_use(mdev.uuid)) hidden_.in_use.push_back(mdev.uuid);
    }
}

void KernelModel::write(const std::string& path, std::string_view text) {
    while (!text.empty() && text.back() == '\n')
        text.remove_suffix(1);
    const auto slash = path.rfind('/');
    const auto leaf = std::string_view{path}.substr(slash == std::string::npos ? 0 : slash + 1);
    if (path == "bus/ap/apmask" || path == "bus/ap/aqmask") return write_mask(leaf == "apmask", text);
    if (path == "bus/ap/drivers_probe") return probe(text);
    if (path.starts_with("bus/ap/drivers/") && (leaf == "bind" || leaf == "unbind"))
        return write_driver(path, leaf == "bind", text);
    if (path == "devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create") return create(text);
    // The link of a queue to its driver.
    if (path.ends_with("/driver/unbind")) {
        const auto apqn = Apqn::parse(fs::path{path}.parent_path().parent_path().filename().string());
        if (!apqn || queue(*apqn).driver.empty()) throw Refusal{ENOENT};
        return write_driver("bus/ap/drivers/" + queue(*apqn).driver + "/unbind", false, text);
    }
    const auto parent = fs::path{path}.parent_path().filename().string();
    for (auto& mdev : host_.mdevs) {
        if (mdev.uuid.to_string() == parent) return write_mdev(mdev, leaf, text);
    }
    if (leaf == "config" && parent.starts_with("card")) return configure(parent.substr(4), text);
    if (leaf == "driver_override") {
        if (const auto apqn = Apqn::parse(parent)) return override_driver(queue(*apqn), text);
    }
    if (leaf == "online") {
        if (const auto apqn = Apqn::parse(parent)) return set_online(queue(*apqn), text);
    }
    throw Refusal{EACCES};
}

void KernelModel::hide_keys() {
    for (auto& queue : host_.queues) {
        if (queue.driver == host_driver || !queue.detail) continue;
        auto detail = *queue.detail;
        hidden_.keys[queue.apqn] = {detail.mkvps, detail.op_modes};
        detail.mkvps.reset();
        detail.op_modes.reset();
        set_detail(queue, std::move(detail));
    }
}

void KernelModel::use(const Uuid& uuid, bool on) {
    if (host_.find_mdev(uuid) == nullptr) throw Refusal{ENODEV};
    if (on && is_in_use(uuid)) throw Refusal{EBUSY};
    if (on) {
        hidden_.in_use.push_back(uuid);
    } else {
        std::erase(hidden_.in_use, uuid);
    }
}

void KernelModel::take_card(std::uint8_t apid) {
    const auto* const card = host_.find_card(apid);
    if (card == nullptr) throw Refusal{ENODEV};
    hidden_.gone_cards.emplace(apid, *card);
    std::erase_if(host_.cards, [&](const Card& other) { return other.apid == apid; });
    for (const auto& queue : host_.queues) {
        if (queue.apqn.apid() == apid) hidden_.gone_queues.insert_or_assign(queue.apqn, queue);
    }
    std::erase_if(host_.queues, [&](const Queue& other) { return other.apqn.apid() == apid; });
    host_.ap->ap_adapter_mask.mask.set(apid, false);
}

void KernelModel::return_card(std::uint8_t apid) {
    const auto found = hidden_.gone_cards.find(apid);
    if (found == hidden_.gone_cards.end()) throw Refusal{ENODEV};
    host_.cards.push_back(found->second);
    hidden_.gone_cards.erase(found);
    host_.sort();
    if (host_.ap->ap_adapter_mask.state == HostMask::State::value) host_.ap->ap_adapter_mask.mask.set(apid);
    std::vector<Apqn> queues;
    for (const auto& [apqn, queue] : hidden_.gone_queues) {
        if (apqn.apid() == apid) queues.push_back(apqn);
    }
    for (const auto apqn : queues)
        return_queue(apqn);
}

void KernelModel::take_queue(Apqn apqn) {
    hidden_.gone_queues.insert_or_assign(apqn, queue(apqn));
    std::erase_if(host_.queues, [&](const Queue& other) { return other.apqn == apqn; });
}

void KernelModel::return_queue(Apqn apqn) {
    const auto found = hidden_.gone_queues.find(apqn);
    if (found == hidden_.gone_queues.end() || host_.find_card(apqn.apid()) == nullptr) throw Refusal{ENODEV};
    auto queue = found->second;
    hidden_.gone_queues.erase(found);
    // A new device: it is bound anew, and an override is forgotten.
    if (!queue.driver_override().empty()) {
        auto detail = *queue.detail;
        detail.driver_override.clear();
        set_detail(queue, std::move(detail));
    }
    bind(queue);
    host_.queues.push_back(std::move(queue));
    host_.sort();
}

void KernelModel::check_stop(std::uint8_t apid, bool on) {
    if (host_.find_card(apid) == nullptr) throw Refusal{ENODEV};
    for (auto& card : host_.cards) {
        if (card.apid == apid && card.chkstop) card.chkstop = on;
    }
    for (auto& queue : host_.queues) {
        if (queue.apqn.apid() == apid && queue.chkstop) queue.chkstop = on;
    }
}

void KernelModel::fail_reset(Apqn apqn) {
    if (!queue(apqn).bound_to_vfio_ap()) throw Refusal{ENODEV};
    hidden_.failed_resets.insert(apqn);
}

void KernelModel::load_vfio_ap() {
    if (!host_.ap) throw Refusal{ENODEV};
    if (host_.vfio_ap) return;
    VfioAp driver;
    driver.available_instances = 65536;
    // A kernel that knows `config` of queues is not much older than these features.
    if (host_.ap->bindings) driver.features = {"guest_matrix", "hotplug", "ap_config"};
    host_.vfio_ap = std::move(driver);
    for (auto& queue : host_.queues) {
        if (queue.driver.empty()) bind(queue);
    }
}

/// What follows: the status of queues, and what guests get.
void KernelModel::settle() {
    for (auto& queue : host_.queues)
        queue.status = queue.bound_to_vfio_ap() ? QueueStatus::unassigned : QueueStatus::absent;
    for (auto& mdev : host_.mdevs) {
        const auto passed = guest_masks(host_, mdev, hidden_.failed_resets);
        for (auto& queue : host_.queues) {
            if (!queue.bound_to_vfio_ap() || !mdev.assigned(queue.apqn)) continue;
            const bool used = is_in_use(mdev.uuid) && passed.has(queue.apqn);
            queue.status = used ? QueueStatus::in_use : QueueStatus::assigned;
        }
        if (mdev.guest_matrix) mdev.guest_matrix = passed.guest_matrix();
    }
    if (!host_.ap || !host_.ap->bindings) return;
    const auto bound = std::count_if(host_.queues.begin(), host_.queues.end(),
                                     [](const Queue& queue) { return !queue.driver.empty(); });
    const bool all = static_cast<std::size_t>(bound) == host_.queues.size();
    host_.ap->bindings = fmt::format("{}/{}{}", bound, host_.queues.size(), all ? " (complete)" : "");
}

bool KernelModel::is_in_use(const Uuid& uuid) const {
    return std::find(hidden_.in_use.begin(), hidden_.in_use.end(), uuid) != hidden_.in_use.end();
}

Queue& KernelModel::queue(Apqn apqn) {
    for (auto& candidate : host_.queues) {
        if (candidate.apqn == apqn) return candidate;
    }
    throw Refusal{ENODEV};
}

bool KernelModel::reserved(Apqn apqn) const {
    return host_.ap->apmask->test(apqn.apid()) && host_.ap->aqmask->test(apqn.apqi());
}

void KernelModel::set_driver(Queue& queue, std::string_view driver) {
    const bool to_host = driver == host_driver;
    const bool from_host = queue.driver == host_driver;
    queue.driver = driver;
    queue.online.reset();
    if (to_host) queue.online = queue.config.value_or(true);
    // A driver that is new to the queue resets it anew.
    hidden_.failed_resets.erase(queue.apqn);
    if (to_host == from_host) return;
    // Only zcrypt asks the card for its keys; the attributes come and go with it.
    auto detail = queue.detail ? *queue.detail : QueueDetail{};
    auto& keys = hidden_.keys[queue.apqn];
    if (from_host) keys = {detail.mkvps, detail.op_modes};
    if (to_host) {
        if (keys.mkvps) detail.mkvps = keys.mkvps;
        if (keys.op_modes) detail.op_modes = keys.op_modes;
    } else {
        detail.mkvps.reset();
        detail.op_modes.reset();
    }
    set_detail(queue, std::move(detail));
}

std::string_view KernelModel::driver_for(const Queue& queue) const {
    const auto driver = !queue.driver_override().empty() ? queue.driver_override()
                        : reserved(queue.apqn)           ? host_driver
                                                         : vfio_ap_driver_name;
    const bool loaded = driver == host_driver || (driver == vfio_ap_driver_name && host_.vfio_ap);
    return loaded ? driver : std::string_view{};
}

void KernelModel::bind(Queue& queue) {
    // The text may be the queue's own.
    set_driver(queue, std::string{driver_for(queue)});
}

void KernelModel::write_mask(bool adapters, std::string_view text) {
    auto& mask = adapters ? *host_.ap->apmask : *host_.ap->aqmask;
    const auto updated = mask.updated(text);
    if (!updated) throw Refusal{EINVAL};
    for (const auto& candidate : host_.queues) {
        if (!candidate.driver_override().empty()) throw Refusal{EINVAL};
    }
    const auto before = mask;
    std::vector<bool> was;
    for (const auto& candidate : host_.queues)
        was.push_back(reserved(candidate.apqn));
    for (const auto& mdev : host_.mdevs) {
        const auto taken = (*updated - before) & (adapters ? mdev.adapters : mdev.domains);
        const auto others = adapters ? *host_.ap->aqmask & mdev.domains : *host_.ap->apmask & mdev.adapters;
        if (!taken.none() && !others.none()) throw Refusal{EBUSY};
    }
    mask = *updated;
    for (std::size_t i = 0; i < host_.queues.size(); ++i) {
        if (was[i] != reserved(host_.queues[i].apqn)) bind(host_.queues[i]);
    }
}

void KernelModel::probe(std::string_view text) {
    const auto apqn = Apqn::parse(text);
    if (!apqn) throw Refusal{ENODEV};
    if (auto& found = queue(*apqn); found.driver.empty()) bind(found);
}

void KernelModel::write_driver(const std::string& path, bool bind, std::string_view text) {
    const auto driver = fs::path{path}.parent_path().filename().string();
    const auto apqn = Apqn::parse(text);
    if (!apqn) throw Refusal{ENODEV};
    auto& found = queue(*apqn);
    if (bind) {
        // The driver core asks the bus, and that asks masks and override.
        if (!found.driver.empty() || driver_for(found) != driver) throw Refusal{ENODEV};
        set_driver(found, driver);
    } else {
        if (found.driver != driver) throw Refusal{ENODEV};
        set_driver(found, "");
    }
}

void KernelModel::override_driver(Queue& queue, std::string_view driver) const {
    if (!queue.has_driver_override) throw Refusal{EACCES};
    if (host_.ap->apmask != Mask::all() || host_.ap->aqmask != Mask::all()) throw Refusal{EINVAL};
    QueueDetail detail = queue.detail ? *queue.detail : QueueDetail{};
    detail.driver_override = driver;
    set_detail(queue, std::move(detail));
}

void KernelModel::configure(std::string_view name, std::string_view text) {
    const auto apid = parse_adapter(name);
    const auto value = number_of(text);
    if (!value || *value > 1) throw Refusal{EINVAL};
    for (auto& card : host_.cards) {
        if (card.apid == apid) card.config = *value == 1;
    }
    for (auto& candidate : host_.queues) {
        if (candidate.apqn.apid() != apid) continue;
        candidate.config = *value == 1;
        // What zcrypt shows is both together (zcrypt_queue.c, online_show).
        if (candidate.online) candidate.online = candidate.config;
    }
}

void KernelModel::set_online(Queue& queue, std::string_view text) const {
    if (queue.driver != host_driver) throw Refusal{ENOENT};
    if (text != "0" && text != "1") throw Refusal{EINVAL};
    if (text == "1" && queue.config == false) throw Refusal{ENODEV};
    queue.online = text == "1";
}

void KernelModel::create(std::string_view text) {
    auto uuid = Uuid::parse(text);
    if (!uuid) throw Refusal{EINVAL};
    if (host_.find_mdev(*uuid) != nullptr) throw Refusal{EEXIST};
    if (!host_.vfio_ap) throw Refusal{ENODEV};
    if (host_.vfio_ap->available_instances == 0U) throw Refusal{EUSERS};
    Mdev mdev{*std::move(uuid)};
    mdev.type = "vfio_ap-passthrough";
    mdev.device_api = "vfio-ap";
    mdev.control_domains = Mask{};
    mdev.ap_config = host_.has_feature("ap_config");
    if (host_.has_feature("guest_matrix")) mdev.guest_matrix.emplace();
    const bool v1 = std::any_of(host_.mdevs.begin(), host_.mdevs.end(),
                                [](const Mdev& other) { return other.migratable.has_value(); });
    if (v1) mdev.migratable = false;
    host_.mdevs.push_back(std::move(mdev));
    count_mdevs(-1);
}

void KernelModel::count_mdevs(int more) {
    auto& instances = host_.vfio_ap->available_instances;
    if (instances) instances = static_cast<unsigned>(static_cast<int>(*instances) + more);
    host_.sort();
}

void KernelModel::write_mdev(Mdev& mdev, std::string_view leaf, std::string_view text) {
    if (leaf == "remove") {
        if (text != "1") throw Refusal{EINVAL};
        if (is_in_use(mdev.uuid)) throw Refusal{EBUSY};
        std::erase_if(host_.mdevs, [uuid = mdev.uuid](const Mdev& other) { return other.uuid == uuid; });
        return count_mdevs(1);
    }
    if (leaf == "migratable") {
        if (text != "0" && text != "1") throw Refusal{EINVAL};
        mdev.migratable = text == "1";
        return;
    }
    // Before it could plug, the driver let nobody change what a guest has.
    if (is_in_use(mdev.uuid) && !host_.has_feature("hotplug")) throw Refusal{EBUSY};
    Mdev changed = mdev;
    if (leaf == "ap_config") {
        set_config(changed, text);
    } else {
        const bool add = leaf.starts_with("assign_");
        if (!add && !leaf.starts_with("unassign_")) throw Refusal{EACCES};
        const auto number = number_of(text);
        if (!number) throw Refusal{EINVAL};
        const auto what = leaf.substr(leaf.find('_') + 1);
        const auto most = what == "adapter" ? host_.ap->ap_max_adapter_id : host_.ap->ap_max_domain_id;
        if (*number > most.value_or(255)) throw Refusal{ENODEV};
        (what == "adapter"  ? changed.adapters
         : what == "domain" ? changed.domains
                            : *changed.control_domains)
            .set(*number, add);
    }
    check_assigned(changed);
    mdev = std::move(changed);
}

void KernelModel::set_config(Mdev& mdev, std::string_view text) const {
    std::array<Mask, 3> masks;
    for (auto& mask : masks) {
        const auto comma = text.find(',');
        const auto parsed = Mask::parse(text.substr(0, comma));
        if (!parsed) throw Refusal{EINVAL};
        mask = *parsed;
        text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
        const auto most = &mask == masks.data() ? host_.ap->ap_max_adapter_id : host_.ap->ap_max_domain_id;
        const auto bits = mask.bits();
        if (!bits.empty() && bits.back() > most.value_or(255)) throw Refusal{ENODEV};
    }
    mdev.adapters = masks[0];
    mdev.domains = masks[1];
    mdev.control_domains = masks[2];
}

/// No queue that the host's own drivers have or should have, none of another mdev.
void KernelModel::check_assigned(const Mdev& mdev) const {
    for (const auto apqn : mdev.matrix()) {
        const auto* const queue = host_.find_queue(apqn);
        const bool overridden = queue != nullptr && !queue->driver_override().empty();
        if (overridden ? queue->driver == host_driver : reserved(apqn)) throw Refusal{EADDRNOTAVAIL};
    }
    for (const auto& other : host_.mdevs) {
        if (other.uuid == mdev.uuid) continue;
        if (!(other.adapters & mdev.adapters).none() && !(other.domains & mdev.domains).none())
            throw Refusal{EADDRINUSE};
    }
}

}  // namespace vfioap::test
