// SPDX-License-Identifier: LGPL-2.1-or-later
// Reading snapshots. They come from other hosts and from callers of the service: nothing in them is trusted,
// and memory grows only with what the inventory keeps.
#include "ap/error.h"
#include "host/snapshot.h"
#include "host/snapshot_limits.h"
#include "text/utf8.h"

#include <bitset>
#include <charconv>
#include <cstddef>
#include <istream>
#include <iterator>
#include <set>
#include <streambuf>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

constexpr std::size_t max_nesting = 16;
constexpr std::size_t max_string_bytes = std::size_t{64} * 1024;
constexpr std::size_t max_number_bytes = 64;
constexpr std::size_t max_member_name = 256;
constexpr std::size_t max_top_members = 256;
// Of one element (a queue, an mdev, …), which is held whole until it is decoded. An mdev with everything has
// 512 + 3 * 256 values.
constexpr std::size_t max_element_values = 4096;
constexpr std::size_t max_element_bytes = std::size_t{256} * 1024;
constexpr std::size_t max_cards = ap_devices;
constexpr std::size_t max_queues = ap_queues;
constexpr std::size_t max_mdevs = 4096;
constexpr std::size_t max_unreadable = 100'000;
constexpr std::size_t max_path = 1024;

/// The bytes of the document on their way to the parser, counted: for line and column, and because the
/// parser would collect a string or number of any length before showing it.
class Source {
  public:
    Source(std::streambuf& buffer, const std::string& origin) : buffer_{buffer}, origin_{origin} {}

    [[nodiscard]] bool at_end() { return next_ == end_ && !fill(); }
    [[nodiscard]] char current() const { return *next_; }
    void advance() {
        const char c = *next_++;
        if (++bytes_ > snapshot_max_bytes)
            throw InputError{origin_, fmt::format("has more than {} bytes", snapshot_max_bytes)};
        ++column_;
        if (c == '\n') {
            ++line_;
            column_ = 0;
        }
        if (in_string_) {
            if (++run_ > max_string_bytes) refuse("string", max_string_bytes);
            if (c == '"' && !escaped_) {
                in_string_ = false;
                run_ = 0;
            }
            escaped_ = c == '\\' && !escaped_;
        } else if (c == '"') {
            in_string_ = true;
            escaped_ = false;
            run_ = 0;
        } else if (ends_number(c)) {
            run_ = 0;
        } else if (++run_ > max_number_bytes) {
            refuse("number or word", max_number_bytes);
        }
    }
    [[nodiscard]] std::string place() const { return fmt::format("line {}, column {}", line_, column_); }

  private:
    static constexpr bool ends_number(char c) {
        return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ',' || c == ':' || c == '[' ||
               c == ']' || c == '{' || c == '}';
    }
    bool fill() {
        const auto count = buffer_.sgetn(block_.data(), static_cast<std::streamsize>(block_.size()));
        next_ = block_.data();
        end_ = next_ + count;
        return count > 0;
    }
    [[noreturn]] void refuse(std::string_view what, std::size_t limit) const {
        throw InputError{origin_, place(), fmt::format("a {} longer than {} bytes", what, limit)};
    }

    std::streambuf& buffer_;
    const std::string& origin_;
    std::vector<char> block_ = std::vector<char>(std::size_t{16} * 1024);
    const char* next_ = nullptr;
    const char* end_ = nullptr;
    std::size_t bytes_ = 0;
    std::size_t line_ = 1;
    std::size_t column_ = 0;
    std::size_t run_ = 0;
    bool in_string_ = false;
    bool escaped_ = false;
};

/// A Source as the input iterator that the parser takes; the end has none.
class SourceIterator {
  public:
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = char;

    explicit SourceIterator(Source* source) : source_{source} {}
    char operator*() const { return source_->current(); }
    SourceIterator& operator++() {
        source_->advance();
        return *this;
    }
    friend bool operator!=(const SourceIterator& a, const SourceIterator& b) { return a.ends() != b.ends(); }

  private:
    [[nodiscard]] bool ends() const { return source_ == nullptr || source_->at_end(); }
    Source* source_;
};

bool is_word(std::string_view text) {
    if (text.empty() || text.size() > max_word || text == "." || text == "..") return false;
    for (const char c : text) {
        const bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                          c == '_' || c == '.' || c == '-';
        if (!fits) return false;
    }
    return true;
}

std::size_t characters(std::string_view text) {
    std::size_t count = 0;
    for (const char c : text)
        count += (static_cast<unsigned char>(c) & 0xc0U) == 0x80U ? 0 : 1;
    return count;
}

bool is_relative_path(std::string_view text) {
    if (text.empty() || text.front() == '/') return false;
    while (!text.empty()) {
        const auto slash = text.find('/');
        const auto part = text.substr(0, slash);
        if (part.empty() || part == "." || part == "..") return false;
        if (slash == std::string_view::npos) return true;
        text.remove_prefix(slash + 1);
    }
    return false;  // it ended in a slash
}

/// What was found, fit for a message: one short line of ASCII.
std::string found(const nlohmann::json& value) {
    if (value.is_object()) return "an object";
    if (value.is_array()) return value.empty() ? "an empty array" : "an array";
    auto text = value.dump(-1, ' ', true);
    if (text.size() > 60) text = text.substr(0, 56) + "...\"";
    return text;
}

/// A value of the document and the way to it, which becomes text only when something is wrong.
class Node {
  public:
    Node(const std::string& origin, const nlohmann::json& json, std::string_view name)
        : origin_{origin}, json_{json}, name_{name} {}
    Node(const Node& parent, const nlohmann::json& json, std::string_view name)
        : origin_{parent.origin_}, json_{json}, parent_{&parent}, name_{name} {}
    Node(const Node& parent, const nlohmann::json& json, std::size_t index)
        : origin_{parent.origin_}, json_{json}, parent_{&parent}, index_{index} {}

    [[nodiscard]] std::string path() const {
        if (parent_ == nullptr) return std::string{name_};
        return name_.empty() ? fmt::format("{}[{}]", parent_->path(), index_)
                             : fmt::format("{}.{}", parent_->path(), name_);
    }
    [[noreturn]] void refuse(std::string_view reason) const { throw InputError{origin_, path(), reason}; }
    [[noreturn]] void expected(std::string_view what) const {
        refuse(fmt::format("expected {}, found {}", what, found(json_)));
    }

    [[nodiscard]] const Node& object(std::string_view what) const {
        if (!json_.is_object()) expected(what);
        return *this;
    }
    /// The member of an object, if it is there.
    [[nodiscard]] std::optional<Node> find(std::string_view name) const {
        const auto member = json_.find(name);
        if (member == json_.end()) return {};
        return std::optional<Node>{std::in_place, *this, *member, name};
    }
    [[nodiscard]] Node at(std::string_view name, std::string_view what) const {
        auto member = find(name);
        if (!member) {
            const nlohmann::json nothing;
            Node{*this, nothing, name}.refuse(fmt::format("expected {}, but the member is missing", what));
        }
        return *member;
    }
    [[nodiscard]] bool is_null() const { return json_.is_null(); }

    [[nodiscard]] bool boolean() const {
        if (!json_.is_boolean()) expected("true or false");
        return json_.get<bool>();
    }
    [[nodiscard]] std::uint64_t integer(std::uint64_t limit) const {
        if (!json_.is_number_unsigned() || json_.get<std::uint64_t>() > limit)
            expected(fmt::format("an integer from 0 to {}", limit));
        return json_.get<std::uint64_t>();
    }
    [[nodiscard]] unsigned number(unsigned limit) const { return static_cast<unsigned>(integer(limit)); }
    [[nodiscard]] const std::string& string(std::string_view what) const {
        if (!json_.is_string()) expected(what);
        return json_.get_ref<const std::string&>();
    }
    [[nodiscard]] const std::string& word(std::string_view what) const {
        const auto& text = string(what);
        if (!is_word(text))
            expected(fmt::format("{} of 1 to {} letters, digits, `_`, `.` and `-`", what, max_word));
        return text;
    }
    [[nodiscard]] const std::string& text(std::size_t limit = max_text) const {
        const auto& value = string("a string");
        if (characters(value) > limit)
            refuse(fmt::format("expected at most {} characters, found {}", limit, characters(value)));
        // They would act on the terminal that shows the text; UTF-8 is the parser's business.
        if (has_control(value)) expected("a string without control characters");
        return value;
    }
    /// What `parse` makes of the string.
    template <typename Parse>
    [[nodiscard]] auto parsed(std::string_view what, Parse parse) const {
        auto value = parse(string(what));
        if (!value) expected(what);
        return *std::move(value);
    }
    template <typename Action>
    void each(std::string_view what, std::size_t limit, Action action) const {
        if (!json_.is_array()) expected(what);
        if (json_.size() > limit)
            refuse(fmt::format("expected at most {} elements, found {}", limit, json_.size()));
        std::size_t index = 0;
        for (const auto& element : json_)
            action(Node{*this, element, index++});
    }

  private:
    const std::string& origin_;
    const nlohmann::json& json_;
    const Node* parent_ = nullptr;
    std::string_view name_;
    std::size_t index_ = 0;
};

template <typename Value, typename Decode>
void read(const Node& object, std::string_view name, std::optional<Value>& value, Decode decode) {
    if (const auto member = object.find(name)) value = decode(*member);
}

void read_boolean(const Node& object, std::string_view name, std::optional<bool>& value) {
    read(object, name, value, [](const Node& node) { return node.boolean(); });
}

void read_number(const Node& object, std::string_view name, std::optional<unsigned>& value, unsigned limit) {
    read(object, name, value, [limit](const Node& node) { return node.number(limit); });
}

void read_text(const Node& object, std::string_view name, std::optional<std::string>& value) {
    read(object, name, value, [](const Node& node) { return node.text(); });
}

void read_functions(const Node& object, std::optional<std::uint32_t>& value) {
    read(object, "ap_functions", value, [](const Node& node) {
        return node.parsed("`0x` and 1 to 8 hexadecimal digits",
                           [](std::string_view text) -> std::optional<std::uint32_t> {
                               if (!text.starts_with("0x") || text.size() < 3 || text.size() > 10) return {};
                               std::uint32_t number = 0;
                               const auto* const end = text.data() + text.size();
                               const auto [rest, error] = std::from_chars(text.data() + 2, end, number, 16);
                               if (error != std::errc{} || rest != end) return {};
                               return number;
                           });
    });
}

Mask mask_of(const Node& node) {
    return node.parsed("a mask, `0x` and 1 to 64 hexadecimal digits",
                       [](std::string_view text) { return Mask::parse(text); });
}

HostMask host_mask_of(const Node& node) {
    if (node.string("a mask or `not supported`") == "not supported")
        return {HostMask::State::not_supported, {}};
    return {HostMask::State::value, mask_of(node)};
}

void read_host_mask(const Node& object, std::string_view name, HostMask& value) {
    if (const auto member = object.find(name)) value = host_mask_of(*member);
}

std::vector<std::string> words_of(const Node& node) {
    std::vector<std::string> words;
    node.each("an array of words", max_words,
              [&](const Node& element) { words.push_back(element.word("a word")); });
    return words;
}

ApBus ap_bus_of(const Node& node) {
    const auto& object = node.object("an object");
    ApBus bus;
    read(object, "apmask", bus.apmask, mask_of);
    read(object, "aqmask", bus.aqmask, mask_of);
    read_host_mask(object, "ap_adapter_mask", bus.ap_adapter_mask);
    read_host_mask(object, "ap_usage_domain_mask", bus.ap_usage_domain_mask);
    read_host_mask(object, "ap_control_domain_mask", bus.ap_control_domain_mask);
    read_number(object, "ap_max_adapter_id", bus.ap_max_adapter_id, ap_devices - 1);
    read_number(object, "ap_max_domain_id", bus.ap_max_domain_id, ap_devices - 1);
    read_text(object, "bindings", bus.bindings);
    read(object, "features", bus.features, words_of);
    read(object, "scans", bus.scans, [](const Node& scans) { return scans.integer(~std::uint64_t{0}); });
    return bus;
}

VfioAp vfio_ap_of(const Node& node) {
    const auto& object = node.object("an object");
    VfioAp driver;
    read(object, "features", driver.features, words_of);
    read_number(object, "available_instances", driver.available_instances, ~0U);
    return driver;
}

Qemu qemu_of(const Node& node) {
    const auto& object = node.object("an object");
    Qemu qemu;
    read_text(object, "version", qemu.version);
    read_boolean(object, "vfio_ap_migration", qemu.vfio_ap_migration);
    read_boolean(object, "cpr_transfer", qemu.cpr_transfer);
    read_boolean(object, "vfio_ap_iommufd", qemu.vfio_ap_iommufd);
    return qemu;
}

Iommufd iommufd_of(const Node& node) {
    const auto& object = node.object("an object");
    Iommufd iommufd;
    std::optional<bool> present;
    read_boolean(object, "present", present);
    iommufd.present = present.value_or(false);
    read_boolean(object, "map_file", iommufd.map_file);
    read_boolean(object, "change_process", iommufd.change_process);
    return iommufd;
}

std::uint8_t adapter_of(const Node& node) {
    return node.parsed("an adapter, two hexadecimal digits", parse_adapter);
}

std::uint8_t domain_of(const Node& node) {
    return node.parsed("a domain, four hexadecimal digits up to 00ff", parse_domain);
}

Apqn apqn_of(const Node& node) {
    return node.parsed("an APQN such as \"05.0047\"", Apqn::parse);
}

Card card_of(const Node& node) {
    const auto& object = node.object("an object");
    Card card;
    card.apid = adapter_of(object.at("adapter", "an adapter, two hexadecimal digits"));
    read_number(object, "hwtype", card.hwtype, 255);
    read_number(object, "raw_hwtype", card.raw_hwtype, 255);
    read_functions(object, card.ap_functions);
    read_number(object, "depth", card.depth, 65535);
    read_number(object, "max_msg_size", card.max_msg_size, ~0U);
    read_boolean(object, "config", card.config);
    read_boolean(object, "chkstop", card.chkstop);
    read_boolean(object, "online", card.online);
    read(object, "type", card.type, [](const Node& type) { return type.word("a type"); });
    read_text(object, "serialnr", card.serialnr);
    if (const auto driver = object.find("driver")) card.driver = driver->word("a driver name");
    return card;
}

/// `-`, `unassociated`, `association pending`, `associated 3`.
std::optional<std::pair<SeAssociate, std::uint16_t>> parse_se_associate(std::string_view text) {
    using Result = std::pair<SeAssociate, std::uint16_t>;
    if (text == "-") return Result{SeAssociate::none, std::uint16_t{0}};
    if (text == "unassociated") return Result{SeAssociate::unassociated, std::uint16_t{0}};
    if (text == "association pending") return Result{SeAssociate::pending, std::uint16_t{0}};
    constexpr std::string_view prefix = "associated ";
    if (!text.starts_with(prefix)) return {};
    std::uint16_t number = 0;
    const auto* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + prefix.size(), end, number);
    if (error != std::errc{} || rest != end) return {};
    return Result{SeAssociate::associated, number};
}

MasterKeys master_keys_of(const Node& node) {
    std::vector<std::string> lines;
    node.each("an array of lines", 9, [&](const Node& line) { lines.push_back(line.string("a line")); });
    const auto keys = MasterKeys::from_lines(lines);
    if (!keys) node.refuse("expected the nine lines of a CCA queue or the two of an EP11 queue");
    return *keys;
}

Queue queue_of(const Node& node, QueueDetail& detail) {
    const auto& object = node.object("an object");
    Queue queue;
    queue.apqn = apqn_of(object.at("apqn", "an APQN such as \"05.0047\""));
    if (const auto driver = object.find("driver")) queue.driver = driver->word("a driver name");
    read_boolean(object, "config", queue.config);
    read_boolean(object, "chkstop", queue.chkstop);
    read_boolean(object, "online", queue.online);
    if (const auto status = object.find("status"))
        queue.status = status->parsed("`unassigned`, `assigned` or `in use`", parse_queue_status);
    read_functions(object, queue.ap_functions);
    if (const auto driver_override = object.find("driver_override")) {
        queue.has_driver_override = true;
        if (!driver_override->is_null())
            detail.driver_override = driver_override->word("null or a driver name");
    }
    if (const auto bind = object.find("se_bind"))
        queue.se_bind = bind->parsed("`-`, `bound` or `unbound`", parse_se_bind);
    if (const auto associate = object.find("se_associate"))
        std::tie(queue.se_associate, queue.association) = associate->parsed(
            "`-`, `unassociated`, `association pending` or `associated N`", parse_se_associate);
    read(object, "mkvps", detail.mkvps, master_keys_of);
    read_text(object, "op_modes", detail.op_modes);
    return queue;
}

template <typename Decode>
Mask set_of(const Node& node, std::string_view what, Decode decode) {
    Mask mask;
    node.each(what, ap_devices, [&](const Node& element) {
        const auto number = decode(element);
        if (mask.test(number)) element.refuse("is there twice");
        mask.set(number);
    });
    return mask;
}

Mask read_domains(const Node& node) {
    return set_of(node, "an array of domains", domain_of);
}

std::vector<Apqn> read_guest_matrix(const Node& node) {
    std::vector<Apqn> queues;
    std::set<Apqn> seen;
    node.each("an array of APQNs", max_guest_matrix, [&](const Node& element) {
        const auto apqn = apqn_of(element);
        if (!seen.insert(apqn).second) element.refuse("is there twice");
    });
    queues.assign(seen.begin(), seen.end());
    return queues;
}

Mdev read_mdev(const Node& node) {
    const auto& object = node.object("an object");
    constexpr std::string_view uuid = "a UUID, 8-4-4-4-12 hexadecimal digits";
    Mdev mdev{object.at("uuid", uuid).parsed(uuid, Uuid::parse)};
    read(object, "type", mdev.type, [](const Node& type) { return type.word("a type"); });
    read(object, "device_api", mdev.device_api, [](const Node& api) { return api.word("a word"); });
    constexpr std::string_view adapters = "an array of adapters";
    mdev.adapters = set_of(object.at("adapters", adapters), adapters, adapter_of);
    mdev.domains = read_domains(object.at("domains", "an array of domains"));
    read(object, "control_domains", mdev.control_domains, read_domains);
    read(object, "guest_matrix", mdev.guest_matrix,
         [](const Node& matrix) { return read_guest_matrix(matrix); });
    if (const auto ap_config = object.find("ap_config")) mdev.ap_config = ap_config->boolean();
    if (const auto cut = object.find("matrix_truncated")) mdev.matrix_truncated = cut->boolean();
    read_boolean(object, "migratable", mdev.migratable);
    return mdev;
}

/// `EIO`, `errno 4711`.
std::optional<int> parse_error_name(std::string_view text) {
    if (const int number = errno_number(text); number != 0) return number;
    constexpr std::string_view prefix = "errno ";
    if (!text.starts_with(prefix)) return {};
    int number = 0;
    const auto* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + prefix.size(), end, number);
    // Beyond 4095 lie the kernel's pointers, never its error numbers (MAX_ERRNO); tests like round numbers.
    if (error != std::errc{} || rest != end || number < 1 || number > 9999) return {};
    return number;
}

Unreadable unreadable_of(const Node& node) {
    const auto& object = node.object("an object");
    Unreadable item;
    constexpr std::string_view path = "a path relative to the sysfs root";
    const auto place = object.at("path", path);
    item.path = place.text(max_path);
    if (!is_relative_path(item.path)) place.expected(fmt::format("{}, without `.` and `..`", path));
    constexpr std::string_view name = "null or an error name such as \"EIO\"";
    if (const auto error = object.at("error", name); !error.is_null())
        item.error = error.parsed(name, parse_error_name);
    if (const auto detail = object.find("detail")) item.detail = detail->text();
    return item;
}

/// `2026-05-04T03:02:01Z`.
bool is_time(std::string_view text) {
    constexpr std::string_view form = "0000-00-00T00:00:00Z";
    if (text.size() != form.size()) return false;
    for (std::size_t i = 0; i < form.size(); ++i) {
        const bool digit = text[i] >= '0' && text[i] <= '9';
        if (form[i] == '0' ? !digit : text[i] != form[i]) return false;
    }
    return true;
}

/// Equal details become one, since with master keys they are a thousand times the size of the rest.
struct DetailOrder {
    using Pointer = std::shared_ptr<const QueueDetail>;
    bool operator()(const Pointer& a, const Pointer& b) const { return before(*a, *b); }

  private:
    static bool before(const QueueDetail& a, const QueueDetail& b) {
        if (const int order = a.driver_override.compare(b.driver_override); order != 0) return order < 0;
        if (a.op_modes != b.op_modes) return a.op_modes < b.op_modes;
        static const std::vector<MasterKeyRegister> none;
        const auto& left = a.mkvps ? a.mkvps->registers() : none;
        const auto& right = b.mkvps ? b.mkvps->registers() : none;
        return std::lexicographical_compare(left.begin(), left.end(), right.begin(), right.end(),
                                            [](const MasterKeyRegister& x, const MasterKeyRegister& y) {
                                                return std::tie(x.key, x.slot, x.state, x.pattern) <
                                                       std::tie(y.key, y.slot, y.state, y.pattern);
                                            });
    }
};

/// Receives what the parser finds. Only one element of the long arrays, or one other member, is ever whole
/// in memory; it is decoded as soon as it is complete.
class SnapshotReader {
  public:
    SnapshotReader(const std::string& origin, Source& source) : origin_{origin}, source_{source} {}

    Inventory finish() {
        for (const std::string_view name : {"schema", "name", "cards", "queues", "mdevs"}) {
            if (seen_.find(std::string{name}) == seen_.end())
                refuse(fmt::format("$.{}", name), "the member is missing");
        }
        inventory_.sort();
        return std::move(inventory_);
    }

    // What nlohmann::json::sax_parse() calls; false would end the parse, we throw instead.
    bool null() { return scalar(nullptr); }
    bool boolean(bool value) { return scalar(value); }
    bool number_integer(std::int64_t value) { return scalar(value); }
    bool number_unsigned(std::uint64_t value) { return scalar(value); }
    bool number_float(double value, const std::string& /*text*/) { return scalar(value); }
    bool string(std::string& value) {
        bytes_ += value.size();
        return scalar(std::move(value));
    }
    bool binary(nlohmann::json::binary_t& /*value*/) { return false; }  // not in JSON text
    bool start_object(std::size_t /*size*/) {
        if (depth_ == 0) {
            depth_ = 1;
            return true;
        }
        return start(nlohmann::json::object());
    }
    bool start_array(std::size_t /*size*/) {
        if (depth_ == 1 && target_ == Target::list) {
            depth_ = 2;
            index_ = 0;
            return true;
        }
        return start(nlohmann::json::array());
    }
    bool end_object() { return end(); }
    bool end_array() { return end(); }

    bool key(std::string& name) {
        if (name.size() > max_member_name)
            refuse(depth_ == 1 ? "$" : place(),
                   fmt::format("a member name longer than {} bytes", max_member_name));
        if (depth_ == 1) {
            top_key(name);
        } else if (target_ != Target::unknown) {
            bytes_ += name.size();
            if (stack_.back()->contains(name))
                refuse(place() + member_text(name), "the member is there twice");
            key_ = std::move(name);
        }
        return true;
    }

    bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                     const nlohmann::detail::exception& error) {
        // `[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while parsing
        // value - invalid literal; last read: '…'`: the place is ours, what was read last is anybody's.
        std::string_view reason = error.what();
        if (const auto end = reason.find("] "); end != std::string_view::npos) reason.remove_prefix(end + 2);
        if (const auto end = reason.find(": "); end != std::string_view::npos) reason.remove_prefix(end + 2);
        reason = reason.substr(0, reason.find("; last read: "));
        if (reason.size() > 200) reason = reason.substr(0, 200);
        throw InputError{origin_, source_.place(), fmt::format("not JSON: {}", reason)};
    }

  private:
    enum class Target : std::uint8_t { unknown, list, member };

    [[noreturn]] void refuse(const std::string& where, std::string_view reason) const {
        throw InputError{origin_, where, reason};
    }

    static std::string member_text(std::string_view name) {
        // A name is anybody's: other characters than these are shown escaped.
        if (is_word(name)) return fmt::format(".{}", name);
        return fmt::format("[{}]", found(nlohmann::json(std::string{name})));
    }

    /// Where the container lies into which the next value goes.
    [[nodiscard]] std::string place() const {
        if (depth_ == 0 || (depth_ == 1 && top_.empty())) return "$";
        std::string path = "$" + member_text(top_);
        if (target_ == Target::list) path += fmt::format("[{}]", index_);
        for (std::size_t i = 0; i + 1 < stack_.size(); ++i) {
            const nlohmann::json& parent = *stack_[i];
            if (parent.is_array()) {
                path += fmt::format("[{}]", parent.size() - 1);
                continue;
            }
            for (auto member = parent.begin(); member != parent.end(); ++member) {
                if (&*member == stack_[i + 1]) path += member_text(member.key());
            }
        }
        return path;
    }

    void top_key(const std::string& name) {
        if (seen_.size() == max_top_members)
            refuse("$", fmt::format("more than {} members", max_top_members));
        if (!seen_.insert(name).second) refuse("$" + member_text(name), "the member is there twice");
        top_ = name;
        static const std::set<std::string_view> lists{"cards", "queues", "mdevs", "unreadable"};
        static const std::set<std::string_view> members{
            "schema",          "name",           "taken", "complete", "ap", "vfio_ap",
            "prot_virt_guest", "prot_virt_host", "qemu",  "iommufd"};
        target_ = lists.count(name) != 0     ? Target::list
                  : members.count(name) != 0 ? Target::member
                                             : Target::unknown;
    }

    /// Puts `value` where the next one belongs.
    nlohmann::json* add(nlohmann::json value) {
        if (++values_ > max_element_values || bytes_ > max_element_bytes)
            refuse(place(), fmt::format("more than {} values or {} bytes in one element", max_element_values,
                                        max_element_bytes));
        if (stack_.empty()) {
            element_ = std::move(value);
            return &element_;
        }
        nlohmann::json& parent = *stack_.back();
        if (parent.is_array()) {
            parent.push_back(std::move(value));
            return &parent.back();
        }
        nlohmann::json& member = parent[key_];
        member = std::move(value);
        return &member;
    }

    bool start(nlohmann::json container) {
        if (depth_ == max_nesting) refuse(place(), fmt::format("nested more than {} deep", max_nesting));
        if (depth_ == 0) refuse("$", fmt::format("expected an object, found {}", found(container)));
        if (depth_ == 1 && target_ == Target::list)
            refuse(fmt::format("$.{}", top_), fmt::format("expected an array, found {}", found(container)));
        ++depth_;
        if (target_ != Target::unknown) stack_.push_back(add(std::move(container)));
        return true;
    }

    bool end() {
        --depth_;
        if (stack_.empty()) return true;
        stack_.pop_back();
        if (stack_.empty()) complete();
        return true;
    }

    template <typename Value>
    bool scalar(Value&& value) {
        if (depth_ == 0)
            refuse("$", fmt::format("expected an object, found {}",
                                    found(nlohmann::json(std::forward<Value>(value)))));
        if (target_ == Target::unknown) {
            bytes_ = 0;
            return true;
        }
        nlohmann::json json(std::forward<Value>(value));
        if (depth_ == 1 && target_ == Target::list)
            refuse(fmt::format("$.{}", top_), fmt::format("expected an array, found {}", found(json)));
        add(std::move(json));
        if (stack_.empty()) complete();
        return true;
    }

    void complete() {
        const nlohmann::json element = std::exchange(element_, nlohmann::json{});
        values_ = 0;
        bytes_ = 0;
        if (target_ == Target::list) {
            const auto path = fmt::format("$.{}[{}]", top_, index_);
            decode_element(Node{origin_, element, path});
            ++index_;
        } else {
            const auto path = fmt::format("$.{}", top_);
            decode_member(Node{origin_, element, path});
        }
    }

    void decode_member(const Node& node) {
        if (top_ == "schema") {
            const auto& schema = node.string("a string");
            if (schema != snapshot_schema) node.expected(fmt::format("\"{}\"", snapshot_schema));
        } else if (top_ == "name") {
            inventory_.name = node.text();
        } else if (top_ == "taken") {
            if (!is_time(node.text())) node.expected("a time such as \"2026-05-04T03:02:01Z\"");
        } else if (top_ == "complete") {
            inventory_.complete = node.boolean();
        } else if (top_ == "ap") {
            inventory_.ap = ap_bus_of(node);
        } else if (top_ == "vfio_ap") {
            inventory_.vfio_ap = vfio_ap_of(node);
        } else if (top_ == "prot_virt_guest") {
            inventory_.prot_virt_guest = node.boolean();
        } else if (top_ == "prot_virt_host") {
            inventory_.prot_virt_host = node.boolean();
        } else if (top_ == "qemu") {
            inventory_.qemu = qemu_of(node);
        } else if (top_ == "iommufd") {
            inventory_.iommufd = iommufd_of(node);
        }
    }

    void decode_element(const Node& node) {
        const auto limit = [&](std::size_t count) {
            if (index_ >= count)
                refuse(fmt::format("$.{}", top_), fmt::format("expected at most {} elements", count));
        };
        if (top_ == "queues") {
            limit(max_queues);
            QueueDetail detail;
            auto queue = queue_of(node, detail);
            if (queues_.test(queue.apqn.number()))
                node.refuse(fmt::format("queue {} is there twice", queue.apqn.to_string()));
            queues_.set(queue.apqn.number());
            queue.detail = shared(std::move(detail));
            inventory_.queues.push_back(std::move(queue));
        } else if (top_ == "cards") {
            limit(max_cards);
            auto card = card_of(node);
            if (cards_.test(card.apid))
                node.refuse(fmt::format("card {} is there twice", adapter_text(card.apid)));
            cards_.set(card.apid);
            inventory_.cards.push_back(std::move(card));
        } else if (top_ == "mdevs") {
            limit(max_mdevs);
            auto mdev = read_mdev(node);
            if (!mdevs_.insert(mdev.uuid).second)
                node.refuse(fmt::format("mdev {} is there twice", mdev.uuid.to_string()));
            inventory_.mdevs.push_back(std::move(mdev));
        } else {
            limit(max_unreadable);
            inventory_.unreadable.push_back(unreadable_of(node));
        }
    }

    std::shared_ptr<const QueueDetail> shared(QueueDetail detail) {
        if (detail == QueueDetail{}) return {};
        return *details_.insert(std::make_shared<const QueueDetail>(std::move(detail))).first;
    }

    const std::string& origin_;
    Source& source_;
    Inventory inventory_;
    std::size_t depth_ = 0;       // containers that are open, the document included
    std::set<std::string> seen_;  // members of the document
    std::string top_;             // the one that is being read
    Target target_ = Target::unknown;
    std::size_t index_ = 0;               // in a long array
    nlohmann::json element_;              // what is being put together
    std::vector<nlohmann::json*> stack_;  // its open containers
    std::string key_;                     // of the next value in the innermost
    std::size_t values_ = 0;
    std::size_t bytes_ = 0;
    std::bitset<ap_queues> queues_;
    std::bitset<ap_devices> cards_;
    std::set<Uuid> mdevs_;
    std::set<std::shared_ptr<const QueueDetail>, DetailOrder> details_;
};

}  // namespace

Inventory read_snapshot(std::istream& in, const std::string& origin) {
    Source source{*in.rdbuf(), origin};
    SnapshotReader reader{origin, source};
    nlohmann::json::sax_parse(SourceIterator{&source}, SourceIterator{nullptr}, &reader);
    auto inventory = reader.finish();
    inventory.location = "snapshot:" + origin;
    return inventory;
}

}  // namespace vfioap
