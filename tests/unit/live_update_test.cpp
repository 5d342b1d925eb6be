// SPDX-License-Identifier: LGPL-2.1-or-later
// Domains and hosts that can hand a guest to a new QEMU, and those that lack one thing.
#include "compat/live_update.h"

#include "host/capabilities.h"
#include "report/text.h"

#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/host_builder.h"
#include "support/move.h"

namespace vfioap {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Inventory able_host() {
    auto host = test::HostBuilder("lpar-a").z16().build();
    host.qemu = Qemu{"10.1.0", {}, true, true};
    host.iommufd = Iommufd{true, true, true};
    return host;
}

DomainXml domain(const std::string& name) {
    return load_domain_xml(std::string{VFIOAP_TEST_DATA} + "/domains/live-update/" + name + ".xml");
}

std::vector<std::string> found(const Report& report) {
    std::vector<std::string> words;
    for (const auto& finding : report.findings)
        words.push_back(std::string{to_text(finding.severity)} + ' ' + std::string{rule(finding.rule).name});
    return words;
}

struct DomainRow {
    const char* name;
    Verdict verdict;
    std::vector<std::string> findings;
};

TEST(LiveUpdate, judges_domains) {
    const std::vector<DomainRow> rows{
        {"ready", Verdict::compatible, {}},
        {"no-crypto", Verdict::compatible, {"info guest.no-vfio-ap"}},
        {"as-libvirt-makes-it",
         Verdict::incompatible,
         {"error live-update.iommufd", "error live-update.memory", "error live-update.memory"}},
        {"hostdev-iommufd-dropped", Verdict::incompatible, {"error live-update.iommufd"}},
        {"domain-iommufd-ignored", Verdict::incompatible, {"error live-update.iommufd"}},
        {"passed-without-iommufd", Verdict::incompatible, {"error live-update.iommufd"}},
        {"memory-private", Verdict::incompatible, {"error live-update.memory"}},
        {"hugepages-no-aux", Verdict::incompatible, {"error live-update.memory"}},
        {"secure", Verdict::incompatible, {"error guest.secure-execution"}},
    };
    for (const auto& row : rows) {
        const auto report = check_live_update(domain(row.name), able_host(), false);
        EXPECT_EQ(to_text(report.verdict), to_text(row.verdict)) << row.name;
        EXPECT_EQ(found(report), row.findings) << row.name;
        for (const auto& finding : report.findings)
            EXPECT_TRUE(finding.severity == Severity::info || !finding.remedies.empty()) << row.name;
    }
}

TEST(LiveUpdate, judges_the_host) {
    const auto with = [](auto change) {
        auto host = able_host();
        change(host);
        return found(check_live_update(domain("ready"), host, false));
    };
    EXPECT_THAT(with([](Inventory& host) { host.qemu->version = "10.0.3"; }),
                ElementsAre("error live-update.qemu"));
    EXPECT_THAT(with([](Inventory& host) { host.qemu->version = "9.2.0"; }),
                ElementsAre("error live-update.qemu"));
    EXPECT_THAT(with([](Inventory& host) { host.qemu->cpr_transfer = false; }),
                ElementsAre("error live-update.qemu"));
    EXPECT_THAT(with([](Inventory& host) { host.qemu->vfio_ap_iommufd = false; }),
                ElementsAre("error live-update.qemu"));
    EXPECT_THAT(with([](Inventory& host) { host.qemu.reset(); }), ElementsAre("warning live-update.qemu"));
    EXPECT_THAT(with([](Inventory& host) { host.iommufd = Iommufd{}; }),
                ElementsAre("error live-update.kernel"));
    EXPECT_THAT(with([](Inventory& host) { host.iommufd->map_file = false; }),
                ElementsAre("error live-update.kernel"));
    EXPECT_THAT(with([](Inventory& host) { host.iommufd->change_process = false; }),
                ElementsAre("error live-update.kernel"));
    EXPECT_THAT(with([](Inventory& host) { host.iommufd->map_file.reset(); }),
                ElementsAre("warning live-update.kernel"));
    EXPECT_THAT(with([](Inventory& host) { host.iommufd.reset(); }),
                ElementsAre("warning live-update.kernel"));
    auto unknown = able_host();
    unknown.iommufd.reset();
    EXPECT_EQ(check_live_update(domain("ready"), unknown, true).verdict, Verdict::incompatible) << "strict";
}

TEST(LiveUpdate, tells_what_works_where_libvirt_drops_iommufd) {
    const auto report = check_live_update(domain("hostdev-iommufd-dropped"), able_host(), false);
    const auto text = render_text(report, {});
    EXPECT_THAT(text,
                HasSubstr("INCOMPATIBLE: hostdev-iommufd-dropped cannot be handed to a new QEMU at lpar-a"));
    EXPECT_THAT(text, HasSubstr("12.8 does"));
    EXPECT_THAT(text, HasSubstr("vfio-ap,sysfsdev=/sys/bus/mdev/devices/62177883-f1bb-47f0-914d-32a22e3a8804,"
                                "iommufd=iommufd0"));
}

TEST(LiveUpdate, knows_versions) {
    for (const auto* const version : {"10.1.0", "10.1", "10.12.1", "11.0.50", "12.0"})
        EXPECT_TRUE(transfers_vfio(version)) << version;
    for (const auto* const version : {"", "10", "10.0.9", "7.2.0", "x", "9.12"})
        EXPECT_FALSE(transfers_vfio(version)) << version;
}

class Emulator : public testing::Test {
  protected:
    void SetUp() override {
        const auto pattern = (std::filesystem::temp_directory_path() / "vfioap-emulator-XXXXXX").string();
        std::string name = pattern;
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        directory_ = name;
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }
    std::string program(const std::string& text, unsigned mode = 0755) {
        const auto path = (directory_ / "qemu").string();
        std::ofstream{path} << "#!/bin/sh\n" << text;
        EXPECT_EQ(::chmod(path.c_str(), mode), 0);
        return path;
    }
    std::filesystem::path directory_;
};

constexpr const char* speaks =
    R"(if [ "$1" = -version ]; then echo 'QEMU emulator version 10.1.2 (Debian)'; exit; fi
while read -r line; do case $line in
*schema*) echo '{"return": [{"members": ["cpr-transfer"]}], "id": "vfioap-schema"}' | sed 's/\["cpr/[{"name":"x"},"cpr/' ;;
*list-properties*) echo '{"return": [{"name": "iommufd"}], "id": "vfioap-device"}' ;;
*quit*) exit ;; esac; done
)";

TEST_F(Emulator, is_asked_for_version_modes_and_properties) {
    if (::geteuid() != 0) GTEST_SKIP() << "only root's files are run";
    const auto qemu = probe_emulator(program(speaks));
    EXPECT_EQ(qemu.version, "10.1.2");
    EXPECT_EQ(qemu.cpr_transfer, true);
    EXPECT_EQ(qemu.vfio_ap_iommufd, true);
}

TEST_F(Emulator, that_says_nothing_or_hangs_leaves_things_open) {
    if (::geteuid() != 0) GTEST_SKIP() << "only root's files are run";
    EXPECT_FALSE(probe_emulator(program("exit 1\n")).version);
    const auto qemu = probe_emulator(
        program("[ \"$1\" != -version ] && exec sleep 1000\necho QEMU emulator version 9.0.0\n"), 1);
    EXPECT_EQ(qemu.version, "9.0.0");
    EXPECT_FALSE(qemu.cpr_transfer);
}

TEST_F(Emulator, inherits_no_ignored_signal) {
    if (::geteuid() != 0) GTEST_SKIP() << "only root's files are run";
    auto* const before = std::signal(SIGPIPE, SIG_IGN);
    const auto qemu =
        probe_emulator(program("grep -q '^SigIgn:.*[02468ace]...$' /proc/self/status && "
                               "echo QEMU emulator version 9.0.0\n"));
    std::signal(SIGPIPE, before);
    EXPECT_EQ(qemu.version, "9.0.0");
}

TEST_F(Emulator, is_not_run_where_it_need_not_be_roots_own) {
    const auto trace = directory_ / "ran";
    const auto script = "touch " + trace.string() + "\n";
    const auto path = program(script, 0777);
    EXPECT_FALSE(probe_emulator(path).version);
    program(script);
    EXPECT_FALSE(probe_emulator("qemu").version);
    EXPECT_FALSE(probe_emulator(directory_.string()).version);
    EXPECT_FALSE(probe_emulator(path + "; echo").version);
    if (::geteuid() == 0) {
        ASSERT_EQ(::chown(path.c_str(), 65534, 65534), 0);
        EXPECT_FALSE(probe_emulator(path).version);
    }
    EXPECT_FALSE(std::filesystem::exists(trace));
}

TEST_F(Emulator, is_asked_again_when_it_is_another) {
    if (::geteuid() != 0) GTEST_SKIP() << "only root's files are run";
    const auto counted = [&](const std::string& version) {
        return program("echo x >>" + (directory_ / "asked").string() + "\n[ \"$1\" = -version ] || exit 1\n" +
                       "echo QEMU emulator version " + version + "\n");
    };
    const auto times = [&] {
        std::ifstream in{directory_ / "asked"};
        return std::count(std::istreambuf_iterator<char>{in}, {}, 'x');
    };
    EmulatorProbe probe{counted("9.2.0")};
    EXPECT_EQ(probe.ask().version, "9.2.0");
    const auto once = times();
    EXPECT_EQ(probe.ask().version, "9.2.0");
    EXPECT_EQ(times(), once);
    // Another file of the same name, as a package brings it.
    std::filesystem::rename(directory_ / "qemu", directory_ / "old");
    EXPECT_FALSE(probe.ask().version);
    counted("10.1.0");
    EXPECT_EQ(probe.ask().version, "10.1.0");
}

TEST(Iommufd, is_absent_where_there_is_no_such_device) {
    EXPECT_EQ(probe_iommufd("/nonexistent", "/nonexistent"), Iommufd{});
    // A file is no device; a device of another kind knows no command of iommufd's.
    // (Under a user-mode emulator nobody can tell: it refuses every command that it has not heard of.)
    const auto null = probe_iommufd("/dev/null", "/");
    EXPECT_TRUE(null.present);
    EXPECT_NE(null.map_file, true);
    EXPECT_NE(null.change_process, true);
}

TEST(Iommufd, is_not_loaded_by_the_question) {
    // The node is there before the module is.
    EXPECT_EQ(probe_iommufd("/dev/null", "/nonexistent"), (Iommufd{true, {}, {}}));
    // Loaded, and not shown to a service with a /dev of its own.
    EXPECT_EQ(probe_iommufd("/nonexistent", "/"), (Iommufd{true, {}, {}}));
}

}  // namespace
}  // namespace vfioap
