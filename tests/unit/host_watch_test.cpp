// SPDX-License-Identifier: LGPL-2.1-or-later
// The watch on fake roots that administrators work on.
#include "service/host_watch.h"

#include "ap/error.h"
#include "host/materialize.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "support/example_hosts.h"
#include "support/fake_kernel.h"
#include "support/fake_root.h"
#include "support/host_builder.h"

namespace vfioap {

/// Its name: what GoogleTest prints of a change.
static void PrintTo(const Change& change, std::ostream* out) {  // NOLINT(readability-identifier-naming)
    *out << to_text(change.kind) << " [" << change.rule << "] " << change.detail << " ("
         << change.mdevs.size() << " mdevs, " << change.queues.size() << " queues)";
}

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using test::FakeKernel;
using test::FakeRoot;
using test::HostBuilder;
using test::Kernel;
using testing::AllOf;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Events = HostWatch::Options::Events;

const Uuid guest_mdev = test::uuid(test::example_mdev);
const std::string mdev_directory = mdev_path(guest_mdev) + '/';
const std::string mdev_sysfs = "/sys/" + mdev_directory;
constexpr const char* other_mdev = "11111111-2222-3333-4444-555555555555";
constexpr const char* create_mdev =
    "echo 11111111-2222-3333-4444-555555555555 > "
    "/sys/devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create";

HostBuilder small_host() {
    return HostBuilder("lpar1")
        .z16()
        .cards({0x05, 0x06, 0x07}, "CEX8C")
        .domains({0x04, 0x47})
        .free_domains({0x04, 0x47})
        .mdev(test::example_mdev)
        .assign({0x05, 0x06}, {0x04, 0x47}, {0x04});
}

/// A watched root with a clock of its own.
class Watched {
  public:
    explicit Watched(const Inventory& host, HostWatch::Options options = {})
        : root{host}, watch{root.path(), now, options} {}

    /// When the next comparison is due, and no sooner.
    std::vector<Change> next() {
        EXPECT_GT(watch.next(), now);
        EXPECT_LE(watch.next() - now, HostWatch::interval);
        EXPECT_THAT(watch.update(watch.next() - 1ms), IsEmpty());
        now = watch.next();
        return watch.update(now);
    }
    std::vector<Change> after(HostWatch::Clock::duration time) {
        std::vector<Change> changes;
        for (const auto end = now + time; now < end;) {
            now = std::min(end, std::max(now + 1ms, watch.next()));
            for (auto& change : watch.update(now))
                changes.push_back(std::move(change));
        }
        return changes;
    }
    /// As an administrator does it.
    void run(const std::string& command) {
        if (!kernel) kernel = std::make_unique<FakeKernel>(root.path());
        ASSERT_EQ(kernel->run(command).message, "") << command;
    }

    FakeRoot root;
    HostWatch::Time now{1h};
    HostWatch watch;
    std::unique_ptr<FakeKernel> kernel;
};

/// What the watch promises to keep.
Inventory promised(Inventory host) {
    if (host.ap) host.ap->scans.reset();
    for (auto& queue : host.queues) {
        queue.online.reset();
        queue.detail.reset();
        queue.se_bind = SeBind::absent;
        queue.se_associate = SeAssociate::absent;
        queue.association = 0;
        if (std::any_of(host.mdevs.begin(), host.mdevs.end(),
                        [&](const Mdev& mdev) { return mdev.assigned(queue.apqn); }))
            continue;
        queue.config.reset();
        queue.chkstop.reset();
    }
    return host;
}

void expect_kept(const Watched& watched) {
    const auto kept = promised(*watched.watch.inventory());
    const auto fresh = promised(SysfsRoot{watched.root.path()}.read_all(Depth::state));
    EXPECT_TRUE(kept == fresh) << test::differences(kept, fresh);
}

auto change(ChangeKind kind, const std::string& rule, std::size_t mdevs, const std::string& detail) {
    return AllOf(Field("kind", &Change::kind, kind), Field("rule", &Change::rule, rule),
                 Field("mdevs", &Change::mdevs, SizeIs(mdevs)),
                 Field("detail", &Change::detail, HasSubstr(detail)));
}

TEST(HostWatch, reads_the_host_and_says_nothing_while_nothing_changes) {
    Watched watched{small_host().build()};
    EXPECT_TRUE(*watched.watch.inventory() == SysfsRoot{watched.root.path()}.read_all(Depth::state));
    EXPECT_FALSE(watched.watch.has_events());
    EXPECT_EQ(watched.watch.fd(), -1);
    EXPECT_TRUE(watched.watch.readable());
    const auto before = watched.watch.inventory();
    EXPECT_THAT(watched.after(1min), IsEmpty());
    EXPECT_EQ(watched.watch.inventory(), before);
}

TEST(HostWatch, wants_a_root) {
    EXPECT_THROW(HostWatch("/nowhere", {}), SystemError);
    const FakeRoot empty;
    EXPECT_THROW(HostWatch(empty.path(), {}), InputError);
}

TEST(HostWatch, takes_files_that_say_the_same_for_the_same) {
    Watched watched{small_host().build()};
    const auto before = watched.watch.inventory();
    for (const auto& item : fs::recursive_directory_iterator{watched.root.path()}) {
        if (!item.is_regular_file() || item.is_symlink()) continue;
        const auto name = item.path().lexically_relative(watched.root.path()).string();
        std::error_code ignored;
        fs::permissions(item.path(), fs::perms::owner_read, fs::perm_options::add, ignored);
        const auto text = watched.root.read(name);
        const auto other = watched.root.path() + "/new";
        std::ofstream{other, std::ios::binary} << text;
        fs::rename(other, item.path());
    }
    // A tree is the same with other white space, too; only that has to be read to know.
    watched.root.write("bus/ap/apmask", watched.root.read("bus/ap/apmask") + "\n");
    watched.root.write("bus/ap/scans", "12346\n");
    EXPECT_THAT(watched.next(), IsEmpty());
    EXPECT_THAT(watched.next(), IsEmpty());
    EXPECT_EQ(watched.watch.inventory(), before);
}

struct Row {
    std::vector<std::string> commands;
    struct Expected {
        ChangeKind kind;
        std::string rule;
        std::size_t mdevs;
        std::string detail;
    };
    std::vector<Expected> changes;
};

class Commands : public testing::TestWithParam<Row> {};

TEST_P(Commands, are_seen_once_at_the_next_look) {
    Watched watched{small_host().build()};
    for (const auto& command : GetParam().commands)
        watched.run(command);
    std::vector<testing::Matcher<Change>> expected;
    for (const auto& row : GetParam().changes)
        expected.emplace_back(change(row.kind, row.rule, row.mdevs, row.detail));
    EXPECT_THAT(watched.next(), testing::ElementsAreArray(expected));
    EXPECT_THAT(watched.next(), IsEmpty());
    expect_kept(watched);
}

INSTANTIATE_TEST_SUITE_P(
    HostWatch, Commands,
    testing::Values(
        Row{{"echo 0x06 > " + mdev_sysfs + "unassign_adapter"},
            {{ChangeKind::matrix, "config.changed", 1, "adapters assigned: 05-06 → 05"},
             {ChangeKind::guest_matrix, "config.changed", 1,
              "queues of the guest: 4 → 2, without 06.0004, 06.0047"}}},
        Row{{"echo 0x07 > " + mdev_sysfs + "assign_adapter"},
            {{ChangeKind::matrix, "config.changed", 1, "adapters assigned: 05-06 → 05-07"},
             {ChangeKind::guest_matrix, "config.changed", 1, "4 → 6, with 07.0004, 07.0047"}}},
        Row{{"echo 0x09 > " + mdev_sysfs + "assign_adapter"},
            {{ChangeKind::matrix, "config.changed", 1, "adapters assigned: 05-06 → 05-06, 09"}}},
        Row{{"echo 0x47 > " + mdev_sysfs + "assign_control_domain"},
            {{ChangeKind::control_domains, "config.changed", 1,
              "control domains assigned: 0004 → 0004, 0047"},
             {ChangeKind::guest_matrix, "config.changed", 1,
              "control domains of the guest: 0004 → 0004, 0047"}}},
        Row{{"echo 06.0047 > /sys/bus/ap/drivers/vfio_ap/unbind"},
            {{ChangeKind::binding, "queue.not-bound", 1,
              "queue 06.0047: bound to vfio_ap → bound to no driver"},
             {ChangeKind::guest_matrix, "config.filtered", 1,
              "4 → 2, without 06.0004, 06.0047 (adapter 06: queue 06.0047 is not bound to vfio_ap)"}}},
        Row{{"echo 07.0047 > /sys/bus/ap/drivers/vfio_ap/unbind"},
            {{ChangeKind::binding, "queue.not-bound", 0,
              "queue 07.0047: bound to vfio_ap → bound to no driver"}}},
        Row{{"echo 0 > /sys/devices/ap/card06/config"},
            {{ChangeKind::card_state, "queue.deconfigured", 1, "card 06: configured → deconfigured"}}},
        Row{{"echo 0 > /sys/devices/ap/card07/config"},
            {{ChangeKind::card_state, "queue.deconfigured", 0, "card 07: configured → deconfigured"}}},
        Row{{"echo -0x50 > /sys/bus/ap/aqmask"},
            {{ChangeKind::masks, "", 0, "aqmask, reserved for the host: "}}},
        Row{{"echo -0x05 > /sys/bus/ap/apmask"},
            {{ChangeKind::masks, "config.changed", 1,
              "apmask, reserved for the host: 00-ff → 00-04, 06-ff"}}},
        Row{{create_mdev},
            {{ChangeKind::available, "", 0, "65535 → 65534"},
             {ChangeKind::mdev_added, "config.changed", 1, "there, with adapters none and domains none"}}},
        Row{{"echo 1 > " + mdev_sysfs + "remove"},
            {{ChangeKind::available, "", 0, "65535 → 65536"},
             {ChangeKind::mdev_removed, "mdev.missing", 1, test::example_mdev.data()}}},
        Row{{"echo 1 > " + mdev_sysfs + "remove", "echo +0x47 > /sys/bus/ap/aqmask"},
            {{ChangeKind::masks, "config.changed", 1,
              "0000-0003, 0005-0046, 0048-00ff → 0000-0003, 0005-00ff"},
             {ChangeKind::available, "", 0, ""},
             {ChangeKind::binding, "queue.not-bound", 0,
              "queue 07.0047: bound to vfio_ap → bound to cex4queue"},
             {ChangeKind::binding, "queue.not-bound", 1,
              "queues 05.0047, 06.0047: bound to vfio_ap → bound to cex4queue"},
             {ChangeKind::mdev_removed, "mdev.missing", 1, ""}}},
        Row{{"true"}, {}}));

struct FileRow {
    std::string file;
    std::string text;  // empty: remove
    std::vector<Row::Expected> changes;
};

class Files : public testing::TestWithParam<FileRow> {};

TEST_P(Files, that_change_are_seen_once_at_the_next_look) {
    Watched watched{small_host().build()};
    if (GetParam().text.empty()) {
        watched.root.remove(GetParam().file);
    } else {
        watched.root.write(GetParam().file, GetParam().text);
    }
    std::vector<testing::Matcher<Change>> expected;
    for (const auto& row : GetParam().changes)
        expected.emplace_back(change(row.kind, row.rule, row.mdevs, row.detail));
    EXPECT_THAT(watched.next(), testing::ElementsAreArray(expected));
    EXPECT_THAT(watched.next(), IsEmpty());
    expect_kept(watched);
}

INSTANTIATE_TEST_SUITE_P(
    HostWatch, Files,
    testing::Values(
        FileRow{"devices/vfio_ap/matrix/features",
                "guest_matrix hotplug ap_config migratable\n",
                {{ChangeKind::features, "config.changed", 1,
                  "guest_matrix hotplug ap_config → guest_matrix hotplug ap_config migratable"}}},
        FileRow{
            "bus/ap/features", "APSC\n", {{ChangeKind::features, "config.changed", 1, "of the AP bus: "}}},
        FileRow{
            "bus/ap/ap_control_domain_mask",
            "0x00\n",
            {{ChangeKind::host_masks, "control-domain.missing", 1, "0004, 0047 → none"},
             {ChangeKind::guest_matrix, "config.changed", 1, "control domains of the guest: 0004 → none"}}},
        FileRow{"bus/ap/ap_adapter_mask",
                "0x0600\n",
                {{ChangeKind::host_masks, "", 0, "ap_adapter_mask: 05-07 → 05-06"}}},
        FileRow{"bus/ap/bindings", "7/7\n", {{ChangeKind::binding, "", 0, "6/6 (complete) → 7/7"}}},
        FileRow{"devices/ap/card05/05.0004/chkstop",
                "1\n",
                {{ChangeKind::queue_state, "queue.checkstopped", 1,
                  "queue 05.0004: not in checkstop → in checkstop"}}},
        FileRow{"devices/ap/card05/05.0004/config",
                "0\n",
                {{ChangeKind::queue_state, "queue.deconfigured", 1, "configured → deconfigured"}}},
        // In no mdev.
        FileRow{"devices/ap/card07/07.0004/chkstop", "1\n", {}},
        FileRow{
            "devices/ap/card07/chkstop",
            "1\n",
            {{ChangeKind::card_state, "queue.checkstopped", 0, "card 07: not in checkstop → in checkstop"}}},
        FileRow{"devices/ap/card07/online", "0\n", {{ChangeKind::card_state, "", 0, "online → offline"}}},
        FileRow{mdev_directory + "guest_matrix",
                "05.0004\n05.0047\n",
                {{ChangeKind::guest_matrix, "config.filtered", 1,
                  "4 → 2, without 06.0004, 06.0047 (adapter 06: the kernel gives no reason"}}},
        FileRow{mdev_directory + "migratable",
                "0\n",
                {{ChangeKind::features, "mdev.not-migratable", 1, "migratable: unknown → 0"}}},
        FileRow{"bus/ap/apmask",
                "what\n",
                {{ChangeKind::unreadable, "host.unreadable", 0, "bus/ap/apmask: expected"},
                 {ChangeKind::masks, "", 0, "apmask, reserved for the host: 00-ff → unknown"}}},
        FileRow{"devices/ap/card06/06.0047",
                "",
                {{ChangeKind::queue, "queue.missing", 1, "queue 06.0047: there → gone"}}},
        FileRow{"devices/ap/card07",
                "",
                {{ChangeKind::card, "queue.missing", 0, "card 07: there → gone"},
                 {ChangeKind::queue, "queue.missing", 0, "queues 07.0004, 07.0047: there → gone"}}},
        FileRow{"bus/ap/drivers/vfio_ap/07.0004",
                "",
                {{ChangeKind::binding, "queue.not-bound", 0,
                  "queue 07.0004: bound to vfio_ap → bound to no driver"}}}));

TEST(HostWatch, sees_what_a_matrix_that_fills_its_page_does_not_show) {
    HostBuilder::Numbers adapters;
    HostBuilder::Numbers domains;
    for (unsigned i = 0; i < 34; ++i)
        adapters.push_back(static_cast<std::uint8_t>(i));
    for (unsigned i = 0; i < 16; ++i)
        domains.push_back(static_cast<std::uint8_t>(i));
    for (const auto spare : {false, true}) {
        Watched watched{HostBuilder("lpar1")
                            .z16()
                            .cards(adapters, "CEX8C")
                            .domains(domains)
                            .free_domains(domains)
                            .mdev(test::example_mdev)
                            .assign({adapters.begin(), adapters.end() - 2}, domains)
                            .build(),
                        {.spare_locks = spare}};
        const auto text = watched.root.read(mdev_directory + "matrix");
        ASSERT_EQ(text.size(), 4095U);
        EXPECT_THAT(watched.after(1min), IsEmpty());
        watched.run("echo 0x20 > " + mdev_sysfs + "assign_adapter");
        ASSERT_EQ(watched.root.read(mdev_directory + "matrix"), text);
        EXPECT_THAT(watched.next(),
                    ElementsAre(change(ChangeKind::matrix, "config.changed", 1, "00-1f → 00-20"),
                                change(ChangeKind::guest_matrix, "config.changed", 1, "512 → 528")));
        expect_kept(watched);
        watched.run("echo 0x20 > " + mdev_sysfs + "unassign_adapter");
        EXPECT_THAT(watched.next(),
                    ElementsAre(change(ChangeKind::matrix, "config.changed", 1, "00-20 → 00-1f"),
                                change(ChangeKind::guest_matrix, "config.changed", 1, "528 → 512")));
        EXPECT_THAT(watched.next(), IsEmpty());
    }
}

TEST(HostWatch, says_once_that_the_root_is_gone_and_keeps_what_it_knew) {
    Watched watched{small_host().build()};
    const auto before = watched.watch.inventory();
    const auto away = watched.root.path() + ".away";
    fs::rename(watched.root.path(), away);
    EXPECT_THAT(watched.next(), ElementsAre(change(ChangeKind::unreadable, "host.unreadable", 1,
                                                   "readable → not any more: " + watched.root.path())));
    EXPECT_FALSE(watched.watch.readable());
    EXPECT_THAT(watched.after(10s), IsEmpty());
    EXPECT_EQ(watched.watch.inventory(), before);

    fs::rename(away, watched.root.path());
    EXPECT_THAT(watched.next(),
                ElementsAre(change(ChangeKind::readable, "", 0, "unreadable → readable again")));
    EXPECT_TRUE(watched.watch.readable());
    EXPECT_EQ(watched.watch.inventory(), before);
    EXPECT_THAT(watched.next(), IsEmpty());

    // What is in it goes, and something else comes.
    for (const auto* const part : {"bus", "devices"})
        watched.root.remove(part);
    EXPECT_THAT(watched.next(), ElementsAre(change(ChangeKind::unreadable, "host.unreadable", 1, "sysfs")));
    fs::remove_all(watched.root.path());
    EXPECT_THAT(watched.next(), IsEmpty());
    materialize(small_host().check_stop(Apqn{5, 4}).build(), watched.root.path());
    EXPECT_THAT(watched.next(),
                ElementsAre(change(ChangeKind::readable, "", 0, ""),
                            change(ChangeKind::queue_state, "queue.checkstopped", 1, "05.0004")));
    EXPECT_THAT(watched.next(), IsEmpty());
    expect_kept(watched);
}

TEST(HostWatch, takes_what_cannot_be_listed_for_unreadable_and_not_for_gone) {
    for (const auto* const part : {"devices/ap", "bus/ap", "bus/ap/drivers", "devices/vfio_ap/matrix"}) {
        Watched watched{small_host().build()};
        const auto before = watched.watch.inventory();
        const auto place = fs::path{watched.root.path()} / part;
        fs::rename(place, watched.root.path() + "/away");
        watched.root.write(part, "");
        EXPECT_THAT(watched.next(), ElementsAre(change(ChangeKind::unreadable, "host.unreadable", 1, part)));
        EXPECT_THAT(watched.after(10s), IsEmpty());
        EXPECT_EQ(watched.watch.inventory(), before);
        watched.root.remove(part);
        fs::rename(watched.root.path() + "/away", place);
        EXPECT_THAT(watched.next(), ElementsAre(change(ChangeKind::readable, "", 0, "")));
        EXPECT_THAT(watched.next(), IsEmpty());
        expect_kept(watched);
    }
}

TEST(HostWatch, follows_a_root_that_is_replaced) {
    Watched watched{small_host().build()};
    fs::rename(watched.root.path(), watched.root.path() + ".old");
    materialize(small_host().check_stop(6).build(), watched.root.path());
    EXPECT_THAT(watched.next(),
                ElementsAre(change(ChangeKind::card_state, "queue.checkstopped", 1, "card 06")));
    expect_kept(watched);
}

TEST(HostWatch, the_ap_bus_and_the_driver_come_and_go) {
    Watched watched{HostBuilder("lpar1").z16().cards({5}, "CEX8C").domains({4}).without_vfio_ap().build()};
    watched.run("modprobe vfio_ap");
    EXPECT_THAT(watched.next(), ElementsAre(change(ChangeKind::driver, "", 0, "not loaded → loaded")));
    expect_kept(watched);
    for (const auto* const part : {"bus/ap", "devices/vfio_ap", "bus/matrix", "devices/ap"})
        watched.root.remove(part);
    EXPECT_THAT(watched.next(),
                ElementsAre(change(ChangeKind::driver, "kernel.no-vfio-ap", 0, "AP bus: there → gone"),
                            change(ChangeKind::driver, "kernel.no-vfio-ap", 0, "loaded → not loaded"),
                            change(ChangeKind::card, "queue.missing", 0, "card 05: there → gone"),
                            change(ChangeKind::queue, "queue.missing", 0, "queue 05.0004")));
    EXPECT_THAT(watched.next(), IsEmpty());
}

TEST(HostWatch, tells_the_state_of_a_queue_that_is_assigned_only_now) {
    Watched watched{small_host().build()};
    watched.root.write("devices/ap/card07/07.0047/chkstop", "1\n");
    EXPECT_THAT(watched.next(), IsEmpty());
    watched.root.write(mdev_directory + "matrix", "05.0004\n05.0047\n06.0004\n06.0047\n07.0004\n07.0047\n");
    watched.root.remove(mdev_directory + "ap_config");
    EXPECT_THAT(watched.next(),
                ElementsAre(change(ChangeKind::queue_state, "queue.checkstopped", 1, "07.0047"),
                            change(ChangeKind::matrix, "config.changed", 1, "05-06 → 05-07")));
    expect_kept(watched);
}

TEST(HostWatch, goes_round_the_queues_of_mdevs_when_they_are_many) {
    HostBuilder::Numbers numbers;
    for (unsigned i = 0; i < 30; ++i)
        numbers.push_back(static_cast<std::uint8_t>(i));
    const auto build = [&] {
        return HostBuilder("lpar1")
            .z16()
            .cards(numbers, "CEX8C")
            .domains(numbers)
            .free_domains(numbers)
            .mdev(test::example_mdev)
            .assign(numbers, numbers);
    };
    Watched watched{build().build()};
    watched.root.write("devices/ap/card1d/1d.001d/chkstop", "1\n");
    EXPECT_THAT(watched.next(), IsEmpty());
    EXPECT_THAT(watched.next(),
                ElementsAre(change(ChangeKind::queue_state, "queue.checkstopped", 1, "1d.001d")));
    // After a scan of the bus, all at once.
    watched.root.write("devices/ap/card1d/1d.001d/chkstop", "0\n");
    watched.root.write("devices/ap/card00/00.0000/chkstop", "1\n");
    watched.root.write("bus/ap/scans", "12346\n");
    EXPECT_THAT(watched.next(), SizeIs(2));
    EXPECT_THAT(watched.after(10s), IsEmpty());
}

TEST(HostWatch, with_events_looks_at_once_and_else_seldom) {
    Watched watched{small_host().build(), {.events = Events::given}};
    EXPECT_TRUE(watched.watch.has_events());
    EXPECT_THAT(watched.next(), IsEmpty());
    watched.now += 1s;
    // Of a queue in no mdev, so that only the event tells.
    watched.root.write("devices/ap/card07/07.0004/chkstop", "1\n");
    EXPECT_GT(watched.watch.next(), watched.now);
    watched.watch.event("/devices/ap/card07/07.0004");
    EXPECT_LE(watched.watch.next(), watched.now);
    EXPECT_THAT(watched.watch.update(watched.now),
                ElementsAre(change(ChangeKind::queue_state, "queue.checkstopped", 0, "07.0004")));
    EXPECT_THAT(watched.after(10s), IsEmpty());
    // Assigning gives none, and is found all the same.
    watched.run("echo 0x06 > " + mdev_sysfs + "unassign_adapter");
    EXPECT_THAT(watched.next(), SizeIs(2));
    // A state of a card: an event, a scan of the bus, or the long interval.
    watched.root.write("devices/ap/card05/chkstop", "1\n");
    EXPECT_THAT(watched.next(), IsEmpty());
    EXPECT_THAT(watched.after(HostWatch::interval_with_events), SizeIs(1));
    watched.root.write("devices/ap/card05/chkstop", "0\n");
    watched.root.write("bus/ap/scans", "12346\n");
    EXPECT_THAT(watched.next(), SizeIs(1));
    watched.root.write("devices/ap/card05/chkstop", "1\n");
    watched.watch.event("/devices/virtual/what/card");
    EXPECT_THAT(watched.after(HostWatch::longest_pause), SizeIs(1));
    expect_kept(watched);
}

TEST(HostWatch, reads_everything_when_events_were_lost) {
    Watched watched{small_host().build(), {.events = Events::given}};
    watched.root.write("devices/ap/card07/07.0004/chkstop", "1\n");
    EXPECT_THAT(watched.next(), IsEmpty());
    watched.watch.events_lost();
    EXPECT_THAT(watched.after(HostWatch::pause), SizeIs(1));
    EXPECT_TRUE(*watched.watch.inventory() == SysfsRoot{watched.root.path()}.read_all(Depth::state));
}

TEST(HostWatch, reads_once_for_many_events_and_always_the_last_state) {
    Watched watched{small_host().build(), {.events = Events::given}};
    std::set<std::shared_ptr<const Inventory>> seen;
    for (int i = 0; i < 1000; ++i) {
        watched.now += 1ms;
        watched.root.write("devices/ap/card05/05.0004/chkstop", i % 2 == 0 ? "1\n" : "0\n");
        watched.root.write("devices/ap/card06/06.0004/chkstop", i < 999 ? "0\n" : "1\n");
        watched.watch.event("/devices/ap/card05/05.0004");
        watched.watch.event("/devices/ap/card06/06.0004");
        watched.watch.update(watched.now);
        seen.insert(watched.watch.inventory());
    }
    EXPECT_LE(seen.size(), 11U);
    EXPECT_LE(watched.watch.next() - watched.now, HostWatch::longest_pause);
    watched.after(HostWatch::longest_pause);
    EXPECT_EQ(watched.watch.inventory()->find_queue({6, 4})->chkstop, true);
    expect_kept(watched);
}

TEST(HostWatch, sees_a_change_back_after_a_reading_for_another_reason) {
    Watched watched{small_host().build(), {.events = Events::given}};
    const auto link = [&](const char* from, const char* to) {
        fs::rename(fs::path{watched.root.path()} / from, fs::path{watched.root.path()} / to);
    };
    link("bus/ap/drivers/vfio_ap/07.0004", "away");
    watched.root.write("bus/ap/features", "APSC\n");
    EXPECT_THAT(watched.next(), SizeIs(2));
    link("away", "bus/ap/drivers/vfio_ap/07.0004");
    EXPECT_THAT(watched.after(HostWatch::interval_with_events),
                ElementsAre(change(ChangeKind::binding, "", 0, "bound to no driver → bound to vfio_ap")));
    expect_kept(watched);
}

TEST(HostWatch, spares_the_driver_its_lock) {
    Watched watched{small_host().build(), {.spare_locks = true}};
    watched.after(HostWatch::settling + HostWatch::interval);
    // By itself, as after a failed reset: late.
    watched.root.write(mdev_directory + "guest_matrix", "05.0004\n05.0047\n");
    EXPECT_THAT(watched.next(), IsEmpty());
    EXPECT_THAT(watched.after(HostWatch::interval_locked), SizeIs(1));
    watched.after(HostWatch::settling + HostWatch::interval);
    // With its cause, and for a while after it: at once.
    watched.run("echo 0x47 > " + mdev_sysfs + "assign_control_domain");
    EXPECT_THAT(watched.next(), testing::Not(IsEmpty()));
    watched.root.write(mdev_directory + "guest_matrix", "05.0004\n05.0047\n");
    EXPECT_THAT(watched.next(), SizeIs(1));
    // Without ap_config there is no other way.
    watched.root.remove(mdev_directory + "ap_config");
    watched.after(HostWatch::settling + HostWatch::interval);
    watched.root.write(mdev_directory + "matrix", "05.0004\n");
    EXPECT_THAT(watched.next(), testing::Not(IsEmpty()));
}

/// Tells whether somebody opens files of certain names; a directory that only looks like sysfs has inotify.
class Opened {
  public:
    Opened(const FakeRoot& root, const std::set<std::string>& names)
        : fd_{::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)} {
        for (const auto& item : fs::recursive_directory_iterator{root.path()}) {
            if (!item.is_regular_file() || item.is_symlink()) continue;
            // `ap_functions` costs nothing of a card.
            const auto name = item.path().filename().string();
            const bool of_queue = Apqn::parse(item.path().parent_path().filename().string()).has_value();
            if (!names.contains(name) || (name == "ap_functions" && !of_queue)) continue;
            EXPECT_GE(::inotify_add_watch(fd_, item.path().c_str(), IN_OPEN), 0) << item.path();
            ++files_;
        }
    }
    ~Opened() { ::close(fd_); }
    Opened(const Opened&) = delete;
    Opened& operator=(const Opened&) = delete;
    Opened(Opened&&) = delete;
    Opened& operator=(Opened&&) = delete;

    [[nodiscard]] std::size_t files() const { return files_; }
    /// Since the last call.
    [[nodiscard]] bool any() const {
        std::array<char, 65536> events{};
        bool some = false;
        while (::read(fd_, events.data(), events.size()) > 0)
            some = true;
        return some;
    }

  private:
    int fd_;
    std::size_t files_ = 0;
};

TEST(HostWatch, reads_nothing_that_costs_the_card_or_a_lock) {
    const auto host = HostBuilder("lpar1")
                          .z16()
                          .kernel(Kernel::newest)
                          .cards({0x05, 0x06}, "CEX8P")
                          .domains({0x04, 0x47})
                          .master_keys(0x05, test::ep11_keys(1))
                          .op_modes(0x06, "FIPS2009")
                          .bind_to_vfio_ap({0x05, 0x04})
                          .bind_to_vfio_ap({0x05, 0x47})
                          .mdev(test::example_mdev)
                          .assign({0x05}, {0x04, 0x47})
                          .in_use()
                          .build();
    for (const auto events : {Events::none, Events::given}) {
        Watched watched{host, {.events = events, .spare_locks = true}};
        const Opened costly{watched.root, {"ap_functions", "status", "mkvps", "op_modes", "serialnr"}};
        EXPECT_GE(costly.files(), 11U);
        const Opened locked{watched.root, {"matrix", "guest_matrix"}};
        const Opened spared{watched.root, {"ap_config"}};
        watched.root.write("devices/ap/card05/05.0004/chkstop", "1\n");
        watched.watch.events_lost();
        EXPECT_THAT(watched.after(1min), SizeIs(1));
        EXPECT_FALSE(costly.any());
        EXPECT_TRUE(locked.any());
        EXPECT_TRUE(spared.any());
        // Between two looks at those.
        int with_lock = 0;
        for (int i = 0; i < 20; ++i) {
            EXPECT_THAT(watched.next(), IsEmpty());
            with_lock += locked.any() ? 1 : 0;
            EXPECT_TRUE(spared.any());
        }
        EXPECT_GE(with_lock, 2);
        EXPECT_LE(with_lock, 3);
        EXPECT_FALSE(costly.any());
    }
}

TEST(HostWatch, survives_what_vanishes_while_it_looks) {
    Watched watched{small_host().build()};
    std::atomic<bool> stop = false;
    std::thread other{[&] {
        const auto move = [&](const char* what, int times) {
            const fs::path place = fs::path{watched.root.path()} / what;
            const fs::path away = fs::path{watched.root.path()} / "away";
            for (int i = 0; i < times; ++i)
                fs::rename(i % 2 == 0 ? place : away, i % 2 == 0 ? away : place);
        };
        while (!stop) {
            move(mdev_path(guest_mdev).c_str(), 4);
            move("devices/ap/card06", 4);
            move("bus/ap/drivers/vfio_ap/07.0004", 2);
            move("bus/ap", 2);
        }
    }};
    for (int i = 0; i < 300; ++i) {
        watched.now += HostWatch::interval;
        watched.watch.update(watched.now);
        EXPECT_TRUE(watched.watch.readable());
    }
    stop = true;
    other.join();
    watched.now += HostWatch::interval;
    watched.watch.update(watched.now);
    expect_kept(watched);
    EXPECT_THAT(watched.next(), IsEmpty());
}

TEST(HostWatch, keeps_what_it_promises_whatever_administrators_do) {
    for (const auto events : {Events::none, Events::given}) {
        Watched watched{small_host().mdev(other_mdev).assign({0x07}, {0x04}).build(),
                        {.events = events, .spare_locks = events == Events::given}};
        FakeKernel kernel{watched.root.path()};
        std::mt19937 random{20261121};
        const auto pick = [&](const std::vector<std::string>& of) { return of[random() % of.size()]; };
        const std::vector<std::string> adapters{"0x05", "0x06", "0x07", "0x09"};
        const std::vector<std::string> domains{"0x04", "0x47", "0x50"};
        const std::vector<std::string> queues{"05.0004", "05.0047", "06.0004",
                                              "06.0047", "07.0004", "07.0047"};
        const std::vector<std::string> mdevs{std::string{test::example_mdev}, other_mdev};
        for (int i = 0; i < 50; ++i) {
            for (auto commands = 1 + random() % 3; commands > 0; --commands) {
                const auto mdev = "/sys/devices/vfio_ap/matrix/" + pick(mdevs) + '/';
                const auto queue = pick(queues);
                const std::vector<std::string> all{
                    "echo " + pick(adapters) + " > " + mdev + pick({"assign_adapter", "unassign_adapter"}),
                    "echo " + pick(domains) + " > " + mdev + pick({"assign_domain", "unassign_domain"}),
                    "echo " + pick(domains) + " > " + mdev +
                        pick({"assign_control_domain", "unassign_control_domain"}),
                    "echo " + queue + " > /sys/bus/ap/drivers/" + pick({"vfio_ap", "cex4queue"}) + "/unbind",
                    "echo " + queue + " > /sys/bus/ap/drivers_probe",
                    "echo " + pick({"+", "-"}) + pick(adapters) + " > /sys/bus/ap/apmask",
                    "echo " + pick({"+", "-"}) + pick(domains) + " > /sys/bus/ap/aqmask",
                    "echo " + pick({"0", "1"}) + " > /sys/devices/ap/card" + queue.substr(0, 2) + "/config",
                    create_mdev,
                    "echo 1 > /sys/devices/vfio_ap/matrix/" + std::string{other_mdev} + "/remove"};
                kernel.run("(" + pick(all) + ") 2>/dev/null");  // many are refused
                // As the bus and the driver core tell it; of mdevs' matrices there is no event.
                if (events == Events::given) watched.watch.event("/devices/ap/card" + queue.substr(0, 2));
            }
            watched.after(HostWatch::interval);
            expect_kept(watched);
            ASSERT_FALSE(testing::Test::HasFailure()) << "step " << i;
        }
    }
}

TEST(HostWatch, watches_the_real_sysfs_if_there_is_one) {
    if (!fs::exists("/sys/bus")) GTEST_SKIP() << "no /sys";
    HostWatch::Time now{1h};
    HostWatch watch{"/sys", now};
    EXPECT_EQ(watch.has_events(), watch.fd() >= 0);
    for (int i = 0; i < 20; ++i) {
        watch.receive();
        now = std::max(now, watch.next());
        EXPECT_THAT(watch.update(now), IsEmpty());
    }
}

TEST(HostChange, every_kind_has_a_word_of_its_own) {
    std::set<std::string_view> words;
    for (unsigned kind = 0; kind <= static_cast<unsigned>(ChangeKind::guest_matrix); ++kind)
        words.insert(to_text(static_cast<ChangeKind>(kind)));
    EXPECT_EQ(words.size(), static_cast<unsigned>(ChangeKind::guest_matrix) + 1U);
    EXPECT_EQ(to_text(ChangeKind::guest_matrix), "guest-matrix");
    EXPECT_EQ(to_text(ChangeKind::host_masks), "host-masks");
}

TEST(HostChange, tells_the_queues_of_each_mdev_apart) {
    const auto host = small_host().mdev(other_mdev).assign({0x07}, {0x04, 0x47});
    const auto before = host.build();
    auto after = before;
    for (auto& queue : after.queues)
        queue.driver = "cex4queue";
    for (auto& mdev : after.mdevs)
        mdev.guest_matrix->clear();
    const auto changes = changes_between(before, after);
    ASSERT_THAT(changes, SizeIs(4));
    EXPECT_EQ(changes[0].mdevs, (std::vector{test::uuid(other_mdev)}));
    EXPECT_EQ(changes[0].queues, (std::vector<Apqn>{{7, 4}, {7, 0x47}}));
    EXPECT_EQ(changes[1].mdevs, (std::vector{guest_mdev}));
    EXPECT_EQ(changes[1].queues, (std::vector<Apqn>{{5, 4}, {5, 0x47}, {6, 4}, {6, 0x47}}));
    EXPECT_EQ(changes[3].queues, changes[1].queues);
    EXPECT_EQ(changes_between(before, before), std::vector<Change>{});
}

TEST(HostChange, says_of_every_example_host_that_it_is_as_it_is) {
    for (const auto& host : test::example_hosts())
        EXPECT_THAT(changes_between(host, host), IsEmpty()) << host.name;
}

}  // namespace
}  // namespace vfioap
