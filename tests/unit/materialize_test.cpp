// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/materialize.h"

#include "ap/error.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/example_hosts.h"
#include "support/host_builder.h"
#include "support/temporary_directory.h"

namespace vfioap {
namespace {

namespace fs = std::filesystem;
using test::HostBuilder;
using test::TemporaryDirectory;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

/// A sysfs root made of an inventory.
class Root {
  public:
    explicit Root(const Inventory& host) { materialize(host, path().string()); }

    [[nodiscard]] fs::path path() const { return fs::path{directory_.path()} / "sys"; }
    [[nodiscard]] fs::path operator/(std::string_view name) const { return path() / name; }
    [[nodiscard]] bool has(std::string_view name) const {
        return fs::exists(fs::symlink_status(*this / name));
    }
    [[nodiscard]] std::string text(std::string_view name) const {
        std::ifstream in{*this / name, std::ios::binary};
        EXPECT_TRUE(in) << name;
        return {std::istreambuf_iterator<char>{in}, {}};
    }
    [[nodiscard]] std::vector<std::string> names(std::string_view name) const {
        std::vector<std::string> result;
        for (const auto& entry : fs::directory_iterator{*this / name})
            result.push_back(entry.path().filename());
        std::sort(result.begin(), result.end());
        return result;
    }
    [[nodiscard]] std::string target(std::string_view name) const {
        return fs::read_symlink(*this / name).string();
    }

  private:
    TemporaryDirectory directory_;
};

const Inventory& example(std::string_view name) {
    static const auto hosts = test::example_hosts();
    const auto found =
        std::find_if(hosts.begin(), hosts.end(), [&](const Inventory& host) { return host.name == name; });
    if (found == hosts.end()) throw std::logic_error{fmt::format("no example host {}", name)};
    return *found;
}

std::string mdev_attribute(std::string_view name) {
    return fmt::format("devices/vfio_ap/matrix/{}/{}", test::example_mdev, name);
}

TEST(Materialize, makes_a_card_as_the_kernel_shows_it) {
    const Root root{example("lpar-a")};
    EXPECT_THAT(root.names("devices/ap"), ElementsAre("card05", "card06", "card07"));
    EXPECT_THAT(
        root.names("devices/ap/card05"),
        ElementsAre("05.0004", "05.0047", "05.00ab", "ap_functions", "chkstop", "config", "depth", "driver",
                    "hwtype", "max_msg_size", "modalias", "online", "pendingq_count", "raw_hwtype",
                    "request_count", "requestq_count", "serialnr", "subsystem", "type"));
    EXPECT_EQ(root.text("devices/ap/card05/hwtype"), "14\n");
    EXPECT_EQ(root.text("devices/ap/card05/ap_functions"), "0x92800000\n");
    EXPECT_EQ(root.text("devices/ap/card05/modalias"), "ap:t0E\n");
    EXPECT_EQ(root.text("devices/ap/card05/config"), "1\n");
    EXPECT_EQ(root.text("devices/ap/card05/chkstop"), "0\n");
    EXPECT_EQ(root.text("devices/ap/card05/type"), "CEX8C\n");
    EXPECT_EQ(root.text("devices/ap/card05/serialnr"), "93AAD105\n");
    EXPECT_FALSE(root.has("devices/ap/card07/serialnr"));
    EXPECT_EQ(root.target("devices/ap/card05/driver"), "../../../bus/ap/drivers/cex4card");
    EXPECT_THAT(root.names("bus/ap/drivers/cex4card"), ElementsAre("card05", "card06", "card07"));
}

TEST(Materialize, makes_a_queue_as_the_kernel_shows_it) {
    const Root root{example("lpar-a")};
    EXPECT_THAT(root.names("devices/ap/card07/07.0004"),
                ElementsAre("chkstop", "config", "driver", "pendingq_count", "request_count",
                            "requestq_count", "status", "subsystem"));
    EXPECT_THAT(root.names("devices/ap/card07/07.00ab"),
                ElementsAre("chkstop", "config", "driver", "online", "pendingq_count", "request_count",
                            "requestq_count", "subsystem"));
    EXPECT_EQ(root.text("devices/ap/card05/05.0047/status"), "in use\n");
    EXPECT_EQ(root.target("devices/ap/card05/05.0047/driver"), "../../../../bus/ap/drivers/vfio_ap");
    EXPECT_THAT(root.names("bus/ap/drivers/vfio_ap"),
                ElementsAre("05.0004", "05.0047", "06.0004", "06.0047", "07.0004", "07.0047"));
    EXPECT_EQ(root.text("devices/ap/card06/06.00ab/mkvps").substr(0, 17), "WK CUR: valid 0xb");
    EXPECT_THAT(root.text("devices/ap/card06/06.00ab/mkvps"), ::testing::EndsWith("\nWK NEW: empty -\n"));
}

TEST(Materialize, makes_the_attributes_of_the_newest_kernel) {
    const Root root{example("z16-override")};
    EXPECT_EQ(root.text("devices/ap/card05/05.0004/driver_override"), "vfio_ap\n");
    EXPECT_EQ(root.text("devices/ap/card05/05.0054/driver_override"), "(null)\n");
    EXPECT_EQ(root.text("devices/ap/card06/06.0047/ap_functions"), "0x92804000\n");
    EXPECT_EQ(root.text("devices/ap/card07/07.0054/op_modes"),
              "FIPS2009 BSI2009 FIPS2011 BSI2011 BSICC2017\n");
}

TEST(Materialize, makes_only_what_an_old_kernel_has) {
    const Root root{example("z14-cex6")};
    EXPECT_THAT(root.names("bus/ap"),
                ElementsAre("ap_adapter_mask", "ap_control_domain_mask", "ap_domain", "ap_interrupts",
                            "ap_max_adapter_id", "ap_max_domain_id", "ap_usage_domain_mask", "apmask",
                            "aqmask", "config_time", "devices", "drivers", "poll_thread", "poll_timeout"));
    EXPECT_THAT(
        root.names("devices/ap/card00/00.0000"),
        ElementsAre("driver", "pendingq_count", "request_count", "requestq_count", "status", "subsystem"));
    EXPECT_FALSE(root.has("devices/vfio_ap/matrix/features"));
    EXPECT_FALSE(root.has("firmware"));
    EXPECT_FALSE(root.has("devices/vfio_ap/matrix/1c7b6ad4-3f0e-4c0e-8d6a-6d2b1f0a7e11/guest_matrix"));
    EXPECT_TRUE(root.has("devices/vfio_ap/matrix/1c7b6ad4-3f0e-4c0e-8d6a-6d2b1f0a7e11/matrix"));
}

TEST(Materialize, makes_the_bus_as_the_kernel_shows_it) {
    const Root root{example("lpar-b")};
    EXPECT_EQ(root.text("bus/ap/apmask"),
              "0xfbffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\n");
    EXPECT_EQ(root.text("bus/ap/ap_max_domain_id"), "171\n");
    EXPECT_EQ(root.text("bus/ap/bindings"), "9/9 (complete)\n");
    EXPECT_EQ(root.text("bus/ap/features"), "APSC APXA QACT RC8A APSB\n");
    EXPECT_EQ(root.text("bus/ap/ap_domain"), "4\n");
    EXPECT_THAT(root.names("bus/ap/devices"),
                ElementsAre("05.0004", "05.0047", "05.00ab", "06.0004", "06.0047", "06.00ab", "07.0004",
                            "07.0047", "07.00ab", "card05", "card06", "card07"));
    EXPECT_EQ(root.text("firmware/uv/prot_virt_guest"), "0\n");
    EXPECT_EQ(root.text("firmware/uv/prot_virt_host"), "1\n");

    auto host = example("lpar-b");
    host.ap->ap_adapter_mask = {HostMask::State::not_supported, {}};
    host.ap->features = std::vector<std::string>{};
    const Root other{host};
    EXPECT_EQ(other.text("bus/ap/ap_adapter_mask"), "not supported\n");
    EXPECT_EQ(other.text("bus/ap/features"), "-\n");
}

TEST(Materialize, makes_an_mdev_that_libvirt_and_mdevctl_find) {
    const Root root{example("lpar-a")};
    const std::string uuid{test::example_mdev};
    EXPECT_THAT(root.names("devices/vfio_ap/matrix"),
                UnorderedElementsAre("features", "mdev_supported_types", "subsystem", uuid));
    EXPECT_THAT(
        root.names(mdev_attribute("")),
        UnorderedElementsAre("matrix", "guest_matrix", "control_domains", "ap_config", "assign_adapter",
                             "assign_domain", "assign_control_domain", "unassign_adapter", "unassign_domain",
                             "unassign_control_domain", "remove", "mdev_type", "subsystem", "iommu_group"));
    EXPECT_EQ(root.text(mdev_attribute("matrix")), "05.0004\n05.0047\n06.0004\n06.0047\n");
    EXPECT_EQ(root.text(mdev_attribute("guest_matrix")), "05.0004\n05.0047\n06.0004\n06.0047\n");
    EXPECT_EQ(root.text(mdev_attribute("control_domains")), "0004\n0047\n");
    EXPECT_EQ(root.text(mdev_attribute("ap_config")),
              "0x0600000000000000000000000000000000000000000000000000000000000000,"
              "0x0800000000000000010000000000000000000000000000000000000000000000,"
              "0x0800000000000000010000000000000000000000000000000000000000000000\n");
    EXPECT_EQ(root.text(mdev_attribute("mdev_type/device_api")), "vfio-ap\n");
    EXPECT_EQ(root.text(mdev_attribute("mdev_type/available_instances")), "65535\n");
    EXPECT_EQ(root.text("bus/mdev/devices/" + uuid + "/matrix"), "05.0004\n05.0047\n06.0004\n06.0047\n");
    EXPECT_EQ(root.text("bus/matrix/devices/matrix/features"), "guest_matrix hotplug ap_config\n");
    EXPECT_EQ(root.text("class/mdev_bus/matrix/mdev_supported_types/vfio_ap-passthrough/name"),
              "VFIO AP Passthrough Device\n");
    EXPECT_EQ(fs::canonical(root / mdev_attribute("iommu_group")),
              fs::canonical(root / "kernel/iommu_groups/0"));
    EXPECT_EQ(fs::canonical(root / ("kernel/iommu_groups/0/devices/" + uuid)),
              fs::canonical(root / mdev_attribute("")));
}

TEST(Materialize, gives_each_mdev_an_iommu_group_of_its_own) {
    const Root root{example("z16-overprovisioned")};
    EXPECT_THAT(root.names("kernel/iommu_groups"), ElementsAre("0", "1", "2", "3", "4"));
    std::set<fs::path> groups;
    for (const auto& mdev : example("z16-overprovisioned").mdevs)
        groups.insert(fs::canonical(root / (mdev_path(mdev.uuid) + "/iommu_group")));
    EXPECT_EQ(groups.size(), 5U);
}

TEST(Materialize, prints_a_matrix_in_its_three_shapes) {
    const Root root{example("z16-overprovisioned")};
    EXPECT_EQ(root.text("devices/vfio_ap/matrix/4e5d2b90-7e61-4be8-a1c2-57f06d9e1a44/matrix"), "07.\n");
    EXPECT_EQ(root.text("devices/vfio_ap/matrix/5a0f4d3c-8c1b-47a9-9d52-c1d0e7f3b255/matrix"),
              ".0004\n.0047\n");
    EXPECT_EQ(root.text("devices/vfio_ap/matrix/3d1a7f36-5b7c-4a57-9f3d-8e21c7a5c933/matrix"),
              "64.0004\n65.0004\n");
    const Root empty{example("z16-migratable")};
    EXPECT_EQ(empty.text("devices/vfio_ap/matrix/4e5d2b90-7e61-4be8-a1c2-57f06d9e1a44/matrix"), "");
}

TEST(Materialize, shows_the_attribute_migratable_where_the_first_patch_version_has_it) {
    const Root root{example("z16-v1")};
    EXPECT_EQ(root.text(mdev_attribute("migratable")), "1\n");
    EXPECT_EQ(root.text("devices/vfio_ap/matrix/2f9e0c58-92aa-4f2b-b0f4-0a5c44d3b822/migratable"), "0\n");
    const Root other{example("z16-migratable")};
    EXPECT_FALSE(other.has(mdev_attribute("migratable")));
}

/// `count` adapters times 32 domains, all of them one guest's.
Inventory host_with_queues(unsigned count) {
    HostBuilder::Numbers adapters;
    HostBuilder::Numbers domains;
    for (unsigned i = 0; i < count; ++i)
        adapters.push_back(static_cast<std::uint8_t>(i));
    for (unsigned i = 0; i < 32; ++i)
        domains.push_back(static_cast<std::uint8_t>(i));
    return HostBuilder{"page"}
        .cards(adapters, "CEX8C")
        .domains(domains)
        .free_domains(domains)
        .mdev(test::example_mdev)
        .assign(adapters, domains)
        .build();
}

TEST(Materialize, cuts_a_matrix_at_one_page_as_the_kernel_does) {
    const Root fits{host_with_queues(15)};
    EXPECT_EQ(fits.text(mdev_attribute("matrix")).size(), 15U * 32U * 8U);
    const Root full{host_with_queues(16)};
    const Root over{host_with_queues(17)};
    for (const auto* const name : {"matrix", "guest_matrix"}) {
        EXPECT_EQ(full.text(mdev_attribute(name)).size(), 4095U) << name;
        EXPECT_THAT(full.text(mdev_attribute(name)), ::testing::EndsWith("\n0f.001e\n0f.001f")) << name;
        EXPECT_EQ(over.text(mdev_attribute(name)), full.text(mdev_attribute(name))) << name;
    }
    EXPECT_NE(over.text(mdev_attribute("ap_config")), full.text(mdev_attribute("ap_config")));
}

TEST(Materialize, makes_links_that_stay_inside_and_lead_somewhere) {
    for (const auto& host : test::example_hosts()) {
        if (host.queues.size() > 100) continue;
        const Root root{host};
        // After a move they must lead there still.
        const fs::path moved = root.path().string() + ".moved";
        fs::rename(root.path(), moved);
        std::size_t links = 0;
        for (const auto& entry : fs::recursive_directory_iterator{moved}) {
            if (!entry.is_symlink()) continue;
            const auto target = fs::read_symlink(entry.path());
            if (target == "/proc/self/mem") continue;  // of a file that gives EIO
            ++links;
            EXPECT_TRUE(target.is_relative()) << entry.path() << " -> " << target;
            EXPECT_TRUE(fs::exists(entry.path())) << entry.path() << " -> " << target;
            const auto inside = fs::relative(fs::canonical(entry.path()), fs::canonical(moved)).string();
            EXPECT_FALSE(inside.starts_with("..")) << entry.path() << " -> " << target;
        }
        EXPECT_GT(links, 0U) << host.name;
        fs::rename(moved, root.path());
    }
}

TEST(Materialize, makes_files_that_can_be_changed_one_by_one) {
    const Root root{example("lpar-b")};
    std::ofstream{root / "devices/ap/card05/05.0004/config"} << "0\n";
    EXPECT_EQ(root.text("devices/ap/card05/05.0047/config"), "1\n");
    EXPECT_EQ(root.text("devices/ap/card06/06.0004/config"), "1\n");
}

TEST(Materialize, makes_what_could_not_be_read_unreadable_again) {
    const Root root{example("z16-override")};
    const int fd = ::open((root / "devices/ap/card08/08.0054/ap_functions").c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    char byte = 0;
    errno = 0;
    EXPECT_EQ(::read(fd, &byte, 1), -1);
    EXPECT_EQ(errno, EIO);
    ::close(fd);
}

TEST(Materialize, never_makes_up_a_value_for_what_could_not_be_read) {
    auto host = HostBuilder{"odd"}
                    .card(5, "CEX8C")
                    .domains({4})
                    .free_domains({4})
                    .mdev(test::example_mdev)
                    .unreadable(mdev_attribute("matrix"), 0, "found `05`")
                    .unreadable("devices/ap/card05/05.0004/mkvps", EACCES)
                    .unreadable("devices/ap/card63/serialnr", EIO)
                    .unreadable("devices/ap/card05/driver/x", EIO)
                    .unreadable("devices/ap/card05/05.0004", EIO)
                    .unreadable("devices/ap/card05/driver", EIO)
                    .build();
    // Not from a snapshot, whose reader refuses these.
    for (const char* const path : {"../outside", "/outside", "devices/../../outside", "", "devices//x", "x/"})
        host.unreadable.push_back({path, EIO, {}});
    host.sort();
    const Root root{host};
    EXPECT_FALSE(root.has(mdev_attribute("matrix")));
    EXPECT_FALSE(root.has("devices/ap/card05/05.0004/mkvps"));
    EXPECT_FALSE(root.has("devices/ap/card63"));
    EXPECT_FALSE(root.has("bus/ap/drivers/cex4card/x"));
    EXPECT_TRUE(fs::is_directory(root / "devices/ap/card05/05.0004"));
    EXPECT_EQ(root.target("devices/ap/card05/driver"), "../../../bus/ap/drivers/cex4card");
    EXPECT_FALSE(root.has("../outside"));
}

TEST(Materialize, makes_a_host_without_ap_or_without_the_driver) {
    Inventory bare;
    bare.name = "bare";
    const Root nothing{bare};
    EXPECT_THAT(nothing.names(""), ElementsAre("bus", "devices", "vfioap-host.json"));
    EXPECT_THAT(nothing.names("bus"), ElementsAre());
    const Root root{example("z15-no-vfio-ap")};
    EXPECT_FALSE(root.has("devices/vfio_ap"));
    EXPECT_FALSE(root.has("bus/matrix"));
    EXPECT_FALSE(root.has("bus/ap/drivers/vfio_ap"));
    EXPECT_TRUE(root.has("bus/ap/drivers/cex4queue/01.0004"));
    const Root loaded{HostBuilder{"loaded"}.build()};
    EXPECT_THAT(loaded.names("bus/ap/drivers"), ElementsAre("vfio_ap"));
    EXPECT_TRUE(loaded.has("bus/mdev/devices"));
}

TEST(Materialize, takes_an_empty_directory_and_a_link_to_one) {
    const TemporaryDirectory directory;
    const fs::path base{directory.path()};
    fs::create_directory(base / "empty");
    fs::create_directory(base / "other");
    fs::create_directory_symlink("other", base / "link");
    materialize(example("lpar-a"), (base / "empty").string());
    materialize(example("lpar-a"), (base / "link/").string());
    EXPECT_TRUE(fs::exists(base / "empty/bus/ap"));
    EXPECT_TRUE(fs::exists(base / "other/bus/ap"));
}

TEST(Materialize, touches_nothing_that_is_there) {
    const TemporaryDirectory directory;
    const fs::path base{directory.path()};
    fs::create_directory(base / "full");
    std::ofstream{base / "full/file"} << "mine";
    std::ofstream{base / "file"} << "mine";
    fs::create_directory_symlink("full", base / "link");
    for (const char* const name : {"full", "link", "file"}) {
        try {
            materialize(example("lpar-a"), (base / name).string());
            FAIL() << name;
        } catch (const InputError& error) {
            EXPECT_THAT(error.what(), HasSubstr((base / name).string()));
        }
    }
    EXPECT_THROW(materialize(example("lpar-a"), (base / "missing/sys").string()), SystemError);
    EXPECT_EQ(std::distance(fs::recursive_directory_iterator{base}, {}), 4);
}

TEST(Materialize, refuses_a_part_of_a_host) {
    const TemporaryDirectory directory;
    auto host = example("lpar-a");
    host.complete = false;
    EXPECT_THROW(materialize(host, directory.path() + "/sys"), InputError);
    EXPECT_FALSE(fs::exists(directory.path() + "/sys"));
}

TEST(Materialize, refuses_names_that_are_no_names_and_removes_what_it_made) {
    const TemporaryDirectory directory;
    const auto path = directory.path() + "/sys";
    const auto refuses = [&](auto change) {
        auto host = example("lpar-a");
        change(host);
        EXPECT_THROW(materialize(host, path), InputError);
        EXPECT_FALSE(fs::exists(path));
    };
    for (const auto& name : {std::string{".."}, std::string{"."}, std::string{"a/b"}, std::string{"../../x"},
                             std::string("a\0b", 3), std::string(65, 'x')}) {
        refuses([&](Inventory& host) { host.cards[0].driver = name; });
        refuses([&](Inventory& host) { host.queues.back().driver = name; });
        refuses([&](Inventory& host) { host.mdevs[0].type = name; });
    }
    refuses([](Inventory& host) { host.mdevs[0].type.reset(); });  // but a device_api
    refuses([](Inventory& host) {
        Mdev other{test::uuid("00000000-0000-0000-0000-000000000000")};
        other.type = host.mdevs[0].type;
        other.device_api = "vfio-pci";
        host.mdevs.push_back(other);
        host.sort();
    });
    EXPECT_TRUE(fs::is_empty(directory.path()));
}

TEST(Materialize, that_fails_leaves_a_directory_that_was_there_empty) {
    const TemporaryDirectory directory;
    auto host = example("lpar-a");
    host.queues.back().driver = "..";
    EXPECT_THROW(materialize(host, directory.path()), InputError);
    EXPECT_TRUE(fs::is_empty(directory.path()));
}

TEST(Materialize, that_cannot_write_removes_what_it_made) {
    const TemporaryDirectory directory;
    const auto child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{100, 100};  // master keys have more bytes
        if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(2);
        try {
            materialize(example("lpar-a"), directory.path() + "/sys");
            ::_exit(3);
        } catch (const SystemError& error) {
            ::_exit(error.number() == EFBIG ? 0 : 4);
        }
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_TRUE(fs::is_empty(directory.path()));
}

TEST(Materialize, makes_the_inventory_of_any_mixture_of_absent_attributes) {
    Inventory host;
    host.name = "bare";
    host.ap = ApBus{};
    host.cards.emplace_back();
    host.queues.emplace_back();
    host.queues.push_back({});
    host.queues.back().apqn = Apqn{7, 7};  // its card is not in the inventory
    host.mdevs.emplace_back(test::uuid(test::example_mdev));
    const Root root{host};
    EXPECT_THAT(root.names("devices/ap/card00"),
                ElementsAre("00.0000", "pendingq_count", "request_count", "requestq_count", "subsystem"));
    EXPECT_THAT(root.names("devices/ap/card07"), ElementsAre("07.0007"));
    EXPECT_THAT(root.names("devices/vfio_ap/matrix/mdev_supported_types"), ElementsAre());
    EXPECT_FALSE(root.has(mdev_attribute("mdev_type")));
    EXPECT_FALSE(root.has(mdev_attribute("ap_config")));
    EXPECT_TRUE(root.has(mdev_attribute("matrix")));
}

}  // namespace
}  // namespace vfioap
