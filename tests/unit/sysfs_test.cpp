// SPDX-License-Identifier: LGPL-2.1-or-later
// The sysfs reader on materialized hosts, and on what is wrong with them.
#include "host/sysfs.h"

#include "ap/error.h"
#include "cli/host_location.h"
#include "host/guest_matrix.h"
#include "host/materialize.h"
#include "host/snapshot.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "support/example_hosts.h"
#include "support/fake_root.h"
#include "support/host_builder.h"
#include "support/temporary_directory.h"

namespace vfioap {
namespace {

namespace fs = std::filesystem;
using test::FakeRoot;
using test::HostBuilder;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

const Uuid guest_mdev = test::uuid(test::example_mdev);
constexpr const char* other_mdev = "11111111-2222-3333-4444-555555555555";

HostBuilder small_host() {
    return HostBuilder("lpar1")
        .z16()
        .cards({0x05, 0x06}, "CEX8C")
        .domains({0x04, 0x47})
        .free_domains({0x04, 0x47})
        .mdev(test::example_mdev)
        .assign({0x05, 0x06}, {0x04, 0x47}, {0x04});
}

Inventory read(const FakeRoot& root) {
    return SysfsRoot{root.path()}.read_all(Depth::full);
}

auto unreadable(const std::string& path, int error, const std::string& detail = "") {
    return AllOf(Field("path", &Unreadable::path, path), Field("error", &Unreadable::error, error),
                 Field("detail", &Unreadable::detail, HasSubstr(detail)));
}

class ExampleHost : public testing::TestWithParam<Inventory> {};

TEST_P(ExampleHost, is_read_back_from_its_sysfs_as_it_was) {
    const FakeRoot root{GetParam()};
    const auto inventory = read(root);
    EXPECT_TRUE(inventory == GetParam()) << test::differences(inventory, GetParam());
    EXPECT_TRUE(inventory.complete);
}

TEST_P(ExampleHost, read_for_a_guest_agrees_with_the_whole) {
    const FakeRoot root{GetParam()};
    const SysfsRoot sysfs{root.path()};
    for (const auto& mdev : GetParam().mdevs) {
        const auto partial = sysfs.read_for(mdev.uuid, {});
        EXPECT_FALSE(partial.complete);
        for (const auto& queue : partial.queues) {
            const auto* const whole = GetParam().find_queue(queue.apqn);
            ASSERT_NE(whole, nullptr) << queue.apqn.to_string();
            EXPECT_EQ(queue.driver, whole->driver);
            EXPECT_EQ(queue.config, whole->config);
            EXPECT_EQ(queue.chkstop, whole->chkstop);
            EXPECT_EQ(queue.ap_functions, whole->ap_functions);
            EXPECT_EQ(hwinfo_of(queue, partial.find_card(queue.apqn.apid())),
                      hwinfo_of(*whole, GetParam().find_card(queue.apqn.apid())));
        }
        const auto* const read_mdev = partial.find_mdev(mdev.uuid);
        ASSERT_NE(read_mdev, nullptr);
        EXPECT_TRUE(*read_mdev == mdev);
        EXPECT_EQ(guest_matrix_of(partial, *read_mdev).queues, guest_matrix_of(GetParam(), mdev).queues);
        // Of the others it knows what is assigned to them.
        for (const auto& other : GetParam().mdevs) {
            ASSERT_NE(partial.find_mdev(other.uuid), nullptr);
            EXPECT_EQ(partial.find_mdev(other.uuid)->matrix(), other.matrix());
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, ExampleHost, testing::ValuesIn(test::example_hosts()), [](const auto& param) {
    std::string name = param.param.name;
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

TEST(SysfsRoot, that_is_not_there_is_an_error) {
    EXPECT_THROW(SysfsRoot{"/nowhere/at/all"}, SystemError);
    const FakeRoot empty;
    try {
        const SysfsRoot root{empty.path()};
        FAIL() << "an empty directory was taken for sysfs";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr("not a sysfs root"));
    }
}

TEST(SysfsRoot, is_named_after_its_directory) {
    FakeRoot root;
    std::filesystem::create_directories(root.path() + "/lpar7/sys/bus");
    EXPECT_EQ(SysfsRoot{root.path() + "/lpar7/sys"}.read_all(Depth::state).name, "lpar7");
    EXPECT_EQ(SysfsRoot{root.path() + "/lpar7/sys/"}.name(), "lpar7");
    EXPECT_EQ(SysfsRoot{root.path() + "/lpar7/../lpar7/sys"}.location(),
              "sysfs:" + root.path() + "/lpar7/sys");
}

/// Skips where this machine has no sysfs.
struct RealSysfs : testing::Test {
    void SetUp() override {
        struct statfs info {};
        if (::statfs("/sys", &info) != 0 || static_cast<std::uint64_t>(info.f_type) != SYSFS_MAGIC)
            GTEST_SKIP() << "/sys is no sysfs";
        fs::create_directory_symlink("/sys", top.path() + "/linked");
        // Neither its path nor its own file system says so.
        fs::create_directory(top.path() + "/partly");
        fs::create_directory_symlink("/sys/bus", top.path() + "/partly/bus");
        fs::create_directory(top.path() + "/devices-alone");
        fs::create_directory_symlink("/sys/devices", top.path() + "/devices-alone/devices");
    }
    [[nodiscard]] std::vector<std::string> spellings() const {
        return {"/sys",
                "/sys/",
                "/sys/.",
                "//sys",
                "/proc/self/root/sys",
                top.path() + "/linked",
                top.path() + "/partly",
                top.path() + "/devices-alone"};
    }
    test::TemporaryDirectory top;
};

TEST_F(RealSysfs, is_known_however_it_is_spelt) {
    for (const auto& path : spellings()) {
        const SysfsRoot root{path};
        EXPECT_TRUE(root.is_real()) << path;
        EXPECT_EQ(root.name(), SysfsRoot{"/sys"}.name()) << path;
    }
}

TEST_F(RealSysfs, is_asked_what_its_iommufd_can_however_it_is_spelt) {
    for (const auto& path : spellings()) {
        Inventory inventory;
        ask_local_host({HostLocation::Kind::sysfs, path}, "", inventory);
        EXPECT_TRUE(inventory.iommufd.has_value()) << path;
    }
}

TEST(SysfsRoot, of_a_host_that_is_another_is_not_real) {
    const FakeRoot root{small_host().build()};
    EXPECT_FALSE(SysfsRoot{root.path()}.is_real());
    Inventory inventory;
    ask_local_host({HostLocation::Kind::sysfs, root.path()}, "", inventory);
    EXPECT_FALSE(inventory.iommufd.has_value());
}

TEST(SysfsRoot, that_was_materialized_keeps_its_name) {
    FakeRoot root{small_host().qemu("10.0.2", false).build()};
    EXPECT_EQ(SysfsRoot{root.path()}.name(), "lpar1");
    EXPECT_EQ(read(root).qemu->version, "10.0.2");
    root.write(std::string{identity_file}, "{ not json");
    EXPECT_EQ(SysfsRoot{root.path()}.name(), "host");
    EXPECT_THAT(read(root).unreadable, ElementsAre(unreadable("vfioap-host.json", 0, "")));
}

TEST(SysfsRoot, without_an_ap_bus_has_nothing) {
    FakeRoot root;
    std::filesystem::create_directories(root.path() + "/bus");
    const auto inventory = SysfsRoot{root.path()}.read_all(Depth::full);
    EXPECT_FALSE(inventory.ap);
    EXPECT_FALSE(inventory.vfio_ap);
    EXPECT_THAT(inventory.unreadable, IsEmpty());
}

TEST(SysfsReader, records_garbage_with_path_and_text) {
    FakeRoot root{small_host().build()};
    root.write("bus/ap/apmask", "hello\n");
    root.write("devices/ap/card05/05.0004/config", "maybe\n");
    root.write("devices/ap/card05/hwtype", "\x1b[31mred\n");
    root.write("devices/ap/card06/ap_functions", "92800000\n");
    root.write("devices/vfio_ap/matrix/features", std::string("\0\1", 2));
    const auto inventory = read(root);
    EXPECT_FALSE(inventory.ap->apmask);
    EXPECT_THAT(inventory.unreadable, ElementsAre(unreadable("bus/ap/apmask", 0, "found \"hello\""),
                                                  unreadable("devices/ap/card05/05.0004/config", 0,
                                                             "expected 0 or 1, found \"maybe\""),
                                                  unreadable("devices/ap/card05/hwtype", 0, "\"?[31mred\""),
                                                  unreadable("devices/ap/card06/ap_functions", 0, "0x"),
                                                  unreadable("devices/vfio_ap/matrix/features", 0, "words")));
}

/// Such numbers would make a snapshot that nothing reads again.
TEST(SysfsReader, refuses_numbers_that_no_card_has) {
    FakeRoot root{small_host().build()};
    root.write("devices/ap/card05/hwtype", "256\n");
    root.write("devices/ap/card06/depth", "65536\n");
    const auto inventory = read(root);
    EXPECT_THAT(inventory.unreadable,
                ElementsAre(unreadable("devices/ap/card05/hwtype", 0, "0 to 255, found \"256\""),
                            unreadable("devices/ap/card06/depth", 0, "0 to 65535, found \"65536\"")));
    std::stringstream snapshot;
    write_snapshot(snapshot, inventory, "");
    EXPECT_TRUE(read_snapshot(snapshot, "written") == inventory);
}

TEST(SysfsReader, refuses_what_is_too_long) {
    FakeRoot root{small_host().build()};
    root.write("devices/ap/card05/05.0004/config", std::string(100000, '1'));
    const auto inventory = read(root);
    EXPECT_THAT(inventory.unreadable,
                ElementsAre(unreadable("devices/ap/card05/05.0004/config", 0, "longer than")));
    ASSERT_NE(inventory.find_queue({5, 4}), nullptr);
    EXPECT_FALSE(inventory.find_queue({5, 4})->config);
}

TEST(SysfsReader, records_a_read_that_fails) {
    FakeRoot root{small_host().build()};
    root.make_unreadable("devices/ap/card05/05.0004/ap_functions");
    root.make_unreadable("devices/ap/card06/raw_hwtype");
    const auto inventory = SysfsRoot{root.path()}.read_for(guest_mdev, {});
    EXPECT_THAT(inventory.unreadable, ElementsAre(unreadable("devices/ap/card05/05.0004/ap_functions", EIO),
                                                  unreadable("devices/ap/card06/raw_hwtype", EIO)));
}

TEST(SysfsReader, takes_absent_attributes_for_an_older_kernel) {
    FakeRoot root{small_host().build()};
    for (const char* attribute : {"config", "chkstop"})
        root.remove(std::string("devices/ap/card05/05.0004/") + attribute);
    for (const char* attribute : {"ap_config", "guest_matrix"}) {
        root.remove("devices/vfio_ap/matrix/" + guest_mdev.to_string() + "/" + attribute);
    }
    root.remove("devices/ap/card05/raw_hwtype");
    const auto inventory = read(root);
    EXPECT_THAT(inventory.unreadable, IsEmpty());
    const auto* const queue = inventory.find_queue({5, 4});
    ASSERT_NE(queue, nullptr);
    EXPECT_FALSE(queue->config);
    // The type the kernel treats the card as is all that is left.
    EXPECT_EQ(hwinfo_of(*queue, inventory.find_card(5))->at(), 14U);
    const auto& mdev = *inventory.find_mdev(guest_mdev);
    EXPECT_FALSE(mdev.ap_config);
    const auto matrix = guest_matrix_of(inventory, mdev);
    EXPECT_EQ(matrix.origin, GuestMatrix::Origin::computed);
    EXPECT_EQ(matrix.queues.size(), 4U);
}

TEST(SysfsReader, takes_the_type_the_card_says_over_the_one_the_kernel_treats_it_as) {
    const FakeRoot root{HostBuilder("lpar1").z16().card(0x05, "CEX9C").domains({4}).build()};
    const auto inventory = read(root);
    EXPECT_EQ(inventory.find_card(5)->hwtype, 14U);
    EXPECT_EQ(hwinfo_of(*inventory.find_queue({5, 4}), inventory.find_card(5))->at(), 15U);
}

TEST(SysfsReader, believes_the_drivers_directory) {
    FakeRoot root{small_host().build()};
    root.remove("bus/ap/drivers/vfio_ap/05.0004");
    const SysfsRoot sysfs{root.path()};
    EXPECT_FALSE(sysfs.read_all(Depth::state).find_queue({5, 4})->bound_to_vfio_ap());
    EXPECT_FALSE(sysfs.read_for(guest_mdev, {}).find_queue({5, 4})->bound_to_vfio_ap());
    EXPECT_TRUE(sysfs.read_for(guest_mdev, {}).find_queue({5, 0x47})->bound_to_vfio_ap());
}

TEST(SysfsReader, follows_the_queues_link_where_there_is_no_drivers_directory) {
    FakeRoot root{small_host().build()};
    root.remove("bus/ap/drivers");
    const SysfsRoot sysfs{root.path()};
    EXPECT_TRUE(sysfs.read_all(Depth::state).find_queue({5, 4})->bound_to_vfio_ap());
    EXPECT_TRUE(sysfs.read_for(guest_mdev, {}).find_queue({5, 4})->bound_to_vfio_ap());
}

TEST(SysfsReader, reads_the_three_shapes_of_matrix) {
    const std::string matrix = "devices/vfio_ap/matrix/" + guest_mdev.to_string() + "/matrix";
    FakeRoot root{small_host().build()};
    root.remove("devices/vfio_ap/matrix/" + guest_mdev.to_string() + "/ap_config");
    root.write(matrix, "05.\n0a.\n");
    EXPECT_EQ(read(root).find_mdev(guest_mdev)->adapters, Mask::of({5, 10}));
    EXPECT_TRUE(read(root).find_mdev(guest_mdev)->domains.none());
    root.write(matrix, ".0004\n.00ff\n");
    EXPECT_EQ(read(root).find_mdev(guest_mdev)->domains, Mask::of({4, 255}));
    EXPECT_TRUE(read(root).find_mdev(guest_mdev)->adapters.none());
    root.write(matrix, "\n");
    EXPECT_TRUE(read(root).find_mdev(guest_mdev)->matrix().empty());
    root.write(matrix, "05.0004\nnonsense\n");
    EXPECT_THAT(read(root).unreadable, Contains(unreadable(matrix, 0, "XX.YYYY")));
}

/// Adapters 0–3 and all domains: 1,024 queues, of which sysfs prints 512.
HostBuilder page_filling_host() {
    HostBuilder::Numbers domains;
    for (unsigned i = 0; i < 256; ++i)
        domains.push_back(static_cast<std::uint8_t>(i));
    return HostBuilder("lpar1")
        .z16()
        .cards({0, 1, 2, 3}, "CEX8C")
        .domains(domains)
        .free_adapters({0, 1, 2, 3})
        .mdev(test::example_mdev)
        .assign({0, 1, 2, 3}, domains, {4});
}

TEST(SysfsReader, rebuilds_a_configuration_that_was_cut_at_a_page) {
    const FakeRoot root{page_filling_host().build()};
    ASSERT_EQ(std::filesystem::file_size(root.path() + "/devices/vfio_ap/matrix/" + guest_mdev.to_string() +
                                         "/matrix"),
              4095U);
    for (const auto& inventory : {read(root), SysfsRoot{root.path()}.read_for(guest_mdev, {})}) {
        const auto& mdev = *inventory.find_mdev(guest_mdev);
        EXPECT_EQ(mdev.matrix().size(), 1024U);
        EXPECT_TRUE(mdev.guest_matrix_truncated());
        const auto matrix = guest_matrix_of(inventory, mdev);
        EXPECT_EQ(matrix.origin, GuestMatrix::Origin::rebuilt);
        EXPECT_EQ(matrix.queues.size(), 1024U);
    }
}

TEST(SysfsReader, says_when_a_cut_configuration_cannot_be_rebuilt) {
    FakeRoot root{page_filling_host().build()};
    root.remove("devices/vfio_ap/matrix/" + guest_mdev.to_string() + "/ap_config");
    const auto inventory = read(root);
    const auto& mdev = *inventory.find_mdev(guest_mdev);
    EXPECT_TRUE(mdev.matrix_truncated);
    EXPECT_EQ(guest_matrix_of(inventory, mdev).origin, GuestMatrix::Origin::unknown);
}

TEST(SysfsReader, notes_that_ap_config_and_matrix_disagree) {
    FakeRoot root{small_host().build()};
    const auto directory = "devices/vfio_ap/matrix/" + guest_mdev.to_string();
    root.write(directory + "/matrix", "05.0004\n");
    const auto inventory = read(root);
    EXPECT_THAT(inventory.unreadable, ElementsAre(unreadable(directory + "/ap_config", 0, "does not agree")));
    EXPECT_EQ(inventory.find_mdev(guest_mdev)->matrix(), (std::vector<Apqn>{{5, 4}}));
}

TEST(SysfsReader, finds_mdevs_on_the_mdev_bus_alone) {
    FakeRoot root{small_host().build()};
    const auto device = root.path() + "/devices/vfio_ap/matrix/" + guest_mdev.to_string();
    const auto on_bus = root.path() + "/bus/mdev/devices/" + guest_mdev.to_string();
    std::filesystem::remove(on_bus);
    std::filesystem::copy(
        device, on_bus,
        std::filesystem::copy_options::recursive | std::filesystem::copy_options::copy_symlinks);
    std::filesystem::remove(on_bus + "/mdev_type");
    std::filesystem::create_directory(on_bus + "/mdev_type");
    root.write("bus/mdev/devices/" + guest_mdev.to_string() + "/mdev_type/device_api", "vfio-ap\n");
    root.write(std::string("bus/mdev/devices/") + other_mdev + "/mdev_type/device_api", "vfio-ccw\n");
    std::filesystem::remove_all(root.path() + "/devices/vfio_ap");
    const auto inventory = read(root);
    EXPECT_NE(inventory.find_mdev(guest_mdev), nullptr);
    EXPECT_EQ(inventory.find_mdev(test::uuid(other_mdev)), nullptr);
}

TEST(SysfsReader, reads_a_matrix_longer_than_a_page_where_a_file_has_one) {
    FakeRoot root{page_filling_host().build()};
    std::string whole;
    for (unsigned apid = 0; apid < 4; ++apid) {
        for (unsigned apqi = 0; apqi < 256; ++apqi) {
            whole +=
                Apqn{static_cast<std::uint8_t>(apid), static_cast<std::uint8_t>(apqi)}.to_string() + '\n';
        }
    }
    root.write("devices/vfio_ap/matrix/" + guest_mdev.to_string() + "/guest_matrix", whole);
    EXPECT_EQ(read(root).find_mdev(guest_mdev)->guest_matrix->size(), 1024U);
}

TEST(SysfsReader, does_not_hang_on_a_fifo) {
    FakeRoot root{small_host().build()};
    root.make_fifo("devices/ap/card05/05.0004/config");
    const auto inventory = read(root);
    EXPECT_FALSE(inventory.find_queue({5, 4})->config);
}

TEST(SysfsReader, ignores_names_that_are_none_of_the_buses) {
    FakeRoot root{small_host().build()};
    for (const char* name :
         {"devices/ap/cardZZ/x", "devices/ap/card05/06.0004/config", "devices/ap/card05/power/async",
          "devices/vfio_ap/matrix/not-a-uuid/matrix", "bus/ap/drivers/vfio_ap/bind"}) {
        root.write(name, "1\n");
    }
    const auto inventory = read(root);
    EXPECT_EQ(inventory.queues.size(), 4U);
    EXPECT_EQ(inventory.mdevs.size(), 1U);
    EXPECT_THAT(inventory.unreadable, IsEmpty());
}

TEST(SysfsReader, survives_a_root_that_is_taken_away_while_it_is_read) {
    // The order of the scan is fixed, so that it can be caught in the middle: a queue's directory is there by
    // name and leads nowhere.
    FakeRoot root{small_host().build()};
    std::filesystem::remove_all(root.path() + "/devices/ap/card05/05.0004");
    std::filesystem::create_symlink("../gone", root.path() + "/devices/ap/card05/05.00aa");
    const auto inventory = read(root);
    EXPECT_EQ(inventory.find_queue({5, 4}), nullptr);
}

TEST(SysfsReader, reads_costly_attributes_only_at_full_depth) {
    const FakeRoot root{HostBuilder("lpar1")
                            .z16()
                            .kernel(test::Kernel::newest)
                            .card(0x05, "CEX8C")
                            .domains({4})
                            .master_keys(0x05, test::cca_keys(1))
                            .serial(0x05, "93AAB123")
                            .build()};
    const SysfsRoot sysfs{root.path()};
    const auto state = sysfs.read_all(Depth::state);
    EXPECT_FALSE(state.find_queue({5, 4})->ap_functions);
    EXPECT_EQ(state.find_queue({5, 4})->mkvps(), nullptr);
    EXPECT_FALSE(state.find_card(5)->serialnr);
    const auto full = sysfs.read_all(Depth::full);
    EXPECT_TRUE(full.find_queue({5, 4})->ap_functions);
    ASSERT_NE(full.find_queue({5, 4})->mkvps(), nullptr);
    EXPECT_EQ(*full.find_queue({5, 4})->mkvps(), test::cca_keys(1));
    EXPECT_EQ(full.find_card(5)->serialnr, "93AAB123");
}

TEST(Sysfs, reads_again_what_it_is_told_to_and_what_drivers_and_lists_tell) {
    FakeRoot root{HostBuilder("lpar1")
                      .z16()
                      .cards({0x05, 0x06, 0x07, 0x08}, "CEX8C")
                      .domains({0x04, 0x47})
                      .free_domains({0x04, 0x47})
                      .mdev(test::example_mdev)
                      .assign({0x05, 0x06}, {0x04, 0x47}, {0x04})
                      .build()};
    root.write("devices/ap/card07/07.0004/config", "what\n");
    const SysfsRoot sysfs{root.path()};
    const auto before = sysfs.read_all(Depth::state);
    EXPECT_TRUE(sysfs.read_again(before, {}) == before);
    EXPECT_TRUE(sysfs.read_again(before, Mask::all()) == before);
    EXPECT_TRUE(sysfs.read_again({}, {}) == before);

    root.write("devices/ap/card05/05.0004/chkstop", "1\n");
    root.write("devices/ap/card07/07.0047/chkstop", "1\n");
    EXPECT_TRUE(sysfs.read_again(before, {}) == before);
    const auto card = sysfs.read_again(before, Mask::of({0x05}));
    EXPECT_EQ(card.find_queue({0x05, 0x04})->chkstop, true);
    EXPECT_EQ(card.find_queue({0x07, 0x47})->chkstop, false);

    // Neither of these has to be told: a card that is gone, and a queue with another driver.
    root.remove("devices/ap/card08");
    root.remove("bus/ap/drivers/vfio_ap/07.0004");
    root.remove("devices/ap/card07/07.0004/driver");
    const auto after = sysfs.read_again(before, Mask::of({0x05}));
    EXPECT_TRUE(after == sysfs.read_all(Depth::state))
        << test::differences(after, sysfs.read_all(Depth::state));
    EXPECT_EQ(after.find_queue({0x07, 0x04})->driver, "");
    EXPECT_EQ(after.find_queue({0x07, 0x47})->chkstop, true);
    EXPECT_EQ(after.find_queue({0x08, 0x04}), nullptr);
    EXPECT_THAT(after.unreadable, ElementsAre(unreadable("devices/ap/card07/07.0004/config", 0)));
}

TEST(GuestMatrix, drops_the_whole_adapter_for_one_queue) {
    auto builder = small_host().vanish({6, 0x47});
    const auto inventory = builder.build();
    const auto matrix = guest_matrix_of(inventory, *inventory.find_mdev(guest_mdev));
    EXPECT_EQ(matrix.queues, (std::vector<Apqn>{{5, 4}, {5, 0x47}}));
    ASSERT_EQ(matrix.filtered.size(), 1U);
    EXPECT_EQ(matrix.filtered[0].apid, 6);
    EXPECT_EQ(matrix.filtered[0].reason, FilteredAdapter::Reason::queue_missing);
    EXPECT_EQ(matrix.filtered[0].culprits, (std::vector<Apqn>{{6, 0x47}}));
}

TEST(GuestMatrix, over_provisioning_is_no_error) {
    const auto inventory = HostBuilder("lpar1")
                               .z16()
                               .card(0x05, "CEX8C")
                               .domains({4})
                               .free_domains({4})
                               .mdev(test::example_mdev)
                               .assign({0x05, 0x99}, {0x04, 0xcc}, {0x04, 0xdd})
                               .build();
    const auto matrix = guest_matrix_of(inventory, *inventory.find_mdev(guest_mdev));
    EXPECT_EQ(matrix.queues, (std::vector<Apqn>{{5, 4}}));
    EXPECT_EQ(matrix.control_domains, Mask::of({4}));
    ASSERT_EQ(matrix.filtered.size(), 1U);
    EXPECT_EQ(matrix.filtered[0].reason, FilteredAdapter::Reason::not_in_host);
}

TEST(GuestMatrix, takes_the_kernels_word_and_says_that_it_knows_no_reason) {
    auto inventory = small_host().build();
    inventory.mdevs[0].guest_matrix = std::vector<Apqn>{{5, 4}, {5, 0x47}};
    const auto matrix = guest_matrix_of(inventory, inventory.mdevs[0]);
    EXPECT_EQ(matrix.queues.size(), 2U);
    ASSERT_EQ(matrix.filtered.size(), 1U);
    EXPECT_EQ(matrix.filtered[0].reason, FilteredAdapter::Reason::unknown);
}

}  // namespace
}  // namespace vfioap
