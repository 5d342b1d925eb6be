// SPDX-License-Identifier: LGPL-2.1-or-later
// The first byte of the input selects an attribute, the rest is its text. Any text is taken or refused as a
// second, slower reading of the same form says, written in the kernel's form it gives the same value again,
// and a host that has such a value can be kept in a snapshot. Seeds: tests/data/attributes.
#include "ap/apqn.h"
#include "ap/configuration.h"
#include "ap/error.h"
#include "ap/mask.h"
#include "ap/master_keys.h"
#include "ap/uuid.h"
#include "host/attributes.h"
#include "host/snapshot.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "require.h"

namespace {

using namespace vfioap;
using fuzz::require;

// The second reading: strings only, nothing of what it is to judge.

std::string lower(std::string_view text) {
    std::string result{text};
    for (char& c : result)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return result;
}

bool only(std::string_view text, std::string_view characters) {
    return !text.empty() && text.find_first_not_of(characters) == std::string_view::npos;
}
bool is_hex(std::string_view text) {
    return only(text, "0123456789abcdefABCDEF");
}

std::string without_leading_zeros(std::string_view digits) {
    digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
    return digits.empty() ? "0" : lower(digits);
}

/// Whether `text` is a decimal number up to `max`: the shorter number is the smaller one.
bool is_decimal(std::string_view text, std::uint64_t max) {
    if (!only(text, "0123456789")) return false;
    const auto number = without_leading_zeros(text);
    const auto limit = std::to_string(max);
    return number.size() < limit.size() || (number.size() == limit.size() && number <= limit);
}

bool is_domain(std::string_view text) {
    return text.size() == 4 && is_hex(text) && text.starts_with("00");
}
bool is_adapter(std::string_view text) {
    return text.size() == 2 && is_hex(text);
}
bool is_queue(std::string_view text) {
    return text.size() == 7 && text[2] == '.' && is_adapter(text.substr(0, 2)) && is_domain(text.substr(3));
}

bool is_printable(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

/// The lines, the newline of the last one being optional.
std::vector<std::string> lines_of(std::string_view text) {
    std::vector<std::string> lines;
    std::istringstream in{std::string{text}};
    for (std::string line; std::getline(in, line);)
        lines.push_back(line);
    return lines;
}

std::string joined(const std::vector<std::string>& lines, char separator) {
    std::string text;
    for (const auto& line : lines)
        text += line + separator;
    return text;
}

std::vector<std::string> adapters_text(const Mask& mask) {
    std::vector<std::string> text;
    for (const auto bit : mask.bits())
        text.push_back(adapter_text(bit));
    return text;
}
std::vector<std::string> domains_text(const Mask& mask) {
    std::vector<std::string> text;
    for (const auto bit : mask.bits())
        text.push_back(domain_text(bit));
    return text;
}
std::vector<std::string> elements(const std::set<std::string>& set) {
    return {set.begin(), set.end()};
}

/// A host on which the attribute can be put.
Inventory host() {
    Inventory inventory;
    inventory.name = "host";
    inventory.ap.emplace();
    inventory.vfio_ap.emplace();
    inventory.cards.resize(1);
    inventory.queues.resize(1);
    inventory.mdevs.emplace_back(*Uuid::parse("62177883-f1bb-47f0-914d-32a22e3a8804"));
    return inventory;
}

/// What write_snapshot() promises: that it is taken again. Gives what came back.
Inventory kept(const Inventory& inventory) {
    std::stringstream document;
    write_snapshot(document, inventory, {});
    return read_snapshot(document, "kept");
}
void require_kept(const Inventory& inventory) {
    require(kept(inventory) == inventory);
}

void flag(std::string_view text) {
    const auto value = parse_flag(text);
    require(value.has_value() == (text == "0" || text == "1"));
    if (!value) return;
    require(text == (*value ? "1" : "0"));
    auto inventory = host();
    inventory.prot_virt_guest = inventory.prot_virt_host = value;
    inventory.cards[0].config = inventory.cards[0].chkstop = inventory.cards[0].online = value;
    inventory.queues[0].config = inventory.queues[0].chkstop = inventory.queues[0].online = value;
    inventory.mdevs[0].migratable = value;
    require_kept(inventory);
}

void number(std::string_view text) {
    const auto value = parse_unsigned(text);
    require(value.has_value() == is_decimal(text, std::numeric_limits<unsigned>::max()));
    if (!value) return;
    require(std::to_string(*value) == without_leading_zeros(text));
    require(parse_unsigned(std::to_string(*value)) == value);
    auto inventory = host();
    inventory.cards[0].max_msg_size = value;
    inventory.vfio_ap->available_instances = value;
    require_kept(inventory);
}

void count(std::string_view text) {
    const auto value = parse_count(text);
    require(value.has_value() == is_decimal(text, std::numeric_limits<std::uint64_t>::max()));
    if (!value) return;
    require(std::to_string(*value) == without_leading_zeros(text));
    require(parse_count(std::to_string(*value)) == value);
    auto inventory = host();
    inventory.ap->scans = value;
    require_kept(inventory);
}

void number_256(std::string_view text) {
    const auto value = parse_number_256(text);
    require(value.has_value() == is_decimal(text, 255));
    if (!value) return;
    require(std::to_string(*value) == without_leading_zeros(text));
    require(parse_number_256(std::to_string(*value)) == value);
    auto inventory = host();
    inventory.cards[0].hwtype = inventory.cards[0].raw_hwtype = value;
    inventory.ap->ap_max_adapter_id = inventory.ap->ap_max_domain_id = value;
    require_kept(inventory);
}

void number_65536(std::string_view text) {
    const auto value = parse_number_65536(text);
    require(value.has_value() == is_decimal(text, 65535));
    if (!value) return;
    require(std::to_string(*value) == without_leading_zeros(text));
    auto inventory = host();
    inventory.cards[0].depth = value;
    require_kept(inventory);
}

void functions(std::string_view text) {
    const auto value = parse_functions(text);
    const auto digits = text.starts_with("0x") ? text.substr(2) : std::string_view{};
    require(value.has_value() == (is_hex(digits) && without_leading_zeros(digits).size() <= 8));
    if (!value) return;
    require(fmt::format("{:x}", *value) == without_leading_zeros(digits));
    require(parse_functions(fmt::format("0x{:08X}", *value)) == value);
    auto inventory = host();
    inventory.cards[0].ap_functions = inventory.queues[0].ap_functions = value;
    require_kept(inventory);
}

void mask(std::string_view text) {
    const auto value = Mask::parse(text);
    const auto digits = text.starts_with("0x") || text.starts_with("0X") ? text.substr(2) : text;
    require(value.has_value() == (is_hex(digits) && digits.size() <= 64));
    const auto host_value = parse_host_mask(text);
    require(host_value.has_value() == (value || text == "not supported"));
    auto inventory = host();
    if (host_value) {
        require((host_value->state == HostMask::State::value) == value.has_value());
        require(host_value->state != HostMask::State::absent);
        require(host_value->effective() == value.value_or(Mask::all()));
        inventory.ap->ap_adapter_mask = inventory.ap->ap_usage_domain_mask =
            inventory.ap->ap_control_domain_mask = *host_value;
    }
    if (value) {
        const auto printed = value->to_string();
        require(printed == "0x" + lower(digits) + std::string(64 - digits.size(), '0'));
        require(Mask::parse(printed) == value && Mask{}.updated(printed) == value);
        require(Mask::of(value->bits()) == *value && value->bits().size() == value->count());
        inventory.ap->apmask = inventory.ap->aqmask = value;
    }
    require_kept(inventory);
}

void mask_update(std::string_view text) {
    // Whatever is written sets some bits and clears others, whatever was there before.
    const auto least = Mask{}.updated(text);
    const auto most = Mask::all().updated(text);
    require(least.has_value() == most.has_value());
    if (!least) {
        require(!Mask::parse(text));
        return;
    }
    require((*least - *most).none());
    Mask old;
    for (unsigned bit = 0; bit < 256; bit += 3)
        old.set(bit);
    const auto updated = old.updated(text);
    require(updated && *updated == ((old & *most) | *least));
    require(updated->updated(text) == updated);
    const bool is_list = text.starts_with('+') || text.starts_with('-');
    require(is_list ? only(text, "+-,0123456789abcdefxABCDEFX") : Mask::parse(text) == updated);
    // The same, bit by bit.
    std::string list;
    for (unsigned bit = 0; bit < 256; ++bit) {
        if (updated->test(bit) != old.test(bit))
            list += fmt::format("{}{}{}", list.empty() ? "" : ",", updated->test(bit) ? '+' : '-', bit);
    }
    require(list.empty() || old.updated(list) == updated);
}

void free_text(std::string_view text) {
    const auto value = parse_text(text);
    require(value.has_value() == (text.size() <= 200 && is_printable(text)));
    if (!value) return;
    require(*value == text);
    auto inventory = host();
    inventory.ap->bindings = inventory.cards[0].serialnr = value;
    QueueDetail detail;
    detail.op_modes = value;
    inventory.queues[0].detail = std::make_shared<QueueDetail>(detail);
    require_kept(inventory);
    // These are names in a snapshot, which do not survive when they are none, but must not make it
    // unreadable.
    detail.driver_override = *value;
    inventory.queues[0].detail = std::make_shared<QueueDetail>(detail);
    inventory.queues[0].has_driver_override = true;
    inventory.cards[0].type = inventory.mdevs[0].type = inventory.mdevs[0].device_api = value;
    inventory.cards[0].driver = inventory.queues[0].driver = *value;
    inventory.unreadable.push_back({"bus/ap/bindings", 0, *value});
    const auto once = kept(inventory);
    require(kept(once) == once);
}

void words(std::string_view text) {
    const auto value = parse_words(text);
    std::vector<std::string> expected;
    std::istringstream in{std::string{text}};
    for (std::string word; in >> word;)
        expected.push_back(word);
    require(value.has_value() == (text.size() <= 200 && is_printable(text) && expected.size() <= 64));
    if (!value) return;
    if (expected == std::vector<std::string>{"-"}) expected.clear();
    require(*value == expected);
    require(parse_words(value->empty() ? "-" : trimmed(joined(*value, ' '))) == value);
    auto inventory = host();
    inventory.ap->features = inventory.vfio_ap->features = value;
    const auto once = kept(inventory);
    require(kept(once) == once);
    // What decides is not lost.
    require(once.has_feature(feature_migratable) == inventory.has_feature(feature_migratable));
}

void association(std::string_view text) {
    const auto value = parse_association(text);
    static constexpr std::string_view associated = "associated ";
    const bool indexed = text.starts_with(associated) && is_decimal(text.substr(associated.size()), 65535);
    require(value.has_value() ==
            (indexed || text == "-" || text == "unassociated" || text == "association pending"));
    if (!value) return;
    require(value->state != SeAssociate::absent && (value->state == SeAssociate::associated) == indexed);
    if (indexed) {
        require(std::to_string(value->index) == without_leading_zeros(text.substr(associated.size())));
        require(parse_association(fmt::format("associated {}", value->index)) == value);
    } else {
        require(value->index == 0);
    }
    auto inventory = host();
    inventory.queues[0].se_associate = value->state;
    inventory.queues[0].association = value->index;
    require_kept(inventory);
}

void config(std::string_view text) {
    const auto value = MdevContents::parse(text);
    const auto first = text.find(',');
    const auto second = first == std::string_view::npos ? first : text.find(',', first + 1);
    if (second == std::string_view::npos) {
        require(!value);
        return;
    }
    const auto adapters = Mask::parse(text.substr(0, first));
    const auto domains = Mask::parse(text.substr(first + 1, second - first - 1));
    const auto control_domains = Mask::parse(text.substr(second + 1));
    require(value.has_value() == (adapters && domains && control_domains));
    if (!value) return;
    require(*value == MdevContents{*adapters, *domains, *control_domains});
    require(MdevContents::parse(value->to_string()) == value);
    auto inventory = host();
    auto& mdev = inventory.mdevs[0];
    mdev.adapters = value->adapters;
    mdev.domains = value->domains;
    mdev.control_domains = value->control_domains;
    mdev.ap_config = true;
    require_kept(inventory);
}

void matrix(std::string_view text) {
    const auto value = parse_matrix(text);
    // Text of one length and case sorts as the numbers do.
    std::set<std::string> queues;
    std::set<std::string> adapters;
    std::set<std::string> domains;
    bool good = true;
    for (const auto& line : lines_of(text)) {
        const auto name = lower(line);
        if (is_queue(name)) {
            queues.insert(name);
            adapters.insert(name.substr(0, 2));
            domains.insert(name.substr(3));
        } else if (name.size() == 3 && name[2] == '.' && is_adapter(name.substr(0, 2))) {
            adapters.insert(name.substr(0, 2));
        } else if (name.size() == 5 && name[0] == '.' && is_domain(name.substr(1))) {
            domains.insert(name.substr(1));
        } else {
            good = false;
        }
    }
    require(value.has_value() == good);
    if (!value) return;
    std::vector<std::string> printed;
    for (const auto queue : value->queues)
        printed.push_back(queue.to_string());
    require(printed == elements(queues));
    require(adapters_text(value->adapters) == elements(adapters));
    require(domains_text(value->domains) == elements(domains));
    const auto only_queues = parse_matrix(joined(printed, '\n'));
    require(only_queues && only_queues->queues == value->queues);
    auto inventory = host();
    auto& mdev = inventory.mdevs[0];
    mdev.adapters = value->adapters;
    mdev.domains = value->domains;
    mdev.guest_matrix = value->queues;
    const bool fits = value->queues.size() <= 512;
    const auto read = kept(inventory);
    require(fits ? read == inventory : read.mdevs[0].guest_matrix_truncated());
}

void control_domains(std::string_view text) {
    const auto value = parse_control_domains(text);
    std::set<std::string> domains;
    bool good = true;
    for (const auto& line : lines_of(text)) {
        good = good && is_domain(line);
        domains.insert(lower(line));
    }
    require(value.has_value() == good);
    if (!value) return;
    require(domains_text(*value) == elements(domains));
    require(parse_control_domains(joined(elements(domains), '\n')) == value);
    auto inventory = host();
    inventory.mdevs[0].control_domains = value;
    require_kept(inventory);
}

void names(std::string_view text) {
    const auto adapter = parse_adapter(text);
    require(adapter.has_value() == is_adapter(text));
    require(!adapter || adapter_text(*adapter) == lower(text));
    const auto domain = parse_domain(text);
    require(domain.has_value() == is_domain(text));
    require(!domain || domain_text(*domain) == lower(text));
    const auto apqn = Apqn::parse(text);
    require(apqn.has_value() == is_queue(text));
    if (apqn) {
        require(apqn->to_string() == lower(text));
        require(Apqn::from_number(apqn->number()) == *apqn && Apqn(apqn->apid(), apqn->apqi()) == *apqn);
    }
    const auto uuid = Uuid::parse(text);
    bool good = text.size() == 36;
    for (std::size_t i = 0; good && i < text.size(); ++i) {
        good = i == 8 || i == 13 || i == 18 || i == 23 ? text[i] == '-' : is_hex(text.substr(i, 1));
    }
    require(uuid.has_value() == good);
    require(!uuid || (uuid->to_string() == lower(text) && Uuid::parse(uuid->to_string()) == uuid));
}

void master_keys(std::string_view text) {
    const auto value = MasterKeys::parse(text);
    if (!value) return;
    const auto lines = value->lines();
    require(!lines.empty() && lines.size() <= 9);
    // Nothing is changed but the case of the patterns.
    auto line = lines.begin();
    for (const auto& read : lines_of(text))
        require(line != lines.end() && lower(read) == lower(*line++));
    require(line == lines.end());
    require(MasterKeys::parse(joined(lines, '\n')) == value && MasterKeys::from_lines(lines) == value);
    for (const auto& entry : value->registers()) {
        require(value->find(entry.key, entry.slot) == &entry);  // each once
        const std::size_t digits = entry.key == "WK" ? 64 : entry.key == "ASYM" ? 32 : 16;
        require(entry.key == "WK" || entry.key == "ASYM" || entry.key == "AES" || entry.key == "APKA");
        require(entry.slot == "NEW" || entry.slot == "CUR" || (entry.slot == "OLD" && entry.key != "WK"));
        require(entry.pattern == "-" ? entry.state != "valid"
                                     : entry.pattern.size() == digits && is_hex(entry.pattern) &&
                                           entry.pattern == lower(entry.pattern));
    }
    auto inventory = host();
    QueueDetail detail;
    detail.mkvps = value;
    inventory.queues[0].detail = std::make_shared<QueueDetail>(detail);
    require_kept(inventory);
}

void queue_state(std::string_view text) {
    auto inventory = host();
    const auto status = parse_queue_status(text);
    require(status.has_value() == (text == "unassigned" || text == "assigned" || text == "in use"));
    if (status) {
        require(to_text(*status) == text);
        inventory.queues[0].status = *status;
    }
    const auto bind = parse_se_bind(text);
    require(bind.has_value() == (text == "-" || text == "bound" || text == "unbound"));
    if (bind) {
        require(to_text(*bind) == text);
        inventory.queues[0].se_bind = *bind;
    }
    if (status || bind) require_kept(inventory);
}

void properties(char selector, std::string_view text) {
    switch (selector) {
        case '0':
            return flag(text);
        case '1':
            return number(text);
        case '2':
            return count(text);
        case '3':
            return number_256(text);
        case '4':
            return number_65536(text);
        case 'f':
            return functions(text);
        case 'm':
            return mask(text);
        case '+':
            return mask_update(text);
        case 't':
            return free_text(text);
        case 'w':
            return words(text);
        case 'a':
            return association(text);
        case 'c':
            return config(text);
        case 'x':
            return matrix(text);
        case 'd':
            return control_domains(text);
        case 'n':
            return names(text);
        case 'k':
            return master_keys(text);
        case 's':
            return queue_state(text);
        default:
            return;
    }
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view text{reinterpret_cast<const char*>(data + 1), size - 1};
    const auto value = trimmed(text);
    require(text.starts_with(value) && !value.ends_with('\n') && !value.ends_with(' '));
    require(value == text || only(text.substr(value.size()), "\n "));
    const char selector = static_cast<char>(*data);
    // As it is read, and as a caller that does not trim it would give it (`matrix` is read so).
    properties(selector, value);
    if (value != text) properties(selector, text);
    return 0;
}
