// SPDX-License-Identifier: LGPL-2.1-or-later
// What must hold of every check, whatever the hosts.
#include "compat/check.h"
#include "host/sysfs.h"
#include "report/json.h"

#include <algorithm>
#include <map>
#include <memory>
#include <random>

#include <gtest/gtest.h>

#include "support/example_hosts.h"
#include "support/fake_root.h"
#include "support/host_builder.h"

namespace vfioap {
namespace {

using test::FakeRoot;
using test::HostBuilder;

constexpr std::array all_options{CheckOptions{Mode::automatic, Profile::automatic, false},
                                 CheckOptions{Mode::detached, Profile::automatic, false},
                                 CheckOptions{Mode::native, Profile::automatic, false},
                                 CheckOptions{Mode::native, Profile::compare, false},
                                 CheckOptions{Mode::native, Profile::restore, false}};

Guest guest_of(const Uuid& mdev) {
    return Guest{"guest", {}, {mdev}};
}

std::vector<Apqn> queues_of(const Source& source) {
    std::vector<Apqn> queues;
    for (const auto& queue : source.configuration.queues)
        queues.push_back(queue.apqn);
    return queues;
}

/// All LPARs that are recorded, each with a sysfs root.
class World {
  public:
    World() {
        for (auto& host : test::example_hosts()) {
            roots_.push_back(std::make_unique<FakeRoot>(host));
            hosts_.push_back(SysfsRoot{roots_.back()->path()}.read_all(Depth::full));
        }
    }
    [[nodiscard]] const std::vector<Inventory>& hosts() const { return hosts_; }
    [[nodiscard]] SysfsRoot root(std::size_t index) const { return SysfsRoot{roots_[index]->path()}; }

  private:
    std::vector<std::unique_ptr<FakeRoot>> roots_;
    std::vector<Inventory> hosts_;
};

const World& world() {
    static const World everything;
    return everything;
}

TEST(Check, of_what_one_guest_needs_says_the_same_as_of_everything) {
    const auto& hosts = world().hosts();
    std::size_t checks = 0;
    for (std::size_t from = 0; from < hosts.size(); ++from) {
        // One guest of each host, and not all pairs: the large hosts take their time.
        if (hosts[from].mdevs.empty()) continue;
        const auto guest = guest_of(hosts[from].mdevs.front().uuid);
        const auto whole_source = describe_source(guest, hosts[from]);
        const auto source = describe_source(guest, world().root(from).read_for(guest.mdevs[0], {}));
        for (std::size_t to = 0; to < hosts.size(); ++to) {
            const auto destination = world().root(to).read_for(guest.mdevs[0], queues_of(source));
            for (const auto& options : all_options) {
                ASSERT_EQ(render_json(check(guest, source, destination, options)),
                          render_json(check(guest, whole_source, hosts[to], options)))
                    << hosts[from].name << " to " << hosts[to].name << ", " << to_text(options.mode) << ' '
                    << to_text(options.profile);
                ++checks;
            }
        }
    }
    EXPECT_GT(checks, 500U);
}

TEST(Check, of_a_host_with_itself_finds_it_compatible_for_every_guest_on_it) {
    for (const auto& host : world().hosts()) {
        for (const auto& mdev : host.mdevs) {
            const auto guest = guest_of(mdev.uuid);
            const auto report =
                check(guest, describe_source(guest, host), host, {Mode::detached, Profile::automatic});
            EXPECT_EQ(report.verdict, Verdict::compatible)
                << host.name << ' ' << mdev.uuid.to_string() << render_json(report);
            if (!Inventory{host}.has_feature(feature_migratable)) continue;
            for (const auto profile : {Profile::compare, Profile::restore}) {
                const auto native = check(guest, describe_source(guest, host), host, {Mode::native, profile});
                EXPECT_EQ(native.verdict, Verdict::compatible) << host.name << render_json(native);
            }
        }
    }
}

/// A host of a few cards and domains with everything that can differ drawn by chance.
class RandomHosts {
  public:
    explicit RandomHosts(unsigned seed) : random_{seed} {}

    Inventory host(const std::string& name) {
        static constexpr std::array models{"CEX6C", "CEX7C", "CEX8C", "CEX8P", "CEX7A", "CEX6P"};
        HostBuilder builder(name);
        builder.z16()
            .kernel(draw(2) == 0 ? test::Kernel::current : test::Kernel::restore)
            .domains({0, 1, 2, 3});
        for (const auto apid : std::array<std::uint8_t, 3>{1, 2, 3}) {
            if (draw(8) != 0) builder.card(apid, models[draw(models.size())]);
        }
        auto inventory = builder.build();
        for (auto& queue : inventory.queues) {
            queue.driver = draw(6) == 0 ? "cex4queue" : "vfio_ap";
            if (draw(10) == 0) queue.config = false;
            if (draw(10) == 0) queue.chkstop = true;
            if (draw(3) == 0) queue.ap_functions = 0x92800000U ^ (1U << draw(32));
        }
        std::erase_if(inventory.queues, [&](const Queue&) { return draw(12) == 0; });
        for (const char* const uuid : {test::example_mdev.data(), "11111111-2222-3333-4444-555555555555"}) {
            if (draw(6) == 0) continue;
            Mdev mdev{test::uuid(uuid)};
            for (unsigned i = 1; i < 4; ++i)
                mdev.adapters.set(i, draw(2) == 0);
            for (unsigned i = 0; i < 4; ++i)
                mdev.domains.set(i, draw(2) == 0);
            mdev.control_domains.emplace();
            for (unsigned i = 0; i < 4; ++i)
                mdev.control_domains->set(i, draw(2) == 0);
            inventory.mdevs.push_back(std::move(mdev));
        }
        inventory.location = name;
        inventory.sort();
        return inventory;
    }
    std::size_t draw(std::size_t below) {
        return std::uniform_int_distribution<std::size_t>{0, below - 1}(random_);
    }
    std::mt19937& random() { return random_; }

  private:
    std::mt19937 random_;
};

std::string judged(const Inventory& from, const Inventory& to, const CheckOptions& options) {
    const auto guest = guest_of(test::uuid(test::example_mdev));
    return render_json(check(guest, describe_source(guest, from), to, options));
}

TEST(Check, does_not_depend_on_the_order_in_which_a_host_was_read) {
    RandomHosts hosts{1};
    for (int i = 0; i < 100; ++i) {
        const auto from = hosts.host("a");
        const auto to = hosts.host("b");
        auto shuffled = to;
        std::shuffle(shuffled.queues.begin(), shuffled.queues.end(), hosts.random());
        std::shuffle(shuffled.cards.begin(), shuffled.cards.end(), hosts.random());
        std::shuffle(shuffled.mdevs.begin(), shuffled.mdevs.end(), hosts.random());
        shuffled.sort();
        for (const auto& options : all_options)
            ASSERT_EQ(judged(from, to, options), judged(from, shuffled, options));
    }
}

TEST(Check, is_never_made_worse_by_a_newer_card) {
    RandomHosts hosts{2};
    const auto guest = guest_of(test::uuid(test::example_mdev));
    for (int i = 0; i < 200; ++i) {
        const auto from = hosts.host("a");
        const auto to = hosts.host("b");
        auto newer = to;
        for (auto& card : newer.cards)
            card.raw_hwtype = 15;
        const auto source = describe_source(guest, from);
        for (const auto& options : all_options) {
            const auto before = check(guest, source, to, options);
            const auto after = check(guest, source, newer, options);
            EXPECT_LE(after.count(Severity::error), before.count(Severity::error));
            for (const auto& finding : after.findings)
                EXPECT_NE(finding.rule, RuleId::queue_type);
        }
    }
}

TEST(Check, does_not_care_for_what_is_none_of_the_guests) {
    RandomHosts hosts{3};
    for (int i = 0; i < 100; ++i) {
        const auto from = hosts.host("a");
        const auto to = hosts.host("b");
        auto more = to;
        Card card;
        card.apid = 0x77;
        card.raw_hwtype = 10;
        card.config = false;
        more.cards.push_back(card);
        Queue queue;
        queue.apqn = Apqn{0x77, 9};
        queue.driver = "cex4queue";
        queue.chkstop = true;
        queue.has_driver_override = !to.queues.empty() && to.queues.front().has_driver_override;
        more.queues.push_back(queue);
        Mdev mdev{test::uuid("99999999-2222-3333-4444-555555555555")};
        mdev.adapters.set(0x77);
        mdev.domains.set(9);
        more.mdevs.push_back(mdev);
        more.sort();
        for (const auto& options : all_options)
            ASSERT_EQ(judged(from, to, options), judged(from, more, options));
    }
}

TEST(Check, is_told_alike_by_findings_and_verdict) {
    RandomHosts hosts{4};
    const auto guest = guest_of(test::uuid(test::example_mdev));
    std::map<Verdict, int> seen;
    for (int i = 0; i < 300; ++i) {
        const auto from = hosts.host("a");
        const auto to = hosts.draw(3) == 0 ? from : hosts.host("b");
        for (const auto& options : all_options) {
            const auto report = check(guest, describe_source(guest, from), to, options);
            ++seen[report.verdict];
            EXPECT_EQ(report.verdict == Verdict::compatible, report.count(Severity::error) == 0);
            // Errors first; each queue once and in order; something to do for every error.
            for (std::size_t f = 0; f < report.findings.size(); ++f) {
                const auto& finding = report.findings[f];
                if (f > 0) {
                    EXPECT_GE(finding.severity, report.findings[f - 1].severity);
                }
                EXPECT_TRUE(std::is_sorted(finding.queues.begin(), finding.queues.end()));
                EXPECT_EQ(std::adjacent_find(finding.queues.begin(), finding.queues.end()),
                          finding.queues.end());
                if (finding.severity == Severity::error) {
                    EXPECT_FALSE(finding.remedies.empty()) << rule(finding.rule).name;
                }
                EXPECT_FALSE(finding.message.empty());
            }
            // No native migration, no driver that could say anything.
            if (report.mode == Mode::detached) {
                EXPECT_FALSE(report.profile);
                EXPECT_FALSE(report.prediction.error);
            }
            CheckOptions strict = options;
            strict.strict = true;
            const auto strictly = check(guest, describe_source(guest, from), to, strict);
            EXPECT_EQ(strictly.count(Severity::warning), 0U);
            EXPECT_EQ(strictly.findings.size(), report.findings.size());
        }
    }
    EXPECT_GT(seen[Verdict::compatible], 10);
    EXPECT_GT(seen[Verdict::incompatible], 10);
}

}  // namespace
}  // namespace vfioap
