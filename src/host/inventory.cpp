// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/inventory.h"

#include <algorithm>
#include <array>
#include <utility>

namespace vfioap {
namespace {

template <typename Items, typename Key, typename Projection>
auto find_sorted(const Items& items, const Key& key, Projection projection) -> decltype(items.data()) {
    const auto found = std::lower_bound(items.begin(), items.end(), key,
                                        [&](const auto& item, const Key& k) { return projection(item) < k; });
    return found != items.end() && projection(*found) == key ? &*found : nullptr;
}

template <typename Value, std::size_t size>
std::optional<Value> parse_word(const std::array<std::pair<Value, std::string_view>, size>& words,
                                std::string_view text) {
    for (const auto& [value, word] : words) {
        if (word == text) return value;
    }
    return {};
}

template <typename Value, std::size_t size>
std::string_view word_of(const std::array<std::pair<Value, std::string_view>, size>& words, Value value) {
    for (const auto& [candidate, word] : words) {
        if (candidate == value) return word;
    }
    return {};
}

constexpr std::array<std::pair<QueueStatus, std::string_view>, 3> status_words{
    {{QueueStatus::unassigned, "unassigned"},
     {QueueStatus::assigned, "assigned"},
     {QueueStatus::in_use, "in use"}}};
constexpr std::array<std::pair<SeBind, std::string_view>, 3> se_bind_words{
    {{SeBind::none, "-"}, {SeBind::bound, "bound"}, {SeBind::unbound, "unbound"}}};

}  // namespace

std::string_view to_text(QueueStatus status) {
    return word_of(status_words, status);
}
std::string_view to_text(SeBind bind) {
    return word_of(se_bind_words, bind);
}
std::optional<QueueStatus> parse_queue_status(std::string_view text) {
    return parse_word(status_words, text);
}
std::optional<SeBind> parse_se_bind(std::string_view text) {
    return parse_word(se_bind_words, text);
}

bool operator==(const Queue& a, const Queue& b) {
    static const QueueDetail nothing;
    const auto& detail_a = a.detail ? *a.detail : nothing;
    const auto& detail_b = b.detail ? *b.detail : nothing;
    return a.apqn == b.apqn && a.config == b.config && a.chkstop == b.chkstop && a.online == b.online &&
           a.status == b.status && a.se_bind == b.se_bind && a.se_associate == b.se_associate &&
           a.association == b.association && a.has_driver_override == b.has_driver_override &&
           a.ap_functions == b.ap_functions && a.driver == b.driver && detail_a == detail_b;
}

std::vector<Apqn> Mdev::matrix() const {
    std::vector<Apqn> result;
    const auto apqis = domains.bits();
    for (const auto apid : adapters.bits()) {
        for (const auto apqi : apqis)
            result.emplace_back(apid, apqi);
    }
    return result;
}

const Card* Inventory::find_card(unsigned apid) const {
    return find_sorted(cards, apid, [](const Card& card) { return unsigned{card.apid}; });
}

const Queue* Inventory::find_queue(Apqn apqn) const {
    return find_sorted(queues, apqn, [](const Queue& queue) { return queue.apqn; });
}

const Mdev* Inventory::find_mdev(const Uuid& uuid) const {
    return find_sorted(mdevs, uuid, [](const Mdev& mdev) -> const Uuid& { return mdev.uuid; });
}

const Unreadable* Inventory::find_unreadable(std::string_view path) const {
    return find_sorted(unreadable, path, [](const Unreadable& item) { return std::string_view{item.path}; });
}

bool Inventory::has_feature(std::string_view word) const {
    if (!vfio_ap || !vfio_ap->features) return false;
    return std::find(vfio_ap->features->begin(), vfio_ap->features->end(), word) != vfio_ap->features->end();
}

std::optional<bool> Inventory::kernel_migrates() const {
    const auto has_attribute = [](const Mdev& mdev) { return mdev.migratable.has_value(); };
    if (has_feature(feature_migratable) || std::any_of(mdevs.begin(), mdevs.end(), has_attribute))
        return true;
    if (vfio_ap && !vfio_ap->features && find_unreadable("devices/vfio_ap/matrix/features") != nullptr)
        return {};
    return false;
}

std::optional<bool> Inventory::qemu_migrates() const {
    if (!qemu) return {};
    return qemu->vfio_ap_migration;
}

void Inventory::sort() {
    const auto by = [](auto& items, auto projection) {
        std::sort(items.begin(), items.end(),
                  [&](const auto& a, const auto& b) { return projection(a) < projection(b); });
    };
    by(cards, [](const Card& card) { return card.apid; });
    by(queues, [](const Queue& queue) { return queue.apqn; });
    by(mdevs, [](const Mdev& mdev) -> const Uuid& { return mdev.uuid; });
    by(unreadable, [](const Unreadable& item) -> const std::string& { return item.path; });
}

bool operator==(const Inventory& a, const Inventory& b) {
    return a.ap == b.ap && a.vfio_ap == b.vfio_ap && a.prot_virt_guest == b.prot_virt_guest &&
           a.prot_virt_host == b.prot_virt_host && a.qemu == b.qemu && a.iommufd == b.iommufd &&
           a.cards == b.cards && a.queues == b.queues && a.mdevs == b.mdevs && a.unreadable == b.unreadable;
}

std::string card_path(unsigned apid) {
    return "devices/ap/card" + adapter_text(apid);
}

std::string queue_path(Apqn apqn) {
    return card_path(apqn.apid()) + '/' + apqn.to_string();
}

std::string mdev_path(const Uuid& uuid) {
    return "devices/vfio_ap/matrix/" + uuid.to_string();
}

std::optional<bool> is_in_use(const Inventory& inventory, const Mdev& mdev) {
    std::optional<bool> result;
    for (const auto& queue : inventory.queues) {
        if (queue.status == QueueStatus::absent || !mdev.assigned(queue.apqn)) continue;
        if (queue.status == QueueStatus::in_use) return true;
        result = false;
    }
    return result;
}

}  // namespace vfioap
