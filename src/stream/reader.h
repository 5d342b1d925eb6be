// SPDX-License-Identifier: LGPL-2.1-or-later
// Reads a migration stream, piece by piece, from somebody who is not trusted.
#pragma once

#include "ap/configuration.h"
#include "stream/layout.h"

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// A place in a stream and what is the matter there. `field`: `magic`, `version`, `num_queues`, `pad`,
/// `config_size`, `adm[2]`, `entries[7].tapq`, `entries[7].apqn`, `entries[7].reserved`, `entries`, `end`.
struct StreamRemark {
    std::size_t offset = 0;  ///< of the first byte that is meant
    std::string field;
    std::string found;
    std::string expected;
    friend bool operator==(const StreamRemark&, const StreamRemark&) = default;
};

/// `offset 0x40: entries[1].apqn: found 05.0004, expected more than 05.0047`.
std::string to_text(const StreamRemark& remark);

/// How sure it is that a stream has the layout that is said.
enum class Confidence : std::uint8_t {
    certain,   ///< asked for, or it begins with the magic, or length and content fit this layout alone
    likely,    ///< nothing else is left, but something in it is odd, or it is not complete
    possible,  ///< others are possible, too
};
std::string_view to_text(Confidence confidence);

/// One queue of a stream.
struct StreamQueue {
    Apqn apqn;
    Hwinfo hwinfo;
};

/// Bytes that grow without being copied where the system can help it, and no further than asked for.
class StreamBytes {
  public:
    [[nodiscard]] const std::uint8_t* data() const { return data_.get(); }
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] std::size_t capacity() const { return capacity_; }
    [[nodiscard]] bool empty() const { return size_ == 0; }
    [[nodiscard]] std::uint8_t operator[](std::size_t i) const { return data_.get()[i]; }
    /// size() < capacity()
    void push_back(std::uint8_t byte) { data_.get()[size_++] = byte; }
    /// size() + bytes.size() <= capacity()
    void append(std::span<const std::uint8_t> bytes);
    /// Throws std::bad_alloc.
    void reserve(std::size_t capacity);
    void shorten(std::size_t size) { size_ = size; }

  private:
    struct Free {
        void operator()(std::uint8_t* memory) const { std::free(memory); }
    };
    std::unique_ptr<std::uint8_t, Free> data_;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
};

/// Takes the bytes of one stream in any pieces, from one byte up; the pieces make no difference to what
/// comes of it. Each byte is judged as soon as it has come; the first that cannot be right is refused
/// (`fault()`), and nothing is taken after it. Keeps the bytes it took and nothing else, at most as many as
/// the header has justified.
///
/// Refused are: a wrong magic or version, more than 65,536 queues, a queue that is not above the one before
/// it, bytes after the last entry, and an end before it. Tolerated and told by anomalies(): everything else
/// that no driver writes.
class StreamReader {
  public:
    /// Empty: the layout is found out. Only l3 has a magic; the others show by their content and, in the end,
    /// by their length, since no two of them give the same length with the same num_queues.
    explicit StreamReader(std::optional<Layout> layout = {});

    /// False: refused, now or before; see fault().
    bool feed(std::span<const std::uint8_t> bytes) {
        // Of the smallest pieces, nearly all are a byte that decides nothing, and there is room for it.
        if (bytes.size() == 1 && bytes_.size() < room_) {
            bytes_.push_back(bytes.front());
            return bytes_.size() < due_ || look();
        }
        return take(bytes);
    }
    /// The stream is at its end. False: refused, now or before.
    bool finish();

    [[nodiscard]] const std::optional<StreamRemark>& fault() const { return fault_; }
    /// The fault is that bytes came after the end (a driver answers EIO to such a write).
    [[nodiscard]] bool past_end() const { return past_end_; }
    /// All that the header announced has come. With the layout not asked for: of one that it can have.
    [[nodiscard]] bool complete() const;

    // What the bytes so far say; whole after finish().
    /// The best guess before the layout is sure.
    [[nodiscard]] Layout layout() const { return best().layout; }
    [[nodiscard]] Confidence confidence() const;
    /// Bytes taken: all that came before a fault.
    [[nodiscard]] std::size_t size() const { return bytes_.size(); }
    /// Bytes of memory kept for them.
    [[nodiscard]] std::size_t memory() const { return bytes_.capacity(); }
    /// What the header says; empty before that has come.
    [[nodiscard]] std::optional<std::size_t> num_queues() const;
    /// Whole entries taken, all of them good.
    [[nodiscard]] std::size_t queue_count() const;
    /// One of queue_count().
    [[nodiscard]] StreamQueue queue(std::size_t index) const;
    [[nodiscard]] std::size_t queue_offset(std::size_t index) const { return stream_size(layout(), index); }
    /// Empty: the layout has none, or they have not come.
    [[nodiscard]] std::optional<Mask> control_domains() const;
    /// All of it, for the writer and for checks.
    [[nodiscard]] GuestConfiguration configuration() const;

    /// What no driver writes and this reader tolerates: padding, reserved bytes and config_size that are not
    /// 0; an AP type that vfio_ap does not bind; queues that are not all of their adapters and domains (a
    /// matrix is always a product).
    struct Anomalies {
        std::vector<StreamRemark> first;  ///< in the order of the stream, at most as many as were asked for
        std::size_t total = 0;
    };
    [[nodiscard]] Anomalies anomalies(std::size_t at_most) const;
    /// The queues are all that their adapters and domains make, so that an mdev can hold them.
    [[nodiscard]] bool is_matrix() const;

  private:
    /// One layout that the stream may have.
    struct Candidate {
        Layout layout{};
        std::size_t next = 0;              // first byte not looked at
        std::optional<std::size_t> total;  // length of the stream, once num_queues has come
        int previous = -1;                 // number of the last APQN
        std::optional<StreamRemark> fault;
        bool past_end = false;

        void look(std::span<const std::uint8_t> bytes);
        void look_at_header(std::span<const std::uint8_t> bytes);
        void look_at_entry(std::span<const std::uint8_t> bytes);
        void refuse(std::size_t offset, std::string field, std::string found, std::string expected);
        void refuse_more();
        /// As many bytes are needed before more can be said.
        [[nodiscard]] std::size_t due() const;
        /// No byte at or behind this offset can belong to the stream, as far as is known.
        [[nodiscard]] std::size_t limit() const { return total.value_or(header_size(layout)); }
        [[nodiscard]] StreamRemark short_end(std::size_t size) const;
        /// Entries in the first `size` bytes.
        [[nodiscard]] std::size_t entries(std::size_t size) const;
    };

    bool take(std::span<const std::uint8_t> bytes);
    bool look();
    bool drop_failed();
    [[nodiscard]] std::span<const std::uint8_t> all() const { return {bytes_.data(), bytes_.size()}; }
    /// One is chosen; nothing is left to find out.
    void settle(const Candidate& chosen);
    [[nodiscard]] const Candidate& best() const {
        return candidates_.size() == 1 ? candidates_.front() : likeliest();
    }
    [[nodiscard]] const Candidate& likeliest() const;
    /// How many of the first entries look like queues.
    [[nodiscard]] std::size_t plausible_entries(const Candidate& candidate) const;
    template <typename Tell>
    void each_anomaly(Tell tell) const;

    StreamBytes bytes_;
    std::size_t room_ = 0;  // up to this size bytes can be kept without another look
    std::size_t due_ = 1;   // when so many have come, some can be judged
    bool asked_for_;        // the layout
    bool alone_;            // no other layout was left when the last byte was judged
    bool finished_ = false;
    std::vector<Candidate> candidates_;  // those without fault, or the likeliest of those with one
    std::optional<StreamRemark> fault_;
    bool past_end_ = false;
};

}  // namespace vfioap
