// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stream/reader.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <tuple>
#include <utility>

#include <fmt/format.h>

namespace vfioap {
namespace {

using Bytes = std::span<const std::uint8_t>;

/// The most significant byte first, on any machine. `bytes` holds it.
template <typename Number>
Number get(Bytes bytes, std::size_t offset) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(Number); ++i)
        value = value << 8U | bytes[offset + i];
    return static_cast<Number>(value);
}

std::string hex_of(Bytes bytes) {
    std::string text = "0x";
    for (const auto byte : bytes)
        text += fmt::format("{:02x}", byte);
    return text;
}

std::string entry_field(std::size_t index, std::string_view name) {
    return fmt::format("entries[{}].{}", index, name);
}

/// The field that the byte at `offset` belongs to.
std::string field_at(Layout layout, std::size_t offset) {
    if (offset >= header_size(layout)) {
        const auto in_entries = offset - header_size(layout);
        const auto in_entry = in_entries % stream_entry_size;
        return entry_field(in_entries / stream_entry_size, in_entry < 8    ? "tapq"
                                                           : in_entry < 10 ? "apqn"
                                                                           : "reserved");
    }
    const auto count = num_queues_offset(layout);
    if (offset < count) return offset < 4 ? "magic" : "version";
    if (offset < count + 4) return "num_queues";
    if (offset < count + 8) return "pad";
    if (const auto adm = control_domains_offset(layout)) return fmt::format("adm[{}]", (offset - *adm) / 8);
    return "config_size";
}

constexpr std::size_t in_entry_apqn = 8;
constexpr std::size_t in_entry_reserved = 10;
constexpr std::size_t reserved_size = stream_entry_size - in_entry_reserved;

bool all_zero(Bytes bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) { return byte == 0; });
}

}  // namespace

std::string to_text(const StreamRemark& remark) {
    return fmt::format("offset 0x{:x}: {}: found {}, expected {}", remark.offset, remark.field, remark.found,
                       remark.expected);
}

std::string_view to_text(Confidence confidence) {
    switch (confidence) {
        case Confidence::certain:
            return "certain";
        case Confidence::likely:
            return "likely";
        case Confidence::possible:
            break;
    }
    return "possible";
}

// One layout that the stream may have.

void StreamReader::Candidate::refuse(std::size_t offset, std::string field, std::string found,
                                     std::string expected) {
    fault = StreamRemark{offset, std::move(field), std::move(found), std::move(expected)};
}

void StreamReader::Candidate::refuse_more() {
    past_end = true;
    refuse(*total, "end", "more bytes", fmt::format("the end of the stream after {} bytes", *total));
}

std::size_t StreamReader::Candidate::due() const {
    if (next < header_size(layout)) return next + 1;
    if (next >= *total) return *total + 1;
    const auto in_entry = (next - header_size(layout)) % stream_entry_size;
    if (in_entry <= in_entry_apqn) return next - in_entry + in_entry_apqn + 1;
    if (in_entry < in_entry_reserved) return next + 1;
    const auto next_apqn = next - in_entry + stream_entry_size + in_entry_apqn;
    return std::min(next_apqn, *total) + 1;
}

std::size_t StreamReader::Candidate::entries(std::size_t size) const {
    const auto header = header_size(layout);
    // What has come and was not refused is good: the byte that decides is looked at when it comes.
    const auto end = std::min(size, fault ? fault->offset : total.value_or(0));
    return end < header ? 0 : (end - header) / stream_entry_size;
}

StreamRemark StreamReader::Candidate::short_end(std::size_t size) const {
    return {size, size == 0 ? "end" : field_at(layout, size), size == 0 ? "an empty stream" : "the end",
            total ? fmt::format("a stream of {} bytes", *total)
                  : fmt::format("a header of {} bytes", header_size(layout))};
}

void StreamReader::Candidate::look(Bytes bytes) {
    while (!fault && next < bytes.size()) {
        if (next < header_size(layout)) {
            look_at_header(bytes);
        } else if (next >= *total) {
            refuse_more();
        } else {
            look_at_entry(bytes);
        }
    }
}

/// One byte of it.
void StreamReader::Candidate::look_at_header(Bytes bytes) {
    const auto offset = next++;
    const auto count = num_queues_offset(layout);
    if (offset < count) {
        const std::uint64_t fixed = std::uint64_t{stream_magic} << 32U | stream_version;
        const auto expected = static_cast<std::uint8_t>(fixed >> (56 - 8 * offset));
        if (bytes[offset] != expected) {
            refuse(offset, field_at(layout, offset), hex_of(bytes.subspan(offset, 1)),
                   offset < 4 ? fmt::format("0x{:02x} of the magic 0x{:08x}", expected, stream_magic)
                              : fmt::format("0x{:02x} of version {}", expected, stream_version));
        }
        return;
    }
    if (offset >= count + 4) return;
    std::uint32_t least = 0;  // the bytes to come may all be 0
    for (auto i = count; i < count + 4; ++i)
        least = least << 8U | (i <= offset ? bytes[i] : 0U);
    if (least > ap_queues) {
        refuse(offset, "num_queues", fmt::format("{}{}", offset == count + 3 ? "" : "at least ", least),
               fmt::format("at most {}", ap_queues));
    } else if (offset == count + 3) {
        total = stream_size(layout, least);
    }
}

/// As far as it has come; nothing is said twice.
void StreamReader::Candidate::look_at_entry(Bytes bytes) {
    const auto header = header_size(layout);
    const auto index = (next - header) / stream_entry_size;
    auto start = header + index * stream_entry_size;
    const auto end = std::min(bytes.size(), *total);
    // The usual case: whole entries, all of them good.
    if (next == start) {
        while (start + stream_entry_size <= end) {
            const int number = get<std::uint16_t>(bytes, start + in_entry_apqn);
            if (number <= previous) break;
            previous = number;
            start += stream_entry_size;
        }
        if (start != next) {
            next = start;
            return;
        }
    }
    const auto high = start + in_entry_apqn;
    const auto field = [index] { return entry_field(index, "apqn"); };
    const auto last = [this] { return Apqn::from_number(static_cast<std::uint16_t>(previous)); };
    if (next <= high && high < end && bytes[high] < previous >> 8) {
        refuse(
            high, field(), "adapter " + adapter_text(bytes[high]),
            fmt::format("adapter {} or above, behind {}", adapter_text(last().apid()), last().to_string()));
        return;
    }
    if (next <= high + 1 && high + 1 < end) {
        const int number = get<std::uint16_t>(bytes, high);
        if (number <= previous) {
            const auto apqn = Apqn::from_number(static_cast<std::uint16_t>(number));
            refuse(high + 1, field(), apqn.to_string() + (number == previous ? " again" : ""),
                   "more than " + last().to_string());
            return;
        }
        previous = number;
    }
    next = std::min(end, start + stream_entry_size);
}

// The stream.

void StreamBytes::append(Bytes bytes) {
    std::memcpy(data_.get() + size_, bytes.data(), bytes.size());
    size_ += bytes.size();
}

void StreamBytes::reserve(std::size_t capacity) {
    auto* const memory = static_cast<std::uint8_t*>(std::realloc(data_.get(), capacity));
    if (memory == nullptr) throw std::bad_alloc{};
    static_cast<void>(data_.release());
    data_.reset(memory);
    capacity_ = capacity;
}

StreamReader::StreamReader(std::optional<Layout> layout)
    : asked_for_{layout.has_value()}, alone_{layout.has_value()} {
    // The newest first: it is what is told of where nothing else decides.
    for (auto i = all_layouts.size(); i-- > 0;) {
        if (!layout || *layout == all_layouts[i])
            candidates_.push_back({all_layouts[i], 0, {}, -1, {}, false});
    }
}

bool StreamReader::take(Bytes bytes) {
    if (fault_) return false;
    while (!bytes.empty()) {
        std::size_t limit = 0;
        for (const auto& candidate : candidates_)
            limit = std::max(limit, candidate.limit());
        const auto taken = std::min(bytes.size(), limit - bytes_.size());
        if (taken == 0) {
            // Nothing that is left could take one more.
            for (auto& candidate : candidates_)
                candidate.refuse_more();
        } else {
            const auto size = bytes_.size() + taken;
            if (size > bytes_.capacity())
                bytes_.reserve(std::max(size, std::min(limit, bytes_.capacity() + bytes_.capacity() / 2)));
            bytes_.append(bytes.first(taken));
            bytes = bytes.subspan(taken);
            room_ = std::min(limit, bytes_.capacity());
        }
        if (!look()) return false;
    }
    return true;
}

/// False: no layout is left.
bool StreamReader::look() {
    bool failed = false;
    for (auto& candidate : candidates_) {
        candidate.look({bytes_.data(), bytes_.size()});
        failed = failed || candidate.fault;
    }
    if (failed && !drop_failed()) return false;
    due_ = candidates_.front().due();
    for (const auto& candidate : candidates_)
        due_ = std::min(due_, candidate.due());
    return true;
}

/// False: none is left.
bool StreamReader::drop_failed() {
    const auto has_failed = [](const Candidate& candidate) { return candidate.fault.has_value(); };
    if (!std::all_of(candidates_.begin(), candidates_.end(), has_failed)) {
        std::erase_if(candidates_, has_failed);
        alone_ = candidates_.size() == 1;
        // Theirs was counted, too; and one that is left may take less.
        room_ = 0;
        return true;
    }
    const auto& last = best();
    alone_ = std::count_if(candidates_.begin(), candidates_.end(), [&last](const Candidate& candidate) {
                 return candidate.fault->offset == last.fault->offset;
             }) == 1;
    settle(last);
    fault_ = candidates_.front().fault;
    past_end_ = candidates_.front().past_end;
    if (!asked_for_ && fault_->offset == 0) {
        fault_->field = "start";
        fault_->expected = fmt::format("0x{:02x} of the magic 0x{:08x}, or 0x00 of num_queues",
                                       stream_magic >> 24U, stream_magic);
    }
    // What came with the bad byte and behind it was not taken.
    bytes_.shorten(fault_->offset);
    room_ = 0;
    return false;
}

bool StreamReader::finish() {
    if (fault_) return false;
    room_ = 0;
    for (const auto& candidate : candidates_) {
        if (candidate.total == bytes_.size()) {
            settle(candidate);
            finished_ = true;
            return true;
        }
    }
    settle(best());
    fault_ = candidates_.front().short_end(bytes_.size());
    if (!asked_for_ && bytes_.empty()) fault_->expected = "a migration stream";
    return false;
}

void StreamReader::settle(const Candidate& chosen) {
    candidates_ = {Candidate{chosen}};
}

bool StreamReader::complete() const {
    return !fault_ && std::any_of(candidates_.begin(), candidates_.end(), [this](const Candidate& candidate) {
        return candidate.total == bytes_.size();
    });
}

const StreamReader::Candidate& StreamReader::likeliest() const {
    const auto rank = [this](const Candidate& candidate) {
        return std::make_tuple(candidate.fault ? candidate.fault->offset : 0, plausible_entries(candidate));
    };
    return *std::max_element(candidates_.begin(), candidates_.end(),
                             // The first of equals, which is the newest.
                             [&](const Candidate& a, const Candidate& b) { return rank(a) < rank(b); });
}

std::size_t StreamReader::plausible_entries(const Candidate& candidate) const {
    constexpr std::size_t enough = 16;
    const auto count = std::min(candidate.entries(bytes_.size()), enough);
    std::size_t plausible = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto offset = stream_size(candidate.layout, i);
        const Hwinfo hwinfo{get<std::uint64_t>(all(), offset)};
        const auto reserved = all().subspan(offset + in_entry_reserved, reserved_size);
        if (hwinfo.at() >= oldest_vfio_ap_type && hwinfo.at() < 2 * oldest_vfio_ap_type && all_zero(reserved))
            ++plausible;
    }
    return plausible;
}

Confidence StreamReader::confidence() const {
    // A first byte of the magic is no number of queues, and the reverse.
    if (asked_for_ || (layout() == Layout::l3 && !bytes_.empty())) return Confidence::certain;
    if (finished_ && !fault_) return anomalies(0).total == 0 ? Confidence::certain : Confidence::likely;
    return alone_ ? Confidence::likely : Confidence::possible;
}

std::optional<std::size_t> StreamReader::num_queues() const {
    const auto& total = best().total;
    if (!total) return {};
    return (*total - header_size(layout())) / stream_entry_size;
}

std::size_t StreamReader::queue_count() const {
    return best().entries(bytes_.size());
}

StreamQueue StreamReader::queue(std::size_t index) const {
    const auto offset = queue_offset(index);
    return {Apqn::from_number(get<std::uint16_t>(all(), offset + in_entry_apqn)),
            Hwinfo{get<std::uint64_t>(all(), offset)}};
}

std::optional<Mask> StreamReader::control_domains() const {
    const auto offset = control_domains_offset(layout());
    if (!offset || bytes_.size() < header_size(layout())) return {};
    std::array<std::uint64_t, 4> words{};
    for (std::size_t i = 0; i < words.size(); ++i)
        words[i] = get<std::uint64_t>(all(), *offset + 8 * i);
    return Mask::of_words(words);
}

GuestConfiguration StreamReader::configuration() const {
    GuestConfiguration configuration;
    const auto count = queue_count();
    configuration.queues.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        const auto entry = queue(i);
        configuration.queues.push_back({entry.apqn, entry.hwinfo, nullptr});
    }
    configuration.control_domains = control_domains().value_or(Mask{});
    return configuration;
}

bool StreamReader::is_matrix() const {
    Mask adapters;
    Mask domains;
    const auto count = queue_count();
    for (std::size_t i = 0; i < count; ++i) {
        const auto apqn = queue(i).apqn;
        adapters.set(apqn.apid());
        domains.set(apqn.apqi());
    }
    return count == std::size_t{adapters.count()} * domains.count();
}

/// Calls `tell(make)` for each; `make()` gives the remark.
template <typename Tell>
void StreamReader::each_anomaly(Tell tell) const {
    const auto bytes = all();
    const auto header = header_size(layout());
    const auto not_zero = [&](std::size_t offset, std::size_t length) {
        const auto part = bytes.subspan(offset, length);
        if (all_zero(part)) return;
        tell([&] { return StreamRemark{offset, field_at(layout(), offset), hex_of(part), "zeros"}; });
    };
    if (bytes.size() < header) return;
    not_zero(num_queues_offset(layout()) + 4, 4);
    if (layout() == Layout::l2) not_zero(8, 8);
    const auto count = queue_count();
    for (std::size_t i = 0; i < count; ++i) {
        const auto offset = queue_offset(i);
        if (const auto at = Hwinfo{get<std::uint64_t>(bytes, offset)}.at(); at < oldest_vfio_ap_type) {
            tell([&] {
                return StreamRemark{
                    offset, entry_field(i, "tapq"), fmt::format("AP type {}", at),
                    fmt::format("at least {}, the oldest that vfio_ap binds", oldest_vfio_ap_type)};
            });
        }
        not_zero(offset + in_entry_reserved, reserved_size);
    }
    if (!fault_ && !is_matrix()) {
        tell([&] {
            return StreamRemark{header, "entries", fmt::format("{} queues", count),
                                "all queues of their adapters and domains: a matrix is a product"};
        });
    }
}

StreamReader::Anomalies StreamReader::anomalies(std::size_t at_most) const {
    Anomalies result;
    each_anomaly([&](const auto& make) {
        if (result.total++ < at_most) result.first.push_back(make());
    });
    return result;
}

}  // namespace vfioap
