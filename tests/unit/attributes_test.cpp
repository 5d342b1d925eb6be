// SPDX-License-Identifier: LGPL-2.1-or-later
// Rows of good and bad text for each form of attribute. What any bytes give: tests/fuzz/fuzz_sysfs_attr.cpp.
#include "host/attributes.h"

#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vfioap {
namespace {

using testing::ElementsAre;
using namespace std::string_view_literals;

template <typename Value>
struct Row {
    std::string_view text;
    std::optional<Value> value;
};

template <typename Value>
void expect_rows(std::optional<Value> (*parse)(std::string_view), std::initializer_list<Row<Value>> rows) {
    for (const auto& row : rows)
        EXPECT_TRUE(parse(row.text) == row.value) << '"' << row.text << '"';
}

const std::string all_ones = "0x" + std::string(64, 'f');
const std::string first_bit = "0x8" + std::string(63, '0');

TEST(Attributes, end_where_the_newline_does) {
    EXPECT_EQ(trimmed("1\n"), "1");
    EXPECT_EQ(trimmed("a b \n\n"), "a b");
    EXPECT_EQ(trimmed(" a\t"), " a\t");
    EXPECT_EQ(trimmed("a\0\n"sv), "a\0"sv);
    EXPECT_EQ(trimmed("\n \n"), "");
    EXPECT_EQ(trimmed(""), "");
}

TEST(Attributes, flag) {
    expect_rows<bool>(parse_flag, {{"0", false},
                                   {"1", true},
                                   {"", {}},
                                   {"2", {}},
                                   {"01", {}},
                                   {" 1", {}},
                                   {"1\n", {}},
                                   {"1\0"sv, {}},
                                   {"Y", {}},
                                   {"-1", {}}});
}

TEST(Attributes, numbers) {
    expect_rows<unsigned>(parse_unsigned, {{"0", 0U},
                                           {"14", 14U},
                                           {"0000000000014", 14U},
                                           {"4294967295", 4294967295U},
                                           {"4294967296", {}},
                                           {"", {}},
                                           {"-1", {}},
                                           {"+1", {}},
                                           {" 1", {}},
                                           {"1 ", {}},
                                           {"0x10", {}},
                                           {"1e3", {}},
                                           {"1\0"sv, {}}});
    expect_rows<std::uint64_t>(parse_count,
                               {{"0", 0U},
                                {"18446744073709551615", std::numeric_limits<std::uint64_t>::max()},
                                {"18446744073709551616", {}},
                                {"", {}},
                                {"-1", {}}});
    expect_rows<unsigned>(parse_number_65536,
                          {{"0", 0U}, {"65535", 65535U}, {"65536", {}}, {"-1", {}}, {"", {}}});
    expect_rows<unsigned>(parse_number_256,
                          {{"0", 0U}, {"255", 255U}, {"0255", 255U}, {"256", {}}, {"-1", {}}, {"", {}}});
}

TEST(Attributes, functions) {
    expect_rows<std::uint32_t>(parse_functions, {{"0x92000000", 0x92000000U},
                                                 {"0xFFFFFFFF", 0xffffffffU},
                                                 {"0xffffffff", 0xffffffffU},
                                                 {"0x0", 0U},
                                                 {"0x0092000000", 0x92000000U},
                                                 {"0x192000000", {}},
                                                 {"0X92000000", {}},
                                                 {"92000000", {}},
                                                 {"0x", {}},
                                                 {"", {}},
                                                 {"0x-1", {}},
                                                 {"0x0x1", {}},
                                                 {"0x9200000g", {}}});
}

TEST(Attributes, host_mask) {
    const auto mask = [](const Mask& value) { return HostMask{HostMask::State::value, value}; };
    expect_rows<HostMask>(parse_host_mask, {{all_ones, mask(Mask::all())},
                                            {first_bit, mask(Mask::of({0}))},
                                            {"0x8", mask(Mask::of({0}))},
                                            {"not supported", HostMask{HostMask::State::not_supported, {}}},
                                            {"Not supported", {}},
                                            {"not supported ", {}},
                                            {"0x", {}},
                                            {"", {}},
                                            {"-", {}}});
    EXPECT_FALSE(parse_host_mask(all_ones + "0"));
}

TEST(Attributes, text) {
    expect_rows<std::string>(parse_text, {{"", ""},
                                          {"12/12 (complete)", "12/12 (complete)"},
                                          {"(null)", "(null)"},
                                          {"a\nb", {}},
                                          {"a\tb", {}},
                                          {"\x1b[2J", {}},
                                          {"\x7f", {}},
                                          {"caf\xc3\xa9", {}},
                                          {"a\0"sv, {}}});
    EXPECT_TRUE(parse_text(std::string(200, 'x')));
    EXPECT_FALSE(parse_text(std::string(201, 'x')));
}

TEST(Attributes, words) {
    using Words = std::vector<std::string>;
    expect_rows<Words>(parse_words,
                       {{"APSC APXA QACT RC8A APSB", Words{"APSC", "APXA", "QACT", "RC8A", "APSB"}},
                        {"guest_matrix hotplug ap_config", Words{"guest_matrix", "hotplug", "ap_config"}},
                        {"  a   a  ", Words{"a", "a"}},
                        {"-", Words{}},
                        {" - ", Words{}},
                        {"- -", Words{"-", "-"}},
                        {"", Words{}},
                        {"   ", Words{}},
                        {"a\tb", {}},
                        {"a\nb", {}}});
    std::string many = "w";
    for (int i = 1; i < 64; ++i)
        many += " w";
    EXPECT_TRUE(parse_words(many));
    EXPECT_FALSE(parse_words(many + " w"));
}

TEST(Attributes, association) {
    expect_rows<SeAssociation>(parse_association,
                               {{"-", SeAssociation{SeAssociate::none, 0}},
                                {"unassociated", SeAssociation{SeAssociate::unassociated, 0}},
                                {"association pending", SeAssociation{SeAssociate::pending, 0}},
                                {"associated 0", SeAssociation{SeAssociate::associated, 0}},
                                {"associated 65535", SeAssociation{SeAssociate::associated, 65535}},
                                {"associated 65536", {}},
                                {"associated -1", {}},
                                {"associated  1", {}},
                                {"associated 1 ", {}},
                                {"associated ", {}},
                                {"associated", {}},
                                {"bound", {}},
                                {"", {}}});
}

TEST(Attributes, matrix_of_queues) {
    const auto matrix = parse_matrix("05.0004\n05.0047\n06.0004\n06.0047");
    ASSERT_TRUE(matrix);
    EXPECT_EQ(matrix->adapters, Mask::of({5, 6}));
    EXPECT_EQ(matrix->domains, Mask::of({4, 0x47}));
    EXPECT_THAT(matrix->queues, ElementsAre(Apqn{5, 4}, Apqn{5, 0x47}, Apqn{6, 4}, Apqn{6, 0x47}));
    EXPECT_EQ(parse_matrix("06.0047\n05.0004\n06.0047\n05.0047\n06.0004\n"), matrix)
        << "order, double, newline";
    EXPECT_EQ(parse_matrix("FF.00fF"), (MatrixLines{Mask::of({255}), Mask::of({255}), {Apqn{255, 255}}}));
}

TEST(Attributes, matrix_without_queues) {
    EXPECT_EQ(parse_matrix(""), MatrixLines{});
    EXPECT_EQ(parse_matrix("05.\nff.\n"), (MatrixLines{Mask::of({5, 255}), {}, {}}));
    EXPECT_EQ(parse_matrix(".0004\n.00ff"), (MatrixLines{{}, Mask::of({4, 255}), {}}));
    for (const char* const text :
         {"\n", "05.0004\n\n05.0047", "05.0004 ", " 05.0004", "5.0004", "05.004", "05.0100", "05.0004\r\n",
          ".", "05", ".100", ".0100", "05.0004,05.0047", "0x.", "..", "05.000"}) {
        EXPECT_FALSE(parse_matrix(text)) << text;
    }
}

/// The kernel's page: 511 lines with their newlines and one without. One byte less cuts a line, which is
/// refused.
TEST(Attributes, matrix_that_fills_its_page) {
    std::string text;
    for (unsigned number = 0; number < 600; ++number)
        text += Apqn::from_number(static_cast<std::uint16_t>(number)).to_string() + '\n';
    const auto page = parse_matrix(std::string_view{text}.substr(0, 4095));
    ASSERT_TRUE(page);
    EXPECT_EQ(page->queues.size(), 512U);
    EXPECT_EQ(page->queues.back(), Apqn::from_number(511));
    EXPECT_FALSE(parse_matrix(std::string_view{text}.substr(0, 4094)));
}

TEST(Attributes, control_domains) {
    EXPECT_EQ(parse_control_domains(""), Mask{});
    EXPECT_EQ(parse_control_domains("0004\n0047\n00ff"), Mask::of({4, 0x47, 255}));
    EXPECT_EQ(parse_control_domains("00FF\n0004\n00ff\n"), Mask::of({4, 255}));
    for (const char* const text :
         {"\n", "4", "004", "00004", "0100", ".0004", "0004 ", "0004\n\n0047", "0x04"}) {
        EXPECT_FALSE(parse_control_domains(text)) << text;
    }
}

}  // namespace
}  // namespace vfioap
