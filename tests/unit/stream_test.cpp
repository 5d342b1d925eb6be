// SPDX-License-Identifier: LGPL-2.1-or-later
// The layouts of the migration stream: bytes beside fields, and what becomes of them in any pieces.
#include "ap/error.h"
#include "stream/reader.h"
#include "stream/writer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace vfioap {
namespace {

using Bytes = std::vector<std::uint8_t>;

/// Two adapters and two domains; the control domains 0004 and 0047.
GuestConfiguration example() {
    GuestConfiguration configuration;
    const Hwinfo cca{0x9280'0000'0e00'0000};
    const Hwinfo ep11{0x0680'0000'0d00'0000};
    configuration.queues = {{Apqn{0x05, 0x04}, cca, nullptr},
                            {Apqn{0x05, 0x47}, cca, nullptr},
                            {Apqn{0x06, 0x04}, ep11, nullptr},
                            {Apqn{0x06, 0x47}, ep11, nullptr}};
    configuration.control_domains = Mask::of({0x04, 0x47});
    return configuration;
}

// clang-format off
const Bytes magic_and_version{'v', 'f', 'a', 'p',  0, 0, 0, 1};
const Bytes num_queues_and_pad{0, 0, 0, 4,  0, 0, 0, 0};
const Bytes config_size(8);
const Bytes adm{0x08, 0, 0, 0, 0, 0, 0, 0,   // bit 4
                0x01, 0, 0, 0, 0, 0, 0, 0,   // bit 0x47 = 64 + 7
                0, 0, 0, 0, 0, 0, 0, 0,
                0, 0, 0, 0, 0, 0, 0, 0};
const Bytes entries{0x92, 0x80, 0, 0, 0x0e, 0, 0, 0,  0x05, 0x04,  0, 0, 0, 0, 0, 0,
                    0x92, 0x80, 0, 0, 0x0e, 0, 0, 0,  0x05, 0x47,  0, 0, 0, 0, 0, 0,
                    0x06, 0x80, 0, 0, 0x0d, 0, 0, 0,  0x06, 0x04,  0, 0, 0, 0, 0, 0,
                    0x06, 0x80, 0, 0, 0x0d, 0, 0, 0,  0x06, 0x47,  0, 0, 0, 0, 0, 0};
// clang-format on

Bytes joined(std::initializer_list<Bytes> parts) {
    Bytes all;
    for (const auto& part : parts)
        all.insert(all.end(), part.begin(), part.end());
    return all;
}

Bytes bytes_of(Layout layout) {
    switch (layout) {
        case Layout::l1:
            return joined({num_queues_and_pad, entries});
        case Layout::l2:
            return joined({num_queues_and_pad, config_size, entries});
        case Layout::l2b:
            return joined({num_queues_and_pad, adm, entries});
        case Layout::l3:
            break;
    }
    return joined({magic_and_version, num_queues_and_pad, adm, entries});
}

/// What came of a stream, to be compared.
struct Result {
    bool good = false;
    std::optional<StreamRemark> fault;
    Layout layout{};
    Confidence confidence{};
    std::vector<std::pair<std::uint16_t, std::uint64_t>> queues;
    std::optional<Mask> control_domains;
    friend bool operator==(const Result&, const Result&) = default;
};

std::ostream& operator<<(std::ostream& out, const Result& result) {
    return out << (result.good ? "good" : "bad") << ", " << to_text(result.layout) << ' '
               << to_text(result.confidence) << ", " << result.queues.size() << " queues, "
               << (result.fault ? to_text(*result.fault) : "no fault");
}

Result result_of(StreamReader& reader) {
    Result result;
    result.good = reader.finish();
    result.fault = reader.fault();
    result.layout = reader.layout();
    result.confidence = reader.confidence();
    for (std::size_t i = 0; i < reader.queue_count(); ++i)
        result.queues.emplace_back(reader.queue(i).apqn.number(), reader.queue(i).hwinfo.value());
    result.control_domains = reader.control_domains();
    return result;
}

/// `sizes` gives the length of the next piece.
template <typename Sizes>
Result read_in_pieces(const Bytes& bytes, std::optional<Layout> layout, Sizes sizes) {
    StreamReader reader{layout};
    std::size_t at = 0;
    while (at < bytes.size()) {
        const auto count = std::min<std::size_t>(sizes(), bytes.size() - at);
        const bool taken = reader.feed(std::span{bytes}.subspan(at, count));
        EXPECT_EQ(taken, !reader.fault().has_value());
        at += count;
        EXPECT_LE(reader.size(), at);
        EXPECT_LE(reader.memory(), std::max<std::size_t>(2 * at, 64));
    }
    return result_of(reader);
}

Result read_whole(const Bytes& bytes, std::optional<Layout> layout = {}) {
    return read_in_pieces(bytes, layout, [&bytes] { return bytes.size(); });
}

std::optional<StreamRemark> fault_of(const Bytes& bytes, std::optional<Layout> layout = {}) {
    return read_whole(bytes, layout).fault;
}

class StreamLayout : public testing::TestWithParam<Layout> {};
INSTANTIATE_TEST_SUITE_P(All, StreamLayout, testing::ValuesIn(all_layouts),
                         [](const auto& row) { return std::string{to_text(row.param)}; });

TEST_P(StreamLayout, is_written_byte_by_byte) {
    EXPECT_EQ(write_stream(example(), GetParam()), bytes_of(GetParam()));
    EXPECT_EQ(bytes_of(GetParam()).size(), stream_size(GetParam(), 4));
}

TEST_P(StreamLayout, is_read_and_recognised) {
    for (const auto asked_for : {std::optional<Layout>{}, std::optional{GetParam()}}) {
        const auto result = read_whole(bytes_of(GetParam()), asked_for);
        EXPECT_TRUE(result.good) << result;
        EXPECT_EQ(result.layout, GetParam());
        EXPECT_EQ(result.confidence, Confidence::certain);
        ASSERT_EQ(result.queues.size(), 4);
        EXPECT_EQ(result.queues[1],
                  std::make_pair(std::uint16_t{0x0547}, std::uint64_t{0x9280'0000'0e00'0000}));
        EXPECT_EQ(result.control_domains.has_value(), GetParam() == Layout::l2b || GetParam() == Layout::l3);
        if (result.control_domains) {
            EXPECT_EQ(*result.control_domains, Mask::of({0x04, 0x47}));
        }
    }
}

TEST_P(StreamLayout, is_the_same_in_pieces_of_any_size) {
    const auto bytes = bytes_of(GetParam());
    for (const auto asked_for : {std::optional<Layout>{}, std::optional{GetParam()}}) {
        const auto whole = read_whole(bytes, asked_for);
        for (std::size_t size = 1; size <= bytes.size(); ++size)
            EXPECT_EQ(read_in_pieces(bytes, asked_for, [size] { return size; }), whole) << size;
    }
}

TEST_P(StreamLayout, is_refused_when_cut_anywhere) {
    const auto bytes = bytes_of(GetParam());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        const Bytes cut{bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)};
        const auto result = read_whole(cut, GetParam());
        EXPECT_FALSE(result.good);
        ASSERT_TRUE(result.fault);
        EXPECT_EQ(result.fault->offset, size);
        EXPECT_EQ(result.fault->found, size == 0 ? "an empty stream" : "the end");
        EXPECT_EQ(read_in_pieces(cut, GetParam(), [] { return 1; }), result);
        const auto guessed = read_whole(cut);
        EXPECT_FALSE(guessed.good) << size;
        EXPECT_EQ(guessed.fault->offset, size);
    }
}

TEST_P(StreamLayout, is_refused_with_bytes_behind_it) {
    for (const std::size_t more : {1U, 7U, 16U, 4096U}) {
        auto bytes = bytes_of(GetParam());
        const auto size = bytes.size();
        bytes.resize(size + more);
        const auto fault = fault_of(bytes, GetParam());
        ASSERT_TRUE(fault);
        EXPECT_EQ(to_text(*fault),
                  fmt::format("offset 0x{0:x}: end: found more bytes, expected the end of the "
                              "stream after {0} bytes",
                              size));
        StreamReader reader{GetParam()};
        EXPECT_FALSE(reader.feed(bytes));
        EXPECT_TRUE(reader.past_end());
        EXPECT_EQ(reader.size(), size);
        EXPECT_FALSE(reader.finish());
        EXPECT_TRUE(fault_of(bytes));
    }
}

TEST_P(StreamLayout, may_have_no_queue_at_all) {
    GuestConfiguration nothing;
    nothing.control_domains = Mask::of({0, 255});
    const auto bytes = write_stream(nothing, GetParam());
    EXPECT_EQ(bytes.size(), header_size(GetParam()));
    const auto result = read_whole(bytes);
    EXPECT_TRUE(result.good);
    EXPECT_EQ(result.layout, GetParam());
    EXPECT_EQ(result.confidence, Confidence::certain);
}

TEST_P(StreamLayout, is_recognised_with_any_number_of_queues) {
    std::mt19937 random{7};
    for (unsigned count = 1; count < 40; ++count) {
        GuestConfiguration configuration;
        for (unsigned i = 0; i < count; ++i) {
            configuration.queues.push_back(
                {Apqn{static_cast<std::uint8_t>(0x10), static_cast<std::uint8_t>(i * 3)},
                 Hwinfo::from_sysfs(static_cast<std::uint32_t>(random()), 14), nullptr});
        }
        configuration.control_domains = Mask::of({0, static_cast<std::uint8_t>(random() & 0xff)});
        const auto result = read_whole(write_stream(configuration, GetParam()));
        EXPECT_TRUE(result.good) << result;
        EXPECT_EQ(result.layout, GetParam());
        EXPECT_EQ(result.confidence, Confidence::certain) << count;
    }
}

TEST_P(StreamLayout, carries_the_largest_guest_in_random_pieces) {
    std::mt19937 random{11};
    GuestConfiguration largest;
    for (unsigned number = 0; number < ap_queues; ++number) {
        largest.queues.push_back({Apqn::from_number(static_cast<std::uint16_t>(number)),
                                  Hwinfo{std::uint64_t{random()} << 32U | 0x0e00'0000U}, nullptr});
    }
    largest.control_domains = Mask::all();
    const auto bytes = write_stream(largest, GetParam());
    for (int round = 0; round < 3; ++round) {
        const auto result =
            read_in_pieces(bytes, {}, [&] { return 1 + random() % (round == 0 ? 20 : 5000); });
        EXPECT_TRUE(result.good) << result;
        EXPECT_EQ(result.layout, GetParam());
        ASSERT_EQ(result.queues.size(), ap_queues);
        EXPECT_TRUE(std::equal(result.queues.begin(), result.queues.end(), largest.queues.begin(),
                               [](const auto& read, const GuestQueue& written) {
                                   return read.first == written.apqn.number() &&
                                          read.second == written.hwinfo->value();
                               }));
    }
    StreamReader reader;
    ASSERT_TRUE(reader.feed(bytes));
    ASSERT_TRUE(reader.finish());
    EXPECT_EQ(write_stream(reader.configuration(), GetParam()), bytes);
    EXPECT_LE(reader.memory(), bytes.size());
}

TEST_P(StreamLayout, survives_every_changed_byte) {
    const auto good = bytes_of(GetParam());
    for (std::size_t at = 0; at < good.size(); ++at) {
        for (const unsigned value : {0x00U, 0x01U, 0x7fU, 0x80U, 0xffU, good[at] ^ 0x01U, good[at] ^ 0x80U}) {
            auto bytes = good;
            bytes[at] = static_cast<std::uint8_t>(value);
            for (const auto asked_for : {std::optional<Layout>{}, std::optional{GetParam()}}) {
                const auto result = read_whole(bytes, asked_for);
                EXPECT_EQ(result.good, !result.fault);
                if (asked_for && result.fault) {
                    EXPECT_GE(result.fault->offset + 1, std::min(at, good.size()));
                }
                // What was taken is in order, whatever became of the rest.
                EXPECT_TRUE(std::is_sorted(result.queues.begin(), result.queues.end(),
                                           [](const auto& a, const auto& b) { return a.first <= b.first; }));
                EXPECT_EQ(read_in_pieces(bytes, asked_for, [] { return 1; }), result);
                EXPECT_EQ(read_in_pieces(bytes, asked_for, [] { return 7; }), result);
            }
        }
    }
}

TEST_P(StreamLayout, comes_back_from_random_configurations) {
    std::mt19937 random{GetParam() == Layout::l1 ? 1U : 2U};
    for (int round = 0; round < 200; ++round) {
        GuestConfiguration configuration;
        Mask adapters;
        Mask domains;
        for (unsigned i = 0; i < 1 + random() % 6; ++i)
            adapters.set(random() & 0xffU);
        for (unsigned i = 0; i < 1 + random() % 6; ++i)
            domains.set(random() & 0xffU);
        for (const auto apid : adapters.bits()) {
            for (const auto apqi : domains.bits()) {
                configuration.queues.push_back(
                    {Apqn{apid, apqi}, Hwinfo{std::uint64_t{random()} << 32U | random()}, nullptr});
            }
        }
        for (unsigned i = 0; i < random() % 9; ++i)
            configuration.control_domains.set(random() & 0xffU);
        StreamReader reader{GetParam()};
        ASSERT_TRUE(reader.feed(write_stream(configuration, GetParam())));
        ASSERT_TRUE(reader.finish());
        EXPECT_TRUE(reader.is_matrix());
        const auto back = reader.configuration();
        EXPECT_EQ(write_stream(back, GetParam()), write_stream(configuration, GetParam()));
        if (reader.control_domains()) {
            EXPECT_EQ(back.control_domains, configuration.control_domains);
        }
    }
}

TEST(StreamWriter, refuses_queues_of_unknown_hardware) {
    auto configuration = example();
    configuration.queues[2].hwinfo.reset();
    try {
        write_stream(configuration, Layout::l3);
        FAIL();
    } catch (const InputError& error) {
        EXPECT_STREQ(error.what(),
                     "queue 06.0004: its TAPQ hwinfo (ap_functions and raw_hwtype) is not known");
    }
}

TEST(StreamWriter, refuses_queues_in_disorder) {
    auto configuration = example();
    std::swap(configuration.queues[1], configuration.queues[2]);
    EXPECT_THROW(write_stream(configuration, Layout::l1), InputError);
    configuration = example();
    configuration.queues[1] = configuration.queues[0];
    EXPECT_THROW(write_stream(configuration, Layout::l1), InputError);
}

struct Bad {
    std::string name;
    Layout layout;
    std::size_t at;  // the byte that is changed
    Bytes to;
    std::string fault;  // of the layout asked for
};

void PrintTo(const Bad& bad, std::ostream* out) {  // NOLINT(readability-identifier-naming)
    *out << bad.name;
}

class BadStream : public testing::TestWithParam<Bad> {};
INSTANTIATE_TEST_SUITE_P(
    Rows, BadStream,
    testing::Values(
        Bad{"magic_first_byte",
            Layout::l3,
            0,
            {'V'},
            "offset 0x0: magic: found 0x56, expected 0x76 of the magic 0x76666170"},
        Bad{"magic_last_byte",
            Layout::l3,
            3,
            {'q'},
            "offset 0x3: magic: found 0x71, expected 0x70 of the magic 0x76666170"},
        Bad{"version_0", Layout::l3, 7, {0}, "offset 0x7: version: found 0x00, expected 0x01 of version 1"},
        Bad{"version_2", Layout::l3, 7, {2}, "offset 0x7: version: found 0x02, expected 0x01 of version 1"},
        Bad{"version_huge",
            Layout::l3,
            4,
            {1},
            "offset 0x4: version: found 0x01, expected 0x00 of version 1"},
        Bad{"one_queue_too_many",
            Layout::l1,
            0,
            {0, 1, 0, 1},
            "offset 0x3: num_queues: found 65537, expected at most 65536"},
        Bad{"queues_131072",
            Layout::l2,
            0,
            {0, 2, 0, 0},
            "offset 0x1: num_queues: found at least 131072, expected at most 65536"},
        Bad{"queues_beyond_all",
            Layout::l3,
            8,
            {0xff, 0xff, 0xff, 0xff},
            "offset 0x8: num_queues: found at least 4278190080, expected at most 65536"},
        Bad{"queues_little_endian",
            Layout::l2b,
            0,
            {4, 0, 0, 0},
            "offset 0x0: num_queues: found at least 67108864, expected at most 65536"},
        Bad{"fewer_queues_announced",
            Layout::l1,
            3,
            {3},
            "offset 0x38: end: found more bytes, expected the end of the stream after 56 bytes"},
        Bad{"more_queues_announced",
            Layout::l1,
            3,
            {5},
            "offset 0x48: entries[4].tapq: found the end, expected a stream of 88 bytes"},
        Bad{"same_queue_again",
            Layout::l1,
            8 + 16 + 8,
            {0x05, 0x04},
            "offset 0x21: entries[1].apqn: found 05.0004 again, expected more than 05.0004"},
        Bad{"lower_domain",
            Layout::l3,
            48 + 16 + 8,
            {0x05, 0x03},
            "offset 0x49: entries[1].apqn: found 05.0003, expected more than 05.0004"},
        Bad{"lower_adapter",
            Layout::l2,
            16 + 32 + 8,
            {0x04, 0xff},
            "offset 0x38: entries[2].apqn: found adapter 04, expected adapter 05 or above, behind 05.0047"}),
    [](const auto& row) { return row.param.name; });

TEST_P(BadStream, is_refused_at_its_byte_and_for_its_reason) {
    auto bytes = bytes_of(GetParam().layout);
    std::copy(GetParam().to.begin(), GetParam().to.end(),
              bytes.begin() + static_cast<std::ptrdiff_t>(GetParam().at));
    const auto result = read_whole(bytes, GetParam().layout);
    ASSERT_TRUE(result.fault);
    EXPECT_EQ(to_text(*result.fault), GetParam().fault);
    for (std::size_t size = 1; size <= bytes.size(); ++size)
        EXPECT_EQ(read_in_pieces(bytes, GetParam().layout, [size] { return size; }), result);
    // Whatever it is taken for: it is refused.
    EXPECT_FALSE(read_whole(bytes).good);
}

TEST(StreamReader, refuses_as_soon_as_a_byte_decides) {
    StreamReader reader{Layout::l1};
    EXPECT_TRUE(reader.feed(Bytes{0x00}));
    EXPECT_FALSE(reader.feed(Bytes{0x02}));
    const auto fault = reader.fault();
    // And it stays so.
    EXPECT_FALSE(reader.feed(Bytes(8)));
    EXPECT_FALSE(reader.finish());
    EXPECT_EQ(reader.fault(), fault);
    EXPECT_EQ(reader.size(), 1);
}

TEST(StreamReader, refuses_more_after_the_end_was_told) {
    StreamReader reader;
    ASSERT_TRUE(reader.feed(bytes_of(Layout::l2b)));
    EXPECT_TRUE(reader.complete());
    ASSERT_TRUE(reader.finish());
    EXPECT_FALSE(reader.feed(Bytes{0}));
    EXPECT_TRUE(reader.past_end());
    EXPECT_FALSE(reader.complete());
}

TEST(StreamReader, keeps_no_more_than_has_come) {
    for (const auto layout : all_layouts) {
        auto bytes = bytes_of(layout);
        bytes.resize(header_size(layout));
        const auto count = num_queues_offset(layout);
        bytes[count + 1] = 1;
        bytes[count + 3] = 0;
        StreamReader reader{layout};
        ASSERT_TRUE(reader.feed(bytes));
        EXPECT_EQ(reader.num_queues(), ap_queues);
        EXPECT_LE(reader.memory(), 2 * bytes.size());
    }
}

TEST(StreamReader, knows_a_layout_that_was_not_asked_for_from_another) {
    for (const auto written : all_layouts) {
        for (const auto asked_for : all_layouts) {
            const auto result = read_whole(bytes_of(written), asked_for);
            EXPECT_EQ(result.good, written == asked_for) << to_text(written) << " as " << to_text(asked_for);
        }
    }
}

TEST(StreamReader, says_how_sure_the_layout_is_while_it_comes) {
    StreamReader reader;
    EXPECT_EQ(reader.confidence(), Confidence::possible);
    ASSERT_TRUE(reader.feed(Bytes{'v'}));
    EXPECT_EQ(reader.layout(), Layout::l3);
    EXPECT_EQ(reader.confidence(), Confidence::certain);

    StreamReader other;
    ASSERT_TRUE(other.feed(num_queues_and_pad));
    EXPECT_EQ(other.confidence(), Confidence::possible);
    EXPECT_EQ(other.num_queues(), 4);
    ASSERT_TRUE(other.feed(entries));
    EXPECT_EQ(other.layout(), Layout::l1);
}

TEST(StreamReader, is_less_sure_where_something_is_odd) {
    // One queue of l1 and half an entry behind it: as long as l2 with one queue.
    auto bytes = joined({{0, 0, 0, 1, 0, 0, 0, 0}, Bytes{entries.begin(), entries.begin() + 16}, Bytes(8)});
    const auto result = read_whole(bytes);
    EXPECT_TRUE(result.good);
    EXPECT_EQ(result.layout, Layout::l2);
    EXPECT_EQ(result.confidence, Confidence::likely);
}

TEST(StreamReader, names_the_likeliest_layout_of_a_damaged_stream) {
    for (const auto layout : all_layouts) {
        auto bytes = bytes_of(layout);
        // The last queue is the first one again.
        bytes[stream_size(layout, 3) + 8] = 0x05;
        bytes[stream_size(layout, 3) + 9] = 0x04;
        const auto result = read_whole(bytes);
        EXPECT_FALSE(result.good);
        EXPECT_EQ(result.layout, layout);
        EXPECT_EQ(result.queues.size(), 3);
    }
}

struct Odd {
    std::string name;
    Layout layout;
    std::size_t at;
    std::uint8_t to;
    std::string remark;
};

void PrintTo(const Odd& odd, std::ostream* out) {  // NOLINT(readability-identifier-naming)
    *out << odd.name;
}

class OddStream : public testing::TestWithParam<Odd> {};
INSTANTIATE_TEST_SUITE_P(
    Rows, OddStream,
    testing::Values(Odd{"pad", Layout::l1, 7, 1, "offset 0x4: pad: found 0x00000001, expected zeros"},
                    Odd{"pad_of_l3", Layout::l3, 12, 0xff,
                        "offset 0xc: pad: found 0xff000000, expected zeros"},
                    Odd{"config_size", Layout::l2, 15, 64,
                        "offset 0x8: config_size: found 0x0000000000000040, expected zeros"},
                    Odd{"reserved", Layout::l2b, 40 + 32 + 15, 9,
                        "offset 0x52: entries[2].reserved: found 0x000000000009, expected zeros"},
                    Odd{"type", Layout::l3, 48 + 48 + 4, 9,
                        "offset 0x60: entries[3].tapq: found AP type 9, expected at least 10, the oldest "
                        "that vfio_ap binds"},
                    Odd{"no_matrix", Layout::l3, 48 + 48 + 9, 0x48,
                        "offset 0x30: entries: found 4 queues, expected all queues of their adapters and "
                        "domains: a matrix is a product"}),
    [](const auto& row) { return row.param.name; });

TEST_P(OddStream, is_taken_and_told) {
    auto bytes = bytes_of(GetParam().layout);
    bytes[GetParam().at] = GetParam().to;
    StreamReader reader{GetParam().layout};
    ASSERT_TRUE(reader.feed(bytes));
    ASSERT_TRUE(reader.finish());
    const auto anomalies = reader.anomalies(10);
    ASSERT_EQ(anomalies.total, 1);
    ASSERT_EQ(anomalies.first.size(), 1);
    EXPECT_EQ(to_text(anomalies.first.front()), GetParam().remark);
    EXPECT_EQ(reader.is_matrix(), GetParam().name != "no_matrix");
}

TEST(StreamReader, tells_the_first_anomalies_and_counts_all) {
    auto bytes = bytes_of(Layout::l1);
    for (std::size_t i = 0; i < 4; ++i)
        bytes[8 + 16 * i + 12] = 1;
    StreamReader reader;
    ASSERT_TRUE(reader.feed(bytes));
    ASSERT_TRUE(reader.finish());
    EXPECT_EQ(reader.confidence(), Confidence::likely);
    const auto anomalies = reader.anomalies(2);
    EXPECT_EQ(anomalies.total, 4);
    ASSERT_EQ(anomalies.first.size(), 2);
    EXPECT_EQ(anomalies.first[1].field, "entries[1].reserved");
    StreamReader good;
    ASSERT_TRUE(good.feed(bytes_of(Layout::l1)));
    ASSERT_TRUE(good.finish());
    EXPECT_EQ(good.anomalies(2).total, 0);
}

// The recorded streams: bad/index.txt has a row for each, with the layout asked for (- where none is).

std::string slurp(const std::filesystem::path& path) {
    std::ifstream in{path, std::ios::binary};
    EXPECT_TRUE(in) << path;
    return {std::istreambuf_iterator<char>{in}, {}};
}

const std::filesystem::path streams = VFIOAP_TEST_DATA "/streams";

TEST(RecordedStreams, good_ones_are_read_and_written_again_as_they_are) {
    std::size_t count = 0;
    for (const auto& file : std::filesystem::directory_iterator{streams / "good"}) {
        const auto text = slurp(file.path());
        const Bytes bytes{text.begin(), text.end()};
        const auto stem = file.path().stem().string();
        StreamReader reader;
        ASSERT_TRUE(reader.feed(bytes)) << file.path();
        ASSERT_TRUE(reader.finish()) << file.path() << to_text(*reader.fault());
        EXPECT_EQ(reader.layout(), parse_layout(stem.substr(stem.rfind('-') + 1))) << file.path();
        EXPECT_EQ(write_stream(reader.configuration(), reader.layout()), bytes) << file.path();
        ++count;
    }
    EXPECT_GE(count, 8);
}

TEST(RecordedStreams, bad_ones_are_refused_as_the_index_says) {
    std::istringstream index{slurp(streams / "bad" / "index.txt")};
    std::string line;
    std::size_t rows = 0;
    while (std::getline(index, line)) {
        if (line.starts_with('#')) continue;
        std::istringstream row{line};
        std::string name;
        std::string layout;
        std::string fault;
        row >> name >> layout >> std::ws;
        std::getline(row, fault);
        const auto text = slurp(streams / "bad" / name);
        const Bytes bytes{text.begin(), text.end()};
        const auto found = fault_of(bytes, parse_layout(layout));
        EXPECT_EQ(found ? to_text(*found) : "nothing", fault) << name;
        ++rows;
    }
    const auto files = std::distance(std::filesystem::directory_iterator{streams / "bad"}, {});
    EXPECT_EQ(rows + 1, static_cast<std::size_t>(files)) << "a stream without a row, or the reverse";
}

}  // namespace
}  // namespace vfioap
