// SPDX-License-Identifier: LGPL-2.1-or-later
#include "support/host_builder.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>

#include "support/kernel_filter.h"

namespace vfioap::test {
namespace {

constexpr std::uint32_t bs_shift = 14;  // bits 16 and 17 of 32, bit 0 the leftmost

/// The steps of splitmix64: patterns that look random and are the same everywhere.
std::uint64_t next(std::uint64_t& state) {
    state += 0x9e3779b97f4a7c15U;
    std::uint64_t value = state;
    value = (value ^ (value >> 30U)) * 0xbf58476d1ce4e5b9U;
    value = (value ^ (value >> 27U)) * 0x94d049bb133111ebU;
    return value ^ (value >> 31U);
}

MasterKeys keys_from(const std::vector<std::string>& lines) {
    auto keys = MasterKeys::from_lines(lines);
    if (!keys) throw std::logic_error{"no master keys: " + lines.front()};
    return *std::move(keys);
}

/// Type and mode of a model name: `CEX8C`.
std::pair<unsigned, std::uint32_t> parse_model(std::string_view model) {
    if (model.size() == 5 && model.starts_with("CEX") && model[3] >= '4' && model[3] <= '9') {
        const auto type = static_cast<unsigned>(model[3] - '4') + oldest_vfio_ap_type;
        switch (model[4]) {
            case 'C':
                return {type, cca_functions};
            case 'A':
                return {type, accelerator_functions};
            case 'P':
                return {type, ep11_functions};
            default:
                break;
        }
    }
    throw std::logic_error{fmt::format("no card model: {}", model)};
}

template <typename Key, typename Value>
const Value* find_in(const std::map<Key, Value>& map, const Key& key) {
    const auto found = map.find(key);
    return found == map.end() ? nullptr : &found->second;
}

}  // namespace

MasterKeys cca_keys(std::uint64_t seed) {
    std::uint64_t state = seed;
    std::vector<std::string> lines;
    for (const auto* const key : {"AES", "APKA"}) {
        lines.push_back(fmt::format("{} NEW: empty 0x{:016x}", key, 0));
        lines.push_back(fmt::format("{} CUR: valid 0x{:016x}", key, next(state)));
        lines.push_back(fmt::format("{} OLD: valid 0x{:016x}", key, next(state)));
    }
    lines.push_back(fmt::format("ASYM NEW: empty 0x{:032x}", 0));
    const auto left = next(state);
    lines.push_back(fmt::format("ASYM CUR: valid 0x{:016x}{:016x}", left, next(state)));
    lines.push_back(fmt::format("ASYM OLD: invalid 0x{:032x}", 0));
    return keys_from(lines);
}

MasterKeys ep11_keys(std::uint64_t seed) {
    std::uint64_t state = seed;
    std::string pattern;
    for (int i = 0; i < 4; ++i)
        pattern += fmt::format("{:016x}", next(state));
    return keys_from({"WK CUR: valid 0x" + pattern, "WK NEW: empty -"});
}

MasterKeys unknown_cca_keys() {
    std::vector<std::string> lines;
    for (const auto* const key : {"AES", "APKA", "ASYM"}) {
        for (const auto* const slot : {"NEW", "CUR", "OLD"})
            lines.push_back(fmt::format("{} {}: - -", key, slot));
    }
    return keys_from(lines);
}

MasterKeys with_register(const MasterKeys& keys, const std::string& line) {
    const auto name = line.substr(0, line.find(':') + 1);
    auto lines = keys.lines();
    const auto found = std::find_if(lines.begin(), lines.end(), [&](const std::string& candidate) {
        return candidate.starts_with(name);
    });
    if (name.empty() || found == lines.end()) throw std::logic_error{"no such register: " + line};
    *found = line;
    return keys_from(lines);
}

Uuid uuid(std::string_view text) {
    auto value = Uuid::parse(text);
    if (!value) throw std::logic_error{fmt::format("no UUID: {}", text)};
    return *std::move(value);
}

HostBuilder::HostBuilder(std::string name) {
    host_.name = std::move(name);
    z16();
}

HostBuilder& HostBuilder::z14() {
    kernel_ = Kernel::old;
    bus_features_ = {"APSC", "APXA", "QACT", "RC8A"};
    host_.prot_virt_host.reset();
    host_.prot_virt_guest.reset();
    return *this;
}

HostBuilder& HostBuilder::z15() {
    z14();
    kernel_ = Kernel::current;
    host_.prot_virt_host = false;
    host_.prot_virt_guest = false;
    return *this;
}

HostBuilder& HostBuilder::z16() {
    z15();
    bus_features_.emplace_back("APSB");
    host_.prot_virt_host = true;
    return *this;
}

HostBuilder& HostBuilder::kernel(Kernel kernel) {
    kernel_ = kernel;
    return *this;
}

HostBuilder& HostBuilder::secure_execution_guest() {
    secure_ = true;
    host_.prot_virt_guest = true;
    host_.prot_virt_host = false;
    return *this;
}

HostBuilder& HostBuilder::without_ap_bus() {
    has_ap_bus_ = false;
    has_vfio_ap_ = false;
    return *this;
}

HostBuilder& HostBuilder::without_vfio_ap() {
    has_vfio_ap_ = false;
    return *this;
}

HostBuilder& HostBuilder::feature(std::string word) {
    more_features_.push_back(std::move(word));
    return *this;
}

HostBuilder& HostBuilder::qemu(std::string version, bool vfio_ap_migration) {
    host_.qemu = Qemu{std::move(version), vfio_ap_migration, {}, {}};
    return *this;
}

HostBuilder& HostBuilder::masks_not_supported() {
    qci_ = false;
    return *this;
}

HostBuilder& HostBuilder::card(std::uint8_t apid, std::string_view model) {
    const auto [type, functions] = parse_model(model);
    const auto same = [apid](const Card& card) { return card.apid == apid; };
    if (std::find_if(host_.cards.begin(), host_.cards.end(), same) != host_.cards.end())
        throw std::logic_error{"card is there twice: " + adapter_text(apid)};
    Card card;
    card.apid = apid;
    card.hwtype = std::min(type, 14U);
    card.raw_hwtype = type;
    card.ap_functions = functions;
    card.depth = 7;
    // The kernel's default, and what CEX8 answers for longer requests (bits 52–55: 13 pages).
    card.max_msg_size = type >= 14 ? 53248U : 12288U;
    card.online = true;
    card.type = ap_type_text(*card.hwtype) + model.back();
    card.driver = "cex4card";
    if (functions != accelerator_functions) card.serialnr = fmt::format("93AAD{:03X}", 0x100U + apid);
    host_.cards.push_back(std::move(card));
    return *this;
}

HostBuilder& HostBuilder::cards(const Numbers& apids, std::string_view model) {
    for (const auto apid : apids)
        card(apid, model);
    return *this;
}

HostBuilder& HostBuilder::card_functions(std::uint8_t apid, std::uint32_t ap_functions) {
    find_card(apid).ap_functions = ap_functions;
    return *this;
}

HostBuilder& HostBuilder::serial(std::uint8_t apid, std::string serialnr) {
    find_card(apid).serialnr = std::move(serialnr);
    return *this;
}

HostBuilder& HostBuilder::domains(const Numbers& apqis) {
    domains_ = Mask::of(apqis);
    return *this;
}

HostBuilder& HostBuilder::control_domains(const Numbers& numbers) {
    control_domains_ = Mask::of(numbers);
    return *this;
}

HostBuilder& HostBuilder::vanish(Apqn queue) {
    vanished_.insert(queue);
    return *this;
}

HostBuilder& HostBuilder::deconfigure(std::uint8_t apid) {
    find_card(apid).config = false;
    return *this;
}

HostBuilder& HostBuilder::check_stop(std::uint8_t apid) {
    find_card(apid).chkstop = true;
    return *this;
}

HostBuilder& HostBuilder::check_stop(Apqn queue) {
    check_stopped_.insert(queue);
    return *this;
}

HostBuilder& HostBuilder::offline(Apqn queue) {
    offline_.insert(queue);
    return *this;
}

HostBuilder& HostBuilder::queue_functions(Apqn queue, std::uint32_t ap_functions) {
    if (!overrides()) throw std::logic_error{"this kernel shows no ap_functions of queues"};
    queue_functions_[queue] = ap_functions;
    return *this;
}

HostBuilder& HostBuilder::bind_state(Apqn queue, unsigned bs) {
    if (!overrides()) throw std::logic_error{"this kernel shows no ap_functions of queues"};
    bind_states_[queue] = bs & 3U;
    return *this;
}

HostBuilder& HostBuilder::no_answer(Apqn queue) {
    if (!overrides()) throw std::logic_error{"this kernel shows no ap_functions of queues"};
    silent_.insert(queue);
    return unreadable(queue_path(queue) + "/ap_functions", EIO);
}

HostBuilder& HostBuilder::fail_reset(Apqn queue) {
    failed_resets_.insert(queue);
    return *this;
}

HostBuilder& HostBuilder::master_keys(Apqn queue, MasterKeys keys) {
    master_keys_.insert_or_assign(queue, std::move(keys));
    return *this;
}

HostBuilder& HostBuilder::master_keys(std::uint8_t apid, const MasterKeys& keys) {
    card_keys_.insert_or_assign(apid, keys);
    return *this;
}

HostBuilder& HostBuilder::op_modes(std::uint8_t apid, const std::string& modes) {
    op_modes_[apid] = modes;
    return *this;
}

HostBuilder& HostBuilder::free_adapters(const Numbers& apids) {
    if (!overridden_.empty()) throw std::logic_error{"the masks are refused while an override is set"};
    for (const auto apid : apids)
        apmask_.set(apid, false);
    return *this;
}

HostBuilder& HostBuilder::free_domains(const Numbers& apqis) {
    if (!overridden_.empty()) throw std::logic_error{"the masks are refused while an override is set"};
    for (const auto apqi : apqis)
        aqmask_.set(apqi, false);
    return *this;
}

HostBuilder& HostBuilder::bind_to_vfio_ap() {
    if (!overrides()) return free_domains(domains_.bits());
    for (const auto& card : host_.cards) {
        for (const auto apqi : domains_.bits())
            bind_to_vfio_ap(Apqn{card.apid, apqi});
    }
    return *this;
}

HostBuilder& HostBuilder::bind_to_vfio_ap(Apqn queue) {
    if (!overrides()) throw std::logic_error{"this kernel has no driver_override: free an adapter or domain"};
    if (apmask_ != Mask::all() || aqmask_ != Mask::all())
        throw std::logic_error{"overrides are refused while a mask is not all ones"};
    overridden_.insert(queue);
    return *this;
}

HostBuilder& HostBuilder::bind_to_host(Apqn queue) {
    if (overridden_.erase(queue) == 0)
        throw std::logic_error{"no override is set for queue " + queue.to_string()};
    return *this;
}

HostBuilder& HostBuilder::mdev(std::string_view text) {
    mdevs_.push_back({Mdev{uuid(text)}, false});
    return *this;
}

HostBuilder& HostBuilder::assign(const Numbers& adapters, const Numbers& domains,
                                 const Numbers& control_domains) {
    Mdev& mdev = last_mdev().mdev;
    mdev.adapters = Mask::of(adapters);
    mdev.domains = Mask::of(domains);
    mdev.control_domains = Mask::of(control_domains);
    for (const auto& other : mdevs_) {
        if (&other == &mdevs_.back()) continue;
        for (const auto apqn : mdev.matrix()) {
            if (other.mdev.assigned(apqn))
                throw std::logic_error{"queue is assigned to two mdevs: " + apqn.to_string()};
        }
    }
    return *this;
}

HostBuilder& HostBuilder::in_use() {
    last_mdev().in_use = true;
    return *this;
}

HostBuilder& HostBuilder::migratable(bool on) {
    if (kernel_ != Kernel::series_v1) throw std::logic_error{"only series_v1 has the attribute migratable"};
    last_mdev().mdev.migratable = on;
    return *this;
}

HostBuilder& HostBuilder::unreadable(std::string path, int error, std::string detail) {
    host_.unreadable.push_back({std::move(path), error, std::move(detail)});
    return *this;
}

Card& HostBuilder::find_card(std::uint8_t apid) {
    for (auto& card : host_.cards) {
        if (card.apid == apid) return card;
    }
    throw std::logic_error{"no such card: " + adapter_text(apid)};
}

HostBuilder::MdevPlan& HostBuilder::last_mdev() {
    if (mdevs_.empty()) throw std::logic_error{"no mdev yet"};
    return mdevs_.back();
}

std::string HostBuilder::driver_of(Apqn queue) const {
    const bool reserved = apmask_.test(queue.apid()) && aqmask_.test(queue.apqi());
    const bool for_guests = !reserved || overridden_.count(queue) != 0;
    if (!for_guests) return "cex4queue";
    return has_vfio_ap_ ? std::string{vfio_ap_driver_name} : std::string{};
}

Queue HostBuilder::make_queue(const Card& card, Apqn apqn) const {
    Queue queue;
    queue.apqn = apqn;
    queue.driver = driver_of(apqn);
    const bool host = queue.driver == "cex4queue";
    if (shows_config()) {
        queue.config = card.config;
        queue.chkstop = *card.chkstop || check_stopped_.count(apqn) != 0;
    }
    if (host) queue.online = offline_.count(apqn) == 0 && card.config.value_or(true);
    if (overrides()) {
        queue.has_driver_override = true;
        const auto* const own = find_in(queue_functions_, apqn);
        queue.ap_functions = own != nullptr ? *own : *card.ap_functions;
        if (const auto* const bs = find_in(bind_states_, apqn)) *queue.ap_functions |= *bs << bs_shift;
        if (silent_.count(apqn) != 0) queue.ap_functions.reset();
    }
    if (secure_) {
        queue.se_bind = SeBind::unbound;
        queue.se_associate = SeAssociate::unassociated;
    }
    QueueDetail detail;
    if (overridden_.count(apqn) != 0) detail.driver_override = std::string{vfio_ap_driver_name};
    const auto* keys = find_in(master_keys_, apqn);
    if (keys == nullptr) keys = find_in(card_keys_, apqn.apid());
    if (keys != nullptr) detail.mkvps = *keys;
    if (const auto* const modes = find_in(op_modes_, apqn.apid()); modes != nullptr && host)
        detail.op_modes = *modes;
    if (detail != QueueDetail{}) queue.detail = std::make_shared<const QueueDetail>(std::move(detail));
    return queue;
}

Mdev HostBuilder::make_mdev(const MdevPlan& plan, const Inventory& host) const {
    Mdev mdev = plan.mdev;
    mdev.type = "vfio_ap-passthrough";
    mdev.device_api = "vfio-ap";
    if (!mdev.control_domains) mdev.control_domains = Mask{};
    if (kernel_ == Kernel::series_v1 && !mdev.migratable) mdev.migratable = false;
    if (kernel_ == Kernel::old) return mdev;
    mdev.ap_config = true;
    mdev.guest_matrix = guest_masks(host, mdev, failed_resets_).guest_matrix();
    return mdev;
}

/// By vfio_ap_ops.c, status_show: in use is what a running guest really has.
void HostBuilder::set_statuses(Inventory& host) const {
    for (auto& queue : host.queues) {
        if (queue.bound_to_vfio_ap()) queue.status = QueueStatus::unassigned;
    }
    for (const auto& plan : mdevs_) {
        const auto passed = guest_masks(host, plan.mdev, failed_resets_);
        for (auto& queue : host.queues) {
            if (!queue.bound_to_vfio_ap() || !plan.mdev.assigned(queue.apqn)) continue;
            const bool used = plan.in_use && passed.has(queue.apqn);
            queue.status = used ? QueueStatus::in_use : QueueStatus::assigned;
        }
    }
}

Inventory HostBuilder::build() const {
    Inventory host = host_;
    std::sort(host.cards.begin(), host.cards.end(),
              [](const Card& a, const Card& b) { return a.apid < b.apid; });
    std::vector<std::uint8_t> apids;
    for (auto& card : host.cards) {
        apids.push_back(card.apid);
        if (!card.chkstop) card.chkstop = false;
        if (!card.config) card.config = true;
        if (!*card.config) card.online = false;
        for (const auto apqi : domains_.bits()) {
            const Apqn apqn{card.apid, apqi};
            if (vanished_.count(apqn) == 0) host.queues.push_back(make_queue(card, apqn));
        }
        if (shows_config()) continue;
        card.config.reset();
        card.chkstop.reset();
        card.max_msg_size.reset();
    }

    if (has_ap_bus_) {
        ApBus bus;
        bus.apmask = apmask_;
        bus.aqmask = aqmask_;
        for (auto* const mask :
             {&bus.ap_adapter_mask, &bus.ap_usage_domain_mask, &bus.ap_control_domain_mask})
            mask->state = qci_ ? HostMask::State::value : HostMask::State::not_supported;
        if (qci_) {
            bus.ap_adapter_mask.mask = Mask::of(apids);
            bus.ap_usage_domain_mask.mask = domains_;
            bus.ap_control_domain_mask.mask = control_domains_.value_or(domains_);
        }
        bus.ap_max_adapter_id = 255;
        bus.ap_max_domain_id = 84;
        const auto used = domains_.bits();
        if (!used.empty()) bus.ap_max_domain_id = std::max<unsigned>(84, used.back());
        if (shows_config()) {
            const auto bound = static_cast<std::size_t>(
                std::count_if(host.queues.begin(), host.queues.end(),
                              [](const Queue& queue) { return !queue.driver.empty(); }));
            bus.bindings = fmt::format("{}/{}", bound, host.queues.size());
            if (bound == host.queues.size()) *bus.bindings += " (complete)";
            bus.features = bus_features_;
            bus.scans = 12345;
        }
        host.ap = std::move(bus);
    }
    if (has_vfio_ap_) {
        VfioAp driver;
        driver.available_instances = 65536 - static_cast<unsigned>(mdevs_.size());
        if (kernel_ != Kernel::old) driver.features = {"guest_matrix", "hotplug", "ap_config"};
        if (kernel_ == Kernel::restore) driver.features->emplace_back(feature_migratable);
        if (!more_features_.empty() && !driver.features) driver.features.emplace();
        for (const auto& word : more_features_)
            driver.features->push_back(word);
        host.vfio_ap = std::move(driver);
        set_statuses(host);
        for (const auto& plan : mdevs_)
            host.mdevs.push_back(make_mdev(plan, host));
    } else if (!mdevs_.empty()) {
        throw std::logic_error{"mdevs without vfio_ap"};
    }
    host.sort();
    return host;
}

}  // namespace vfioap::test
