// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/metadata_text.h"

#include <gtest/gtest.h>

namespace vfioap {
namespace {

constexpr const char* element =
    R"(<config mdev="a" host="b&amp;c"><queues tapq="0x1">05.0004 05.0047</queues><none/></config>)";

TEST(MetadataText, is_the_same_however_it_is_formatted) {
    for (
        const char* const other : {
            "<config host='b&#38;c' mdev='a'>\n  <queues tapq='0x1'>05.0004\n\t05.0047 </queues>\n  "
            "<none></none>\n</config>\n",
            R"(<v:config xmlns:v="urn:x" mdev="a" host="b&amp;c"><v:queues tapq="0x1">05.0004 05.0047</v:queues><v:none/></v:config>)",
            R"(<v:config mdev="a" host="b&amp;c"><v:queues tapq="0x1">05.0004 05.0047</v:queues><v:none/></v:config>)",
            R"(<config xmlns="urn:x" mdev="a" host="b&amp;c"><!-- c --><queues tapq="0x1"><![CDATA[05.0004 05.0047]]></queues><none/></config>)",
        }) {
        EXPECT_TRUE(same_metadata(element, other)) << other;
        EXPECT_TRUE(same_metadata(other, element)) << other;
    }
    EXPECT_TRUE(same_metadata("", ""));
}

TEST(MetadataText, differs_in_any_name_value_word_or_place) {
    for (
        const char* const other : {
            "",
            "<config/>",
            R"(<config mdev="b" host="b&amp;c"><queues tapq="0x1">05.0004 05.0047</queues><none/></config>)",
            R"(<config mdev="a" host="b&amp;c" more=""><queues tapq="0x1">05.0004 05.0047</queues><none/></config>)",
            R"(<config mdev="a" host="b&amp;c"><queues tapq="0x1">05.000405.0047</queues><none/></config>)",
            R"(<config mdev="a" host="b&amp;c"><queues tapq="0x1">05.0004</queues>05.0047<none/></config>)",
            R"(<config mdev="a" host="b&amp;c"><queues tapq="0x1">05.0004 05.0047<none/></queues></config>)",
            R"(<config mdev="a" host="b&amp;c"><none/><queues tapq="0x1">05.0004 05.0047</queues></config>)",
            R"(<config mdev="a" host="b&amp;c"><queue tapq="0x1">05.0004 05.0047</queue><none/></config>)",
        }) {
        EXPECT_FALSE(same_metadata(element, other)) << other;
        EXPECT_FALSE(same_metadata(other, element)) << other;
    }
    EXPECT_FALSE(same_metadata("<a>&lt;b&gt;</a>", "<a><b></b></a>"));
}

TEST(MetadataText, that_is_no_xml_equals_nothing_and_prints_nothing) {
    testing::internal::CaptureStderr();
    for (const char* const bad :
         {" ", "config", "<config", "<config></confi>", "<config/><config/>", "<config>&x;</config>",
          "<!DOCTYPE config [<!ENTITY x 'y'>]><config>&x;</config>", "<config>\xff</config>"}) {
        EXPECT_FALSE(same_metadata(bad, bad)) << bad;
        EXPECT_FALSE(same_metadata(bad, "")) << bad;
    }
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace vfioap
