// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ap/apqn.h"
#include "ap/error.h"
#include "ap/hwinfo.h"
#include "ap/mask.h"
#include "ap/master_keys.h"
#include "ap/uuid.h"

#include <cerrno>

#include <gtest/gtest.h>

namespace vfioap {
namespace {

TEST(Apqn, every_number_survives_its_text) {
    for (unsigned number = 0; number < ap_queues; ++number) {
        const auto apqn = Apqn::from_number(static_cast<std::uint16_t>(number));
        ASSERT_EQ(Apqn::parse(apqn.to_string()), apqn);
        ASSERT_EQ(apqn.number(), number);
    }
    EXPECT_EQ((Apqn{5, 0x47}.to_string()), "05.0047");
    EXPECT_EQ((Apqn{0xff, 0xab}.number()), 0xffab);
}

TEST(Apqn, refuses_what_is_not_one) {
    for (const char* text : {"", "5.0047", "05.047", "05.00470", "05:0047", "05.0100", "05.ffff", "0x.0047",
                             " 5.0047", "05.-047", "+5.0047", "05.0047\n", "card05"}) {
        EXPECT_FALSE(Apqn::parse(text)) << text;
    }
    EXPECT_EQ(Apqn::parse("0A.00fF"), (Apqn{10, 255}));
}

TEST(Apqn, is_ordered_by_adapter_then_domain) {
    EXPECT_LT((Apqn{5, 255}), (Apqn{6, 0}));
    EXPECT_LT((Apqn{5, 4}), (Apqn{5, 5}));
}

TEST(Mask, has_bit_0_leftmost) {
    Mask mask;
    mask.set(0);
    mask.set(255);
    EXPECT_EQ(mask.to_string(), "0x8000000000000000000000000000000000000000000000000000000000000001");
    EXPECT_EQ(mask.words()[0], 0x8000000000000000U);
    EXPECT_EQ(mask.words()[3], 1U);
    EXPECT_EQ(mask.bits(), (std::vector<std::uint8_t>{0, 255}));
    EXPECT_TRUE(mask.test(0));
    EXPECT_FALSE(mask.test(1));
    EXPECT_FALSE(mask.test(256));
}

TEST(Mask, every_single_bit_survives_its_text) {
    for (unsigned bit = 0; bit < 256; ++bit) {
        Mask mask;
        mask.set(bit);
        ASSERT_EQ(Mask::parse(mask.to_string()), mask) << bit;
        ASSERT_EQ(mask.bits(), std::vector<std::uint8_t>{static_cast<std::uint8_t>(bit)});
    }
}

TEST(Mask, a_short_one_is_padded_on_the_right) {
    EXPECT_EQ(Mask::parse("0x4")->bits(), std::vector<std::uint8_t>{1});
    EXPECT_EQ(Mask::parse("01")->bits(), std::vector<std::uint8_t>{7});
    EXPECT_EQ(Mask::parse("0xFFff")->count(), 16U);
}

TEST(Mask, refuses_what_is_not_one) {
    for (const std::string& text :
         {std::string{}, std::string{"0x"}, std::string{"0xg"}, std::string{"not supported"},
          "0x" + std::string(65, '0'), std::string{"0x1 "}, std::string{"-"}}) {
        EXPECT_FALSE(Mask::parse(text)) << text;
    }
}

TEST(Mask, takes_the_lists_that_apmask_takes) {
    const Mask all = Mask::all();
    EXPECT_EQ(Mask{}.updated("+0,+0x10-0x12,-17")->bits(), (std::vector<std::uint8_t>{0, 16, 18}));
    EXPECT_EQ(all.updated("-0-255"), Mask{});
    EXPECT_EQ(all.updated("-6")->count(), 255U);
    EXPECT_EQ(Mask{}.updated("+010")->bits(), std::vector<std::uint8_t>{8});
    EXPECT_EQ(Mask{}.updated("0x8"), Mask::of({0}));
    for (const char* text : {"", "+", "+256", "-1-", "+5-4", "+1,,+2", "+1,", "+1 ,+2", "1,2", "+a"}) {
        EXPECT_FALSE(all.updated(text)) << text;
    }
}

TEST(Hwinfo, names_its_bits_from_the_left) {
    EXPECT_TRUE(Hwinfo{0x8000000000000000}.apsc());
    EXPECT_TRUE(Hwinfo{0x4000000000000000}.mex4k());
    EXPECT_TRUE(Hwinfo{0x2000000000000000}.crt4k());
    EXPECT_TRUE(Hwinfo{0x1000000000000000}.cca());
    EXPECT_TRUE(Hwinfo{0x0800000000000000}.accel());
    EXPECT_TRUE(Hwinfo{0x0400000000000000}.ep11());
    EXPECT_TRUE(Hwinfo{0x0200000000000000}.apxa());
    EXPECT_TRUE(Hwinfo{0x0100000000000000}.slcf());
    EXPECT_TRUE(Hwinfo{0x0080000000000000}.native());
    EXPECT_TRUE(Hwinfo{0x0040000000000000}.stateless_only());
    EXPECT_FALSE(Hwinfo{0x00c0000000000000}.stateless_only());
    EXPECT_EQ(Hwinfo{0x0000c00000000000}.bs(), 3U);
    EXPECT_EQ(Hwinfo{0x000000000e000000}.at(), 14U);
    EXPECT_EQ(Hwinfo::from_sysfs(0x92800000, 14).value(), 0x928000000e000000U);
}

TEST(Hwinfo, is_named_as_people_name_cards) {
    EXPECT_EQ(model_text(Hwinfo::from_sysfs(0x96800000 & ~0x04000000U, 14)), "CEX8C");
    EXPECT_EQ(model_text(Hwinfo::from_sysfs(0x06800000, 13)), "CEX7P");
    EXPECT_EQ(model_text(Hwinfo::from_sysfs(0x6a800000, 12)), "CEX6A");
    EXPECT_EQ(model_text(Hwinfo::from_sysfs(0, 7)), "CEX2C");
    EXPECT_EQ(ap_type_text(15), "type 15");
    EXPECT_EQ(mode_text(0), "no mode");
    EXPECT_EQ(mode_text(6), "CCA coprocessor+accelerator");
    EXPECT_EQ(class_text(0x80), "native");
    EXPECT_EQ(class_text(0x40), "stateless only");
    EXPECT_EQ(class_text(0xa0), "class 0xa0");
}

TEST(Uuid, is_kept_in_lower_case) {
    EXPECT_EQ(Uuid::parse("62177883-F1BB-47f0-914d-32a22e3a8804")->to_string(),
              "62177883-f1bb-47f0-914d-32a22e3a8804");
}

TEST(Uuid, refuses_what_could_become_another_path) {
    for (const char* text :
         {"", "..", "62177883f1bb47f0914d32a22e3a8804", "62177883-f1bb-47f0-914d-32a22e3a880",
          "../../../../etc/passwd", "62177883-f1bb-47f0-914d-32a22e3a8804/",
          "62177883-f1bb-47f0-914d-32a22e3a880g", "62177883_f1bb_47f0_914d_32a22e3a8804",
          "62177883-f1bb-47f0-914d-32a22e3a88040"}) {
        EXPECT_FALSE(Uuid::parse(text)) << text;
    }
}

constexpr const char* cca_lines =
    "AES NEW: empty 0x0000000000000000\n"
    "AES CUR: valid 0x7f3a0000deadbeef\n"
    "AES OLD: invalid 0x0000000000000000\n"
    "APKA NEW: empty 0x0000000000000000\n"
    "APKA CUR: valid 0x0123456789abcdef\n"
    "APKA OLD: valid 0x1111111111111111\n"
    "ASYM NEW: - -\n"
    "ASYM CUR: valid 0x0123456789abcdef0123456789abcdef\n"
    "ASYM OLD: invalid 0x00000000000000000000000000000000\n";

TEST(MasterKeys, of_cca_are_read_and_printed_alike) {
    const auto keys = MasterKeys::parse(cca_lines);
    ASSERT_TRUE(keys);
    EXPECT_EQ(keys->registers().size(), 9U);
    EXPECT_EQ(keys->find("AES", "CUR")->pattern, "7f3a0000deadbeef");
    EXPECT_EQ(keys->find("ASYM", "NEW")->state, "-");
    EXPECT_EQ(MasterKeys::from_lines(keys->lines()), keys);
}

TEST(MasterKeys, of_ep11_are_read) {
    const std::string text = "WK CUR: valid 0x" + std::string(64, 'a') + "\nWK NEW: empty -\n";
    const auto keys = MasterKeys::parse(text);
    ASSERT_TRUE(keys);
    EXPECT_EQ(keys->find("WK", "CUR")->pattern, std::string(64, 'a'));
    EXPECT_EQ(keys->find("WK", "OLD"), nullptr);
}

TEST(MasterKeys, refuses_garbage) {
    for (const char* text :
         {"", "\n", "AES CUR: valid\n", "AES CUR: valid -\n", "AES CUR: valid 0x12\n",
          "AES CUR valid 0x0123456789abcdef", "DES CUR: valid 0x0123456789abcdef\n",
          "AES MID: valid 0x0123456789abcdef\n", "AES CUR: full 0x0123456789abcdef\n",
          "AES NEW: valid 0x0123456789abcdef\n", "AES CUR: valid 0x0123456789abcdeg\n",
          "AES CUR: valid 0x0123456789abcdef extra\n",
          "AES CUR: valid 0x0123456789abcdef\nAES CUR: valid 0x0123456789abcdef\n", "WK OLD: invalid -\n"}) {
        EXPECT_FALSE(MasterKeys::parse(text)) << text;
    }
}

TEST(Error, names_errors_as_people_know_them) {
    EXPECT_EQ(errno_name(EIO), "EIO");
    EXPECT_EQ(errno_name(4711), "errno 4711");
    EXPECT_EQ(errno_number("EADDRNOTAVAIL"), EADDRNOTAVAIL);
    EXPECT_EQ(errno_number("EWHATEVER"), 0);
    EXPECT_EQ(errno_text(EACCES), "Permission denied");
    // The kernel's own ENOTSUPP; one that Linux has left out; beyond all.
    EXPECT_EQ(errno_text(524), "Unknown error 524");
    EXPECT_EQ(errno_text(41), "Unknown error 41");
    EXPECT_EQ(errno_text(4711), "Unknown error 4711");
    EXPECT_EQ(errno_text(-1), "Unknown error -1");
    EXPECT_STREQ(SystemError("read", "/sys/x", 524).what(), "/sys/x: cannot read: Unknown error 524");
    EXPECT_STREQ(SystemError("read", "/sys/x", EACCES).what(), "/sys/x: cannot read: Permission denied");
}

}  // namespace
}  // namespace vfioap
