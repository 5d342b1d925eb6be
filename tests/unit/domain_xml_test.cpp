// SPDX-License-Identifier: LGPL-2.1-or-later
#include "domain/domain_xml.h"

#include "ap/error.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

namespace vfioap {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* mdev1 = "62177883-f1bb-47f0-914d-32a22e3a8804";
constexpr const char* mdev2 = "c4d8f2a0-7be1-4f83-9d55-0e3b6a1f2c47";

Uuid uuid(std::string_view text) {
    return Uuid::parse(text).value();
}

std::string data_path(const std::string& name) {
    return std::string{VFIOAP_TEST_DATA "/domains/"} + name;
}

std::string bytes_of(const std::string& path) {
    std::ifstream file{path, std::ios::binary};
    EXPECT_TRUE(file) << path;
    return {std::istreambuf_iterator<char>{file}, {}};
}

std::set<std::string> names_in(const std::string& directory) {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator{directory})
        names.insert(entry.path().filename().string());
    return names;
}

/// What is said of bytes that must be refused; empty, with a failure, where they are taken. Any exception but
/// InputError fails the test.
std::string refusal(std::string_view bytes) {
    try {
        parse_domain_xml(bytes, "x.xml");
    } catch (const InputError& error) {
        return error.what();
    }
    ADD_FAILURE() << "accepted: " << bytes.substr(0, 500);
    return {};
}

/// One line for a terminal, whatever was in the input.
bool is_one_clean_line(std::string_view message) {
    return std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

/// A domain with `inside` in it.
std::string domain(const std::string& inside) {
    return "<domain type='kvm'><name>g</name>" + inside + "</domain>";
}

DomainXml bankdb01(std::vector<VfioApHostdev> vfio_ap) {
    return {.name = "bankdb01",
            .uuid = uuid("3f1c6a52-9d0b-4b0e-8a4f-6c2f5b7e9d11"),
            .type = "kvm",
            .arch = "s390x",
            .machine = "s390-ccw-virtio-8.2",
            .emulator = "/usr/bin/qemu-system-s390x",
            .vfio_ap = std::move(vfio_ap),
            .secure_execution = false};
}

DomainXml web01() {
    auto guest = bankdb01({});
    guest.name = "web01";
    guest.uuid = uuid("0d6e3b8e-5c54-4d0e-9c2e-1b6a0f6d7a21");
    return guest;
}

DomainXml protected_guest(DomainXml guest) {
    guest.secure_execution = true;
    return guest;
}

struct Good {
    const char* file;
    DomainXml expected;
};
std::vector<Good> good_documents() {
    return {
        {"comments.xml", bankdb01({{uuid(mdev1), "", 45}})},
        {"foreign_namespaces.xml", bankdb01({{uuid(mdev1), "", 47}})},
        {"hostdevs_elsewhere.xml", web01()},
        {"inactive.xml", bankdb01({{uuid(mdev1), "", 38}})},
        {"live.xml", bankdb01({{uuid(mdev1), "hostdev0", 58}})},
        {"metadata_mentions_vfio_ap.xml", web01()},
        {"migratable.xml", bankdb01({{uuid(mdev1), "", 44}})},
        {"first_of_each_counts.xml",
         {.name = "a & b!",
          .uuid = {},
          .type = "",
          .arch = "s390x",
          .machine = "",
          .emulator = "",
          .vfio_ap = {{uuid(mdev1), "ua-crypto", 5}},
          .secure_execution = false}},
        {"no_hostdev.xml", web01()},
        {"same_mdev_twice.xml", bankdb01({{uuid(mdev1), "", 38}, {uuid(mdev1), "", 43}})},
        {"secure_execution.xml", protected_guest(bankdb01({{uuid(mdev1), "", 38}}))},
        {"several_kinds_of_hostdevs.xml", bankdb01({{uuid(mdev2), "", 56}})},
        {"sev_is_not_secure_execution.xml", web01()},
        {"two_vfio_ap.xml", bankdb01({{uuid(mdev1), "", 38}, {uuid(mdev2), "", 43}})},
    };
}

void expect_same(const DomainXml& got, const DomainXml& expected) {
    EXPECT_EQ(got.name, expected.name);
    EXPECT_EQ(got.uuid, expected.uuid);
    EXPECT_EQ(got.type, expected.type);
    EXPECT_EQ(got.arch, expected.arch);
    EXPECT_EQ(got.machine, expected.machine);
    EXPECT_EQ(got.emulator, expected.emulator);
    EXPECT_EQ(got.secure_execution, expected.secure_execution);
    ASSERT_EQ(got.vfio_ap.size(), expected.vfio_ap.size());
    for (std::size_t i = 0; i < got.vfio_ap.size(); ++i) {
        EXPECT_EQ(got.vfio_ap[i].mdev, expected.vfio_ap[i].mdev);
        EXPECT_EQ(got.vfio_ap[i].alias, expected.vfio_ap[i].alias);
        EXPECT_EQ(got.vfio_ap[i].line, expected.vfio_ap[i].line);
    }
    EXPECT_EQ(got, expected);
}

struct Bad {
    const char* file;
    /// `line N` alone where the column is libxml2's, which its versions count differently.
    const char* where;
    const char* reason;
};
const std::vector<Bad>& bad_documents() {
    static const std::vector<Bad> rows{
        {"address_in_second_source.xml", "line 4, column 5: ", "vfio-ap hostdev without an mdev"},
        {"address_outside_source.xml", "line 4, column 5: ", "vfio-ap hostdev without an mdev"},
        {"address_without_uuid.xml", "line 6, column 9: ", "address of a vfio-ap hostdev without a uuid"},
        {"attribute_twice.xml", "line 2, ", "not well-formed"},
        {"bad_guest_uuid.xml", "line 3, column 3: ", "a domain with uuid \"../../x\"; expected a UUID"},
        {"bad_uuid.xml",
         "line 6, column 9: ", "uuid \"62177883-f1bb-47f0-914d-32a22e3a880g\"; expected a UUID"},
        {"billion_laughs.xml", "line 2, column 1: ", "a document type declaration"},
        {"control_character_in_alias.xml", "line 5, column 7: ", "alias with a control character"},
        {"control_character_in_name.xml", "line 2, column 3: ", "name with a control character"},
        {"control_characters_in_prefix.xml", "line 1, ", "not well-formed"},
        {"control_characters_in_root.xml", "line 1, ", "not well-formed"},
        {"cut_off.xml", "line 4, column 28: ", "cut off; expected </domain>"},
        {"cut_off_in_a_tag.xml", "line 4, column 10: ", "cut off; expected </domain>"},
        {"deep_nesting.xml", "line 257, column 1: ", "nested deeper than 256"},
        {"empty.xml", "line 1, column 1: ", "nothing in it; expected a <domain> element"},
        {"empty_guest_uuid.xml", "line 3, column 3: ", "a domain with uuid \"\"; expected a UUID"},
        {"empty_name.xml", "line 2, column 3: ", "an empty <name>"},
        {"empty_uuid.xml", "line 5, column 15: ", "uuid \"\"; expected a UUID"},
        {"escape_character.xml", "line 2, ", "not well-formed"},
        {"escape_character_by_reference.xml", "line 2, ", "not well-formed"},
        {"external_entity.xml", "line 1, column 1: ", "a document type declaration"},
        {"external_subset.xml", "line 2, column 43: ", "a document type declaration"},
        {"guest_without_name.xml", "line 2, column 1: ", "expected <name>"},
        {"hostdev_without_source.xml", "line 4, column 5: ", "vfio-ap hostdev without an mdev"},
        {"invalid_utf8.xml", "line 2, column 15: ", "not UTF-8 text; expected UTF-8"},
        {"latin1_declared.xml", "line 1, column 31: ", "encoding \"ISO-8859-1\" declared; expected UTF-8"},
        {"latin1_declared_ascii.xml",
         "line 2, column 19: ", "encoding \"ISO-8859-1\" declared; expected UTF-8"},
        {"long_machine.xml", "line 4, column 5: ", "machine of more than 4096 bytes"},
        {"long_name.xml", "line 2, column 3: ", "name of more than 4096 bytes"},
        {"many_attributes.xml", "line 3, column 3: ", "more than 256 attributes"},
        {"many_namespaces.xml", "line 4, column 2: ", "more than 256 namespaces"},
        {"mismatched_tags.xml", "line 4, ", "not well-formed"},
        {"newline_in_name.xml", "line 2, column 3: ", "name with a control character"},
        {"nul_bytes.xml", "line 2, column 10: ", "a NUL byte"},
        {"only_white_space.xml", "line 4, column 1: ", "nothing in it; expected a <domain> element"},
        {"root_of_a_namespace.xml", "line 1, column 1: ", "expected <domain> without a namespace"},
        {"second_uuid_bad.xml", "line 8, column 15: ", "uuid \"62177883\"; expected a UUID"},
        {"source_without_address.xml", "line 4, column 5: ", "vfio-ap hostdev without an mdev"},
        {"surrogates.xml", "line 2, column 9: ", "not UTF-8 text; expected UTF-8"},
        {"text_only.xml", "line 1, column 1: ", "text that is not XML; expected a <domain> element"},
        {"two_roots.xml", "line 4, ", "not well-formed"},
        {"undeclared_entity.xml", "line 2, ", "not well-formed"},
        {"undeclared_prefix.xml", "line 3, ", "not well-formed"},
        {"utf16_be.xml", "line 1, column 1: ", "UTF-16 text; expected UTF-8"},
        {"utf16_declared.xml", "line 1, column 31: ", "encoding \"UTF-16\" declared; expected UTF-8"},
        {"utf16_le.xml", "line 1, column 1: ", "UTF-16 text; expected UTF-8"},
        {"utf16_without_mark.xml", "line 1, column 2: ", "a NUL byte"},
        {"utf32.xml", "line 1, column 1: ", "expected UTF-8"},
        {"uuid_with_controls.xml", "line 5, column 15: ", "uuid \"??31m62177883\"; expected a UUID"},
        {"uuid_with_path.xml", "line 6, column 9: ", "uuid \"../../../../../etc/passwd\"; expected a UUID"},
        {"uuid_without_hyphens.xml", "line 5, column 15: ", "expected a UUID of the form 8-4-4-4-12"},
        {"wrong_root.xml", "line 3, column 3: ", "<domainsnapshot>; expected <domain> without a namespace"},
    };
    return rows;
}

template <typename Rows>
std::set<std::string> files_of(const Rows& rows) {
    std::set<std::string> files;
    for (const auto& row : rows)
        files.insert(row.file);
    return files;
}

TEST(DomainXml, of_every_shape_that_virsh_prints_is_read) {
    for (const auto& row : good_documents()) {
        SCOPED_TRACE(row.file);
        expect_same(load_domain_xml(data_path(std::string{"good/"} + row.file)), row.expected);
    }
}

TEST(DomainXml, that_is_bad_is_refused_with_its_place_and_on_one_clean_line) {
    for (const auto& row : bad_documents()) {
        SCOPED_TRACE(row.file);
        const auto message = refusal(bytes_of(data_path(std::string{"bad/"} + row.file)));
        EXPECT_THAT(message, StartsWith(std::string{"x.xml: "} + row.where));
        EXPECT_THAT(message, HasSubstr(row.reason));
        EXPECT_TRUE(is_one_clean_line(message)) << message;
    }
}

TEST(DomainXml, corpora_have_an_expectation_for_each_file) {
    EXPECT_EQ(names_in(data_path("good")), files_of(good_documents()));
    EXPECT_EQ(names_in(data_path("bad")), files_of(bad_documents()));
}

TEST(DomainXml, shipped_as_an_example_is_read) {
    const std::string examples = VFIOAP_TEST_DATA "/../../xml/examples/";
    const auto guest1 = load_domain_xml(examples + "guest1.xml");
    EXPECT_EQ(guest1.name, "guest1");
    ASSERT_EQ(guest1.vfio_ap.size(), 1U);
    EXPECT_EQ(guest1.vfio_ap[0].mdev, uuid(mdev1));
    const auto guest2 = load_domain_xml(examples + "guest2.xml");
    ASSERT_EQ(guest2.vfio_ap.size(), 1U);
    EXPECT_EQ(guest2.vfio_ap[0].mdev, uuid(mdev2));
    EXPECT_TRUE(load_domain_xml(examples + "guest-without-crypto.xml").vfio_ap.empty());
}

TEST(DomainXml, parser_prints_nothing) {
    testing::internal::CaptureStderr();
    testing::internal::CaptureStdout();
    for (const auto& row : bad_documents())
        refusal(bytes_of(data_path(std::string{"bad/"} + row.file)));
    for (const auto& row : good_documents())
        load_domain_xml(data_path(std::string{"good/"} + row.file));
    // A warning, not an error, of libxml2.
    parse_domain_xml(domain("<x xmlns='relative'/>"), "x.xml");
    EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(DomainXml, cut_anywhere_is_refused) {
    for (const auto& row : good_documents()) {
        auto bytes = bytes_of(data_path(std::string{"good/"} + row.file));
        bytes.resize(bytes.find_last_of('>'));
        for (std::size_t length = 0; length <= bytes.size(); ++length) {
            SCOPED_TRACE(fmt::format("{} cut to {} bytes", row.file, length));
            const auto message = refusal(std::string_view{bytes}.substr(0, length));
            ASSERT_TRUE(is_one_clean_line(message)) << message;
            ASSERT_FALSE(HasFailure());
        }
    }
}

TEST(DomainXml, with_any_byte_changed_gives_a_guest_or_an_error) {
    const auto original = bytes_of(data_path("good/comments.xml"));
    unsigned refused = 0;
    for (std::size_t i = 0; i < original.size(); ++i) {
        for (const char byte : {'<', '>', '&', '\'', '\0', '\x80', '!', ' '}) {
            auto bytes = original;
            bytes[i] = byte;
            try {
                ASSERT_FALSE(parse_domain_xml(bytes, "x.xml").name.empty());
            } catch (const InputError& error) {
                ++refused;
                ASSERT_TRUE(is_one_clean_line(error.what())) << error.what();
            }
        }
    }
    EXPECT_GT(refused, original.size());
}

TEST(DomainXml, places_are_counted_in_characters_and_after_a_byte_order_mark) {
    const std::string mark = "\xef\xbb\xbf";
    const std::string guest =
        mark + "<?xml version='1.0' encoding='UTF-8'?>\r\n<domain><name>Größe</name>\r\n";
    const std::string hostdev = "<devices><!-- ß€𝄞 --><hostdev type='mdev' model='vfio-ap'>";
    EXPECT_THAT(refusal(guest + hostdev + "</hostdev></devices></domain>"),
                StartsWith("x.xml: line 3, column 22: "));
    const auto read = parse_domain_xml(
        guest + hostdev + "<source><address uuid='" + mdev1 + "'/></source></hostdev></devices></domain>",
        "x.xml");
    EXPECT_EQ(read.name, "Größe");
    ASSERT_EQ(read.vfio_ap.size(), 1U);
    EXPECT_EQ(read.vfio_ap[0].line, 3U);
}

TEST(DomainXml, encodings_are_utf_8_alone) {
    for (const char* name : {"UTF-8", "utf-8", "Utf-8"}) {
        const auto declaration = fmt::format("<?xml version=\"1.0\" encoding=\"{}\"?>", name);
        EXPECT_EQ(parse_domain_xml(declaration + domain(""), "x.xml").name, "g") << name;
    }
    for (const char* name : {"US-ASCII", "UTF-7", "UTF-16LE", "EBCDIC-CP-US", "", "UTF-8 ", "no-such"}) {
        const auto declaration = fmt::format("<?xml version='1.0' encoding\n=\n'{}'?>", name);
        EXPECT_THAT(refusal(declaration + domain("")), HasSubstr("declared; expected UTF-8")) << name;
    }
    // An encoding that a comment speaks of is none.
    EXPECT_EQ(parse_domain_xml("<?xml version='1.0'?><!-- encoding='latin1' -->" + domain(""), "x").name,
              "g");
    // Nor one that another processing instruction speaks of.
    EXPECT_EQ(parse_domain_xml("<?xml-stylesheet encoding='latin1'?>" + domain(""), "x").name, "g");
    // EBCDIC, whose first bytes libxml2 would know.
    refusal("\x4c\x6f\xa7\x94\x93\x40");
}

TEST(DomainXml, texts_that_are_not_utf_8_are_refused) {
    for (const char* text : {"\x80", "\xc1\x81", "\xc3", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xed\xa0\x80",
                             "\xed\xbf\xbf", "\xe2\x82", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
                             "\xf5\x80\x80\x80", "\xff", "\xf0\x9f\x98", "a\xffz"}) {
        EXPECT_THAT(refusal(domain(std::string{"<title>"} + text + "</title>")), HasSubstr("not UTF-8 text"));
    }
    for (const char* text : {"\xc2\xa0", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
                             "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
        EXPECT_EQ(parse_domain_xml(domain(std::string{"<title>"} + text + "</title>"), "x").name, "g");
    }
}

TEST(DomainXml, uuid_may_have_white_space_around_it) {
    const auto guest =
        parse_domain_xml(domain(fmt::format("<uuid>\n  {}\t</uuid><uuid>x</uuid>", mdev1)), "x");
    EXPECT_EQ(guest.uuid, uuid(mdev1));
    EXPECT_THAT(refusal(domain(fmt::format("<uuid>{} x</uuid>", mdev1))), HasSubstr("expected a UUID"));
}

/// A vfio-ap hostdev, `open` being its start tag and what stands before it.
std::string hostdev(const std::string& open) {
    return fmt::format("{}<source><address uuid='{}'/></source></hostdev>", open, mdev1);
}
std::size_t hostdevs_in(const std::string& inside) {
    return parse_domain_xml(domain(inside), "x").vfio_ap.size();
}

TEST(DomainXml, means_the_same_however_its_characters_are_written) {
    for (const char* open :
         {"<hostdev type='mdev' model='vfio-ap'>", "<hostdev\n\ttype = \"mdev\"\r\nmodel=\"vfio-ap\"\n>",
          "<hostdev type='&#109;dev' model='&#x76;fio-ap'>", "<hostdev type='mdev' model='vfio&#45;ap'>"})
        EXPECT_EQ(hostdevs_in("<devices>" + hostdev(open) + "</devices>"), 1U) << open;
    for (const char* open :
         {"<hostdev type='mdev' model='&amp;#x76;fio-ap'>", "<hostdev type='mdev' model='vfio-ap '>",
          "<hostdev type='mdev' model='VFIO-AP'>", "<hostdev type='mdev' model='vfio-ap&#x200b;'>"})
        EXPECT_EQ(hostdevs_in("<devices>" + hostdev(open) + "</devices>"), 0U) << open;

    const std::map<std::string, std::string> names{
        {"a&#x62;c", "abc"},
        {"<![CDATA[a&#x62;<c>]]>", "a&#x62;<c>"},
        {"a<!-- b -->c<?d e?>f", "acf"},
        {"<![CDATA[a]]>b<![CDATA[]]><![CDATA[c]]>", "abc"},
        {"a<b>c</b>d<e/>f", "adf"},
        {" a ", " a "},
        {"&lt;&gt;&amp;&quot;&apos;", "<>&\"'"},
        {"&#xe4;\xc3\xb6&#8364;", "\xc3\xa4\xc3\xb6\xe2\x82\xac"},
    };
    for (const auto& [written, name] : names)
        EXPECT_EQ(parse_domain_xml("<domain><name>" + written + "</name></domain>", "x").name, name);
    // A line feed is one however it came; in an attribute only a reference makes one.
    EXPECT_THAT(refusal("<domain><name>a&#10;b</name></domain>"), HasSubstr("name with a control character"));
    EXPECT_THAT(refusal("<domain><name><![CDATA[a\tb]]></name></domain>"),
                HasSubstr("name with a control character"));
    EXPECT_THAT(refusal(domain("<os><type arch='a&#9;b'/></os>")),
                HasSubstr("arch with a control character"));
    EXPECT_EQ(parse_domain_xml(domain("<os><type arch='a\r\nb'/></os>"), "x").arch, "a b");
}

TEST(DomainXml, may_have_comments_and_instructions_anywhere) {
    for (const std::string junk : {"<!-- <hostdev> -->", "<?x <hostdev> ?>", "<!---->", "\r\n \t"}) {
        const auto read = parse_domain_xml(
            junk + "<domain>" + junk + "<name>" + "g" + "</name>" + junk + "<devices>" + junk +
                hostdev("<hostdev type='mdev' model='vfio-ap'>" + junk) + junk + "</devices></domain>" + junk,
            "x");
        EXPECT_EQ(read.name, "g") << junk;
        EXPECT_EQ(read.vfio_ap.size(), 1U) << junk;
    }
    EXPECT_THAT(refusal("<!-- " + domain("") + " -->"), HasSubstr("cut off; expected a <domain> element"));
    for (const char* junk : {"<!-- -- -->", "<?xml version='1.0'?>", "<![CDATA[a]]", "<!ELEMENT a EMPTY>",
                             "]]>", "<!DOCTYPE a>", "</a>", "&", "<a b='<'/>", "<a b=c/>", "<a b/>"})
        EXPECT_THAT(refusal(domain(junk)), HasSubstr("not well-formed")) << junk;
}

TEST(DomainXml, counts_elements_and_attributes_of_no_namespace_alone) {
    const std::string open = "<hostdev type='mdev' model='vfio-ap'>";
    EXPECT_EQ(hostdevs_in("<devices xmlns:x='urn:x'>" + hostdev(open) + "</devices>"), 1U);
    EXPECT_EQ(hostdevs_in("<devices xmlns='urn:x'>" + hostdev(open) + "</devices>"), 0U);
    EXPECT_EQ(hostdevs_in("<x:devices xmlns:x='urn:x'>" + hostdev(open) + "</x:devices>"), 0U);
    EXPECT_EQ(hostdevs_in("<devices>" + hostdev("<hostdev xmlns='urn:x' type='mdev' model='vfio-ap'>") +
                          "</devices>"),
              0U);
    EXPECT_EQ(hostdevs_in("<a xmlns='urn:x'><devices xmlns=''>" + hostdev(open) + "</devices></a>"), 0U);
    EXPECT_EQ(hostdevs_in("<devices xmlns:x='urn:x'>" +
                          hostdev("<hostdev x:type='mdev' type='pci' model='vfio-ap'>") + "</devices>"),
              0U);
    EXPECT_EQ(
        hostdevs_in("<devices xmlns:x='urn:x'>" +
                    hostdev("<hostdev x:type='pci' x:mode='x' type='mdev' model='vfio-ap'>") + "</devices>"),
        1U);
    EXPECT_THAT(refusal("<domain xmlns='urn:x'><name>g</name></domain>"),
                HasSubstr("root element <domain> of a namespace; expected <domain> without a namespace"));
    EXPECT_EQ(parse_domain_xml("<domain xmlns=''><name>g</name></domain>", "x").name, "g");
    EXPECT_EQ(
        parse_domain_xml("<domain xml:space='preserve' xml:lang='en'><name>g</name></domain>", "x").name,
        "g");
    EXPECT_THAT(refusal(domain("<x:a/>")), HasSubstr("not well-formed"));
    EXPECT_THAT(refusal(domain("<a x:b=''/>")), HasSubstr("not well-formed"));
}

TEST(DomainXml, takes_the_first_of_what_libvirt_takes_the_first_and_all_devices) {
    const auto one = hostdev("<hostdev type='mdev' model='vfio-ap'>");
    EXPECT_EQ(hostdevs_in("<devices>" + one + "</devices><a/><devices>" + one + "</devices>"), 2U);
    const auto alias = [](const std::string& inside) {
        const auto read = parse_domain_xml(
            domain("<devices>" + hostdev("<hostdev type='mdev' model='vfio-ap'>" + inside) + "</devices>"),
            "x");
        return read.vfio_ap.at(0).alias + (read.vfio_ap.at(0).iommufd ? " iommufd" : "");
    };
    EXPECT_EQ(alias("<alias name='a'/><alias name='b'/>"), "a");
    EXPECT_EQ(alias("<alias/><alias name='b'/>"), "b");
    EXPECT_EQ(alias("<a><alias name='a'/></a>"), "");
    EXPECT_EQ(alias("<driver iommufd='yes'/>"), " iommufd");
    EXPECT_EQ(alias("<driver iommufd='yes'/><driver iommufd='no'/>"), "");
    const auto read = parse_domain_xml(
        domain("<memoryBacking><source type='file'/><source type='memfd'/><access mode='shared'/><hugepages/>"
               "</memoryBacking><iommufd enabled='yes'/><launchSecurity type='s390-pv'/><launchSecurity "
               "type='sev'/><os><type arch='a'/></os><os><type arch='b'/></os>"),
        "x");
    EXPECT_EQ(read.live_update.memory_source, "memfd");
    EXPECT_EQ(read.live_update.memory_access, "shared");
    EXPECT_TRUE(read.live_update.hugepages);
    EXPECT_TRUE(read.live_update.iommufd);
    EXPECT_TRUE(read.secure_execution);
    EXPECT_EQ(read.arch, "a");
}

TEST(DomainXml, tells_of_devices_passed_by_arguments_of_qemu) {
    const auto read = [](const std::string& inside) {
        return parse_domain_xml(
                   "<domain xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><name>g</name>" + inside +
                       "</domain>",
                   "x")
            .live_update;
    };
    const auto argument = [](const std::string& rest) {
        return fmt::format("<q:arg value='{}/sys/bus/mdev/devices/{}{}'/>", "vfio-ap,sysfsdev=", mdev1, rest);
    };
    const auto both = read("<q:commandline>" + argument("") + argument(",iommufd=i0") + "</q:commandline>");
    EXPECT_EQ(both.devices, (std::vector<PassedDevice>{{uuid(mdev1), false}, {uuid(mdev1), true}}));
    EXPECT_TRUE(read("<commandline>" + argument("") + "</commandline>").devices.empty());
    EXPECT_TRUE(
        read("<devices><q:commandline>" + argument("") + "</q:commandline></devices>").devices.empty());
    EXPECT_TRUE(read("<q:commandline><q:a>" + argument("") + "</q:a></q:commandline>").devices.empty());
    EXPECT_TRUE(read("<q:commandline><q:arg value='a,aux-ram-share=on'/></q:commandline>").aux_ram_share);
    EXPECT_TRUE(read("<q:commandline><q:arg value='{&quot;aux-ram-share&quot;:true}'/></q:commandline>")
                    .aux_ram_share);
    EXPECT_FALSE(read("<q:commandline><q:arg value='a,aux-ram-share=on'/><q:arg value='a,aux-ram-share=off'/>"
                      "</q:commandline>")
                     .aux_ram_share);
    std::string many;
    for (unsigned i = 0; i < 20; ++i)
        many += argument("");
    EXPECT_EQ(read("<q:commandline>" + many + "</q:commandline>").devices.size(), 16U);
}

TEST(DomainXml, is_read_to_its_end_before_it_is_taken) {
    // Whatever stands between: a parser that reads in pieces may take the end of one for the end of all.
    for (const std::size_t blanks : {0U, 1U, 400U, 5000U, 70000U}) {
        const auto guest = domain("") + std::string(blanks, ' ');
        EXPECT_EQ(parse_domain_xml(guest, "x").name, "g");
        EXPECT_EQ(parse_domain_xml(guest + "<!-- a -->", "x").name, "g");
        for (const char* rest : {"<a/>", "x", "</domain>", "<![CDATA[]]>", "&#32;", "<", "<a"})
            EXPECT_THAT(refusal(guest + rest), HasSubstr("not well-formed")) << blanks << rest;
    }
}

TEST(DomainXml, may_have_long_texts_where_none_is_wanted) {
    const std::string text(std::size_t{6} * 1024 * 1024, '>');
    for (const auto& inside : {"<a>" + text + "</a>", "<a b='" + text + "'/>", "<!--" + text + "-->",
                               "<![CDATA[" + std::string(text.size(), ']') + "]]>", "<?a " + text + "?>"})
        EXPECT_EQ(parse_domain_xml(domain(inside), "x").name, "g") << inside.substr(0, 9);
    EXPECT_THAT(refusal(domain("<os><type arch='" + text + "'/></os>")), HasSubstr("arch of more than 4096"));
    EXPECT_THAT(refusal(domain("<devices><emulator>" + text + "</emulator></devices>")),
                HasSubstr("emulator of more than 4096"));
    EXPECT_THAT(refusal(domain("<uuid>" + text + "</uuid>")), HasSubstr("uuid of more than 4096"));
}

TEST(DomainXml, of_a_disk_with_as_many_layers_as_libvirt_allows_is_read) {
    std::string layers = "<backingStore/>";
    for (unsigned i = 0; i < 200; ++i)
        layers = "<backingStore type='file'><format type='qcow2'/><source file='/a'/>" + layers +
                 "</backingStore>";
    EXPECT_EQ(parse_domain_xml(domain("<devices><disk>" + layers + "</disk></devices>"), "x").name, "g");
}

TEST(DomainXml, limits_are_reached_before_they_are_passed) {
    const auto nested = [](std::size_t depth) {
        std::string open;
        std::string close;
        for (std::size_t i = 1; i < depth; ++i) {
            open += "<backingStore>";
            close += "</backingStore>";
        }
        return domain(open + close);
    };
    EXPECT_EQ(parse_domain_xml(nested(domain_xml_max_depth), "x").name, "g");
    EXPECT_THAT(refusal(nested(domain_xml_max_depth + 1)), HasSubstr("nested deeper"));

    const auto with_attributes = [](const char* form, std::size_t count) {
        std::string element = "<x";
        for (std::size_t i = 0; i < count; ++i)
            element += fmt::format(fmt::runtime(form), i);
        return domain(element + "/>");
    };
    EXPECT_EQ(parse_domain_xml(with_attributes(" a{}='>'", domain_xml_max_attributes), "x").name, "g");
    EXPECT_THAT(refusal(with_attributes(" a{}='>'", domain_xml_max_attributes + 1)),
                HasSubstr("more than 256 attributes"));
    EXPECT_EQ(parse_domain_xml(with_attributes(" xmlns:a{}='u'", domain_xml_max_attributes), "x").name, "g");

    // In force one after the other, not at one place.
    std::string siblings;
    for (std::size_t i = 0; i <= domain_xml_max_attributes; ++i)
        siblings += fmt::format("<a{0}:x xmlns:a{0}='u'/>", i);
    EXPECT_EQ(parse_domain_xml(domain(siblings), "x").name, "g");

    const auto named = [](std::size_t length) {
        return "<domain><name>" + std::string(length, 'n') + "</name></domain>";
    };
    EXPECT_EQ(parse_domain_xml(named(domain_xml_max_value), "x").name.size(), domain_xml_max_value);
    EXPECT_THAT(refusal(named(domain_xml_max_value + 1)), HasSubstr("name of more than"));

    auto padded = domain("");
    padded.resize(domain_xml_max_bytes, '\n');
    EXPECT_EQ(parse_domain_xml(padded, "x").name, "g");
    padded += '\n';
    EXPECT_EQ(refusal(padded), "x.xml: more than 8388608 bytes; expected a domain XML document");
}

TEST(DomainXml, of_many_names_is_refused_before_a_parser_keeps_them) {
    // Each piece has one name of its own, beside those that are there anyway: domain, type, name, x and
    // xmlns.
    constexpr std::size_t most = domain_xml_max_names - 5;
    for (const char* piece :
         {"<a{}/>", "<x\ta{} = \"\"\n/>", "<x xmlns='urn:{}'/>", "<x xmlns:a{}='x'/>", "<?a{}?>"}) {
        SCOPED_TRACE(piece);
        const auto with = [piece](std::size_t count) {
            std::string text = "<x xmlns='x'/>";
            for (std::size_t i = 0; i < count; ++i)
                text += fmt::format(fmt::runtime(piece), i);
            return domain(text);
        };
        EXPECT_EQ(parse_domain_xml(with(most), "x").name, "g");
        EXPECT_THAT(refusal(with(most + 1)), HasSubstr("more than 16384 different names"));
    }
    // One name many times is one, and what is no name may differ.
    std::string same;
    for (std::size_t i = 0; i < 2 * most; ++i)
        same += fmt::format("<a b='{0}'>{0}<!--<a{0}>--><![CDATA[<a{0}>]]></a><?a <a{0}>?>", i);
    EXPECT_EQ(parse_domain_xml(domain(same), "x").name, "g");
}

TEST(DomainXml, quotes_and_tags_in_comments_and_cdata_are_not_counted_as_attributes) {
    std::string quotes;
    for (std::size_t i = 0; i <= domain_xml_max_attributes; ++i)
        quotes += " a='b'";
    const std::vector<std::string> harmless{"<!-- <x" + quotes + "> -->", "<![CDATA[ <x" + quotes + "> ]]>",
                                            "<?x <x" + quotes + ">?>", "<title>" + quotes + "</title>"};
    for (const auto& inside : harmless)
        EXPECT_EQ(parse_domain_xml(domain(inside), "x").name, "g") << inside.substr(0, 12);
    // What only looks like the beginning of a comment hides nothing.
    EXPECT_THAT(refusal(domain("<x a='<!--'/><x" + quotes + "/>")), HasSubstr("more than 256 attributes"));
}

TEST(DomainXml, long_enough_to_tire_a_parser_takes_no_time) {
    // Without limits, and stops at the first error, one of these alone would run for hours.
    const auto start = std::chrono::steady_clock::now();
    const auto full = [](std::string text, std::string_view piece) {
        text.reserve(domain_xml_max_bytes);
        while (text.size() + piece.size() <= domain_xml_max_bytes)
            text += piece;
        return text;
    };
    std::string unique = "<domain ";
    for (unsigned i = 0; unique.size() < domain_xml_max_bytes - 20; ++i)
        unique += fmt::format("a{}='' ", i);
    EXPECT_THAT(refusal(unique), HasSubstr("attributes"));
    EXPECT_THAT(refusal(full("<domain>", "<x:y/>")), HasSubstr("not well-formed"));
    EXPECT_THAT(refusal(full("<domain>", "<a>")), HasSubstr("nested deeper"));
    std::string names = "<domain>";
    for (unsigned i = 0; names.size() < domain_xml_max_bytes - 20; ++i)
        names += fmt::format("<a{}/>", i);
    EXPECT_THAT(refusal(names), HasSubstr("different names"));
    EXPECT_THAT(refusal(full("<domain><name>", "&amp;")), HasSubstr("name of more than"));
    EXPECT_THAT(refusal(full("<domain><!--", "- ")), HasSubstr("cut off"));
    EXPECT_THAT(refusal(full("<domain a='", "&lt;")), HasSubstr("cut off"));
    const auto hostdev = fmt::format(
        "<hostdev type='mdev' model='vfio-ap'><source><address uuid='{}'/></source></hostdev>\n", mdev1);
    auto hostdevs = full("<domain><name>g</name><devices>\n", hostdev);
    hostdevs.resize(hostdevs.size() - hostdev.size());
    const auto read = parse_domain_xml(hostdevs + "</devices></domain>", "x");
    EXPECT_GT(read.vfio_ap.size(), 60000U);
    EXPECT_EQ(read.vfio_ap.back().line, read.vfio_ap.size() + 1);
    // Seconds at most, even slowed down by a sanitizer and a busy machine.
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::minutes{1});
}

TEST(DomainXml, too_long_to_be_one_is_not_read_to_its_end) {
    // From a file, without looking at its size: it may be a pipe or /dev/zero as well.
    const auto path = testing::TempDir() + fmt::format("vfioap-domain-{}.xml", getpid());
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ASSERT_GE(file, 0);
    ASSERT_EQ(ftruncate(file, off_t{100} * 1024 * 1024), 0);
    EXPECT_THROW(load_domain_xml(file, "big"), InputError);
    const auto got = lseek(file, 0, SEEK_CUR);
    EXPECT_GT(got, static_cast<off_t>(domain_xml_max_bytes));
    EXPECT_LE(got, static_cast<off_t>(domain_xml_max_bytes) + 128 * 1024);
    EXPECT_THROW(load_domain_xml(path), InputError);
    close(file);
    std::remove(path.c_str());

    // From something that has no size.
    std::array<int, 2> ends{};
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    std::size_t written = 0;
    std::thread writer{[&] {
        const std::string piece(64 * 1024, ' ');
        while (written < std::size_t{100} * 1024 * 1024) {
            const auto count = send(ends[1], piece.data(), piece.size(), MSG_NOSIGNAL);
            if (count <= 0) break;
            written += static_cast<std::size_t>(count);
        }
        close(ends[1]);
    }};
    try {
        load_domain_xml(ends[0], "standard input");
        ADD_FAILURE() << "accepted";
    } catch (const InputError& error) {
        EXPECT_STREQ(error.what(), "standard input: more than 8388608 bytes; expected a domain XML document");
    }
    close(ends[0]);
    writer.join();
    EXPECT_LE(written, domain_xml_max_bytes + 2 * 1024 * 1024);
    EXPECT_THROW(load_domain_xml("/dev/zero"), InputError);
}

TEST(DomainXml, comes_from_a_descriptor_in_any_pieces) {
    const auto bytes = bytes_of(data_path("good/live.xml"));
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    std::thread writer{[&] {
        for (const char byte : bytes)
            if (write(ends[1], &byte, 1) != 1) break;
        close(ends[1]);
    }};
    const auto read = load_domain_xml(ends[0], "standard input");
    writer.join();
    EXPECT_EQ(fcntl(ends[0], F_GETFD), FD_CLOEXEC) << "it is the caller's to close";
    close(ends[0]);
    EXPECT_EQ(read, load_domain_xml(data_path("good/live.xml")));
}

TEST(DomainXml, that_cannot_be_read_is_an_error_of_the_system) {
    const auto number = [](auto load) {
        try {
            load();
        } catch (const SystemError& error) {
            return error.number();
        }
        return 0;
    };
    EXPECT_EQ(number([] { load_domain_xml(data_path("good/not_there.xml")); }), ENOENT);
    EXPECT_EQ(number([] { load_domain_xml(data_path("good")); }), EISDIR);
    EXPECT_EQ(number([] { load_domain_xml(-1, "standard input"); }), EBADF);
    EXPECT_EQ(number([] { load_domain_xml("-"); }), ENOENT) << "a file of that name, not standard input";
}

TEST(DomainXml, is_read_by_several_threads_at_once) {
    std::vector<std::thread> threads;
    std::array<bool, 4> same{};
    for (auto& result : same) {
        threads.emplace_back([&result] {
            result = true;
            for (const auto& row : good_documents())
                result =
                    result && load_domain_xml(data_path(std::string{"good/"} + row.file)) == row.expected;
        });
    }
    for (auto& thread : threads)
        thread.join();
    EXPECT_THAT(same, testing::Each(true));
}

}  // namespace
}  // namespace vfioap
