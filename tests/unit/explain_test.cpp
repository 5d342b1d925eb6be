// SPDX-License-Identifier: LGPL-2.1-or-later
// The catalogue against its own examples and against what the check predicts; logs against what explain says.
#include "explain/explain.h"

#include "compat/check.h"
#include "compat/messages.h"
#include "explain/attempt.h"
#include "explain/log_line.h"
#include "explain/pattern.h"
#include "report/explanation.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/move.h"

namespace vfioap {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr const char* mdev_name = "62177883-f1bb-47f0-914d-32a22e3a8804";
constexpr const char* other_name = "0fd6f5b1-5bb0-4c3e-b44c-4d4ae41a2c52";

const std::string logs = VFIOAP_TEST_DATA "/logs/";

std::string contents(const std::string& path) {
    std::ifstream file{path, std::ios::binary};
    EXPECT_TRUE(file) << path;
    std::ostringstream text;
    text << file.rdbuf();
    return std::move(text).str();
}

Explanation explain(std::string_view text, const ExplainContext& context = {}) {
    Explainer explainer;
    explainer.read("log", text);
    return explainer.finish(context);
}

std::string kernel(std::string_view text, std::string_view mdev = mdev_name) {
    return fmt::format("Nov 21 03:12:45 lpar-b kernel: vfio_ap_mdev {}: {}\n", mdev, text);
}

std::string virsh(std::string_view error) {
    return fmt::format("error: operation failed: job 'migration in' failed: load of migration failed: {}\n",
                       error);
}

const Cause* cause_of(const Migration& migration, RuleId id) {
    for (const auto& cause : migration.causes)
        if (cause.rule == id) return &cause;
    return nullptr;
}

TEST(Catalogue, has_records_with_ids_of_their_own_and_patterns_that_the_search_can_find) {
    std::set<std::string_view> ids;
    for (const auto& record : messages()) {
        EXPECT_TRUE(ids.insert(record.id).second) << record.id;
        EXPECT_NE(record.pattern.front(), '{') << record.id;
        const auto anchor = Pattern{record}.anchor();
        EXPECT_GE(anchor.size(), AnchorSearch::shortest) << record.id;
        EXPECT_LE(anchor.size(), 128U) << record.id;
        // In JSON these would be escaped, and not be found.
        EXPECT_EQ(anchor.find_first_of("\"\\\n"), std::string_view::npos) << record.id;
        EXPECT_FALSE(record.versions.empty()) << record.id;
        EXPECT_EQ(record.kind == MessageKind::cause,
                  record.rules.count > 0 && record.kind != MessageKind::refused)
            << record.id;
    }
}

TEST(Catalogue, matches_every_example_with_the_prefix_of_its_record) {
    for (const auto& record : messages()) {
        const auto match = Pattern{record}.find(record.example, 0, record.example.size());
        ASSERT_TRUE(match) << record.id;
        if (record.prefix != MessagePrefix::none) {
            ASSERT_TRUE(match->mdev) << record.id;
            EXPECT_EQ(match->mdev->to_string(), mdev_name) << record.id;
            EXPECT_THAT(std::string{record.example},
                        HasSubstr(fill(prefix_pattern(record.prefix), {{"uuid", mdev_name}})))
                << record.id;
        }
        const auto per_queue = record.pattern.find("{queue}") != std::string_view::npos;
        if (per_queue) {
            EXPECT_THAT(match->queues, ElementsAre(Apqn(5, 4))) << record.id;
        }
    }
}

TEST(Catalogue, names_the_rule_of_every_example) {
    for (const auto& record : messages()) {
        if (record.rules.count == 0) continue;
        const auto explanation = explain(record.example);
        ASSERT_THAT(explanation.migrations, SizeIs(1)) << record.id;
        const auto& migration = explanation.migrations.front();
        const auto named =
            record.id.starts_with("hwinfo")
                ? (record.id == "hwinfo" ? RuleId::queue_checkstopped : RuleId::queue_deconfigured)
                : record.rules.ids[0];
        ASSERT_FALSE(migration.causes.empty()) << record.id;
        EXPECT_EQ(rule(migration.causes.front().rule).name, rule(named).name) << record.id;
        EXPECT_EQ(to_text(migration.causes.front().host), to_text(record.host)) << record.id;
    }
}

/// What the check predicts is what explain reads: every line, for its rule and its queue.
class Predicted : public testing::Test {
  protected:
    static void expect_recognised(const Report& report) {
        for (const auto& finding : report.findings) {
            if (finding.kernel_lines.empty()) continue;
            seen_.insert(finding.rule);
            for (const auto queue : finding.queues.empty() ? std::vector<Apqn>{{}} : finding.queues) {
                auto one = finding;
                if (!finding.queues.empty()) one.queues = {queue};
                std::string log;
                for (const auto& line : kernel_messages(one))
                    log += "[   12.345678] " + line + '\n';
                const auto explanation = explain(log);
                ASSERT_THAT(explanation.migrations, SizeIs(1)) << log;
                const auto* const cause = cause_of(explanation.migrations.front(), finding.rule);
                ASSERT_NE(cause, nullptr) << rule(finding.rule).name << '\n' << log;
                if (log.find(queue.to_string()) != std::string::npos) {
                    EXPECT_THAT(cause->queues, ElementsAre(queue)) << log;
                }
            }
        }
        std::string all;
        for (const auto& line : predicted_kernel_log(report))
            all += line + '\n';
        if (all.empty()) return;
        const auto explanation = explain(all);
        ASSERT_THAT(explanation.migrations, SizeIs(1)) << all;
        for (const auto index : report.prediction.findings) {
            const auto& finding = report.findings[index];
            // Of profile compare only the first queue is logged.
            if (report.prediction.first_queue_only &&
                finding.queues.size() + finding.control_domains.size() > 0)
                continue;
            EXPECT_NE(cause_of(explanation.migrations.front(), finding.rule), nullptr)
                << rule(finding.rule).name << '\n'
                << all;
        }
    }
    inline static std::set<RuleId> seen_;
};

TEST_F(Predicted, lines_of_hardware_are_recognised) {
    constexpr std::uint32_t base = test::cca_functions;
    for (const auto world : {test::World::compare, test::World::restore}) {
        for (unsigned number = 0; number < 18; ++number) {
            for (const bool swapped : {false, true}) {
                test::Move move{world};
                move.adapters = {5};
                move.domains = {4, 0x47};
                move.there = test::Move::Assigned{{5}, {4, 0x47}, {}};
                const auto set = [number](bool on) {
                    return [number, on](Inventory& host) {
                        for (const std::uint8_t domain : {std::uint8_t{4}, std::uint8_t{0x47}}) {
                            const auto bit = std::uint32_t{1} << (31U - number);
                            test::queue_of(host, {5, domain}).ap_functions = on ? base | bit : base & ~bit;
                        }
                    };
                };
                move.edit_source = set(swapped);
                move.edit_destination = set(!swapped);
                expect_recognised(move.report());
            }
        }
        test::Move move{world};
        move.edit_destination = [](Inventory& host) { test::card_of(host, 5).raw_hwtype = 13; };
        expect_recognised(move.report());
    }
    for (const auto id : {RuleId::queue_apsc, RuleId::queue_ap4km, RuleId::queue_ap4kc, RuleId::queue_mode,
                          RuleId::queue_apxa, RuleId::queue_slcf, RuleId::queue_type, RuleId::queue_bs})
        EXPECT_TRUE(seen_.contains(id)) << rule(id).name;
}

TEST_F(Predicted, lines_of_the_configuration_are_recognised) {
    for (const auto world : {test::World::compare, test::World::restore}) {
        {
            test::Move move{world};
            move.there = test::Move::Assigned{{5}, {4}, {}};
            expect_recognised(move.report());
        }
        {
            test::Move move{world};
            move.edit_destination = [](Inventory& host) {
                test::queue_of(host, {5, 4}).driver = "cex4queue";
            };
            expect_recognised(move.report());
        }
        {
            test::Move move{world};
            move.edit_destination = [](Inventory& host) {
                host.ap->ap_control_domain_mask.mask = Mask{};
                Mdev rival{*Uuid::parse(other_name)};
                rival.adapters.set(5);
                rival.domains.set(4);
                host.mdevs.push_back(std::move(rival));
                host.sort();
            };
            expect_recognised(move.report());
        }
        {
            test::Move move{world};
            move.edit_destination = [](Inventory& host) { host.prot_virt_guest = true; };
            expect_recognised(move.report());
        }
    }
    for (const auto id :
         {RuleId::queue_count, RuleId::queue_not_assigned, RuleId::queue_not_bound,
          RuleId::control_domain_missing, RuleId::queue_assigned_elsewhere, RuleId::host_secure_execution})
        EXPECT_TRUE(seen_.contains(id)) << rule(id).name;
}

TEST(Predictions, of_virsh_are_recognised) {
    for (const auto& meaning : errno_meanings()) {
        const auto text = message_line("load-failed", {{"error", strerrordesc_np(meaning.error)}});
        const auto match = Pattern{message("load-failed")}.find(text, 0, text.size());
        ASSERT_TRUE(match) << text;
        EXPECT_EQ(errno_of(match->text), meaning.error) << text;
    }
}

TEST(Logs, are_explained_as_their_index_says) {
    std::ifstream index{logs + "index.txt"};
    std::string line;
    unsigned files = 0;
    while (std::getline(index, line)) {
        if (line.empty() || line.front() == '#') continue;
        std::istringstream words{line};
        std::string file;
        std::string outcome;
        std::string id;
        std::string host;
        std::string confidence;
        std::string origin;
        words >> file >> outcome >> id >> host >> confidence >> origin;
        std::vector<std::string> queues;
        for (std::string queue; words >> queue;)
            if (queue != "-") queues.push_back(queue);
        ++files;
        SCOPED_TRACE(file);
        EXPECT_THAT(origin, testing::AnyOf("hand", "recorded"));
        const auto explanation = explain(contents(logs + file));
        ASSERT_THAT(explanation.migrations, SizeIs(1));
        const auto& migration = explanation.migrations.front();
        EXPECT_EQ(to_text(migration.outcome), outcome);
        EXPECT_EQ(explanation.explained(),
                  outcome == "completed" || (confidence != "possible" && confidence != "-"));
        if (id == "-") {
            EXPECT_THAT(migration.causes, IsEmpty());
            EXPECT_THAT(migration.missing, Not(IsEmpty()));
            continue;
        }
        ASSERT_THAT(migration.causes, Not(IsEmpty()));
        const auto& cause = migration.causes.front();
        EXPECT_EQ(rule(cause.rule).name, id);
        EXPECT_EQ(to_text(cause.host), host);
        EXPECT_EQ(to_text(cause.confidence), confidence);
        std::vector<std::string> found;
        for (const auto queue : cause.queues)
            found.push_back(queue.to_string());
        EXPECT_EQ(found, queues);
        for (const auto& each : migration.causes) {
            EXPECT_THAT(each.evidence, Not(IsEmpty())) << rule(each.rule).name;
            EXPECT_THAT(each.remedies, Not(IsEmpty())) << rule(each.rule).name;
            EXPECT_FALSE(each.message.empty());
        }
    }
    EXPECT_GE(files, 40U);
}

TEST(Explain, tells_guests_apart_whose_lines_stand_between_each_other) {
    const auto explanation = explain(contents(logs + "several/two-guests.log"));
    ASSERT_THAT(explanation.migrations, SizeIs(2));
    const auto& first = explanation.migrations[0];
    const auto& second = explanation.migrations[1];
    EXPECT_EQ(first.mdev->to_string(), mdev_name);
    EXPECT_THAT(first.causes, SizeIs(1));
    EXPECT_EQ(first.causes.front().rule, RuleId::queue_type);
    EXPECT_THAT(first.causes.front().queues, ElementsAre(Apqn(5, 4)));
    EXPECT_THAT(first.evidence, ElementsAre(Field(&Evidence::line, 5U)));
    EXPECT_EQ(second.mdev->to_string(), other_name);
    EXPECT_EQ(second.causes.front().rule, RuleId::queue_not_bound);
    EXPECT_THAT(second.evidence, ElementsAre(Field(&Evidence::line, 4U)));
}

TEST(Explain, tells_one_attempt_from_the_next) {
    const auto lines =
        kernel("Queue 06.0047 not available to vfio_ap driver on target host") + virsh("No such device");
    EXPECT_THAT(explain(lines).migrations, SizeIs(1));
    EXPECT_THAT(explain(lines + lines + lines).migrations, SizeIs(3));
}

TEST(Explain, joins_what_the_logs_of_both_hosts_say) {
    Explainer explainer;
    explainer.read("virsh", virsh("Bad address"));
    explainer.read("source",
                   "2026-11-21 03:12:44.000+0000: initiating migration\n"
                   "2026-11-21T03:12:45.0Z qemu-system-s390x: Sibling indicated error 1\n");
    explainer.read("destination",
                   kernel("Migration failed: Source and target queues (05.0004) are not compatible") +
                       kernel("AP type of source (0e) not compatible with target (0d)"));
    const auto explanation = explainer.finish({});
    ASSERT_THAT(explanation.migrations, SizeIs(1));
    const auto& migration = explanation.migrations.front();
    EXPECT_EQ(migration.destination_host, "lpar-b");
    ASSERT_THAT(migration.causes, SizeIs(1));
    EXPECT_EQ(migration.causes.front().rule, RuleId::queue_type);
    EXPECT_THAT(migration.causes.front().evidence, ElementsAre(Field(&Evidence::source, "destination")));
    EXPECT_THAT(migration.evidence, SizeIs(3));
}

TEST(Explain, gives_candidates_and_the_next_command_for_an_errno_alone) {
    const auto explanation = explain(virsh("Bad address"));
    ASSERT_THAT(explanation.migrations, SizeIs(1));
    const auto& migration = explanation.migrations.front();
    EXPECT_TRUE(explanation.explained());
    EXPECT_GE(migration.causes.size(), 5U);
    EXPECT_THAT(migration.missing, Contains(HasSubstr("on the destination: journalctl -k")));
    EXPECT_FALSE(explain(virsh("Invalid argument")).explained());
}

TEST(Explain, finds_nothing_in_other_lines) {
    const auto explanation =
        explain("Nov 21 03:12:45 lpar-b systemd[1]: Started a migration of nothing.\n\n\0\xff\n");
    EXPECT_THAT(explanation.migrations, IsEmpty());
    EXPECT_FALSE(explanation.explained());
}

TEST(Explain, finds_lines_wherever_they_lie_in_the_buffer_and_keeps_their_numbers) {
    const auto line = kernel("Queue 06.0047 not available to vfio_ap driver on target host");
    for (const std::size_t before :
         {LogScanner::buffer_size - 200, LogScanner::buffer_size - 60, LogScanner::buffer_size - 1,
          LogScanner::buffer_size, 3 * LogScanner::buffer_size}) {
        std::string text;
        while (text.size() + 80 < before)
            text += std::string(79, 'x') + '\n';
        text += std::string(before - text.size() - 1, 'y') + '\n';
        const auto number = static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n')) + 1;
        const auto explanation = explain(text + line + "end\n");
        ASSERT_THAT(explanation.migrations, SizeIs(1)) << before;
        ASSERT_THAT(explanation.migrations.front().causes.front().evidence,
                    ElementsAre(Field(&Evidence::line, number)))
            << before;
    }
}

TEST(Explain, finds_a_message_once_in_a_line_of_megabytes) {
    const std::string message = "Queue 06.0047 not available to vfio_ap driver on target host";
    for (const std::size_t at :
         {std::size_t{0}, std::size_t{70'000}, LogScanner::buffer_size - 8192, LogScanner::buffer_size - 8200,
          LogScanner::buffer_size - 20, LogScanner::buffer_size + 1, std::size_t{9'999'000}}) {
        std::string text(10'000'000, 'x');
        text.replace(at, message.size(), message);
        const auto explanation = explain(text);
        ASSERT_THAT(explanation.migrations, SizeIs(1)) << at;
        EXPECT_THAT(explanation.migrations.front().causes.front().evidence,
                    ElementsAre(Field(&Evidence::line, 1U)))
            << at;
        EXPECT_LE(explanation.migrations.front().causes.front().evidence.front().text.size(), 400U);
    }
}

TEST(Explain, limits_what_it_keeps) {
    std::string text;
    for (unsigned i = 0; i < 500; ++i) {
        text += kernel("Queue 06.0047 not available to vfio_ap driver on target host",
                       fmt::format("62177883-f1bb-47f0-914d-{:012x}", i));
    }
    const auto explanation = explain(text);
    EXPECT_THAT(explanation.migrations, SizeIs(Explainer::most_migrations));
    EXPECT_TRUE(explanation.more);
}

TEST(Explain, shows_no_control_characters_whatever_is_in_the_log) {
    const auto explanation = explain(contents(logs + "hostile-bytes.log"));
    const auto text = render_explanation_text(explanation, {});
    for (const char c : text)
        ASSERT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= ' ') << text;
    EXPECT_THAT(text, Not(HasSubstr("\x7f")));
    EXPECT_THAT(text, Not(HasSubstr("\xe2\x80\xae")));
    EXPECT_THAT(render_explanation_json(explanation), Not(HasSubstr("\\u001b")));
}

TEST(Explain, keeps_the_remedies_of_the_hooks_report) {
    const auto explanation = explain(contents(logs + "hook-veto-virsh.log"));
    ASSERT_THAT(explanation.migrations, SizeIs(1));
    const auto& migration = explanation.migrations.front();
    EXPECT_EQ(migration.guest, "guest1");
    EXPECT_EQ(migration.destination_host, "lpar-b");
    ASSERT_THAT(migration.causes, SizeIs(1));
    const auto& cause = migration.causes.front();
    EXPECT_EQ(cause.message, "lpar-b: 1 queue is not bound to vfio_ap but to cex4queue");
    ASSERT_THAT(cause.remedies, SizeIs(1));
    EXPECT_THAT(cause.remedies.front().commands, ElementsAre("echo -0x06 > /sys/bus/ap/apmask"));
}

TEST(Explain, recognises_what_the_text_report_prints_as_a_veto) {
    test::Move move{test::World::restore};
    move.edit_destination = [](Inventory& host) { test::queue_of(host, {5, 4}).driver = "cex4queue"; };
    const auto report = move.report();
    const auto explanation = explain(
        "error: Hook script execution failed: internal error: Child process (x) "
        "unexpected exit status 1: " +
        render_text(report, {}));
    ASSERT_THAT(explanation.migrations, SizeIs(1));
    const auto* const cause = cause_of(explanation.migrations.front(), RuleId::queue_not_bound);
    ASSERT_NE(cause, nullptr);
    EXPECT_THAT(cause->queues, ElementsAre(Apqn(5, 4)));
    const auto found = std::find_if(report.findings.begin(), report.findings.end(),
                                    [](const Finding& f) { return f.rule == RuleId::queue_not_bound; });
    ASSERT_NE(found, report.findings.end());
    EXPECT_EQ(cause->remedies.front().commands, found->remedies.front().commands);
}

TEST(Explain, takes_remedies_from_the_inventories_and_says_whether_they_explain_it) {
    test::Move broken{test::World::restore};
    broken.edit_destination = [](Inventory& host) { test::queue_of(host, {5, 4}).driver = "cex4queue"; };
    const auto report = broken.report();
    ExplainContext context;
    context.judge = [&](const std::string&, const std::optional<Uuid>&, Profile) {
        return std::optional{report};
    };
    const auto line = kernel("Queue 05.0004 not available to vfio_ap driver on target host");
    const auto shown = explain(line, context).migrations.front();
    ASSERT_THAT(shown.causes, SizeIs(1)) << "queue.missing is not what the host shows";
    EXPECT_EQ(shown.causes.front().rule, RuleId::queue_not_bound);
    EXPECT_EQ(shown.causes.front().confidence, Certainty::certain);
    EXPECT_THAT(shown.causes.front().message, HasSubstr("the inventories show it"));
    EXPECT_FALSE(shown.causes.front().remedies.front().commands.empty());
    EXPECT_THAT(shown.missing, Not(Contains(HasSubstr("changed"))));

    // Of what the inventories show of one queue only, the other is left as it was.
    const auto two =
        explain(line + kernel("Queue 06.0004 not available to vfio_ap driver on target host"), context)
            .migrations.front();
    ASSERT_THAT(two.causes, SizeIs(3));
    EXPECT_THAT(two.causes[0].queues, ElementsAre(Apqn(5, 4)));
    EXPECT_EQ(two.causes[0].confidence, Certainty::certain);
    EXPECT_THAT(two.causes[1].queues, ElementsAre(Apqn(6, 4)));
    EXPECT_EQ(two.causes[1].confidence, Certainty::likely);
    EXPECT_EQ(two.causes[2].rule, RuleId::queue_missing);
    EXPECT_THAT(two.causes[2].queues, ElementsAre(Apqn(6, 4)));
    EXPECT_THAT(two.missing, Contains(HasSubstr("do not show queue.not-bound of 06.0004")));

    const auto only = explain(virsh("No such device"), context).migrations.front();
    EXPECT_EQ(only.causes.front().rule, RuleId::queue_not_bound);
    EXPECT_THAT(only.causes.front().queues, ElementsAre(Apqn(5, 4)));

    const auto whole = test::Move{test::World::restore}.report();
    context.judge = [&](const std::string&, const std::optional<Uuid>&, Profile) {
        return std::optional{whole};
    };
    const auto changed = explain(line, context).migrations.front();
    EXPECT_THAT(changed.missing, Contains(HasSubstr("changed")));
}

TEST(LogLine, knows_when_and_where_it_was_written) {
    const auto at = [](std::string_view text) {
        const auto line = parse_log_line(text);
        return fmt::format("{} {} {:.3f}", line.host.empty() ? "-" : line.host,
                           line.time ? static_cast<int>(line.time->kind) : -1,
                           line.time ? line.time->seconds : 0);
    };
    EXPECT_EQ(at("Nov 21 03:12:45 lpar-b kernel: x"), "lpar-b 1 28091565.000");
    EXPECT_EQ(at("2026-11-21T03:12:45+0100 lpar-b virtqemud[12]: x"), "lpar-b 0 1795227165.000");
    EXPECT_EQ(at("2026-11-21 02:12:45.500+0000: 1196: error : f:1 : x"), "- 0 1795227165.500");
    EXPECT_EQ(at("[   12.500000] vfio_ap_mdev x"), "- 2 12.500");
    EXPECT_EQ(at("[Sat Nov 21 02:12:45 2026] vfio_ap_mdev x"), "- 0 1795227165.000");
    EXPECT_EQ(at("2026-11-21T02:12:45,500000+00:00 vfio_ap_mdev 6: x"), "- 0 1795227165.500");
    EXPECT_EQ(at(R"({"MESSAGE":"x","_HOSTNAME":"lpar-b","__REALTIME_TIMESTAMP":"1795227165000000"})"),
              "lpar-b 0 1795227165.000");
    EXPECT_EQ(at("error: x"), "- -1 0.000");
    EXPECT_EQ(at("{\"MESSAGE\":"), "- -1 0.000");
}

}  // namespace
}  // namespace vfioap
