// SPDX-License-Identifier: LGPL-2.1-or-later
#include "compat/remedies.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vfioap {
namespace {

/// More single writes than this are better done at once, where that is possible.
constexpr std::size_t few_commands = 12;

std::string write_command(std::string_view value, std::string_view path) {
    return fmt::format("echo {} > /sys/{}", value, path);
}

/// `adapter 05`, `domains 0004 0047`, or how many where they are too many to read.
template <typename Text>
std::string number_list(const Mask& mask, std::string_view noun, Text text) {
    constexpr std::size_t most = 8;
    std::vector<std::string> words;
    for (const auto bit : mask.bits())
        words.push_back(text(bit));
    if (words.size() > most) return fmt::format("{} {}s", words.size(), noun);
    return fmt::format("{}{} {}", noun, words.size() == 1 ? "" : "s", fmt::join(words, " "));
}

std::string adapter_list(const Mask& mask) {
    return number_list(mask, "adapter", adapter_text);
}

std::string domain_list(const Mask& mask) {
    return number_list(mask, "domain", domain_text);
}

std::string control_domain_list(const Mask& mask) {
    return number_list(mask, "control domain", domain_text);
}

/// `-6,-0x10` as apmask takes it; chzdev wants decimal numbers.
std::string mask_list(const Mask& mask, bool decimal) {
    std::vector<std::string> words;
    for (const auto bit : mask.bits())
        words.push_back(decimal ? fmt::format("-{}", bit) : fmt::format("-{:#04x}", bit));
    return fmt::format("{}", fmt::join(words, ","));
}

/// How many queues that the host's own drivers have now would go with `adapters` or `domains` beyond
/// `wanted`.
std::size_t collateral(const ApBus& bus, const Mask& adapters, const Mask& domains, std::size_t wanted) {
    const auto reserved_adapters =
        bus.apmask.value_or(Mask::all()) & bus.ap_adapter_mask.effective() & adapters;
    const auto reserved_domains =
        bus.aqmask.value_or(Mask::all()) & bus.ap_usage_domain_mask.effective() & domains;
    const std::size_t going = std::size_t{reserved_adapters.count()} * reserved_domains.count();
    return going > wanted ? going - wanted : 0;
}

std::vector<Remedy> bind_by_masks(const ApBus& bus, const std::vector<Apqn>& queues) {
    std::vector<Apqn> reserved;
    std::vector<std::string> rebind;
    const auto apmask = bus.apmask.value_or(Mask::all());
    const auto aqmask = bus.aqmask.value_or(Mask::all());
    for (const auto apqn : queues) {
        if (apmask.test(apqn.apid()) && aqmask.test(apqn.apqi())) {
            reserved.push_back(apqn);
        } else {
            // The masks leave it to vfio_ap already: somebody unbound it by hand.
            rebind.push_back(write_command(apqn.to_string(), "bus/ap/drivers_probe"));
        }
    }
    std::vector<Remedy> remedies;
    if (!reserved.empty()) {
        const auto adapters = adapters_of(reserved);
        const auto domains = domains_of(reserved);
        const auto by_adapter = collateral(bus, adapters, Mask::all(), reserved.size());
        const auto by_domain = collateral(bus, Mask::all(), domains, reserved.size());
        const bool use_adapters = by_adapter <= by_domain;
        const auto others = std::min(by_adapter, by_domain);
        const auto& mask = use_adapters ? adapters : domains;
        const std::string_view attribute = use_adapters ? "apmask" : "aqmask";
        auto text = fmt::format("leave {} to vfio_ap", use_adapters ? adapter_list(mask) : domain_list(mask));
        if (others > 0) {
            text += fmt::format("; this takes {} other queue{} from the host's own drivers, too", others,
                                others == 1 ? "" : "s");
        }
        remedies.push_back({Side::destination,
                            text,
                            {write_command(mask_list(mask, false), fmt::format("bus/ap/{}", attribute))}});
        remedies.push_back({Side::destination,
                            "keep it so after a reboot",
                            {fmt::format("chzdev -t ap {}={}", attribute, mask_list(mask, true))}});
    }
    if (!rebind.empty()) {
        remedies.push_back({Side::destination, "bind them again: the masks leave them to vfio_ap already",
                            std::move(rebind)});
    }
    return remedies;
}

std::vector<Remedy> bind_by_override(const Inventory& inventory, const std::vector<Apqn>& queues) {
    Remedy now{Side::destination, "give them to vfio_ap by driver_override", {}};
    Remedy later{Side::destination, "keep it so after a reboot", {}};
    for (const auto apqn : queues) {
        const auto name = apqn.to_string();
        const auto path = queue_path(apqn);
        const Queue* const queue = inventory.find_queue(apqn);
        if (queue != nullptr && !queue->driver.empty())
            now.commands.push_back(write_command(name, path + "/driver/unbind"));
        if (queue == nullptr || queue->driver_override() != vfio_ap_driver_name) {
            now.commands.push_back(write_command(vfio_ap_driver_name, path + "/driver_override"));
        }
        now.commands.push_back(write_command(name, "bus/ap/drivers_probe"));
        later.commands.push_back(
            fmt::format("driverctl --bus ap set-override {} {}", name, vfio_ap_driver_name));
    }
    return {std::move(now), std::move(later)};
}

/// The writes that add to or take from an mdev.
std::vector<std::string> mdev_writes(const Uuid& uuid, std::string_view verb, const MdevContents& contents) {
    std::vector<std::string> commands;
    const auto add = [&](const Mask& mask, std::string_view what) {
        for (const auto bit : mask.bits()) {
            commands.push_back(write_command(fmt::format("{:#04x}", bit),
                                             fmt::format("{}/{}_{}", mdev_path(uuid), verb, what)));
        }
    };
    add(contents.adapters, "adapter");
    add(contents.domains, "domain");
    add(contents.control_domains, "control_domain");
    return commands;
}

std::string whole_write(const Uuid& uuid, const MdevContents& contents) {
    return write_command(contents.to_string(), mdev_path(uuid) + "/ap_config");
}

std::string contents_text(const MdevContents& contents) {
    std::vector<std::string> parts;
    if (!contents.adapters.none()) parts.push_back(adapter_list(contents.adapters));
    if (!contents.domains.none()) parts.push_back(domain_list(contents.domains));
    if (!contents.control_domains.none()) parts.push_back(control_domain_list(contents.control_domains));
    if (parts.size() < 2) return parts.empty() ? "" : parts.front();
    const auto last = parts.back();
    parts.pop_back();
    return fmt::format("{} and {}", fmt::join(parts, ", "), last);
}

/// The persistent form: what mdevctl starts at the next boot becomes what is there now.
Remedy keep_mdev(const Uuid& uuid) {
    // Replacing the definition needs no knowledge of the one that may be there.
    const auto& name = uuid.to_string();
    return {Side::destination,
            "keep it so after a reboot",
            {fmt::format("mdevctl undefine --uuid {} 2>/dev/null || true", name),
             fmt::format("mdevctl define --auto --uuid {}", name)}};
}

}  // namespace

Reservation reservation_of(const Inventory& inventory) {
    // Without both masks there is nothing to say that they leave no queue to vfio_ap.
    if (!inventory.ap || inventory.ap->apmask != Mask::all() || inventory.ap->aqmask != Mask::all()) {
        return Reservation::masks;
    }
    const auto any = [&](auto says) {
        return std::any_of(inventory.queues.begin(), inventory.queues.end(), says);
    };
    if (any([](const Queue& queue) { return !queue.driver_override().empty(); }))
        return Reservation::driver_override;
    const bool bound =
        inventory.vfio_ap_has_queues || any([](const Queue& queue) { return queue.bound_to_vfio_ap(); });
    const bool impossible =
        any([](const Queue& queue) { return !queue.bound_to_vfio_ap() && !queue.has_driver_override; });
    return bound && !impossible ? Reservation::driver_override : Reservation::masks;
}

std::vector<Remedy> load_driver(Side side) {
    return {{side, "load the driver", {"modprobe vfio_ap"}},
            {side, "load it at every boot", {"echo vfio_ap > /etc/modules-load.d/vfio_ap.conf"}}};
}

std::vector<Remedy> bind_queues(const Inventory& inventory, const std::vector<Apqn>& queues) {
    if (reservation_of(inventory) == Reservation::driver_override) return bind_by_override(inventory, queues);
    return bind_by_masks(inventory.ap.value_or(ApBus{}), queues);
}

std::vector<Remedy> create_mdev(const Inventory& inventory, const Uuid& uuid, const MdevContents& contents) {
    Remedy now{Side::destination, "create the mdev with the same UUID", {}};
    now.commands.push_back(write_command(
        uuid.to_string(), "devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create"));
    auto writes = mdev_writes(uuid, "assign", contents);
    if (!writes.empty()) now.text += " and assign " + contents_text(contents);
    if (writes.size() > few_commands && inventory.has_feature("ap_config"))
        writes = {whole_write(uuid, contents)};
    now.commands.insert(now.commands.end(), writes.begin(), writes.end());
    return {std::move(now), keep_mdev(uuid)};
}

std::vector<Remedy> exchange(const Mdev& mdev, const MdevContents& extra, const MdevContents& missing,
                             const MdevContents* whole) {
    const auto& name = mdev.uuid.to_string();
    Remedy now{Side::destination, "", {}};
    if (missing.none()) {
        now.text = fmt::format("unassign {} from mdev {}", contents_text(extra), name);
    } else if (extra.none()) {
        now.text = fmt::format("assign {} to mdev {}", contents_text(missing), name);
    } else {
        now.text = fmt::format("unassign {} from mdev {} and assign {} to it", contents_text(extra), name,
                               contents_text(missing));
    }
    now.commands = mdev_writes(mdev.uuid, "unassign", extra);
    const auto writes = mdev_writes(mdev.uuid, "assign", missing);
    now.commands.insert(now.commands.end(), writes.begin(), writes.end());
    if (now.commands.size() > few_commands && mdev.ap_config && whole != nullptr) {
        now.text = fmt::format("make mdev {} hold {}, all at once", name,
                               whole->none() ? "nothing" : contents_text(*whole));
        now.commands = {whole_write(mdev.uuid, *whole)};
    }
    return {std::move(now), keep_mdev(mdev.uuid)};
}

std::vector<Remedy> assign(const Mdev& mdev, const MdevContents& missing, const MdevContents* whole) {
    return exchange(mdev, {}, missing, whole);
}

std::vector<Remedy> unassign(const Mdev& mdev, const MdevContents& extra, const MdevContents* whole) {
    return exchange(mdev, extra, {}, whole);
}

std::vector<Remedy> take_from(const Mdev& owner, const std::vector<Apqn>& queues) {
    const auto adapters = adapters_of(queues);
    const auto domains = domains_of(queues);
    const auto by_adapter = std::size_t{adapters.count()} * owner.domains.count();
    const auto by_domain = std::size_t{domains.count()} * owner.adapters.count();
    const bool use_adapters = by_adapter <= by_domain;
    const MdevContents going{use_adapters ? adapters : Mask{}, use_adapters ? Mask{} : domains, {}};
    const MdevContents left{owner.adapters - going.adapters, owner.domains - going.domains,
                            owner.control_domains.value_or(Mask{})};
    // Of another mdev than the guest's control domains may not have been read.
    auto remedies = unassign(owner, going, owner.control_domains ? &left : nullptr);
    const auto others = std::min(by_adapter, by_domain) - queues.size();
    remedies.front().text += others == 0
                                 ? ", if its guest can do without them"
                                 : fmt::format(", if its guest can do without them and {} other queue{}",
                                               others, others == 1 ? "" : "s");
    return remedies;
}

std::vector<Remedy> provide_queues(const Inventory& inventory, const std::vector<Apqn>& queues) {
    const auto bus = inventory.ap.value_or(ApBus{});
    const auto adapters = adapters_of(queues);
    const auto domains = domains_of(queues);
    const auto no_adapters = adapters - bus.ap_adapter_mask.effective();
    const auto no_domains = domains - bus.ap_usage_domain_mask.effective();
    std::vector<std::string> lacking;
    if (!no_adapters.none()) lacking.push_back(adapter_list(no_adapters));
    if (!no_domains.none()) lacking.push_back("usage " + domain_list(no_domains));
    if (!lacking.empty()) {
        return advise(Side::destination, fmt::format("assign {} to this LPAR at the HMC; no command does it",
                                                     fmt::join(lacking, " and ")));
    }
    return advise(
        Side::destination,
        fmt::format("the LPAR has {} assigned, as far as it says, but the kernel shows no device: configure "
                    "the card on at the HMC, or move the guest to a host that has it",
                    contents_text({adapters, domains, {}})));
}

std::vector<Remedy> configure_cards(const Inventory& inventory, const std::vector<Apqn>& queues) {
    Remedy remedy{Side::destination, "", {}};
    Mask adapters;
    for (const auto apqn : queues) {
        const Card* const card = inventory.find_card(apqn.apid());
        if (card != nullptr && !adapters.test(apqn.apid())) {
            adapters.set(apqn.apid());
            remedy.commands.push_back(write_command("1", card_path(apqn.apid()) + "/config"));
        }
    }
    remedy.text = fmt::format("configure {} on", adapter_list(adapters));
    return {std::move(remedy)};
}

std::vector<Remedy> allow_migration(const Uuid& uuid) {
    return {
        {Side::source, "allow the mdev to migrate", {write_command("1", mdev_path(uuid) + "/migratable")}}};
}

std::vector<Remedy> advise(Side side, std::string text) {
    return {{side, std::move(text), {}}};
}

}  // namespace vfioap
