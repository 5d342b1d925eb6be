// SPDX-License-Identifier: LGPL-2.1-or-later
// A snapshot is anybody's: reading it ends in an inventory that keeps the promises of inventory.h, or in an
// InputError of one clean line. What was read can be written and read again, and is then written the same.
// Seeds: tests/data/hosts, tests/data/snapshots.
#include "ap/error.h"
#include "host/snapshot.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>

#include "require.h"

namespace {

using namespace vfioap;
using fuzz::require;

template <typename Items, typename Key>
bool strictly_sorted(const Items& items, Key key) {
    return std::adjacent_find(items.begin(), items.end(), [key](const auto& a, const auto& b) {
               return !(key(a) < key(b));
           }) == items.end();
}

/// Nothing that a terminal obeys.
bool is_plain(std::string_view text) {
    return std::none_of(text.begin(), text.end(), [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte < ' ' || byte == 0x7f;
    });
}

/// May be part of a path.
bool is_name(std::string_view text) {
    return is_plain(text) && text != "." && text != ".." && text.find('/') == std::string_view::npos;
}

bool is_256(const std::optional<unsigned>& number) {
    return !number || *number < ap_devices;
}

void require_promises(const Inventory& inventory) {
    require(is_plain(inventory.name));
    require(inventory.location == "snapshot:fuzz" || inventory.location == "snapshot:again");
    if (inventory.ap) {
        require(is_256(inventory.ap->ap_max_adapter_id) && is_256(inventory.ap->ap_max_domain_id));
        require(is_plain(inventory.ap->bindings.value_or("")));
    }
    require(strictly_sorted(inventory.cards, [](const Card& card) { return card.apid; }));
    for (const auto& card : inventory.cards) {
        require(is_256(card.raw_hwtype) && is_name(card.driver) && is_name(card.type.value_or("")));
        require(is_plain(card.serialnr.value_or("")) && inventory.find_card(card.apid) == &card);
    }
    require(strictly_sorted(inventory.queues, [](const Queue& queue) { return queue.apqn; }));
    for (const auto& queue : inventory.queues) {
        require(is_name(queue.driver) && is_name(queue.driver_override()));
        require(queue.has_driver_override || queue.driver_override().empty());
        require(queue.se_associate == SeAssociate::associated || queue.association == 0);
        require(inventory.find_queue(queue.apqn) == &queue);
        static_cast<void>(hwinfo_of(queue, inventory.find_card(queue.apqn.apid())));
    }
    require(strictly_sorted(inventory.mdevs, [](const Mdev& mdev) { return mdev.uuid; }));
    for (const auto& mdev : inventory.mdevs) {
        require(is_name(mdev.type.value_or("")) && is_name(mdev.device_api.value_or("")));
        require(inventory.find_mdev(mdev.uuid) == &mdev);
        if (mdev.guest_matrix) require(strictly_sorted(*mdev.guest_matrix, [](Apqn apqn) { return apqn; }));
    }
    require(std::is_sorted(inventory.unreadable.begin(), inventory.unreadable.end(),
                           [](const Unreadable& a, const Unreadable& b) { return a.path < b.path; }));
    for (const auto& item : inventory.unreadable)
        require(!item.path.empty() && item.path.front() != '/' && is_plain(item.path) &&
                is_plain(item.detail));
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::istringstream in{std::string{reinterpret_cast<const char*>(data), size}};
    Inventory inventory;
    try {
        inventory = read_snapshot(in, "fuzz");
    } catch (const InputError& error) {
        const std::string_view message = error.what();
        require(message.starts_with("fuzz: ") && is_plain(message) && message.size() < 2000);
        return 0;
    }
    require_promises(inventory);

    // A refusal of what we wrote ourselves is an exception that nobody catches.
    std::stringstream written;
    write_snapshot(written, inventory, {});
    const auto again = read_snapshot(written, "again");
    require_promises(again);
    require(again == inventory && again.name == inventory.name && again.complete == inventory.complete &&
            again.unreadable == inventory.unreadable);
    std::stringstream rewritten;
    write_snapshot(rewritten, again, {});
    require(rewritten.str() == written.str());
    return 0;
}
