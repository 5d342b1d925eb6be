// SPDX-License-Identifier: LGPL-2.1-or-later
// Reports as text and JSON: golden files, folding, wrapping, and what must not reach a terminal.
#include "compat/check.h"
#include "report/json.h"
#include "report/text.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/example_hosts.h"
#include "support/host_builder.h"
#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using test::HostBuilder;
using testing::HasSubstr;
using testing::Not;

Inventory example(const std::string& name) {
    const auto hosts = test::example_hosts();
    const auto found =
        std::find_if(hosts.begin(), hosts.end(), [&](const Inventory& host) { return host.name == name; });
    if (found == hosts.end()) throw std::logic_error{"no example host " + name};
    auto host = *found;
    host.location = "snapshot:/hosts/" + name + ".json";
    return host;
}

Guest guest1() {
    return Guest{
        "guest1", Uuid::parse("6b8f5c1e-2d4a-4e0f-9b1c-7a3d5e8f1c20"), {test::uuid(test::example_mdev)}};
}

Report report_of(const Guest& guest, const Inventory& source, const Inventory& destination,
                 CheckOptions options = {}) {
    return check(guest, describe_source(guest, source), destination, options);
}

// Golden files.

struct Golden {
    std::string name;
    Report report;
    TextOptions text;
};

void PrintTo(const Golden& golden, std::ostream* out) {
    *out << golden.name;
}

Inventory with_features(Inventory host) {
    host.vfio_ap->features->emplace_back(feature_migratable);
    return host;
}

/// The same host under another name and location.
Inventory renamed(Inventory host, const std::string& name) {
    host.name = name;
    host.location = "snapshot:/hosts/" + name + ".json";
    return host;
}

/// A host like lpar-a, ready for guest1, and what can be wrong with one.
HostBuilder ready(const std::string& name) {
    return HostBuilder(name)
        .z16()
        .card(0x05, "CEX8C")
        .card(0x06, "CEX8P")
        .domains({0x04, 0x47})
        .free_domains({0x04, 0x47})
        .mdev(test::example_mdev)
        .assign({0x05, 0x06}, {0x04, 0x47}, {0x04, 0x47});
}

std::vector<Golden> goldens() {
    std::vector<Golden> all;
    const auto a = example("lpar-a");
    const auto add = [&](const std::string& name, Report report, TextOptions text = {}) {
        all.push_back({name, std::move(report), text});
    };
    add("lpar-a-to-lpar-b", report_of(guest1(), a, example("lpar-b")));
    add("lpar-a-to-lpar-c", report_of(guest1(), a, example("lpar-c")));
    add("lpar-a-to-lpar-c-color", report_of(guest1(), a, example("lpar-c")), {true, false, 100});
    add("lpar-a-to-itself", report_of(guest1(), a, a));
    add("no-crypto", report_of(Guest{"web01", {}, {}}, a, example("lpar-b")));
    const auto source = with_features(renamed(ready("lpar-x").build(), "lpar-x"));
    const auto older = with_features(renamed(HostBuilder("lpar-y")
                                                 .z15()
                                                 .card(0x05, "CEX7A")
                                                 .card(0x06, "CEX7P")
                                                 .domains({0x04, 0x47})
                                                 .free_domains({0x04, 0x47})
                                                 .build(),
                                             "lpar-y"));
    add("native-restore-hardware", report_of(guest1(), source, older, {Mode::native, Profile::restore}));
    add("native-compare-hardware",
        report_of(guest1(), source,
                  with_features(renamed(HostBuilder("lpar-y")
                                            .z15()
                                            .card(0x05, "CEX7A")
                                            .card(0x06, "CEX7P")
                                            .domains({0x04, 0x47})
                                            .free_domains({0x04, 0x47})
                                            .mdev(test::example_mdev)
                                            .assign({0x05, 0x06}, {0x04, 0x47}, {0x04})
                                            .build(),
                                        "lpar-y")),
                  {Mode::native, Profile::compare}));
    add("native-today", report_of(guest1(), a, renamed(ready("lpar-z").build(), "lpar-z"),
                                  {Mode::native, Profile::automatic}));
    auto unreadable = renamed(ready("lpar-z").build(), "lpar-z");
    unreadable.unreadable.push_back({"devices/ap/card05/05.0004/ap_functions", 5, ""});
    add("unreadable", report_of(guest1(), a, unreadable));
    // Forty domains: long lists.
    HostBuilder::Numbers domains;
    for (std::uint8_t i = 0; i < 40; ++i)
        domains.push_back(i);
    const auto big = renamed(HostBuilder("big")
                                 .z16()
                                 .cards({0, 1, 2, 3}, "CEX8C")
                                 .domains(domains)
                                 .free_adapters({0, 1, 2, 3})
                                 .mdev(test::example_mdev)
                                 .assign({0, 1, 2, 3}, domains, domains)
                                 .build(),
                             "big");
    const auto bare = renamed(HostBuilder("bare")
                                  .z16()
                                  .cards({0, 1, 2, 3}, "CEX8C")
                                  .domains(domains)
                                  .mdev(test::example_mdev)
                                  .build(),
                              "bare");
    add("long-lists", report_of(guest1(), big, bare));
    add("long-lists-all-queues", report_of(guest1(), big, bare), {false, true, 80});
    return all;
}

class GoldenReport : public testing::TestWithParam<Golden> {};

/// Compares with tests/data/golden, or writes there where VFIOAP_UPDATE_GOLDEN is set.
void compare_with_file(const std::string& name, const std::string& text) {
    const std::string path = std::string{VFIOAP_TEST_DATA} + "/golden/" + name;
    if (std::getenv("VFIOAP_UPDATE_GOLDEN") != nullptr) {
        std::ofstream{path, std::ios::binary} << text;
        return;
    }
    std::ifstream in{path, std::ios::binary};
    std::stringstream expected;
    expected << in.rdbuf();
    EXPECT_EQ(text, expected.str())
        << path << ": if the new text is right, run the tests once with VFIOAP_UPDATE_GOLDEN=1";
}

TEST_P(GoldenReport, as_text_is_as_recorded) {
    compare_with_file(GetParam().name + ".txt", render_text(GetParam().report, GetParam().text));
}

TEST_P(GoldenReport, as_json_is_as_recorded) {
    compare_with_file(GetParam().name + ".json", render_json(GetParam().report));
}

TEST_P(GoldenReport, says_the_same_as_text_and_as_json) {
    const auto& report = GetParam().report;
    const auto json = nlohmann::json::parse(render_json(report));
    const auto text = render_text(report, {});
    std::string headline{to_text(report.verdict)};
    std::transform(headline.begin(), headline.end(), headline.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    EXPECT_EQ(text.substr(0, headline.size()), headline);
    EXPECT_EQ(json["verdict"], std::string{to_text(report.verdict)});
    ASSERT_EQ(json["findings"].size(), report.findings.size());
    // In the same order, and none left out.
    std::size_t from = 0;
    for (const auto& finding : json["findings"]) {
        const auto severity = finding["severity"].get<std::string>();
        from = text.find(
            severity + std::string(11 - severity.size(), ' ') + finding["rule"].get<std::string>() + '\n',
            from);
        ASSERT_NE(from, std::string::npos) << finding["rule"];
        ++from;
    }
}

TEST_P(GoldenReport, keeps_prose_within_the_width) {
    for (const unsigned width : {60U, 80U, 120U}) {
        std::istringstream text{render_text(GetParam().report, {false, false, width})};
        for (std::string line; std::getline(text, line);) {
            const auto columns = std::count_if(line.begin(), line.end(), [](char c) {
                return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
            });
            // What is there to be copied or compared is never broken, nor is a word.
            const bool verbatim =
                line.find("echo ") != std::string::npos || line.find("mdevctl ") != std::string::npos ||
                line.find("vfio_ap_mdev") != std::string::npos || line.find("error: ") != std::string::npos;
            if (!verbatim && line.find(' ', 13) != std::string::npos) {
                EXPECT_LE(columns, static_cast<long>(width)) << line;
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenReport, testing::ValuesIn(goldens()), [](const auto& param) {
    std::string name = param.param.name;
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

// What comes from outside.

TEST(TextReport, shows_no_escape_sequence_of_a_guests_name) {
    auto guest = guest1();
    guest.name = "evil\x1b]0;title\x07\n\xff";
    const auto report = report_of(guest, example("lpar-a"), example("lpar-b"));
    const auto text = render_text(report, {});
    EXPECT_THAT(text, Not(HasSubstr("\x1b")));
    EXPECT_THAT(text, HasSubstr("evil?]0;title???"));
    // JSON escapes it and stays JSON.
    EXPECT_TRUE(nlohmann::json::accept(render_json(report)));
}

TEST(TextReport, tells_hosts_of_the_same_name_apart) {
    auto twin = example("lpar-a");
    twin.location = "snapshot:/elsewhere/lpar-a.json";
    const auto text = render_text(report_of(guest1(), example("lpar-a"), twin), {});
    EXPECT_THAT(text, HasSubstr("lpar-a (snapshot:/hosts/lpar-a.json)"));
    EXPECT_THAT(text, HasSubstr("to\n  lpar-a (snapshot:/elsewhere/lpar-a.json)"));
}

TEST(TextReport, folds_a_list_only_when_that_saves_something) {
    Report report;
    report.guest = {"g", {}, test::uuid(test::example_mdev)};
    Finding finding;
    finding.rule = RuleId::queue_missing;
    for (std::uint8_t i = 0; i < 7; ++i)
        finding.queues.emplace_back(std::uint8_t{1}, i);
    report.findings = {finding};
    EXPECT_THAT(render_text(report, {}), HasSubstr("01.0005 01.0006\n"));
    report.findings[0].queues.emplace_back(std::uint8_t{1}, std::uint8_t{7});
    EXPECT_THAT(render_text(report, {}), HasSubstr("01.0005 … +2 more\n"));
    EXPECT_THAT(render_text(report, {false, true, 80}), HasSubstr("01.0006 01.0007\n"));
}

TEST(JsonReport, of_the_largest_guest_is_whole) {
    const auto host = test::largest_host();
    auto other = host;
    other.location = "elsewhere";
    for (auto& queue : other.queues)
        queue.driver = "cex4queue";
    Guest guest{"big", {}, {host.mdevs.at(0).uuid}};
    const auto report = report_of(guest, host, other, {Mode::native, Profile::restore});
    const auto json = nlohmann::json::parse(render_json(report));
    EXPECT_EQ(json["configuration"]["queues"].size(), report.queues.size());
    EXPECT_LT(render_text(report, {}).size(), 20000U);
}

}  // namespace
}  // namespace vfioap
