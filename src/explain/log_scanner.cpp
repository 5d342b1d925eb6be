// SPDX-License-Identifier: LGPL-2.1-or-later
#include "explain/log_scanner.h"

#include <algorithm>
#include <cstring>

namespace vfioap {
namespace {

constexpr std::size_t block = 3;
/// A window is no longer than this: a longer one skips hardly more.
constexpr std::size_t longest_window = 12;
/// What a message may need before it (prefix) and behind its beginning.
constexpr std::size_t context_before = 1024;
constexpr std::size_t context_behind = std::size_t{8} * 1024;
/// No anchor is longer (a test sees to it).
constexpr std::size_t longest_anchor = 128;

}  // namespace

std::size_t AnchorSearch::slot(const char* bytes) {
    const auto byte = [bytes](std::size_t i) {
        return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i]));
    };
    return (byte(0) ^ (byte(1) << 4U) ^ (byte(2) << 8U)) & (slots - 1);
}

AnchorSearch::AnchorSearch(const std::vector<std::string_view>& anchors) {
    window_ = longest_window;
    for (const auto anchor : anchors) {
        anchors_.emplace_back(anchor);
        window_ = std::min(window_, anchor.size());
    }
    const std::size_t most = window_ - block + 1;
    shift_.fill(static_cast<std::uint8_t>(most));
    next_.resize(anchors_.size());
    for (std::size_t i = 0; i < anchors_.size(); ++i) {
        for (std::size_t at = 0; at < most; ++at) {
            auto& shift = shift_[slot(anchors_[i].data() + at)];
            shift = std::min(shift, static_cast<std::uint8_t>(most - 1 - at));
        }
        auto& first = first_[slot(anchors_[i].data() + most - 1)];
        next_[i] = first;
        first = static_cast<std::uint16_t>(i + 1);
    }
}

std::size_t AnchorSearch::find(std::string_view text, std::size_t from) const {
    const char* const begin = text.data();
    const std::size_t last_block = window_ - block;
    for (std::size_t at = from; at + window_ <= text.size();) {
        const auto here = slot(begin + at + last_block);
        if (const auto shift = shift_[here]; shift != 0) {
            at += shift;
            continue;
        }
        for (std::size_t i = first_[here]; i != 0; i = next_[i - 1]) {
            if (text.substr(at, anchors_[i - 1].size()) == anchors_[i - 1]) return at;
        }
        ++at;
    }
    return std::string_view::npos;
}

std::uint64_t count_lines(std::string_view text) {
    // Eight bytes at a time: the bits 7 of those that are zero after the exclusive or.
    constexpr std::uint64_t low = 0x7f7f'7f7f'7f7f'7f7f;
    constexpr std::uint64_t feeds = 0x0a0a'0a0a'0a0a'0a0a;
    std::uint64_t lines = 0;
    std::size_t at = 0;
    for (; at + 8 <= text.size(); at += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, text.data() + at, 8);
        word ^= feeds;
        const std::uint64_t zero = ~(((word & low) + low) | word | low);
        lines += ((zero >> 7U) * 0x0101'0101'0101'0101) >> 56U;
    }
    for (; at < text.size(); ++at)
        lines += text[at] == '\n' ? 1 : 0;
    return lines;
}

LogScanner::LogScanner(const AnchorSearch& search) : search_{search}, buffer_(buffer_size, '\0') {}

void LogScanner::scan(const Input& input, const Handler& handler) {
    std::size_t size = 0;
    std::size_t from = 0;     // what was before it is only context
    std::uint64_t line = 1;   // of `from`
    std::size_t covered = 0;  // what begins before it was handled in an earlier piece
    unsigned wanted = 0;
    bool end = false;
    while (!end) {
        while (size < buffer_.size() && !end) {
            const auto got = input(buffer_.data() + size, buffer_.size() - size);
            end = got == 0;
            size += got;
        }
        const std::string_view data{buffer_.data(), size};
        // Up to the last whole line; of a line that fills the buffer, up to where there is enough behind.
        std::size_t to = size;
        if (!end) {
            const auto feed = data.rfind('\n');
            to = feed == std::string_view::npos || feed < from ? size - context_behind : feed + 1;
        }
        while (from < to) {
            const bool any = wanted > 0;
            const auto hit = any ? from : search_.find(data.substr(0, to + longest_anchor), from);
            if (hit >= to) break;
            line += count_lines(data.substr(from, hit - from));
            const auto before = hit == 0 ? std::string_view::npos : data.rfind('\n', hit - 1);
            std::size_t begin = before == std::string_view::npos ? 0 : before + 1;
            const auto feed = data.find('\n', hit);
            const std::size_t line_end = feed == std::string_view::npos ? size : feed;
            LogPiece piece;
            piece.line = line;
            piece.whole = begin >= covered && line_end - begin <= longest_line &&
                          (feed != std::string_view::npos || end);
            std::size_t next = std::min(line_end + 1, size);
            std::size_t piece_end = line_end;
            if (!piece.whole) {
                // Of what is new here, all that begins before `next` has its context in the piece.
                begin = std::max(begin, hit > context_before ? hit - context_before : 0);
                piece_end = std::min(line_end, hit + 2 * context_behind);
                next = piece_end == line_end && (feed != std::string_view::npos || end)
                           ? next
                           : hit + context_behind;
                next = std::min(std::max(next, hit + 1), size);
            }
            piece.text = data.substr(begin, piece_end - begin);
            // A message begins before its anchor.
            piece.from = covered > begin ? covered - begin : 0;
            piece.to = std::min(next - begin, piece.text.size());
            if (piece.whole && !piece.text.empty() && piece.text.back() == '\r') piece.text.remove_suffix(1);
            const auto more = handler(piece);
            const bool passed = next > line_end;
            if (any && passed) --wanted;
            wanted = std::max(wanted, more);
            line += count_lines(data.substr(hit, next - hit));
            from = next;
            covered = next;
        }
        if (from < to) {
            line += count_lines(data.substr(from, to - from));
            from = to;
        }
        const std::size_t kept = from > context_before ? from - context_before : 0;
        // A line that goes on is kept from its beginning where that is short.
        std::memmove(buffer_.data(), buffer_.data() + kept, size - kept);
        size -= kept;
        from -= kept;
        covered -= std::min(covered, kept);
    }
}

}  // namespace vfioap
