// SPDX-License-Identifier: LGPL-2.1-or-later
// The state element: what is written, read again, and refused.
#include "domain/state.h"

#include "ap/error.h"
#include "domain/domain_xml.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/host_builder.h"

namespace vfioap {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* mdev = "62177883-f1bb-47f0-914d-32a22e3a8804";
constexpr std::uint64_t cca = 0x928000000e000000;
constexpr std::uint64_t ep11 = 0x068000000e000000;

std::string data_path(const std::string& name) {
    return std::string{VFIOAP_TEST_DATA "/states/"} + name;
}

std::string bytes_of(const std::string& path) {
    std::ifstream file{path, std::ios::binary};
    EXPECT_TRUE(file) << path;
    return {std::istreambuf_iterator<char>{file}, {}};
}

DomainState empty_state() {
    return {test::uuid(mdev), "lpar-a", "l3", false, {}};
}

DomainState small_state() {
    auto state = empty_state();
    const auto keys = std::make_shared<const MasterKeys>(test::ep11_keys(6));
    state.configuration.queues = {{Apqn{5, 4}, Hwinfo{cca}, nullptr},
                                  {Apqn{5, 0x47}, Hwinfo{cca}, nullptr},
                                  {Apqn{6, 4}, Hwinfo{ep11}, keys},
                                  {Apqn{6, 0x47}, Hwinfo{ep11}, std::make_shared<const MasterKeys>(*keys)}};
    state.configuration.control_domains = Mask::of({4, 0x47});
    return state;
}

/// As libvirt shows it: a line for each element, six blanks in.
std::size_t formatted_size(const std::string& element) {
    std::size_t lines = 2;
    for (std::size_t at = 0; (at = element.find("></", at + 1)) != std::string::npos;)
        ++lines;
    for (std::size_t at = 0; (at = element.find("><vfioap:", at + 1)) != std::string::npos;)
        ++lines;
    return element.size() + lines * 7;
}

DomainState again(const DomainState& state) {
    return parse_state(state_element(state), "again");
}

/// Every queue there can be.
DomainState largest(const std::function<Hwinfo(unsigned)>& hwinfo) {
    auto state = empty_state();
    for (unsigned i = 0; i < ap_queues; ++i)
        state.configuration.queues.push_back(
            {Apqn::from_number(static_cast<std::uint16_t>(i)), hwinfo(i), nullptr});
    state.configuration.control_domains = Mask::all();
    return state;
}

std::string refusal(std::string_view bytes) {
    try {
        parse_state(bytes, "x.xml");
    } catch (const InputError& error) {
        return error.what();
    }
    ADD_FAILURE() << "accepted: " << bytes.substr(0, 500);
    return {};
}

TEST(State, is_written_as_the_manual_shows) {
    const auto keys = test::ep11_keys(6).lines();
    EXPECT_EQ(state_element(small_state()),
              fmt::format("<vfioap:config xmlns:vfioap=\"urn:vfioap:domain:1\" mdev=\"{}\" host=\"lpar-a\" "
                          "layout=\"l3\">"
                          "<vfioap:queues tapq=\"0x928000000e000000\">05.0004 05.0047</vfioap:queues>"
                          "<vfioap:queues tapq=\"0x068000000e000000\">06.0004 06.0047</vfioap:queues>"
                          "<vfioap:control-domains>0004 0047</vfioap:control-domains>"
                          "<vfioap:master-keys registers=\"{}; {}\">06.0004 06.0047</vfioap:master-keys>"
                          "</vfioap:config>",
                          mdev, keys.at(0), keys.at(1)));
    EXPECT_EQ(again(small_state()), small_state());
}

TEST(State, for_libvirt_has_no_prefix_and_no_declaration) {
    auto state = small_state();
    state.detached = true;
    const auto text = state_metadata(state);
    EXPECT_THAT(text, StartsWith("<config mdev="));
    EXPECT_THAT(text, HasSubstr(" layout=\"l3\" detached=\"yes\">"));
    EXPECT_EQ(text.find("vfioap"), std::string::npos);
    EXPECT_EQ(parse_state(text, "x"), state);
    auto prefixed = state_element(state);
    for (const std::string_view removed : {" xmlns:vfioap=\"urn:vfioap:domain:1\"", "vfioap:"}) {
        for (auto at = prefixed.find(removed); at != std::string::npos; at = prefixed.find(removed))
            prefixed.erase(at, removed.size());
    }
    EXPECT_EQ(prefixed, text);
}

TEST(State, of_many_queues_is_written_in_ranges) {
    auto state = empty_state();
    for (const unsigned apid : {1U, 2U, 3U, 5U, 6U}) {
        for (const unsigned apqi : {0U, 1U, 4U, 5U, 6U, 0xffU})
            state.configuration.queues.push_back(
                {Apqn{static_cast<std::uint8_t>(apid), static_cast<std::uint8_t>(apqi)}, {}, nullptr});
    }
    EXPECT_THAT(state_element(state),
                HasSubstr("<vfioap:queues>01-03.0000 01-03.0001 01-03.0004-0006 01-03.00ff "
                          "05.0000 05.0001 05.0004-0006 05.00ff 06.0000 06.0001 06.0004-0006 06.00ff<"));
    EXPECT_EQ(again(state), state);
}

TEST(State, of_the_largest_guest_is_short) {
    const auto state = largest([](unsigned) { return Hwinfo{cca}; });
    EXPECT_LT(state_element(state).size(), 500U);
    EXPECT_EQ(again(state), state);
}

TEST(State, of_queues_that_all_differ_keeps_below_the_limit) {
    const std::map<std::string, std::function<Hwinfo(unsigned)>> cases{
        {"each its own", [](unsigned i) { return Hwinfo{cca + i}; }},
        {"wild", [](unsigned i) { return Hwinfo{i * 0x9e3779b97f4a7c15}; }},
        {"two in turn", [](unsigned i) { return Hwinfo{i % 2 == 0 ? cca : ep11}; }},
        {"1000 in turn", [](unsigned i) { return Hwinfo{cca + i % 1000}; }},
        {"3000 in turn", [](unsigned i) { return Hwinfo{cca + i % 3000}; }},
    };
    for (const auto& [name, hwinfo] : cases) {
        SCOPED_TRACE(name);
        const auto state = largest(hwinfo);
        EXPECT_LT(formatted_size(state_element(state)), state_max_bytes);
        EXPECT_EQ(again(state), state);
    }
}

TEST(State, keeps_below_the_limit_by_leaving_master_keys_out) {
    // Adapter 0 has the same keys everywhere, all other queues have their own.
    std::vector<std::shared_ptr<const MasterKeys>> all(256,
                                                       std::make_shared<const MasterKeys>(test::cca_keys(1)));
    for (unsigned i = 256; i < ap_queues; ++i)
        all.push_back(std::make_shared<const MasterKeys>(test::cca_keys(i)));
    for (const bool wild : {false, true}) {
        auto state = largest([&](unsigned i) { return Hwinfo{wild ? i * 0x9e3779b97f4a7c15 : cca}; });
        for (unsigned i = 0; i < ap_queues; ++i)
            state.configuration.queues[i].master_keys = all[i];
        const auto text = state_element(state);
        EXPECT_LT(formatted_size(text), state_max_bytes);
        EXPECT_EQ(text, state_element(state));
        const auto read = parse_state(text, "x");
        std::size_t known = 0;
        for (unsigned i = 0; i < ap_queues; ++i) {
            const auto& keys = read.configuration.queues[i].master_keys;
            EXPECT_EQ(read.configuration.queues[i].hwinfo, state.configuration.queues[i].hwinfo);
            if (i < 256) {
                ASSERT_TRUE(keys);
            }
            if (!keys) continue;
            ++known;
            ASSERT_EQ(*keys, *state.configuration.queues[i].master_keys);
        }
        EXPECT_GT(known, 700U);
        // What could be read is written again as it was.
        EXPECT_EQ(state_element(read), text);
    }
}

TEST(State, with_master_keys_that_differ_by_domain_has_room_for_all) {
    auto state = largest([](unsigned i) { return Hwinfo{i % 512 < 256 ? cca : ep11}; });
    for (unsigned i = 0; i < ap_queues; ++i)
        state.configuration.queues[i].master_keys = std::make_shared<const MasterKeys>(
            i % 512 < 256 ? test::cca_keys(i % 256) : test::ep11_keys(i % 256));
    EXPECT_LT(formatted_size(state_element(state)), state_max_bytes);
    EXPECT_EQ(again(state), state);
}

TEST(State, that_is_random_comes_back_the_same) {
    std::mt19937 random{
        20261121};  // NOLINT(bugprone-random-generator-seed, cert-msc51-cpp): the same each time
    const auto up_to = [&](unsigned last) {
        return std::uniform_int_distribution<unsigned>{0, last}(random);
    };
    for (int round = 0; round < 100; ++round) {
        auto state = empty_state();
        state.host =
            round % 3 == 0 ? "l\xc3\xa4nder & <co> \"1\" 'x' &#38; &amp;" : "h" + std::to_string(round);
        state.layout = round % 4 == 0 ? "" : "l2b";
        state.detached = round % 2 == 0;
        const unsigned chance = up_to(4);
        const unsigned kinds = up_to(5) + 1;
        std::vector<std::shared_ptr<const MasterKeys>> keys{nullptr};
        for (unsigned i = 0; i < kinds; ++i)
            keys.push_back(
                std::make_shared<const MasterKeys>(i % 2 == 0 ? test::cca_keys(i) : test::ep11_keys(i)));
        const auto last = up_to(round % 10 == 0 ? ap_queues - 1 : 1200);
        for (unsigned i = 0; i <= last; ++i) {
            if (up_to(4) > chance) continue;
            GuestQueue queue{Apqn::from_number(static_cast<std::uint16_t>(i)), {}, keys[up_to(kinds)]};
            if (up_to(5) != 0) queue.hwinfo = Hwinfo{cca + (kinds > 4 ? i : up_to(kinds))};
            state.configuration.queues.push_back(std::move(queue));
            if (up_to(3) == 0) state.configuration.control_domains.set(up_to(255));
        }
        const auto text = state_element(state);
        ASSERT_EQ(parse_state(text, "x"), state) << text.substr(0, 2000);
        ASSERT_EQ(state_element(parse_state(text, "x")), text);
        ASSERT_EQ(parse_state(state_metadata(state), "x"), state);
    }
}

TEST(State, takes_no_host_that_is_no_line_of_text) {
    const std::map<std::string, std::string> cases{{"", "unknown"},
                                                   {"a\nb", "a?b"},
                                                   {"a\x1b[31m", "a?[31m"},
                                                   {"\xff", "?"},
                                                   {"\xc2\x85", "??"},
                                                   {"a\xef\xbf\xbf", "a???"},
                                                   {"l\xc3\xa4", "l\xc3\xa4"},
                                                   {std::string(300, 'x'), std::string(253, 'x') + "..."}};
    for (const auto& [host, written] : cases) {
        auto state = empty_state();
        state.host = host;
        EXPECT_EQ(again(state).host, written);
    }
    auto state = empty_state();
    state.layout = "L3 \"";
    EXPECT_EQ(again(state).layout, "");
}

TEST(State, may_have_what_later_versions_know) {
    const auto text = fmt::format(
        "<c:config xmlns:c='urn:vfioap:domain:1' xmlns:x='urn:x' mdev='{0}' host='h' later='1' x:mdev='2'>"
        "<c:later><c:queues>77.0001</c:queues></c:later>text<x:queues>99</x:queues><queues>88</queues>"
        "<c:control-domains later=''>\n 0004\t0006-0006 </c:control-domains>"
        "<c:queues tapq='0x928000000E000000' x:tapq='3'>05.0004<!-- one "
        "-->\n<c:b>05.0005</c:b>06-07.00FE-00ff"
        "</c:queues></c:config>",
        mdev);
    auto expected = empty_state();
    expected.host = "h";
    expected.layout = "";
    expected.configuration.control_domains = Mask::of({4, 6});
    for (const auto apqn : {Apqn{5, 4}, Apqn{6, 0xfe}, Apqn{6, 0xff}, Apqn{7, 0xfe}, Apqn{7, 0xff}})
        expected.configuration.queues.push_back({apqn, Hwinfo{cca}, nullptr});
    EXPECT_EQ(parse_state(text, "x"), expected);
}

struct Bad {
    const char* file;
    const char* message;  ///< after `x.xml: `
};
const std::vector<Bad>& bad_states() {
    static const std::vector<Bad> rows{
        {"bad_control_domain.xml",
         "line 2, column 3: \"47\" in <control-domains>; expected YYYY, or an ascending range: 0004-0047"},
        {"bad_detached.xml", "line 1, column 1: a state with detached \"true\"; expected yes or no"},
        {"bad_layout.xml",
         "line 1, column 1: a state with layout \"L3\"; expected 1 to 16 lower-case letters and digits"},
        {"bad_mdev.xml",
         "line 1, column 1: a state with mdev \"../../x\"; expected a UUID of the form 8-4-4-4-12"},
        {"bad_queue.xml",
         "line 2, column 3: \"5.0004\" in a list of queues; expected XX.YYYY, or ascending ranges: "
         "05-07.0004-0047"},
        {"control_domain_descending.xml", "line 2, column 3: \"0047-0004\" in <control-domains>; expected"},
        {"control_domain_twice.xml", "line 2, column 3: control domain 0004 twice; expected each once"},
        {"control_domains_twice.xml", "line 3, column 3: more than one <control-domains>; expected one"},
        {"control_in_host.xml", "line 1, column 1: a state with host \"a??b\"; expected"},
        {"cut_off.xml", "line 2, "},
        {"descending_adapters.xml",
         "line 2, column 3: \"07-05.0004\" in a list of queues; expected XX.YYYY, or ascending ranges: "
         "05-07.0004-0047"},
        {"descending_domains.xml",
         "line 2, column 3: \"05.0047-0004\" in a list of queues; expected XX.YYYY, or ascending ranges: "
         "05-07.0004-0047"},
        {"domain.xml", "line 1, column 1: root element <domain>; expected <config>"},
        {"domain_too_large.xml",
         "line 2, column 3: \"05.0100\" in a list of queues; expected XX.YYYY, or ascending ranges: "
         "05-07.0004-0047"},
        {"empty.xml", "line 1, column 1: nothing in it; expected a <config> element"},
        {"empty_layout.xml", "line 1, column 1: a state with layout \"\"; expected"},
        {"empty_queues.xml",
         "line 2, column 3: a list of queues with nothing in it; expected at least one queue"},
        {"entity.xml",
         "line 1, column 1: a document type declaration; expected a <config> element without one"},
        {"everything_many_times.xml", "line 2, column 3: queue 00.0000 twice; expected each once"},
        {"hwinfo_bad_padding.xml", "line 2, column 3: hwinfo that does not fit"},
        {"hwinfo_bits_left.xml", "line 2, column 3: hwinfo that does not fit"},
        {"hwinfo_long.xml", "line 2, column 3: hwinfo that does not fit its 1 queues"},
        {"hwinfo_no_base64.xml", "line 2, column 3: hwinfo that does not fit"},
        {"hwinfo_short.xml",
         "line 2, column 3: hwinfo that does not fit its 2 queues; expected 8 bytes for each in base64"},
        {"hwinfo_without_queues.xml", "line 2, column 3: a list of queues with nothing in it"},
        {"key_pattern_short.xml",
         "line 3, column 3: registers \"WK CUR: valid 0xab; WK NEW: empty -\"; expected"},
        {"key_register_twice.xml",
         "line 3, column 3: registers \"WK NEW: empty -; WK NEW: empty -\"; expected"},
        {"keys_of_an_unknown_kind.xml", "line 3, column 3: registers \"XYZ CUR: valid 0x00\"; expected"},
        {"keys_of_no_queue.xml",
         "line 1, column 1: master keys of queue 06.0047; expected those of a queue of the state"},
        {"keys_twice.xml", "line 4, column 3: queue 06.0004 twice; expected each once"},
        {"keys_without_registers.xml",
         "line 3, column 3: registers \"\"; expected lines as of mkvps, each register once, parted by \"; "
         "\""},
        {"long_host.xml",
         "line 1, column 1: a state with host "
         "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...\"; expected"},
        {"many_registers.xml", "line 3, column 3: registers \"WK NEW: empty -; "},
        {"no_host.xml",
         "line 1, column 1: a state with host \"\"; expected a name of 1 to 256 bytes on one line"},
        {"no_mdev.xml", "line 1, column 1: a state without an mdev; expected the UUID of one"},
        {"open_range.xml",
         "line 2, column 3: \"05.0004-\" in a list of queues; expected XX.YYYY, or ascending ranges: "
         "05-07.0004-0047"},
        {"other_namespace.xml",
         "line 1, column 1: root element <config> of another namespace; expected <config> of the namespace "
         "urn:vfioap:domain:1, or of none"},
        {"other_root.xml", "line 1, column 1: root element <state> of another namespace; expected <config>"},
        {"queue_in_hwinfo_too.xml", "line 3, column 3: queue 05.0004 twice; expected each once"},
        {"queue_twice.xml", "line 2, column 3: queue 05.0004 twice; expected each once"},
        {"queue_twice_by_range.xml", "line 3, column 3: queue 06.0047 twice; expected each once"},
        {"queue_without_point.xml",
         "line 2, column 3: \"050004\" in a list of queues; expected XX.YYYY, or ascending ranges: "
         "05-07.0004-0047"},
        {"short_tapq.xml", "line 2, column 3: tapq \"0x92800000\"; expected 0x and 16 hexadecimal digits"},
        {"signed_tapq.xml", "line 2, column 3: tapq \"0x-28000000e000000\"; expected"},
        {"tapq_without_0x.xml", "line 2, column 3: tapq \"00928000000e000000\"; expected"},
        {"text.xml", "line 1, column 1: text that is not XML; expected a <config> element"},
        {"undeclared_prefix.xml", "line 1, "},
    };
    return rows;
}

std::set<std::string> names_in(const std::string& directory) {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator{directory})
        names.insert(entry.path().filename().string());
    return names;
}

TEST(State, that_is_bad_is_refused_with_its_place) {
    std::set<std::string> files;
    for (const auto& row : bad_states()) {
        SCOPED_TRACE(row.file);
        files.insert(row.file);
        const auto message = refusal(bytes_of(data_path(std::string{"bad/"} + row.file)));
        EXPECT_THAT(message, StartsWith(std::string{"x.xml: "} + row.message));
        EXPECT_TRUE(std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; }));
    }
    EXPECT_EQ(names_in(data_path("bad")), files);
}

TEST(State, that_is_good_is_read_and_written_again) {
    const auto files = names_in(data_path("good"));
    EXPECT_GE(files.size(), 5U);
    for (const auto& file : files) {
        SCOPED_TRACE(file);
        const auto state = parse_state(bytes_of(data_path("good/" + file)), file);
        EXPECT_EQ(again(state), state);
    }
}

TEST(State, that_was_tampered_with_is_refused_or_reads_as_another) {
    const auto text = state_element(small_state());
    for (std::size_t i = 0; i < text.size(); ++i) {
        for (const char c : {'\0', '<', '"', '0', 'f', ' ', '\xff'}) {
            auto changed = text;
            changed[i] = c;
            try {
                const auto state = parse_state(changed, "x");
                ASSERT_EQ(parse_state(state_element(state), "y"), state) << changed;
            } catch (const InputError& error) {
                ASSERT_THAT(error.what(), StartsWith("x: "));
            }
        }
        EXPECT_THROW(parse_state(std::string_view{text}.substr(0, i), "x"), InputError);
    }
}

TEST(State, of_more_than_the_limit_is_refused) {
    const auto text = state_element(small_state());
    const auto end = text.rfind("</");
    const auto message = refusal(text.substr(0, end) + std::string(state_max_bytes, ' ') + text.substr(end));
    EXPECT_THAT(message, HasSubstr("more than 1048576 bytes"));
}

std::string domain(const std::string& inside) {
    return "<domain type='kvm'>\n<name>g</name>" + inside + "\n</domain>";
}

TEST(DomainXml, gives_the_state_in_its_metadata) {
    const auto read = parse_domain_xml(domain("<metadata><other xmlns='urn:x'><config/></other>" +
                                              state_element(small_state()) + "</metadata>"),
                                       "x");
    ASSERT_TRUE(read.state) << read.state_error;
    EXPECT_EQ(*read.state, small_state());
    EXPECT_EQ(read.state_error, "");
    EXPECT_EQ(read.name, "g");
}

TEST(DomainXml, has_no_state_elsewhere) {
    const auto state = state_element(small_state());
    for (const auto& text : {
             domain(state),
             domain("<devices><metadata>" + state + "</metadata></devices>"),
             domain("<metadata><a>" + state + "</a></metadata>"),
             domain("<metadata><x:a xmlns:x='urn:vfioap:domain:1'>" + state + "</x:a></metadata>"),
             domain("<metadata xmlns='urn:x'>" + state + "</metadata>"),
             domain("<metadata>" + state_metadata(small_state()) + "</metadata>"),
             domain("<metadata><config xmlns='urn:vfioap:domain:2' mdev='1'/></metadata>"),
             domain("<metadata><state xmlns='urn:vfioap:domain:1' mdev='1'/></metadata>"),
         }) {
        const auto read = parse_domain_xml(text, "x");
        EXPECT_FALSE(read.state) << text;
        EXPECT_EQ(read.state_error, "") << text;
    }
}

TEST(DomainXml, is_as_good_with_a_bad_state) {
    const auto state = state_element(small_state());
    const std::map<std::string, std::string> cases{
        {"<metadata>\n" + state + "\n  " + state + "</metadata>",
         "line 4, column 3: a second state; expected one"},
        {"<metadata>" + state + "</metadata><metadata>\n" + state + "</metadata>",
         "line 3, column 1: a second state; expected one"},
        {"\n<metadata><config xmlns='urn:vfioap:domain:1' mdev='1'><queues/></config></metadata>",
         "line 3, column 11: a state with mdev \"1\"; expected a UUID of the form 8-4-4-4-12"}};
    for (const auto& [inside, expected] : cases) {
        const auto read = parse_domain_xml(
            domain(inside + "<devices><hostdev type='mdev' model='vfio-ap'><source><address uuid='" +
                   std::string{mdev} + "'/></source></hostdev></devices>"),
            "x");
        EXPECT_FALSE(read.state);
        EXPECT_EQ(read.state_error, expected);
        EXPECT_EQ(read.vfio_ap.size(), 1U);
    }
}

}  // namespace
}  // namespace vfioap
