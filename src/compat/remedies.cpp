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
    return command_of({std::string{path}, std::string{value}});
}

std::vector<std::string> write_commands(const std::vector<SysfsWrite>& writes) {
    std::vector<std::string> commands;
    commands.reserve(writes.size());
    for (const auto& write : writes)
        commands.push_back(command_of(write));
    return commands;
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

/// The queues that the host's own drivers have now and that would go with `adapters` or `domains` beyond
/// `wanted`, which is sorted.
std::vector<Apqn> collateral(const ApBus& bus, const Mask& adapters, const Mask& domains,
                             const std::vector<Apqn>& wanted) {
    const auto reserved_adapters =
        bus.apmask.value_or(Mask::all()) & bus.ap_adapter_mask.effective() & adapters;
    const auto reserved_domains =
        bus.aqmask.value_or(Mask::all()) & bus.ap_usage_domain_mask.effective() & domains;
    std::vector<Apqn> going;
    const auto apqis = reserved_domains.bits();
    for (const auto apid : reserved_adapters.bits()) {
        for (const auto apqi : apqis) {
            const Apqn apqn{apid, apqi};
            if (!std::binary_search(wanted.begin(), wanted.end(), apqn)) going.push_back(apqn);
        }
    }
    return going;
}

std::vector<Remedy> bind_by_masks(const ApBus& bus, const std::vector<Apqn>& queues) {
    std::vector<Apqn> reserved;
    std::vector<std::string> rebind;
    for (const auto apqn : queues) {
        if (!left_to_vfio_ap(bus, apqn)) {
            reserved.push_back(apqn);
        } else {
            // Somebody unbound it by hand.
            rebind.push_back(command_of(probe_write(apqn)));
        }
    }
    std::vector<Remedy> remedies;
    if (!reserved.empty()) {
        const auto change = mask_change(bus, reserved);
        const auto others = change.others.size();
        auto text = change.text();
        if (others > 0) {
            text += fmt::format("; this takes {} other queue{} from the host's own drivers, too", others,
                                others == 1 ? "" : "s");
        }
        remedies.push_back({Side::destination, text, {command_of(change.write())}});
        remedies.push_back({Side::destination, "keep it so after a reboot", {change.persistent_command()}});
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
        for (const auto& write : override_writes(inventory, apqn))
            now.commands.push_back(command_of(write));
        later.commands.push_back(override_command(apqn));
    }
    return {std::move(now), std::move(later)};
}

/// The persistent form: what mdevctl starts at the next boot becomes what is there now.
Remedy keep_mdev(const Uuid& uuid) {
    return {Side::destination, "keep it so after a reboot", define_commands(uuid)};
}

}  // namespace

std::string command_of(const SysfsWrite& write) {
    return fmt::format("echo {} > /sys/{}", write.value, write.path);
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

bool left_to_vfio_ap(const ApBus& bus, Apqn apqn) {
    return !bus.apmask.value_or(Mask::all()).test(apqn.apid()) ||
           !bus.aqmask.value_or(Mask::all()).test(apqn.apqi());
}

MaskChange mask_change(const ApBus& bus, const std::vector<Apqn>& queues) {
    const auto adapters = adapters_of(queues);
    const auto domains = domains_of(queues);
    auto by_adapter = collateral(bus, adapters, Mask::all(), queues);
    auto by_domain = collateral(bus, Mask::all(), domains, queues);
    const bool use_adapters = by_adapter.size() <= by_domain.size();
    return {use_adapters, use_adapters ? adapters : domains,
            use_adapters ? std::move(by_adapter) : std::move(by_domain)};
}

std::string_view MaskChange::attribute() const {
    return by_adapter ? "apmask" : "aqmask";
}

SysfsWrite MaskChange::write() const {
    return {fmt::format("bus/ap/{}", attribute()), mask_list(cleared, false)};
}

std::string MaskChange::persistent_command() const {
    return fmt::format("chzdev -t ap {}={}", attribute(), mask_list(cleared, true));
}

std::string MaskChange::text() const {
    return fmt::format("leave {} to vfio_ap", by_adapter ? adapter_list(cleared) : domain_list(cleared));
}

SysfsWrite probe_write(Apqn apqn) {
    return {"bus/ap/drivers_probe", apqn.to_string()};
}

std::vector<SysfsWrite> override_writes(const Inventory& inventory, Apqn apqn) {
    std::vector<SysfsWrite> writes;
    const auto path = queue_path(apqn);
    const Queue* const queue = inventory.find_queue(apqn);
    if (queue != nullptr && !queue->driver.empty())
        writes.push_back({path + "/driver/unbind", apqn.to_string()});
    if (queue == nullptr || queue->driver_override() != vfio_ap_driver_name)
        writes.push_back({path + "/driver_override", std::string{vfio_ap_driver_name}});
    writes.push_back(probe_write(apqn));
    return writes;
}

std::string override_command(Apqn apqn) {
    return fmt::format("driverctl --bus ap set-override {} {}", apqn.to_string(), vfio_ap_driver_name);
}

SysfsWrite create_write(const Uuid& uuid) {
    return {"devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create", uuid.to_string()};
}

std::vector<std::string> define_commands(const Uuid& uuid) {
    // Replacing the definition needs no knowledge of the one that may be there.
    const auto& name = uuid.to_string();
    return {fmt::format("mdevctl undefine --uuid {} 2>/dev/null || true", name),
            fmt::format("mdevctl define --auto --uuid {}", name)};
}

std::vector<SysfsWrite> content_writes(const Uuid& uuid, const MdevContents& extra,
                                       const MdevContents& missing, const MdevContents* whole) {
    std::vector<SysfsWrite> writes;
    const auto add = [&](std::string_view verb, const MdevContents& contents) {
        const auto add_mask = [&](const Mask& mask, std::string_view what) {
            for (const auto bit : mask.bits())
                writes.push_back(
                    {fmt::format("{}/{}_{}", mdev_path(uuid), verb, what), fmt::format("{:#04x}", bit)});
        };
        add_mask(contents.adapters, "adapter");
        add_mask(contents.domains, "domain");
        add_mask(contents.control_domains, "control_domain");
    };
    add("unassign", extra);
    add("assign", missing);
    if (writes.size() > few_commands && whole != nullptr)
        writes = {{mdev_path(uuid) + "/ap_config", whole->to_string()}};
    return writes;
}

MdevContents to_take_from(const Mdev& owner, const std::vector<Apqn>& queues) {
    const auto adapters = adapters_of(queues);
    const auto domains = domains_of(queues);
    const auto by_adapter = std::size_t{adapters.count()} * owner.domains.count();
    const auto by_domain = std::size_t{domains.count()} * owner.adapters.count();
    const bool use_adapters = by_adapter <= by_domain;
    return {use_adapters ? adapters : Mask{}, use_adapters ? Mask{} : domains, {}};
}

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
    Remedy now{Side::destination, "create the mdev with the same UUID", {command_of(create_write(uuid))}};
    if (!contents.none()) now.text += " and assign " + contents_text(contents);
    const auto writes =
        content_writes(uuid, {}, contents, inventory.has_feature("ap_config") ? &contents : nullptr);
    for (auto& command : write_commands(writes))
        now.commands.push_back(std::move(command));
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
    const auto writes = content_writes(mdev.uuid, extra, missing, mdev.ap_config ? whole : nullptr);
    if (writes.size() == 1 && writes.front().path.ends_with("/ap_config")) {
        now.text = fmt::format("make mdev {} hold {}, all at once", name,
                               whole->none() ? "nothing" : contents_text(*whole));
    }
    now.commands = write_commands(writes);
    return {std::move(now), keep_mdev(mdev.uuid)};
}

std::vector<Remedy> assign(const Mdev& mdev, const MdevContents& missing, const MdevContents* whole) {
    return exchange(mdev, {}, missing, whole);
}

std::vector<Remedy> unassign(const Mdev& mdev, const MdevContents& extra, const MdevContents* whole) {
    return exchange(mdev, extra, {}, whole);
}

std::vector<Remedy> take_from(const Mdev& owner, const std::vector<Apqn>& queues) {
    const auto going = to_take_from(owner, queues);
    const MdevContents left{owner.adapters - going.adapters, owner.domains - going.domains,
                            owner.control_domains.value_or(Mask{})};
    // Of another mdev than the guest's control domains may not have been read.
    auto remedies = unassign(owner, going, owner.control_domains ? &left : nullptr);
    const auto others = std::size_t{going.adapters.count()} * owner.domains.count() +
                        std::size_t{going.domains.count()} * owner.adapters.count() - queues.size();
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
