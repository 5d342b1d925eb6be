// SPDX-License-Identifier: LGPL-2.1-or-later
// Text for terminals: what is let through, how wide it is and where it breaks; and that whatever prints text
// for people keeps to it.
#include "report/text.h"

#include "cli/plan_service.h"
#include "compat/check.h"
#include "explain/explain.h"
#include "plan/render.h"
#include "report/explanation.h"
#include "text/columns.h"
#include "text/safe.h"
#include "text/style.h"
#include "text/utf8.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/example_hosts.h"
#include "support/host_builder.h"
#include "support/kernel_model.h"
#include "support/move.h"
#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using testing::HasSubstr;
using testing::Not;

struct SafeRow {
    std::string_view text;
    std::string_view expected;
};

TEST(SafeText, has_what_a_terminal_shows_and_a_question_mark_for_all_else) {
    using namespace std::string_view_literals;
    const std::vector<SafeRow> rows{
        {"", ""},
        {"plain ~", "plain ~"},
        {"Größe 漢 … → 👍", "Größe 漢 … → 👍"},
        {"e\u0301", "e\u0301"},            // a combining accent
        {"\u00a0\u202f", "\u00a0\u202f"},  // blanks that do not break
        {"\u200a \u2010", "\u200a \u2010"},
        {"\u2027 \u2030", "\u2027 \u2030"},
        {"\ufdff\ufffc\ufffd", "\ufdff\ufffc\ufffd"},
        {"\U0010fffd", "\U0010fffd"},
        // Controls.
        {"a\x1b[31mred\x07", "a?[31mred?"},
        {"line\nbreak\r\t\x7f", "line?break???"},
        {"a\0b"sv, "a?b"},
        {"x\u009b31m\u0080\u009f", "x?31m??"},  // U+009B introduces a control sequence
        // Direction: U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069.
        {"g\u202e1tseug", "g?1tseug"},
        {"\u061c\u200e\u200f", "???"},
        {"\u202a\u202b\u202c\u202d\u202e", "?????"},
        {"\u2066\u2067\u2068\u2069", "????"},
        // Lines that are not `\n`.
        {"\u2028\u2029", "??"},
        // Nothing to be seen.
        {"gu\u200best \u200c\u200d\u2060\ufeff", "gu?est ????"},
        {"\u00ad\u034f\u115f\u1160\u17b4\u180e\u3164\uffa0", "????????"},
        {"\u2061\u206a\ufe00\ufe0f\ufff9\ufffb", "??????"},
        {"\U0001d173\U000e0001\U000e0041\U000e0100", "????"},
        // Not UTF-8: each byte.
        {"\xff\xfe", "??"},
        {"\xc0\xaf", "??"},            // overlong
        {"\xed\xa0\x80", "???"},       // a surrogate
        {"\xf4\x90\x80\x80", "????"},  // beyond Unicode
        {"ok\xe2\x80", "ok??"},        // cut off
        {"\xe2\x80z", "??z"},
    };
    for (const auto& row : rows)
        EXPECT_EQ(safe(row.text), row.expected) << testing::PrintToString(row.text);
}

struct PrintableRow {
    std::string_view text;
    std::size_t max_bytes;
    std::string_view expected;
};

TEST(PrintableText, is_one_line_of_ascii) {
    using namespace std::string_view_literals;
    const std::vector<PrintableRow> rows{
        {"Namespace prefix x\n", 80, "Namespace prefix x"},
        {" \r\n\t ", 80, ""},
        {"", 80, ""},
        {"a\x1b[31m\nb\x7f", 80, "a?[31m?b?"},
        {"\u009b1m \u202e", 80, "??1m ???"},
        {"a\0b"sv, 80, "a?b"},
        {"0123456789", 10, "0123456789"},
        {"0123456789a", 10, "0123456..."},
        {"0123456789a", 2, ".."},
    };
    for (const auto& row : rows)
        EXPECT_EQ(printable(row.text, row.max_bytes), row.expected) << testing::PrintToString(row.text);
}

std::string utf8_of(char32_t code) {
    const auto byte = [](unsigned value) { return static_cast<char>(static_cast<unsigned char>(value)); };
    const auto follows = [&](unsigned shift) { return byte(0x80U | (code >> shift & 0x3fU)); };
    if (code < 0x80) return {byte(code)};
    if (code < 0x800) return {byte(0xc0U | code >> 6U), follows(0)};
    if (code < 0x10000) return {byte(0xe0U | code >> 12U), follows(6), follows(0)};
    return {byte(0xf0U | code >> 18U), follows(12), follows(6), follows(0)};
}

TEST(Utf8, characters_are_those_of_unicode) {
    for (char32_t code = 0; code < 0x110000; ++code) {
        if (code >= 0xd800 && code < 0xe000) continue;
        const auto text = utf8_of(code);
        // What is replaced is as wide as what stands for it.
        if (utf8_length(text) != text.size() || utf8_code_point(text) != code ||
            columns(text) != columns(safe(text)))
            FAIL() << fmt::format("U+{:04X}", std::uint32_t{code});
    }
}

struct ColumnsRow {
    std::string_view text;
    std::size_t expected;
};

TEST(Columns, are_those_that_a_terminal_takes) {
    const std::vector<ColumnsRow> rows{
        {"", 0},
        {"guest1", 6},
        {"Größe → …", 9},
        {"漢字", 4},
        {"한글", 4},
        {"\u1112\u1161\u11ab", 2},  // the same syllable as 한, by its letters
        {"ﾊﾝ", 2},                  // halfwidth
        {"ＡＢ", 4},                // fullwidth
        {"👍", 2},
        {"e\u0301a", 2},
        {"\u0e01\u0e34", 1},  // Thai, with a vowel above
        {"\U00020000", 2},
        {"\u202e\x07", 2},  // shown as ??
        {"\xff\xe2\x80", 3},
        {"\x1b[1;31mINCOMPATIBLE:\x1b[0m ", 14},
        {"\x1b[1;31\x1b[0", 9},  // no colours: shown as ?[1;31?[0
    };
    for (const auto& row : rows)
        EXPECT_EQ(columns(row.text), row.expected) << testing::PrintToString(row.text);
}

TEST(Columns, are_padded_with_blanks) {
    EXPECT_EQ(padded("ab", 4), "ab  ");
    EXPECT_EQ(padded("漢", 4), "漢  ");
    EXPECT_EQ(padded("e\u0301", 2), "e\u0301 ");
    EXPECT_EQ(padded("abcde", 4), "abcde");
}

struct WrapRow {
    std::string label;
    std::string_view words;
    std::size_t left;
    std::size_t width;
    std::string_view expected;
};

TEST(Wrap, breaks_between_words_where_a_line_would_be_too_long) {
    const std::vector<WrapRow> rows{
        {"", "", 2, 10, "\n"},
        {"  what  ", "", 2, 10, "  what  \n"},
        {"", "aaaa bbbbb", 2, 10, "aaaa bbbbb\n"},
        {"", "aaaa bbbbbb", 2, 10, "aaaa\n  bbbbbb\n"},
        {"> ", "aaa bbbb c", 2, 10, "> aaa bbbb\n  c\n"},
        {"> ", "aaa bbbbb c", 2, 10, "> aaa\n  bbbbb c\n"},
        // A word that fits nowhere.
        {"> ", "aaaaaaaaaaaa b", 2, 10, "> aaaaaaaaaaaa\n  b\n"},
        {"> ", "b aaaaaaaaaaaa", 2, 10, "> b\n  aaaaaaaaaaaa\n"},
        // The same words in colours break at the same places.
        {styled(Style::error, "NO:", false) + ' ', "aaa bbb", 2, 11, "NO: aaa bbb\n"},
        {styled(Style::error, "NO:", true) + ' ', "aaa bbb", 2, 11, "\x1b[1;31mNO:\x1b[0m aaa bbb\n"},
        {styled(Style::error, "NO:", true) + ' ', "aaa bbb", 2, 10, "\x1b[1;31mNO:\x1b[0m aaa\n  bbb\n"},
        // Columns, neither bytes nor characters.
        {"", "äöü äöü äö", 0, 10, "äöü äöü äö\n"},
        {"", "漢字 漢字 a", 0, 10, "漢字 漢字\na\n"},
        {"", "漢字 漢字", 0, 9, "漢字 漢字\n"},
        {"", "漢字 漢字", 0, 8, "漢字\n漢字\n"},
        {"", "e\u0301e\u0301 ee", 0, 5, "e\u0301e\u0301 ee\n"},
        // Words from outside neither break a line nor colour it.
        {"", "a\nb \x1b[1m\u202ec", 0, 20, "a?b ?[1m?c\n"},
    };
    for (const auto& row : rows)
        EXPECT_EQ(wrap(row.label, row.words, row.left, row.width), row.expected) << row.words;
}

// What prints text, in colours.

constexpr std::array<unsigned, 3> widths{40, 80, 120};

std::string without_colors(std::string_view text) {
    std::string plain;
    while (!text.empty()) {
        const auto escape = text.find("\x1b[");
        plain += text.substr(0, escape);
        if (escape == std::string_view::npos) break;
        text.remove_prefix(text.find('m', escape) + 1);
    }
    return plain;
}

/// Renders in colours and without, at each width.
template <typename Value>
void expect_same_in_colors(std::string (*render)(const Value&, const TextOptions&), const Value& value) {
    for (const auto width : widths) {
        const auto plain = render(value, {.color = false, .width = width});
        const auto colored = render(value, {.color = true, .width = width});
        EXPECT_EQ(without_colors(colored), plain) << "at width " << width;
    }
}

TEST(Colors, leave_reports_and_plans_as_they_are) {
    const auto hosts = test::example_hosts();
    Guest guest{"guest-with-a-rather-long-name-1", {}, {test::uuid(test::example_mdev)}};
    for (const auto& source : hosts) {
        if (!source.mdevs.empty()) guest.mdevs = {source.mdevs.front().uuid};
        const auto described = describe_source(guest, source);
        for (const auto& destination : hosts) {
            SCOPED_TRACE(source.name + " to " + destination.name);
            expect_same_in_colors(render_text, check(guest, described, destination, {}));
            expect_same_in_colors(render_plan_text, make_plan(guest, described, destination, {}));
        }
    }
}

TEST(Colors, leave_explanations_as_they_are) {
    unsigned logs = 0;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator{std::string{VFIOAP_TEST_DATA} + "/logs"}) {
        if (!entry.is_regular_file()) continue;
        SCOPED_TRACE(entry.path().filename().string());
        Explainer explainer;
        explainer.read(entry.path().filename().string(), test::text_of(entry.path().string()));
        const auto explanation = explainer.finish({});
        expect_same_in_colors(render_explanation_text, explanation);
        ++logs;
    }
    EXPECT_GE(logs, 40U);
}

// What prints text, of words that others wrote.

/// One of each kind that must not reach a terminal; as it is in text, and the same within JSON strings.
constexpr std::array<std::string_view, 8> hostile{"\u202e", "\u2067", "\u200f", "\u200b",
                                                  "\ufeff", "\u2028", "\u009b", "\x1b"};

void expect_safe(const std::string& text, std::string_view mark) {
    EXPECT_THAT(text, Not(HasSubstr(std::string{mark})));
    EXPECT_THAT(text, HasSubstr("a?z"));
}

TEST(HostileText, does_not_come_through_reports_plans_and_scripts) {
    for (const auto mark : hostile) {
        const auto word = fmt::format("a{}z", mark);
        SCOPED_TRACE(testing::PrintToString(word));
        test::Move move{test::World::detached};
        move.guest.name = "guest-" + word;
        auto source = move.left();
        source.name = "left-" + word;
        source.location = "snapshot:/left-" + word;
        auto destination = move.right();
        destination.name = "right-" + word;
        destination.location = "snapshot:/right-" + word;
        test::queue_of(destination, {5, 4}).driver = "driver-" + word;
        for (const bool same_name : {false, true}) {
            if (same_name) destination.name = source.name;
            const auto described = describe_source(move.guest, source);
            auto report = check(move.guest, described, destination, move.options);
            report.findings.at(0).remedies.push_back(
                {Side::destination, "text " + word, {"command " + word}});
            report.findings.at(0).kernel_lines.push_back("kernel " + word);
            report.prediction.virsh = "virsh " + word;
            expect_safe(render_text(report, {.all_queues = true}), mark);
            expect_safe(render_brief(report, {}, 30, "rest " + word), mark);
            expect_safe(render_brief(report, "headline " + word, 30, "rest"), mark);
            const auto plan = make_plan(move.guest, described, destination, {move.options});
            EXPECT_EQ(plan.state, Plan::State::complete);
            expect_safe(render_plan_text(plan, {}), mark);
            expect_safe(render_plan_script(plan), mark);
        }
        destination.unreadable.push_back({"devices/ap/card05/" + word, 0, "detail " + word});
        destination.unreadable.push_back({"devices/ap/card05/05.0004/ap_functions", 5, "detail " + word});
        const auto plan =
            make_plan(move.guest, describe_source(move.guest, source), destination, {move.options});
        EXPECT_EQ(plan.state, Plan::State::undetermined);
        expect_safe(render_text(plan.report, {}), mark);
        expect_safe(render_plan_text(plan, {}), mark);
        expect_safe(render_plan_script(plan), mark);
    }
}

TEST(HostileText, does_not_come_through_explanations) {
    for (const auto mark : hostile) {
        const auto word = fmt::format("a{}z", mark);
        SCOPED_TRACE(testing::PrintToString(word));
        const Evidence line{"file-" + word, 1, "text " + word};
        Cause cause;
        cause.message = "message " + word;
        cause.evidence = {line};
        cause.remedies = {{Side::destination, "text " + word, {"command " + word}}};
        Migration migration;
        migration.guest = "guest-" + word;
        migration.source_host = "left-" + word;
        migration.destination_host = "right-" + word;
        migration.causes = {cause};
        migration.missing = {"missing " + word};
        expect_safe(render_explanation_text(Explanation{{migration}}, {}), mark);
        migration.evidence = {line};
        expect_safe(render_explanation_text(Explanation{{migration}}, {}), mark);

        // From a log, which names the guest and the host.
        Explainer explainer;
        explainer.read("log-" + word, fmt::format("error: operation failed: job 'migration in' failed: load "
                                                  "of migration failed: Bad address {}\n"
                                                  "guest-{}: vfio_ap_mdev {}: {}\n",
                                                  word, word, test::example_mdev, word));
        ExplainContext context;
        context.source = "left-" + word;
        context.destination = "right-" + word;
        const auto text = render_explanation_text(explainer.finish(context), {});
        EXPECT_THAT(text, Not(HasSubstr(std::string{mark})));
    }
}

TEST(HostileText, does_not_come_through_what_a_service_answers) {
    for (const auto mark : hostile) {
        const auto word = fmt::format("a{}z", mark);
        SCOPED_TRACE(testing::PrintToString(word));
        const nlohmann::json items{{{"text", "text " + word}, {"commands", {"command " + word}}}};
        nlohmann::json document{{"schema", "vfioap-apply/1"}, {"action", "apply"},
                                {"reason", "reason " + word}, {"guest", "guest-" + word},
                                {"host", "host-" + word},     {"plan", "complete"}};
        for (const auto* const list : {"steps", "undone", "failed", "left", "remaining"})
            document[list] = items;
        for (const auto* const state : {"done", "undone", "refused", "failed"}) {
            document["state"] = state;
            expect_safe(render_service_report(parse_service_report(document.dump(), "there")), mark);
        }
    }
}

}  // namespace
}  // namespace vfioap
