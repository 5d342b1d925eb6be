// SPDX-License-Identifier: LGPL-2.1-or-later
// An mdev that is migrated: its states, its streams and what they come to, in good order and out of it.
#include "stream/device.h"

#include "ap/error.h"
#include "host/ap_config.h"
#include "host/sysfs.h"
#include "stream/reader.h"
#include "stream/writer.h"

#include <array>
#include <cerrno>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/fake_root.h"
#include "support/move.h"

namespace vfioap {
namespace {

using test::FakeRoot;
using test::HostBuilder;
using test::Move;
using test::World;
using State = DeviceState;
using Bytes = std::vector<std::uint8_t>;

const Uuid mdev = test::uuid("62177883-f1bb-47f0-914d-32a22e3a8804");

GuestConfiguration configuration_of(const Move& move) {
    return describe_source(move.guest, move.left()).configuration;
}

/// A device at the source; counts how often the guest is looked at.
struct SourceDevice {
    explicit SourceDevice(std::optional<Layout> layout = {}, OptionalStates states = {})
        : device{{mdev, Role::source, layout, Profile::automatic, states, false},
                 {[this] {
                      ++reads;
                      if (broken) throw *broken;
                      return configuration;
                  },
                  {},
                  {}}} {}
    GuestConfiguration configuration = configuration_of(Move{World::restore});
    int reads = 0;
    std::optional<SystemError> broken;
    MigrationDevice device;
};

/// A device at the destination of `move`.
struct DestinationDevice {
    explicit DestinationDevice(const Move& move, std::optional<Layout> layout = {}, bool incoming = false)
        : right{std::make_shared<const Inventory>(move.right())},
          device{{mdev, Role::destination, layout, move.options.profile, {}, incoming},
                 {{},
                  [this](const Uuid&, const std::vector<Apqn>&) {
                      if (while_judging) while_judging();
                      return right;
                  },
                  [this](const Uuid&, const MdevContents& contents, const std::vector<Apqn>&) {
                      if (restore_error != 0) throw SystemError{"write", "ap_config", restore_error};
                      written.push_back(contents);
                  }}} {}
    /// RUNNING to RESUMING, all of `bytes`, and to STOP.
    Outcome resume(const Bytes& bytes) {
        EXPECT_TRUE(device.request(State::resuming));
        auto stream = device.take_resume_stream();
        const auto wrote = stream.write(bytes);
        EXPECT_EQ(wrote.error, 0);
        return device.request(State::stop);
    }
    std::shared_ptr<const Inventory> right;
    std::vector<MdevContents> written;
    std::function<void()> while_judging;
    int restore_error = 0;
    MigrationDevice device;
};

Bytes read_all(SaveStream& stream, std::size_t piece) {
    Bytes all;
    Bytes buffer(piece);
    while (true) {
        const auto got = stream.read(buffer);
        EXPECT_EQ(got.error, 0);
        if (got.bytes == 0) return all;
        all.insert(all.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(got.bytes));
    }
}

Bytes stream_of(const Move& move, Layout layout = Layout::l3) {
    return write_stream(configuration_of(move), layout);
}

/// The errno that `what` throws.
template <typename What>
int thrown_by(What what) {
    try {
        what();
    } catch (const SystemError& error) {
        return error.number();
    }
    return 0;
}

// The source.

TEST(SourceDevice, gives_the_configuration_in_pieces_of_any_size) {
    for (const auto layout : all_layouts) {
        for (std::size_t piece = 1; piece < 120; ++piece) {
            SourceDevice source{layout};
            ASSERT_TRUE(source.device.request(State::stop_copy));
            EXPECT_EQ(source.device.state(), State::stop_copy);
            auto stream = source.device.take_save_stream();
            const auto expected = write_stream(source.configuration, layout);
            EXPECT_EQ(read_all(stream, piece), expected);
            EXPECT_EQ(stream.read({}).bytes, 0);
            EXPECT_EQ(source.device.bytes_transferred(), expected.size());
            EXPECT_EQ(source.device.layout(), layout);
        }
    }
}

TEST(SourceDevice, looks_at_the_guest_once_and_gives_that_moment) {
    SourceDevice source;
    ASSERT_TRUE(source.device.request(State::stop_copy));
    EXPECT_EQ(source.reads, 1);
    const auto expected = write_stream(source.configuration, Layout::l3);
    auto stream = source.device.take_save_stream();
    Bytes first(50);
    ASSERT_EQ(stream.read(first).bytes, 50);
    source.configuration.queues.pop_back();
    const auto rest = read_all(stream, 16);
    first.insert(first.end(), rest.begin(), rest.end());
    EXPECT_EQ(first, expected);
    EXPECT_EQ(source.reads, 1);
    // The next migration sees what is then.
    ASSERT_TRUE(source.device.request(State::stop));
    ASSERT_TRUE(source.device.request(State::stop_copy));
    EXPECT_EQ(source.reads, 2);
    auto again = source.device.take_save_stream();
    EXPECT_EQ(read_all(again, 4096), write_stream(source.configuration, Layout::l3));
}

TEST(SourceDevice, stays_in_stop_when_the_guest_cannot_be_looked_at) {
    SourceDevice source;
    source.broken = SystemError{"read", "ap_functions", EIO};
    const auto outcome = source.device.request(State::stop_copy);
    EXPECT_EQ(outcome.error, EIO);
    EXPECT_EQ(outcome.reason, "ap_functions: cannot read: Input/output error");
    EXPECT_EQ(source.device.state(), State::stop);
    EXPECT_EQ(thrown_by([&] { source.device.take_save_stream(); }), ENODEV);
    source.broken.reset();
    EXPECT_TRUE(source.device.request(State::stop_copy));
}

TEST(SourceDevice, does_not_save_what_is_not_known) {
    SourceDevice source;
    source.configuration.queues.front().hwinfo.reset();
    const auto outcome = source.device.request(State::stop_copy);
    EXPECT_EQ(outcome.error, EIO);
    EXPECT_EQ(outcome.reason, "queue 05.0004: its TAPQ hwinfo (ap_functions and raw_hwtype) is not known");
}

TEST(SourceDevice, may_be_read_in_part_and_closed) {
    SourceDevice source;
    ASSERT_TRUE(source.device.request(State::stop_copy));
    {
        auto stream = source.device.take_save_stream();
        Bytes some(20);
        EXPECT_EQ(stream.read(some).bytes, 20);
    }
    EXPECT_EQ(source.device.bytes_transferred(), 20);
    EXPECT_TRUE(source.device.request(State::running));
    EXPECT_EQ(source.device.state(), State::running);
}

TEST(SourceDevice, ends_its_stream_when_it_leaves_stop_copy) {
    for (const bool by_reset : {false, true}) {
        SourceDevice source;
        ASSERT_TRUE(source.device.request(State::stop_copy));
        auto stream = source.device.take_save_stream();
        if (by_reset) {
            source.device.reset();
        } else {
            ASSERT_TRUE(source.device.request(State::stop));
        }
        EXPECT_EQ(source.device.state(), by_reset ? State::running : State::stop);
        Bytes some(20);
        EXPECT_EQ(stream.read(some).error, ENODEV);
        EXPECT_EQ(thrown_by([&] { source.device.take_save_stream(); }), ENODEV);
    }
}

TEST(SourceDevice, leaves_no_stream_that_works_behind) {
    std::optional<SaveStream> stream;
    {
        SourceDevice source;
        ASSERT_TRUE(source.device.request(State::stop_copy));
        stream = source.device.take_save_stream();
    }
    Bytes some(20);
    EXPECT_EQ(stream->read(some).error, ENODEV);
}

TEST(SourceDevice, gives_its_stream_once_and_in_order_only) {
    SourceDevice source;
    EXPECT_EQ(thrown_by([&] { source.device.take_save_stream(); }), ENODEV);
    ASSERT_TRUE(source.device.request(State::stop_copy));
    auto stream = source.device.take_save_stream();
    EXPECT_EQ(thrown_by([&] { source.device.take_save_stream(); }), EBUSY);
    EXPECT_EQ(thrown_by([&] { source.device.take_resume_stream(); }), ENODEV);
    Bytes some(20);
    EXPECT_EQ(stream.read(some, 0).error, ESPIPE);
    EXPECT_EQ(stream.read(some, 16).error, ESPIPE);
    EXPECT_EQ(stream.read(some).bytes, 20);
}

TEST(SourceDevice, has_nothing_to_give_in_pre_copy) {
    SourceDevice source{{}, {true, true}};
    ASSERT_TRUE(source.device.request(State::pre_copy));
    EXPECT_EQ(source.reads, 0);
    auto stream = source.device.take_save_stream();
    Bytes some(20);
    EXPECT_EQ(stream.read(some).error, ENOMSG);
    // The same transfer goes on.
    ASSERT_TRUE(source.device.request(State::stop_copy));
    EXPECT_EQ(source.reads, 1);
    EXPECT_EQ(read_all(stream, 7), write_stream(source.configuration, Layout::l3));
    EXPECT_EQ(source.device.request(State::pre_copy).error, EINVAL);
    EXPECT_EQ(source.device.state(), State::stop_copy);
    // From PRE_COPY back: the transfer is over.
    source.device.reset();
    ASSERT_TRUE(source.device.request(State::pre_copy_p2p));
    auto other = source.device.take_save_stream();
    ASSERT_TRUE(source.device.request(State::running));
    EXPECT_EQ(other.read(some).error, ENODEV);
}

TEST(SourceDevice, refuses_what_is_no_way_or_not_its_part) {
    SourceDevice source;
    EXPECT_EQ(source.device.request(State::error).error, EINVAL);
    EXPECT_EQ(source.device.request(State::pre_copy).error, EINVAL);
    EXPECT_EQ(source.device.request(State::running_p2p).error, EINVAL);
    const auto outcome = source.device.request(State::resuming);
    EXPECT_EQ(outcome.error, EOPNOTSUPP);
    EXPECT_EQ(outcome.reason, "mdev 62177883-f1bb-47f0-914d-32a22e3a8804: RESUMING is not for the source");
    EXPECT_EQ(source.device.state(), State::running);
    EXPECT_TRUE(source.device.request(State::running));
}

// The destination.

TEST(DestinationDevice, restores_what_came) {
    Move move{World::restore};
    move.there = Move::Assigned{};
    for (const auto layout : {Layout::l2b, Layout::l3}) {
        DestinationDevice destination{move};
        EXPECT_FALSE(destination.device.layout());
        const auto outcome = destination.resume(stream_of(move, layout));
        EXPECT_TRUE(outcome) << outcome.reason;
        EXPECT_EQ(destination.device.state(), State::stop);
        ASSERT_EQ(destination.written.size(), 1);
        EXPECT_EQ(destination.written[0],
                  (MdevContents{Mask::of({5, 6}), Mask::of({4, 0x47}), Mask::of({4})}));
        EXPECT_EQ(destination.device.restored(), destination.written[0]);
        EXPECT_EQ(destination.device.layout(), layout);
        EXPECT_EQ(destination.device.bytes_transferred(), stream_size(layout, 4));
        ASSERT_TRUE(destination.device.report());
        EXPECT_EQ(destination.device.report()->verdict, Verdict::compatible);
        EXPECT_TRUE(destination.device.request(State::running));
        EXPECT_EQ(destination.written.size(), 1);
    }
}

TEST(DestinationDevice, changes_nothing_where_it_only_compares) {
    const Move move{World::compare};
    DestinationDevice destination{move};
    const auto outcome = destination.resume(stream_of(move, Layout::l1));
    EXPECT_TRUE(outcome) << outcome.reason;
    EXPECT_TRUE(destination.written.empty());
    EXPECT_FALSE(destination.device.restored());
}

TEST(DestinationDevice, is_not_irritated_by_its_own_guest) {
    Move move{World::compare};
    move.in_use_there = true;
    DestinationDevice destination{move, {}, true};
    const auto outcome = destination.resume(stream_of(move, Layout::l1));
    EXPECT_TRUE(outcome) << outcome.reason;
}

struct Failure {
    std::string name;
    World world;
    std::function<void(Move&)> change;
    int error;
};

void PrintTo(const Failure& failure, std::ostream* out) {  // NOLINT(readability-identifier-naming)
    *out << failure.name;
}

class FailingDestination : public testing::TestWithParam<Failure> {};
INSTANTIATE_TEST_SUITE_P(
    Rows, FailingDestination,
    testing::Values(
        Failure{"queue_missing", World::restore,
                [](Move& move) {
                    move.destination.vanish({6, 4});
                },
                ENODEV},
        Failure{"queue_not_bound", World::restore, [](Move& move) { move.free = {4}; }, ENODEV},
        Failure{"control_domain", World::restore,
                [](Move& move) { move.destination.control_domains({0x47}); }, ENODEV},
        Failure{"hardware", World::restore,
                [](Move& move) { move.destination.card_functions(5, test::cca_functions ^ 0x80000000); },
                EINVAL},
        Failure{"elsewhere", World::restore,
                [](Move& move) {
                    move.there = Move::Assigned{};
                    move.neighbour = Move::Assigned{{6}, {4}, {}};
                },
                EADDRINUSE},
        Failure{"secure_execution", World::restore,
                [](Move& move) { move.destination.secure_execution_guest(); }, EPERM},
        Failure{"no_mdev", World::restore, [](Move& move) { move.there.reset(); }, ENODEV},
        Failure{"in_use", World::restore, [](Move& move) { move.in_use_there = true; }, EBUSY},
        Failure{"no_driver", World::restore,
                [](Move& move) {
                    move.there.reset();
                    move.destination.without_vfio_ap();
                },
                ENODEV},
        Failure{"unreadable", World::restore,
                [](Move& move) {
                    move.edit_destination = [](Inventory& host) {
                        host.unreadable.push_back({"devices/ap/card05/05.0004/ap_functions", EIO, {}});
                        test::queue_of(host, {5, 4}).ap_functions.reset();
                        test::card_of(host, 5).ap_functions.reset();
                    };
                },
                EIO},
        Failure{"fewer_queues_there", World::compare,
                [](Move& move) {
                    move.there = Move::Assigned{{5}, {4, 0x47}, {4}};
                },
                EIO},
        Failure{"more_queues_there", World::compare,
                [](Move& move) {
                    move.there = Move::Assigned{{5, 6, 7}, {4, 0x47}, {4}};
                },
                ENODEV},
        Failure{"another_queue_there", World::compare,
                [](Move& move) {
                    move.there = Move::Assigned{{5, 7}, {4, 0x47}, {4}};
                },
                ENODEV},
        Failure{"hardware_compared", World::compare,
                [](Move& move) { move.destination.card_functions(5, test::cca_functions ^ 0x80000000); },
                EFAULT}),
    [](const auto& row) { return row.param.name; });

TEST_P(FailingDestination, answers_as_the_kernel_and_changes_nothing) {
    Move move{GetParam().world};
    const auto bytes = stream_of(move, move.world == World::compare ? Layout::l1 : Layout::l3);
    GetParam().change(move);
    DestinationDevice destination{move};
    const auto outcome = destination.resume(bytes);
    EXPECT_EQ(outcome.error, GetParam().error) << outcome.reason;
    EXPECT_FALSE(outcome.reason.empty());
    EXPECT_TRUE(destination.written.empty());
    EXPECT_EQ(destination.device.state(), State::error);
    ASSERT_TRUE(destination.device.report());
    // Nothing leads out of ERROR but a reset; after it all can be done again.
    for (const auto state : all_device_states)
        EXPECT_EQ(destination.device.request(state).error, EINVAL);
    destination.device.reset();
    EXPECT_EQ(destination.device.state(), State::running);
    EXPECT_EQ(destination.resume(bytes).error, GetParam().error);
}

TEST(DestinationDevice, does_not_restore_queues_that_are_no_matrix) {
    Move move{World::restore};
    auto configuration = configuration_of(move);
    configuration.queues.pop_back();
    DestinationDevice destination{move};
    const auto outcome = destination.resume(write_stream(configuration, Layout::l3));
    EXPECT_EQ(outcome.error, EINVAL);
    EXPECT_NE(outcome.reason.find("the mdev would have 4"), std::string::npos) << outcome.reason;
    EXPECT_TRUE(destination.written.empty());
}

TEST(DestinationDevice, fails_when_the_stream_was_closed_early) {
    const Move move{World::restore};
    const auto bytes = stream_of(move);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        DestinationDevice destination{move};
        const auto outcome =
            destination.resume({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)});
        EXPECT_EQ(outcome.error, EINVAL);
        EXPECT_EQ(destination.device.state(), State::error);
        EXPECT_TRUE(destination.written.empty());
        EXPECT_FALSE(destination.device.report());
    }
}

TEST(DestinationDevice, takes_any_pieces) {
    const Move move{World::restore};
    const auto bytes = stream_of(move);
    for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
        DestinationDevice destination{move};
        ASSERT_TRUE(destination.device.request(State::resuming));
        auto stream = destination.device.take_resume_stream();
        for (std::size_t at = 0; at < bytes.size(); at += piece) {
            const auto part = std::span{bytes}.subspan(at, std::min(piece, bytes.size() - at));
            const auto wrote = stream.write(part);
            EXPECT_EQ(wrote.bytes, part.size());
            EXPECT_EQ(wrote.error, 0);
        }
        EXPECT_TRUE(destination.device.request(State::running));
        EXPECT_EQ(destination.written.size(), 1);
    }
}

TEST(DestinationDevice, refuses_a_stream_that_is_written_twice) {
    const Move move{World::restore};
    const auto bytes = stream_of(move);
    DestinationDevice destination{move};
    ASSERT_TRUE(destination.device.request(State::resuming));
    auto stream = destination.device.take_resume_stream();
    EXPECT_EQ(stream.write(bytes).error, 0);
    EXPECT_EQ(stream.write(bytes).error, EIO);
    EXPECT_EQ(stream.write(Bytes{0}).error, EIO);
    const auto outcome = destination.device.request(State::stop);
    EXPECT_EQ(outcome.error, EIO);
    EXPECT_EQ(outcome.reason,
              "mdev 62177883-f1bb-47f0-914d-32a22e3a8804: migration stream: offset 0x70: end: "
              "found more bytes, expected the end of the stream after 112 bytes");
    EXPECT_TRUE(destination.written.empty());
}

TEST(DestinationDevice, refuses_bytes_that_cannot_be_right_when_they_come) {
    const Move move{World::restore};
    auto bytes = stream_of(move);
    bytes[7] = 2;
    DestinationDevice destination{move};
    ASSERT_TRUE(destination.device.request(State::resuming));
    auto stream = destination.device.take_resume_stream();
    EXPECT_EQ(stream.write(std::span{bytes}.first(7)).error, 0);
    EXPECT_EQ(stream.write(std::span{bytes}.subspan(7)).error, EINVAL);
    EXPECT_EQ(destination.device.request(State::running).error, EINVAL);
    EXPECT_EQ(destination.device.state(), State::error);
}

TEST(DestinationDevice, takes_the_layout_that_was_asked_for_and_no_other) {
    const Move move{World::restore};
    for (const auto layout : all_layouts) {
        DestinationDevice destination{move, layout};
        ASSERT_TRUE(destination.device.request(State::resuming));
        EXPECT_EQ(destination.device.take_resume_stream().write(stream_of(move)).error,
                  layout == Layout::l3 ? 0 : EINVAL);
    }
}

TEST(DestinationDevice, takes_no_layout_that_its_driver_does_not_read) {
    for (const auto world : {World::compare, World::restore}) {
        const Move move{world};
        for (const auto layout : all_layouts) {
            const bool reads = (world == World::compare) == (layout == Layout::l1);
            DestinationDevice found_out{move};
            const auto outcome = found_out.resume(stream_of(move, layout));
            EXPECT_EQ(outcome.error, reads ? 0 : EINVAL) << to_text(layout);
            if (!reads) {
                EXPECT_NE(outcome.reason.find("does not read layout"), std::string::npos);
            }
            // Asked for, it is read by this project's own rules.
            DestinationDevice asked_for{move, layout};
            EXPECT_TRUE(asked_for.resume(stream_of(move, layout)));
        }
    }
}

TEST(DestinationDevice, gives_the_reason_that_goes_with_the_errno) {
    Move move{World::compare};
    move.there = Move::Assigned{{5}, {4, 0x47}, {4}};
    move.neighbour = Move::Assigned{{6}, {4}, {}};
    DestinationDevice destination{move};
    const auto outcome = destination.resume(stream_of(move, Layout::l1));
    EXPECT_EQ(outcome.error, EIO);
    EXPECT_NE(outcome.reason.find("the guest has 4 queues at source and would have 2"), std::string::npos)
        << outcome.reason;
}

TEST(DestinationDevice, has_one_writer_who_cannot_position) {
    const Move move{World::restore};
    DestinationDevice destination{move};
    EXPECT_EQ(thrown_by([&] { destination.device.take_resume_stream(); }), ENODEV);
    ASSERT_TRUE(destination.device.request(State::resuming));
    auto stream = destination.device.take_resume_stream();
    EXPECT_EQ(thrown_by([&] { destination.device.take_resume_stream(); }), EBUSY);
    EXPECT_EQ(stream.write(stream_of(move), 0).error, ESPIPE);
    EXPECT_EQ(stream.write(stream_of(move)).error, 0);
    int error = 0;
    // While the device is busy with the stream, as another thread sees it.
    destination.while_judging = [&] { std::thread{[&] { error = stream.write(Bytes{0}).error; }}.join(); };
    EXPECT_TRUE(destination.device.request(State::stop));
    EXPECT_EQ(error, EBUSY);
    EXPECT_EQ(stream.write(Bytes{0}).error, ENODEV);
}

TEST(DestinationDevice, leaves_no_stream_that_works_behind) {
    const Move move{World::restore};
    std::optional<ResumeStream> stream;
    {
        DestinationDevice destination{move};
        ASSERT_TRUE(destination.device.request(State::resuming));
        stream = destination.device.take_resume_stream();
        destination.device.reset();
        EXPECT_EQ(stream->write(Bytes{0}).error, ENODEV);
        ASSERT_TRUE(destination.device.request(State::resuming));
        EXPECT_EQ(stream->write(Bytes{0}).error, ENODEV);
        stream = destination.device.take_resume_stream();
    }
    EXPECT_EQ(stream->write(Bytes{0}).error, ENODEV);
}

TEST(DestinationDevice, says_when_the_mdev_could_not_be_set_up) {
    const Move move{World::restore};
    DestinationDevice destination{move};
    destination.restore_error = EADDRINUSE;
    const auto outcome = destination.resume(stream_of(move));
    EXPECT_EQ(outcome.error, EADDRINUSE);
    EXPECT_EQ(outcome.reason, "ap_config: cannot write: Address already in use");
    EXPECT_EQ(destination.device.state(), State::error);
}

TEST(DestinationDevice, refuses_the_parts_of_a_source) {
    DestinationDevice destination{Move{World::restore}};
    EXPECT_EQ(destination.device.request(State::stop_copy).error, EOPNOTSUPP);
    EXPECT_EQ(destination.device.state(), State::running);
}

TEST(MigrationDevices, are_one_for_each_mdev) {
    MigrationDevices devices;
    const MigrationDevice::Options options{mdev, Role::source, {}, Profile::automatic, {}, false};
    auto first = devices.open(options, {});
    EXPECT_EQ(thrown_by([&] { devices.open(options, {}); }), EBUSY);
    auto other = options;
    other.role = Role::destination;
    EXPECT_EQ(thrown_by([&] { devices.open(other, {}); }), EBUSY);
    other.mdev = test::uuid(test::neighbour_mdev);
    EXPECT_TRUE(devices.open(other, {}));
    first.reset();
    EXPECT_TRUE(devices.open(options, {}));
}

// From one fake root into another.

TEST(Migration, brings_the_configuration_from_one_root_to_the_other) {
    Move move{World::restore};
    move.there = Move::Assigned{};
    const FakeRoot left{move.left()};
    const FakeRoot right{move.right()};
    MigrationDevice source{
        {mdev, Role::source, {}, Profile::automatic, {}, false},
        {[&] { return describe_source(move.guest, SysfsRoot{left.path()}.read_for(mdev, {})).configuration; },
         {},
         {}}};
    MigrationDevice destination{
        {mdev, Role::destination, {}, Profile::restore, {}, false},
        {{},
         [&](const Uuid& uuid, const std::vector<Apqn>& queues) {
             return std::make_shared<const Inventory>(SysfsRoot{right.path()}.read_for(uuid, queues));
         },
         [&](const Uuid& uuid, const MdevContents& contents, const std::vector<Apqn>& queues) {
             write_ap_config(right.path(), uuid, contents, queues);
         }}};
    ASSERT_TRUE(source.request(State::stop_copy));
    ASSERT_TRUE(destination.request(State::resuming));
    auto from = source.take_save_stream();
    auto to = destination.take_resume_stream();
    std::array<std::uint8_t, 5> buffer{};
    while (const auto count = from.read(buffer).bytes)
        ASSERT_EQ(to.write(std::span{buffer}.first(count)).error, 0);
    const auto outcome = destination.request(State::running);
    EXPECT_TRUE(outcome) << outcome.reason;
    EXPECT_EQ(right.read("devices/vfio_ap/matrix/" + mdev.to_string() + "/ap_config"),
              left.read("devices/vfio_ap/matrix/" + mdev.to_string() + "/ap_config"));
}

}  // namespace
}  // namespace vfioap
