// SPDX-License-Identifier: LGPL-2.1-or-later
// What a guest gets of what its mdev was assigned, row by row. What goes in and what comes out is written
// here by hand, and both the library and the kernel that the other tests play are held against it.
#include "host/guest_matrix.h"

#include <map>
#include <ostream>
#include <random>
#include <sstream>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/example_hosts.h"
#include "support/host_builder.h"
#include "support/kernel_filter.h"

namespace vfioap {
namespace {

using test::guest_masks;
using test::HostBuilder;
using Origin = GuestMatrix::Origin;

/// A host, an mdev and what a guest has of it. Adapters are `05 06`, domains `0004 0047`, queues `05.0004`.
struct Row {
    const char* name = "";

    // What the machine gives this Linux (QCI).
    const char* adapters = "";
    const char* domains = "";
    const char* control_domains = "";
    // The queues that there are, by driver.
    const char* vfio_ap = "";
    const char* cex4queue = "";
    const char* no_driver = "";

    const char* assigned_adapters = "";
    const char* assigned_domains = "";
    const char* assigned_control_domains = "";

    const char* queues = "";   ///< of the guest
    const char* control = "";  ///< control domains of the guest
    /// An adapter that falls out, the reason, the culprits; and the next one: `05 missing 05.0047; 06
    /// not-in-host`.
    const char* filtered = "";
};

void PrintTo(const Row& row,
             std::ostream* out) {  // NOLINT(readability-identifier-naming): GoogleTest calls it
    *out << row.name;
}

const std::vector<Row> rows{
    {.name = "nothing_is_assigned",
     .adapters = "05",
     .domains = "0004",
     .control_domains = "0004",
     .vfio_ap = "05.0004"},
    {.name = "one_queue",
     .adapters = "05",
     .domains = "0004",
     .control_domains = "0004",
     .vfio_ap = "05.0004",
     .assigned_adapters = "05",
     .assigned_domains = "0004",
     .queues = "05.0004"},
    {.name = "two_adapters_and_two_domains",
     .adapters = "05 06",
     .domains = "0004 0047",
     .vfio_ap = "05.0004 05.0047 06.0004 06.0047",
     .assigned_adapters = "05 06",
     .assigned_domains = "0004 0047",
     .queues = "05.0004 05.0047 06.0004 06.0047"},
    {.name = "the_first_and_the_last_number",
     .adapters = "00 ff",
     .domains = "0000 00ff",
     .control_domains = "0000 00ff",
     .vfio_ap = "00.0000 00.00ff ff.0000 ff.00ff",
     .assigned_adapters = "00 ff",
     .assigned_domains = "0000 00ff",
     .assigned_control_domains = "0000 00ff",
     .queues = "00.0000 00.00ff ff.0000 ff.00ff",
     .control = "0000 00ff"},
    {.name = "numbers_of_either_side_of_64",
     .adapters = "3f 40",
     .domains = "003f 0040 007f 0080",
     .vfio_ap = "3f.003f 3f.0040 3f.007f 3f.0080 40.003f 40.0040 40.007f 40.0080",
     .assigned_adapters = "3f 40",
     .assigned_domains = "003f 0040 007f 0080",
     .queues = "3f.003f 3f.0040 3f.007f 3f.0080 40.003f 40.0040 40.007f 40.0080"},
    {.name = "less_than_the_host_has",
     .adapters = "05 06 07",
     .domains = "0004 000b 0047",
     .vfio_ap = "05.0004 05.000b 05.0047 06.0004 06.000b 06.0047 07.0004 07.000b 07.0047",
     .assigned_adapters = "06",
     .assigned_domains = "0004 0047",
     .queues = "06.0004 06.0047"},

    {.name = "adapters_only",
     .adapters = "05 06",
     .domains = "0004",
     .vfio_ap = "05.0004 06.0004",
     .assigned_adapters = "05 06"},
    {.name = "domains_only",
     .adapters = "05",
     .domains = "0004 0047",
     .vfio_ap = "05.0004 05.0047",
     .assigned_domains = "0004 0047"},
    {.name = "control_domains_only",
     .adapters = "05",
     .domains = "0004",
     .control_domains = "0004 0047",
     .vfio_ap = "05.0004",
     .assigned_control_domains = "0047",
     .control = "0047"},
    {.name = "control_domains_that_the_host_has_not_got",
     .adapters = "05",
     .domains = "0004",
     .control_domains = "0004 0060",
     .vfio_ap = "05.0004",
     .assigned_adapters = "05",
     .assigned_domains = "0004",
     .assigned_control_domains = "0004 0060 00ab",
     .queues = "05.0004",
     .control = "0004 0060"},
    {.name = "a_control_domain_of_which_no_usage_domain_is_assigned",
     .adapters = "05",
     .domains = "0004 0047",
     .control_domains = "0004 0047",
     .vfio_ap = "05.0004 05.0047",
     .assigned_adapters = "05",
     .assigned_domains = "0004",
     .assigned_control_domains = "0047",
     .queues = "05.0004",
     .control = "0047"},
    {.name = "control_domains_although_every_adapter_falls_out",
     .adapters = "05",
     .domains = "0004",
     .control_domains = "0004",
     .cex4queue = "05.0004",
     .assigned_adapters = "05",
     .assigned_domains = "0004",
     .assigned_control_domains = "0004",
     .control = "0004",
     .filtered = "05 not-bound 05.0004"},

    {.name = "an_adapter_too_many",
     .adapters = "05",
     .domains = "0004",
     .vfio_ap = "05.0004",
     .assigned_adapters = "05 63",
     .assigned_domains = "0004",
     .queues = "05.0004",
     .filtered = "63 not-in-host"},
    {.name = "an_adapter_too_many_before_the_one_that_is_there",
     .adapters = "05",
     .domains = "0004",
     .vfio_ap = "05.0004",
     .assigned_adapters = "01 05",
     .assigned_domains = "0004",
     .queues = "05.0004",
     .filtered = "01 not-in-host"},
    {.name = "a_domain_too_many_keeps_the_adapter",
     .adapters = "05",
     .domains = "0004",
     .vfio_ap = "05.0004",
     .assigned_adapters = "05",
     .assigned_domains = "0004 00ab",
     .queues = "05.0004"},
    {.name = "no_domain_that_is_there",
     .adapters = "05 06",
     .domains = "0004",
     .vfio_ap = "05.0004 06.0004",
     .assigned_adapters = "05 06",
     .assigned_domains = "00ab",
     .filtered = "05 not-in-host; 06 not-in-host"},
    {.name = "nothing_that_is_there",
     .adapters = "05",
     .domains = "0004",
     .control_domains = "0004",
     .vfio_ap = "05.0004",
     .assigned_adapters = "64 65",
     .assigned_domains = "0047",
     .assigned_control_domains = "0047",
     .filtered = "64 not-in-host; 65 not-in-host"},

    {.name = "a_missing_queue_takes_its_adapter",
     .adapters = "05 06",
     .domains = "0004 0047",
     .vfio_ap = "05.0004 05.0047 06.0004",
     .assigned_adapters = "05 06",
     .assigned_domains = "0004 0047",
     .queues = "05.0004 05.0047",
     .filtered = "06 missing 06.0047"},
    {.name = "a_missing_queue_of_the_first_adapter_leaves_the_next",
     .adapters = "05 06",
     .domains = "0004 0047",
     .vfio_ap = "05.0047 06.0004 06.0047",
     .assigned_adapters = "05 06",
     .assigned_domains = "0004 0047",
     .queues = "06.0004 06.0047",
     .filtered = "05 missing 05.0004"},
    {.name = "a_missing_queue_in_a_domain_that_is_not_assigned",
     .adapters = "05",
     .domains = "0004 0047",
     .vfio_ap = "05.0004",
     .assigned_adapters = "05",
     .assigned_domains = "0004",
     .queues = "05.0004"},
    {.name = "a_missing_queue_of_an_adapter_that_is_not_assigned",
     .adapters = "05 06",
     .domains = "0004 0047",
     .vfio_ap = "05.0004 05.0047 06.0047",
     .assigned_adapters = "05",
     .assigned_domains = "0004 0047",
     .queues = "05.0004 05.0047"},
    {.name = "no_queue_at_all",
     .adapters = "05 06",
     .domains = "0004",
     .assigned_adapters = "05 06",
     .assigned_domains = "0004",
     .filtered = "05 missing 05.0004; 06 missing 06.0004"},
    {.name = "a_queue_of_the_host_takes_its_adapter",
     .adapters = "05 06",
     .domains = "0004 0047",
     .vfio_ap = "05.0004 06.0004 06.0047",
     .cex4queue = "05.0047",
     .assigned_adapters = "05 06",
     .assigned_domains = "0004 0047",
     .queues = "06.0004 06.0047",
     .filtered = "05 not-bound 05.0047"},
    {.name = "a_queue_without_a_driver_takes_its_adapter",
     .adapters = "05 06",
     .domains = "0004 0047",
     .vfio_ap = "05.0004 05.0047 06.0047",
     .no_driver = "06.0004",
     .assigned_adapters = "05 06",
     .assigned_domains = "0004 0047",
     .queues = "05.0004 05.0047",
     .filtered = "06 not-bound 06.0004"},
    {.name = "all_culprits_of_an_adapter",
     .adapters = "05",
     .domains = "0004 000b 0047",
     .vfio_ap = "05.000b",
     .cex4queue = "05.0004",
     .no_driver = "05.0047",
     .assigned_adapters = "05",
     .assigned_domains = "0004 000b 0047",
     .filtered = "05 not-bound 05.0004 05.0047"},
    {.name = "a_missing_queue_after_one_that_is_not_bound",
     .adapters = "05",
     .domains = "0004 0047",
     .cex4queue = "05.0004",
     .assigned_adapters = "05",
     .assigned_domains = "0004 0047",
     .filtered = "05 missing 05.0004 05.0047"},
    {.name = "a_missing_queue_before_one_that_is_not_bound",
     .adapters = "05",
     .domains = "0004 0047",
     .cex4queue = "05.0047",
     .assigned_adapters = "05",
     .assigned_domains = "0004 0047",
     .filtered = "05 missing 05.0004 05.0047"},
    {.name = "each_adapter_for_a_reason_of_its_own",
     .adapters = "05 06 07",
     .domains = "0004 0047",
     .vfio_ap = "05.0004 05.0047 06.0004 07.0004",
     .cex4queue = "07.0047",
     .assigned_adapters = "05 06 07 08",
     .assigned_domains = "0004 0047",
     .queues = "05.0004 05.0047",
     .filtered = "06 missing 06.0047; 07 not-bound 07.0047; 08 not-in-host"},
    {.name = "an_adapter_between_two_that_fall_out",
     .adapters = "05 06 07",
     .domains = "0004 0047",
     .vfio_ap = "05.0004 06.0004 06.0047 07.0047",
     .assigned_adapters = "05 06 07",
     .assigned_domains = "0004 0047",
     .queues = "06.0004 06.0047",
     .filtered = "05 missing 05.0047; 07 missing 07.0004"},

    // Taken from the LPAR at the machine, while Linux still has the devices.
    {.name = "an_adapter_that_the_machine_took",
     .adapters = "06",
     .domains = "0004",
     .vfio_ap = "05.0004 06.0004",
     .assigned_adapters = "05 06",
     .assigned_domains = "0004",
     .queues = "06.0004",
     .filtered = "05 not-in-host"},
    {.name = "a_domain_that_the_machine_took",
     .adapters = "05 06",
     .domains = "0004",
     .vfio_ap = "05.0004 05.0047 06.0004",
     .cex4queue = "06.0047",
     .assigned_adapters = "05 06",
     .assigned_domains = "0004 0047",
     .queues = "05.0004 06.0004"},
    {.name = "every_adapter_that_the_machine_took",
     .domains = "0004",
     .vfio_ap = "05.0004",
     .assigned_adapters = "05",
     .assigned_domains = "0004",
     .filtered = "05 not-in-host"},
    {.name = "every_domain_that_the_machine_took",
     .adapters = "05",
     .control_domains = "0004",
     .vfio_ap = "05.0004",
     .assigned_adapters = "05",
     .assigned_domains = "0004",
     .assigned_control_domains = "0004",
     .control = "0004",
     .filtered = "05 not-in-host"},
};

template <typename Value, typename Parse>
std::vector<Value> list_of(const std::string& text, const Parse& parse) {
    std::vector<Value> values;
    std::istringstream words{text};
    for (std::string word; words >> word;) {
        const auto value = parse(word);
        if (!value) throw std::logic_error{"a row cannot have: " + word};
        values.push_back(*value);
    }
    return values;
}

Mask adapters_of(const char* text) {
    return Mask::of(list_of<std::uint8_t>(text, parse_adapter));
}

Mask domains_of(const char* text) {
    return Mask::of(list_of<std::uint8_t>(text, parse_domain));
}

std::vector<Apqn> queues_of(const char* text) {
    return list_of<Apqn>(text, Apqn::parse);
}

Inventory host_of(const Row& row) {
    Inventory host;
    host.ap.emplace();
    host.ap->ap_adapter_mask = {HostMask::State::value, adapters_of(row.adapters)};
    host.ap->ap_usage_domain_mask = {HostMask::State::value, domains_of(row.domains)};
    host.ap->ap_control_domain_mask = {HostMask::State::value, domains_of(row.control_domains)};
    const std::map<std::string, const char*> queues{
        {"vfio_ap", row.vfio_ap}, {"cex4queue", row.cex4queue}, {"", row.no_driver}};
    for (const auto& [driver, text] : queues) {
        for (const auto apqn : queues_of(text)) {
            Queue queue;
            queue.apqn = apqn;
            queue.driver = driver;
            host.queues.push_back(std::move(queue));
        }
    }
    host.sort();
    return host;
}

Mdev mdev_with(const Mask& adapters, const Mask& domains, const Mask& control_domains = {}) {
    Mdev mdev{test::uuid(test::example_mdev)};
    mdev.adapters = adapters;
    mdev.domains = domains;
    mdev.control_domains = control_domains;
    return mdev;
}

Mdev mdev_of(const Row& row) {
    return mdev_with(adapters_of(row.assigned_adapters), domains_of(row.assigned_domains),
                     domains_of(row.assigned_control_domains));
}

std::string text_of(const std::vector<Apqn>& queues) {
    std::string text;
    for (const auto apqn : queues)
        text += (text.empty() ? "" : " ") + apqn.to_string();
    return text;
}

std::string text_of(const std::vector<FilteredAdapter>& filtered) {
    using Reason = FilteredAdapter::Reason;
    static const std::map<Reason, std::string> words{{Reason::not_in_host, "not-in-host"},
                                                     {Reason::queue_missing, "missing"},
                                                     {Reason::queue_not_bound, "not-bound"},
                                                     {Reason::unknown, "unknown"}};
    std::string text;
    for (const auto& adapter : filtered) {
        text += (text.empty() ? "" : "; ") + adapter_text(adapter.apid) + ' ' + words.at(adapter.reason);
        if (!adapter.culprits.empty()) text += ' ' + text_of(adapter.culprits);
    }
    return text;
}

class GuestMatrixRow : public ::testing::TestWithParam<Row> {};

TEST_P(GuestMatrixRow, is_what_the_library_makes_of_it) {
    const auto matrix = guest_matrix_of(host_of(GetParam()), mdev_of(GetParam()));
    EXPECT_EQ(text_of(matrix.queues), GetParam().queues);
    EXPECT_EQ(text_of(matrix.filtered), GetParam().filtered);
    EXPECT_EQ(matrix.control_domains, domains_of(GetParam().control));
    EXPECT_EQ(matrix.origin, Origin::computed);
}

TEST_P(GuestMatrixRow, is_what_the_kernel_of_the_tests_makes_of_it) {
    const auto masks = guest_masks(host_of(GetParam()), mdev_of(GetParam()));
    EXPECT_EQ(text_of(masks.queues()), GetParam().queues);
    EXPECT_EQ(text_of(masks.guest_matrix()), GetParam().queues);
    EXPECT_EQ(masks.control_domains, domains_of(GetParam().control));
}

/// A kernel that prints `guest_matrix` is believed; and it says no more than before.
TEST_P(GuestMatrixRow, is_the_same_where_the_kernel_prints_it) {
    auto mdev = mdev_of(GetParam());
    mdev.guest_matrix = queues_of(GetParam().queues);
    const auto matrix = guest_matrix_of(host_of(GetParam()), mdev);
    EXPECT_EQ(text_of(matrix.queues), GetParam().queues);
    EXPECT_EQ(text_of(matrix.filtered), GetParam().filtered);
    EXPECT_EQ(matrix.control_domains, domains_of(GetParam().control));
    EXPECT_EQ(matrix.origin, Origin::read);
}

INSTANTIATE_TEST_SUITE_P(Rows, GuestMatrixRow, ::testing::ValuesIn(rows),
                         [](const auto& param) { return std::string{param.param.name}; });

/// What the kernel prints, where that is not what the rule makes of the rest: with these adapters and
/// domains, and all of their queues with vfio_ap but for 06.0047, which the host has.
struct PrintedRow {
    const char* name = "";
    const char* printed = "";
    const char* filtered = "";
};

void PrintTo(const PrintedRow& row, std::ostream* out) {  // NOLINT(readability-identifier-naming): as above
    *out << row.name;
}

const std::vector<PrintedRow> printed_rows{
    {"as_the_rule_has_it", "05.0004 05.0047 07.0004 07.0047", "06 not-bound 06.0047"},
    {"nothing", "", "05 unknown; 06 not-bound 06.0047; 07 unknown"},
    {"without_the_first_adapter", "07.0004 07.0047", "05 unknown; 06 not-bound 06.0047"},
    {"without_the_last_adapter", "05.0004 05.0047", "06 not-bound 06.0047; 07 unknown"},
    {"with_the_adapter_that_should_fall_out", "05.0004 05.0047 06.0004 06.0047 07.0004 07.0047", ""},
    {"the_other_way_round", "06.0004 06.0047", "05 unknown; 07 unknown"},
};

class PrintedGuestMatrix : public ::testing::TestWithParam<PrintedRow> {};

TEST_P(PrintedGuestMatrix, is_believed_and_the_rule_explains_it) {
    Row row;
    row.adapters = row.assigned_adapters = "05 06 07";
    row.domains = row.assigned_domains = "0004 0047";
    row.vfio_ap = "05.0004 05.0047 06.0004 07.0004 07.0047";
    row.cex4queue = "06.0047";
    auto mdev = mdev_of(row);
    mdev.guest_matrix = queues_of(GetParam().printed);
    const auto matrix = guest_matrix_of(host_of(row), mdev);
    EXPECT_EQ(matrix.origin, Origin::read);
    EXPECT_EQ(text_of(matrix.queues), GetParam().printed);
    EXPECT_EQ(text_of(matrix.filtered), GetParam().filtered);
}

INSTANTIATE_TEST_SUITE_P(Rows, PrintedGuestMatrix, ::testing::ValuesIn(printed_rows),
                         [](const auto& param) { return std::string{param.param.name}; });

/// Adapters and domains from 0 on, and how many queues they are: above and below what a page of
/// `guest_matrix` holds, 511 lines of 8 bytes and a 512th without its newline.
struct PageRow {
    unsigned adapters = 0;
    unsigned domains = 0;
    std::size_t queues = 0;
    std::size_t printed = 0;
    Origin origin = Origin::read;
};

void PrintTo(const PageRow& row, std::ostream* out) {  // NOLINT(readability-identifier-naming): as above
    *out << row.queues << "_queues";
}

const std::vector<PageRow> page_rows{
    {7, 73, 511, 511, Origin::read},
    {8, 64, 512, 512, Origin::rebuilt},
    {9, 57, 513, 512, Origin::rebuilt},
    {256, 256, 65536, 512, Origin::rebuilt},
};

Mask first_numbers(unsigned count) {
    Mask mask;
    for (unsigned i = 0; i < count; ++i)
        mask.set(i);
    return mask;
}

class GuestMatrixPage : public ::testing::TestWithParam<PageRow> {
  protected:
    GuestMatrixPage() {
        host_.ap.emplace();
        for (auto* const mask :
             {&host_.ap->ap_adapter_mask, &host_.ap->ap_usage_domain_mask, &host_.ap->ap_control_domain_mask})
            *mask = {HostMask::State::value, Mask::all()};
        for (unsigned apid = 0; apid < GetParam().adapters; ++apid) {
            for (unsigned apqi = 0; apqi < GetParam().domains; ++apqi) {
                Queue queue;
                queue.apqn = Apqn{static_cast<std::uint8_t>(apid), static_cast<std::uint8_t>(apqi)};
                queue.driver = "vfio_ap";
                host_.queues.push_back(std::move(queue));
                all_.push_back(host_.queues.back().apqn);
            }
        }
        printed_.assign(all_.begin(), all_.begin() + static_cast<std::ptrdiff_t>(GetParam().printed));
        mdev_.guest_matrix = printed_;
    }

    Inventory host_;
    Mdev mdev_ = mdev_with(first_numbers(GetParam().adapters), first_numbers(GetParam().domains));
    std::vector<Apqn> all_;
    std::vector<Apqn> printed_;
};

TEST_P(GuestMatrixPage, is_believed_only_where_it_is_not_full) {
    ASSERT_EQ(all_.size(), GetParam().queues);
    const auto matrix = guest_matrix_of(host_, mdev_);
    EXPECT_EQ(matrix.origin, GetParam().origin);
    EXPECT_EQ(matrix.queues, all_);
    EXPECT_EQ(text_of(matrix.filtered), "");
}

TEST_P(GuestMatrixPage, is_what_the_kernel_of_the_tests_prints) {
    const auto masks = guest_masks(host_, mdev_);
    EXPECT_EQ(masks.guest_matrix(), printed_);
    EXPECT_EQ(masks.queues(), all_);
}

/// One queue of the last adapter: it is not in the page that was printed, so only the rule can tell.
TEST_P(GuestMatrixPage, is_rebuilt_without_the_adapters_that_fall_out) {
    if (GetParam().origin != Origin::rebuilt) return;
    host_.queues.back().driver = "cex4queue";
    all_.resize(all_.size() - GetParam().domains);
    auto matrix = guest_matrix_of(host_, mdev_);
    EXPECT_EQ(matrix.queues, all_);
    EXPECT_EQ(matrix.queues, guest_masks(host_, mdev_).queues());
    ASSERT_EQ(matrix.filtered.size(), 1U);
    EXPECT_EQ(matrix.filtered[0].apid, GetParam().adapters - 1);
    EXPECT_EQ(matrix.filtered[0].reason, FilteredAdapter::Reason::queue_not_bound);
}

/// `matrix` was cut as well, and no `ap_config` tells the rest: then nothing is made up.
TEST_P(GuestMatrixPage, is_not_rebuilt_from_a_matrix_that_was_cut) {
    mdev_.matrix_truncated = true;
    const auto matrix = guest_matrix_of(host_, mdev_);
    const bool full = GetParam().origin == Origin::rebuilt;
    EXPECT_EQ(matrix.origin, full ? Origin::unknown : Origin::read);
    EXPECT_EQ(matrix.queues, printed_);
    EXPECT_EQ(text_of(matrix.filtered), "");
}

INSTANTIATE_TEST_SUITE_P(Rows, GuestMatrixPage, ::testing::ValuesIn(page_rows),
                         [](const auto& param) { return std::to_string(param.param.queues) + "_queues"; });

/// What two adapters and one domain of vfio_ap are, and an mdev with both.
Row two_queues() {
    Row row;
    row.adapters = row.assigned_adapters = "05 06";
    row.domains = row.assigned_domains = "0004";
    row.vfio_ap = "05.0004 06.0004";
    return row;
}

TEST(GuestMatrix, is_not_known_where_guest_matrix_could_not_be_read) {
    auto host = host_of(two_queues());
    const auto mdev = mdev_of(two_queues());
    host.unreadable.push_back({mdev_path(mdev.uuid) + "/guest_matrix", 5, {}});
    const auto matrix = guest_matrix_of(host, mdev);
    EXPECT_EQ(matrix.origin, Origin::unknown);
    EXPECT_EQ(text_of(matrix.queues), "");
    EXPECT_EQ(text_of(matrix.filtered), "");
}

TEST(GuestMatrix, is_not_known_where_matrix_was_cut_and_there_is_no_guest_matrix) {
    auto mdev = mdev_of(two_queues());
    mdev.matrix_truncated = true;
    const auto matrix = guest_matrix_of(host_of(two_queues()), mdev);
    EXPECT_EQ(matrix.origin, Origin::unknown);
    EXPECT_EQ(text_of(matrix.queues), "");
}

TEST(GuestMatrix, has_control_domains_also_where_the_queues_are_not_known) {
    auto host = host_of(two_queues());
    host.ap->ap_control_domain_mask.mask = Mask::of({4});
    auto mdev = mdev_of(two_queues());
    mdev.control_domains = Mask::of({4, 0x47});
    mdev.matrix_truncated = true;
    EXPECT_EQ(guest_matrix_of(host, mdev).control_domains, Mask::of({4}));
}

TEST(GuestMatrix, has_no_control_domains_where_those_of_the_mdev_are_not_known) {
    auto host = host_of(two_queues());
    host.ap->ap_control_domain_mask.mask = Mask::all();
    auto mdev = mdev_of(two_queues());
    mdev.control_domains.reset();
    EXPECT_EQ(guest_matrix_of(host, mdev).control_domains, Mask{});
    EXPECT_EQ(guest_masks(host, mdev).control_domains, Mask{});
}

TEST(GuestMatrix, of_a_linux_without_ap_bus_is_empty) {
    Inventory host;
    const auto matrix = guest_matrix_of(host, mdev_of(two_queues()));
    EXPECT_EQ(text_of(matrix.queues), "");
    EXPECT_EQ(text_of(matrix.filtered), "05 missing 05.0004; 06 missing 06.0004");
    EXPECT_EQ(text_of(guest_masks(host, mdev_of(two_queues())).queues()), "");
}

TEST(GuestMatrix, of_a_host_whose_masks_are_not_shown_is_what_the_queues_say) {
    auto host = host_of(two_queues());
    host.ap = ApBus{};
    EXPECT_EQ(text_of(guest_matrix_of(host, mdev_of(two_queues())).queues), "05.0004 06.0004");
    EXPECT_EQ(text_of(guest_masks(host, mdev_of(two_queues())).queues()), "05.0004 06.0004");
}

TEST(GuestMatrix, tells_of_a_queue_that_failed_its_reset_that_it_may_be_one) {
    const auto host = HostBuilder{"h"}
                          .cards({5, 6}, "CEX8C")
                          .domains({4, 0x47})
                          .free_domains({4, 0x47})
                          .fail_reset({6, 0x47})
                          .mdev(test::example_mdev)
                          .assign({5, 6}, {4, 0x47})
                          .in_use()
                          .build();
    EXPECT_EQ(text_of(*host.mdevs[0].guest_matrix), "05.0004 05.0047");
    EXPECT_EQ(host.find_queue({5, 4})->status, QueueStatus::in_use);
    EXPECT_EQ(host.find_queue({6, 4})->status, QueueStatus::assigned);
    const auto matrix = guest_matrix_of(host, host.mdevs[0]);
    EXPECT_EQ(text_of(matrix.queues), "05.0004 05.0047");
    ASSERT_EQ(text_of(matrix.filtered), "06 unknown");
    EXPECT_THAT(to_text(matrix.filtered[0]), ::testing::HasSubstr("failed its reset"));
}

/// The driver's copy of the masks is empty there, and what passes through it, too.
TEST(GuestMatrix, of_a_machine_without_qci_is_empty_as_the_kernel_prints_it) {
    const auto host = HostBuilder{"h"}
                          .masks_not_supported()
                          .card(5, "CEX8C")
                          .domains({4})
                          .free_domains({4})
                          .mdev(test::example_mdev)
                          .assign({5}, {4}, {4})
                          .build();
    EXPECT_EQ(text_of(*host.mdevs[0].guest_matrix), "");
    const auto matrix = guest_matrix_of(host, host.mdevs[0]);
    EXPECT_EQ(matrix.origin, Origin::read);
    EXPECT_EQ(text_of(matrix.queues), "");
    EXPECT_EQ(text_of(matrix.filtered), "05 unknown");
}

TEST(GuestMatrix, says_why_an_adapter_is_not_passed_through) {
    using Reason = FilteredAdapter::Reason;
    EXPECT_EQ(to_text(FilteredAdapter{6, Reason::not_in_host, {}}), "the host has not got it");
    EXPECT_EQ(to_text(FilteredAdapter{6, Reason::queue_missing, {{6, 4}, {6, 5}}}),
              "queue 06.0004 does not exist");
    EXPECT_EQ(to_text(FilteredAdapter{6, Reason::queue_not_bound, {{6, 0x47}}}),
              "queue 06.0047 is not bound to vfio_ap");
}

/// Two that were written apart agree on what nobody thought of.
TEST(GuestMatrix, is_that_of_the_kernel_on_hosts_drawn_by_chance) {
    std::mt19937 random{20240115};
    const auto draw = [&](unsigned sides) { return static_cast<unsigned>(random() % sides); };
    const auto some = [&](unsigned of, unsigned missing_one_in) {
        Mask mask;
        for (unsigned i = 0; i < of; ++i)
            mask.set(i * 37 % 256, draw(missing_one_in) != 0);
        return mask;
    };
    std::size_t with_all = 0;
    std::size_t with_none = 0;
    for (int round = 0; round < 2000; ++round) {
        Inventory host;
        host.ap.emplace();
        host.ap->ap_adapter_mask = {HostMask::State::value, some(5, 6)};
        host.ap->ap_usage_domain_mask = {HostMask::State::value, some(5, 6)};
        host.ap->ap_control_domain_mask = {HostMask::State::value, some(5, 6)};
        const auto bound_one_in = 2 + draw(20);
        for (unsigned i = 0; i < 25; ++i) {
            Queue queue;
            queue.apqn = Apqn{static_cast<std::uint8_t>(i / 5 * 37), static_cast<std::uint8_t>(i % 5 * 37)};
            queue.driver = draw(bound_one_in) == 0 ? "cex4queue" : "vfio_ap";
            if (draw(bound_one_in) != 0) host.queues.push_back(std::move(queue));
        }
        host.sort();
        auto mdev = mdev_with(some(5, 3), some(5, 3), some(5, 3));
        const auto masks = guest_masks(host, mdev);
        if (draw(2) == 0) mdev.guest_matrix = masks.guest_matrix();
        const auto matrix = guest_matrix_of(host, mdev);
        ASSERT_EQ(text_of(matrix.queues), text_of(masks.queues())) << "round " << round;
        ASSERT_EQ(matrix.control_domains, masks.control_domains) << "round " << round;
        with_all += matrix.filtered.empty() && !matrix.queues.empty() ? 1U : 0U;
        with_none += matrix.queues.empty() ? 1U : 0U;
    }
    EXPECT_GT(with_all, 50U);
    EXPECT_GT(with_none, 50U);
}

}  // namespace
}  // namespace vfioap
