// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/snapshot.h"

#include "ap/error.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <streambuf>

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

using test::HostBuilder;
using test::TemporaryDirectory;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string written(const Inventory& host, std::string_view taken = test::example_time) {
    std::ostringstream out;
    write_snapshot(out, host, taken);
    return out.str();
}

Inventory read(const std::string& text) {
    std::istringstream in{text};
    return read_snapshot(in, "test.json");
}

/// What is wrong with `text`, or nothing when it is read.
std::string refusal(const std::string& text) {
    try {
        read(text);
        return {};
    } catch (const InputError& error) {
        return error.what();
    }
}

std::string content(const std::filesystem::path& path) {
    std::ifstream in{path, std::ios::binary};
    EXPECT_TRUE(in) << path;
    return {std::istreambuf_iterator<char>{in}, {}};
}

void put(const std::filesystem::path& path, const std::string& text) {
    std::ofstream out{path, std::ios::binary};
    out << text;
    ASSERT_TRUE(out) << path;
}

/// A document with `members` in the place of the empty arrays of the same name.
std::string document(const std::string& cards, const std::string& queues, const std::string& mdevs = "",
                     const std::string& unreadable = "") {
    return fmt::format(
        R"({{"schema": "vfioap-snapshot/1", "name": "x", "cards": [{}], "queues": [{}], "mdevs": [{}], "unreadable": [{}]}})",
        cards, queues, mdevs, unreadable);
}

/// Everything that can be there is there, and at the end of its range.
Inventory fullest_host() {
    auto host = HostBuilder{"fullest"}
                    .kernel(test::Kernel::restore)
                    .secure_execution_guest()
                    .qemu("12.0.0", true)
                    .card(0xff, "CEX8P")
                    .domains({0x00, 0x01, 0x02, 0xff})
                    .bind_to_vfio_ap()
                    .bind_to_host({0xff, 0x02})
                    .bind_state({0xff, 0x00}, 3)
                    .master_keys(std::uint8_t{0xff}, test::ep11_keys(1))
                    .op_modes(0xff, "FIPS2009 BSI2009")
                    .mdev(test::example_mdev)
                    .assign({0xff}, {0x00, 0xff}, {0xff})
                    .in_use()
                    .unreadable("devices/ap/cardff/serialnr", EIO)
                    .unreadable("devices/ap/cardff/ff.0000/mkvps", 4711, "müde")
                    .unreadable("devices/vfio_ap/matrix/features", 0, "found nothing")
                    .build();
    host.prot_virt_host = true;
    host.ap->scans = ~std::uint64_t{0};
    host.ap->ap_usage_domain_mask = {HostMask::State::not_supported, {}};
    host.vfio_ap->available_instances = ~0U;
    host.queues[0].se_bind = SeBind::bound;
    host.queues[0].se_associate = SeAssociate::associated;
    host.queues[0].association = 65535;
    host.queues[1].se_bind = SeBind::none;
    host.queues[1].se_associate = SeAssociate::none;
    host.queues[2].se_associate = SeAssociate::pending;
    host.queues[2].chkstop = true;
    host.mdevs[0].migratable = true;
    host.mdevs[0].matrix_truncated = true;
    return host;
}

/// Cards, a queue and an mdev of which nothing but the number is known.
Inventory barest_host() {
    Inventory host;
    host.name = "barest";
    host.ap = ApBus{};
    host.vfio_ap = VfioAp{};
    host.qemu = Qemu{};
    host.cards.emplace_back();
    host.queues.emplace_back();
    host.mdevs.emplace_back(test::uuid(test::example_mdev));
    host.unreadable.push_back({"x", 0, {}});
    return host;
}

Inventory no_ap_host() {
    Inventory host;
    host.name = "no-ap";
    return host;
}

TEST(Snapshot, of_every_example_host_is_read_as_it_was_written) {
    for (const auto& host : test::example_hosts()) {
        const auto again = read(written(host));
        EXPECT_TRUE(again == host) << host.name;
        EXPECT_EQ(again.name, host.name);
        EXPECT_TRUE(again.complete);
        EXPECT_EQ(again.location, "snapshot:test.json");
        EXPECT_EQ(written(again), written(host)) << host.name;
    }
}

TEST(Snapshot, of_every_extreme_host_is_read_as_it_was_written) {
    for (const auto& host : {test::largest_host(), fullest_host(), barest_host(), no_ap_host()}) {
        const auto again = read(written(host));
        EXPECT_TRUE(again == host) << host.name;
        EXPECT_EQ(written(again), written(host)) << host.name;
    }
}

TEST(Snapshot, tells_every_attribute_from_every_other) {
    // Guards the two tests above against an operator== that forgets something.
    const auto full = written(fullest_host());
    for (const char* const member : {"\"apmask\":",
                                     "\"aqmask\":",
                                     "\"ap_adapter_mask\":",
                                     "\"ap_usage_domain_mask\":\"not supported\"",
                                     "\"ap_control_domain_mask\":",
                                     "\"ap_max_adapter_id\":255",
                                     "\"ap_max_domain_id\":255",
                                     "\"bindings\":\"4/4 (complete)\"",
                                     "\"scans\":18446744073709551615",
                                     "\"available_instances\":4294967295",
                                     "\"migratable\"]",
                                     "\"prot_virt_guest\": true",
                                     "\"prot_virt_host\": true",
                                     "\"version\":\"12.0.0\"",
                                     "\"vfio_ap_migration\":true",
                                     "\"adapter\":\"ff\"",
                                     "\"hwtype\":14,\"raw_hwtype\":14",
                                     "\"ap_functions\":\"0x06800000\"",
                                     "\"depth\":7",
                                     "\"max_msg_size\":53248",
                                     "\"online\":true",
                                     "\"type\":\"CEX8P\"",
                                     "\"serialnr\":\"93AAD1FF\"",
                                     "\"driver\":\"cex4card\"",
                                     "\"apqn\":\"ff.0000\"",
                                     "\"driver\":\"vfio_ap\"",
                                     "\"driver\":\"cex4queue\"",
                                     "\"status\":\"in use\"",
                                     "\"status\":\"unassigned\"",
                                     "\"ap_functions\":\"0x0680C000\"",
                                     "\"driver_override\":\"vfio_ap\"",
                                     "\"driver_override\":null",
                                     "\"se_bind\":\"bound\"",
                                     "\"se_bind\":\"-\"",
                                     "\"se_bind\":\"unbound\"",
                                     "\"se_associate\":\"associated 65535\"",
                                     "\"se_associate\":\"-\"",
                                     "\"se_associate\":\"association pending\"",
                                     "\"se_associate\":\"unassociated\"",
                                     "\"mkvps\":[\"WK CUR: valid 0x",
                                     "\"op_modes\":\"FIPS2009 BSI2009\"",
                                     "\"chkstop\":true",
                                     "\"type\":\"vfio_ap-passthrough\"",
                                     "\"device_api\":\"vfio-ap\"",
                                     "\"adapters\":[\"ff\"]",
                                     "\"domains\":[\"0000\",\"00ff\"]",
                                     "\"control_domains\":[\"00ff\"]",
                                     "\"guest_matrix\":[\"ff.0000\",\"ff.00ff\"]",
                                     "\"ap_config\":true",
                                     "\"migratable\":true",
                                     "\"matrix_truncated\":true",
                                     "\"error\":\"EIO\"",
                                     "\"error\":\"errno 4711\",\"detail\":\"müde\"",
                                     "\"error\":null,\"detail\":\"found nothing\""}) {
        EXPECT_THAT(full, HasSubstr(member));
    }
    const auto bare = written(barest_host(), "");
    EXPECT_EQ(bare, R"({
  "schema": "vfioap-snapshot/1",
  "name": "barest",
  "ap": {},
  "vfio_ap": {},
  "qemu": {},
  "cards": [
    {"adapter":"00"}
  ],
  "queues": [
    {"apqn":"00.0000"}
  ],
  "mdevs": [
    {"uuid":"62177883-f1bb-47f0-914d-32a22e3a8804","adapters":[],"domains":[],"ap_config":false}
  ],
  "unreadable": [
    {"path":"x","error":null}
  ]
}
)");
}

TEST(Snapshot, files_of_the_example_hosts_are_what_the_program_makes) {
    std::vector<std::string> names;
    for (const auto& host : test::example_hosts()) {
        names.push_back(host.name + ".json");
        EXPECT_EQ(content(fmt::format("{}/hosts/{}.json", VFIOAP_TEST_DATA, host.name)),
                  test::example_text(host))
            << host.name << ": to write it anew: cmake --build --preset dev --target make-hosts";
    }
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator{VFIOAP_TEST_DATA "/hosts"})
        files.push_back(entry.path().filename());
    EXPECT_THAT(files, ::testing::UnorderedElementsAreArray(names));
}

TEST(Snapshot, of_a_part_of_a_host_says_so) {
    auto host = no_ap_host();
    host.complete = false;
    EXPECT_FALSE(read(written(host)).complete);
}

TEST(Snapshot, each_bad_one_is_refused_with_place_and_reason) {
    const std::filesystem::path bad{VFIOAP_TEST_DATA "/snapshots/bad"};
    std::vector<std::string> names{"index.txt"};
    std::ifstream index{bad / "index.txt"};
    for (std::string line; std::getline(index, line);) {
        if (line.starts_with('#')) continue;
        const auto first = line.find('\t');
        const auto second = line.find('\t', first + 1);
        ASSERT_NE(second, std::string::npos) << line;
        const auto name = line.substr(0, first);
        const auto where = line.substr(first + 1, second - first - 1);
        const auto reason = line.substr(second + 1);
        names.push_back(name);
        const auto message = refusal(content(bad / name));
        // A column is given exactly or not at all; a path always exactly.
        EXPECT_THAT(message, StartsWith("test.json: " + where + (where.ends_with("column") ? " " : ": ")))
            << name;
        EXPECT_THAT(message, HasSubstr(reason)) << name;
        EXPECT_EQ(std::count_if(message.begin(), message.end(), [](char c) { return c < 0x20 || c == 0x7f; }),
                  0)
            << name;
    }
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator{bad})
        files.push_back(entry.path().filename());
    EXPECT_THAT(files, ::testing::UnorderedElementsAreArray(names));
}

TEST(Snapshot, may_have_members_of_later_versions_anywhere) {
    const auto host = read(R"({"later": {"a": [1, {"b": null}], "a": true}, "schema": "vfioap-snapshot/1",
        "name": "x", "ap": {"later": [[]]}, "vfio_ap": {"later": 1}, "qemu": {"later": -1.5e3},
        "cards": [{"adapter": "05", "later": {"x": {}}}], "queues": [{"apqn": "05.0004", "later": [[1], 2]}],
        "mdevs": [{"uuid": "62177883-F1BB-47F0-914D-32A22E3A8804", "adapters": [], "domains": [], "later": ""}],
        "unreadable": [{"path": "a/b", "error": null, "later": false}], "latest": [[[["x"]]], "y"]})");
    EXPECT_EQ(host.cards.size(), 1U);
    EXPECT_EQ(host.queues.size(), 1U);
    EXPECT_EQ(host.mdevs.size(), 1U);
    EXPECT_EQ(host.unreadable.size(), 1U);
    EXPECT_EQ(host.name, "x");
}

TEST(Snapshot, may_have_its_elements_in_any_order) {
    const auto host = read(
        R"({"mdevs": [], "queues": [{"apqn": "06.0000"}, {"apqn": "05.0047"}, {"apqn": "05.0004"}],
            "cards": [{"adapter": "06"}, {"adapter": "05"}], "name": "x", "schema": "vfioap-snapshot/1"})");
    EXPECT_NE(host.find_queue({0x05, 0x04}), nullptr);
    EXPECT_NE(host.find_queue({0x05, 0x47}), nullptr);
    EXPECT_NE(host.find_queue({0x06, 0x00}), nullptr);
    EXPECT_NE(host.find_card(5), nullptr);
    EXPECT_NE(host.find_card(6), nullptr);
}

TEST(Snapshot, is_refused_wherever_it_is_cut) {
    const auto text = written(HostBuilder{"small"}
                                  .card(5, "CEX8C")
                                  .domains({4})
                                  .free_domains({4})
                                  .mdev(test::example_mdev)
                                  .assign({5}, {4}, {4})
                                  .unreadable("a", EIO)
                                  .build());
    const auto whole = text.find_last_of('}') + 1;
    for (std::size_t size = 0; size < whole; ++size)
        EXPECT_THAT(refusal(text.substr(0, size)), HasSubstr("not JSON")) << size;
    EXPECT_EQ(refusal(text.substr(0, whole)), "");
}

TEST(Snapshot, survives_every_changed_byte) {
    const auto text = written(HostBuilder{"small"}.card(5, "CEX8C").domains({4}).build());
    for (std::size_t i = 0; i < text.size(); ++i) {
        for (const char c : {'\0', '"', '{', ']', '9', '\xff', '\\'}) {
            auto changed = text;
            changed[i] = c;
            refusal(changed);  // any other exception than InputError ends the test
        }
    }
}

TEST(Snapshot, has_no_more_elements_than_there_can_be) {
    const auto many = [](std::size_t count, auto element) {
        std::string text;
        for (std::size_t i = 0; i < count; ++i)
            text += (i == 0 ? "" : ",") + element(i);
        return text;
    };
    const auto mdev = [](std::size_t i) {
        return fmt::format(R"({{"uuid": "62177883-f1bb-47f0-914d-{:012x}", "adapters": [], "domains": []}})",
                           i);
    };
    const auto unreadable = [](std::size_t i) {
        return fmt::format(R"({{"path": "{}", "error": null}})", i);
    };
    EXPECT_EQ(read(document("", "", many(4096, mdev))).mdevs.size(), 4096U);
    EXPECT_THAT(refusal(document("", "", many(4097, mdev))),
                HasSubstr("$.mdevs: expected at most 4096 elements"));
    EXPECT_EQ(read(document("", "", "", many(100'000, unreadable))).unreadable.size(), 100'000U);
    EXPECT_THAT(refusal(document("", "", "", many(100'001, unreadable))),
                HasSubstr("$.unreadable: expected at most 100000 elements"));
    // More cards or queues than there are numbers: the limit is reached before a doubled one is looked for.
    const auto card = [](std::size_t i) { return fmt::format(R"({{"adapter": "{:02x}"}})", i % 256); };
    EXPECT_THAT(refusal(document(many(257, card), "")), HasSubstr("$.cards: expected at most 256 elements"));
    const auto queue = [](std::size_t i) {
        return fmt::format(R"({{"apqn": "{:02x}.{:04x}"}})", i / 256 % 256, i % 256);
    };
    EXPECT_THAT(refusal(document("", many(65'537, queue))),
                HasSubstr("$.queues: expected at most 65536 elements"));
    const auto member = [](std::size_t i) { return fmt::format("\"m{}\": 0", i); };
    EXPECT_THAT(refusal("{" + many(257, member) + "}"), HasSubstr("$: more than 256 members"));
}

TEST(Snapshot, is_refused_before_something_long_is_whole_in_memory) {
    const std::string longest(65'536, 'x');
    EXPECT_THAT(refusal("{\"" + longest + "x"), HasSubstr("a string longer than 65536 bytes"));
    EXPECT_THAT(refusal("{\"later\": \"" + longest + "x"), HasSubstr("a string longer than 65536 bytes"));
    EXPECT_THAT(refusal("{\"later\": \"" + std::string(70'000, '\\')), HasSubstr("a string longer than"));
    EXPECT_THAT(refusal("{\"later\": " + std::string(1000, '7')), HasSubstr("longer than 64 bytes"));
    EXPECT_THAT(refusal("{\"later\": " + std::string(1'000'000, '[')),
                HasSubstr("$.later: nested more than 16"));
    std::string strings;
    for (int i = 0; i < 8; ++i)
        strings += (i == 0 ? "\"" : ",\"") + std::string(60'000, 'x') + '"';
    EXPECT_THAT(refusal(document("", "{\"apqn\": \"05.0004\", \"later\": [" + strings + "]}")),
                HasSubstr("$.queues[0].later: more than 4096 values or 262144 bytes in one element"));
}

/// Blanks without end.
class Blanks : public std::streambuf {
    int_type underflow() override {
        setg(buffer_.data(), buffer_.data(), buffer_.data() + buffer_.size());
        return ' ';
    }
    std::string buffer_ = std::string(65536, ' ');
};

TEST(Snapshot, that_never_ends_is_refused) {
    Blanks blanks;
    std::istream in{&blanks};
    try {
        read_snapshot(in, "endless");
        FAIL() << "it was read";
    } catch (const InputError& error) {
        EXPECT_STREQ(error.what(), "endless: has more than 134217728 bytes");
    }
}

TEST(Snapshot, of_odd_sysfs_text_is_written_so_that_it_is_read) {
    auto host = fullest_host();
    host.name = std::string("lpar\x1b[2J\xff\xc2\x9b", 11) + std::string(300, 'x');
    host.ap->bindings = std::string("1/1\0\x7f", 5);
    host.ap->features = {"A B", "../x", "", std::string(100, 'f')};
    host.cards[0].type = "CEX8\xc3";
    host.cards[0].serialnr = std::string(256, '\xfe');
    host.cards[0].driver = "..";
    host.queues[0].driver = "a/b\n";
    host.qemu->version = "ü\nü";
    host.unreadable[0].detail = "\xc2";
    // What a directory that cannot be listed leaves.
    host.unreadable.push_back({"devices/ap/card05/", EMFILE, "cannot be listed"});
    host.vfio_ap->features = std::vector<std::string>(65, "w");
    host.mdevs[0].guest_matrix.emplace();
    for (unsigned number = 0; number < 513; ++number)
        host.mdevs[0].guest_matrix->push_back(Apqn::from_number(static_cast<std::uint16_t>(number)));
    host.sort();
    const auto again = read(written(host));
    EXPECT_EQ(again.name.substr(0, 8), "lpar?[2J");
    EXPECT_THAT(again.name, HasSubstr("\xef\xbf\xbd??x"));  // U+FFFD for what is not UTF-8
    EXPECT_EQ(again.ap->bindings, "1/1??");
    EXPECT_THAT(*again.ap->features, ::testing::ElementsAre("A_B", ".._x", std::string(64, 'f')));
    EXPECT_EQ(again.cards[0].type, "CEX8_");
    EXPECT_EQ(again.cards[0].driver, "__");
    EXPECT_EQ(again.queues[0].driver, "a_b_");
    EXPECT_EQ(again.qemu->version, "ü?ü");
    EXPECT_NE(again.find_unreadable("devices/ap/card05"), nullptr);
    EXPECT_EQ(again.vfio_ap->features->size(), 64U);
    EXPECT_TRUE(again.mdevs[0].guest_matrix_truncated());
}

TEST(Snapshot, equal_details_are_one) {
    const auto host = read(written(HostBuilder{"shared"}
                                       .cards({3, 4}, "CEX8C")
                                       .domains({4, 200})
                                       .master_keys(std::uint8_t{3}, test::cca_keys(3))
                                       .master_keys(std::uint8_t{4}, test::cca_keys(4))
                                       .build()));
    EXPECT_EQ(host.find_queue({3, 4})->detail, host.find_queue({3, 200})->detail);
    EXPECT_NE(host.find_queue({3, 4})->detail, host.find_queue({4, 4})->detail);
}

TEST(Snapshot, saved_is_loaded_with_its_canonical_path) {
    const TemporaryDirectory directory;
    const auto host = fullest_host();
    save_snapshot(directory.path() + "/./host.json", host, test::example_time);
    const auto again =
        load_snapshot(directory.path() + "/../" +
                      std::filesystem::path{directory.path()}.filename().string() + "/host.json");
    EXPECT_TRUE(again == host);
    EXPECT_EQ(again.location,
              "snapshot:" + std::filesystem::canonical(directory.path() + "/host.json").string());
}

TEST(Snapshot, saved_replaces_the_old_file_and_leaves_nothing_beside_it) {
    const TemporaryDirectory directory;
    const auto path = directory.path() + "/host.json";
    put(path, "old");
    ASSERT_EQ(::chmod(path.c_str(), 0640), 0);
    save_snapshot(path, no_ap_host(), "");
    EXPECT_EQ(content(path), written(no_ap_host(), ""));
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator{directory.path()}, {}), 1);
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0640U);
}

TEST(Snapshot, saved_as_a_new_file_heeds_the_umask) {
    const TemporaryDirectory directory;
    const auto old = ::umask(0027);
    save_snapshot(directory.path() + "/host.json", no_ap_host(), "");
    ::umask(old);
    struct stat status {};
    ASSERT_EQ(::stat((directory.path() + "/host.json").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0640U);
}

TEST(Snapshot, saved_in_the_working_directory_needs_no_slash) {
    const TemporaryDirectory directory;
    const auto old = std::filesystem::current_path();
    std::filesystem::current_path(directory.path());
    save_snapshot("host.json", no_ap_host(), "");
    EXPECT_NO_THROW(load_snapshot("host.json"));
    std::filesystem::current_path(old);
}

TEST(Snapshot, that_cannot_be_written_whole_leaves_the_old_file) {
    const TemporaryDirectory directory;
    const auto path = directory.path() + "/host.json";
    put(path, "old");
    const auto child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{100'000, 100'000};
        if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(2);
        try {
            save_snapshot(path, test::largest_host(), "");
            ::_exit(3);
        } catch (const SystemError& error) {
            ::_exit(error.number() == EFBIG ? 0 : 4);
        }
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_EQ(content(path), "old");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator{directory.path()}, {}), 1);
}

TEST(Snapshot, is_not_saved_where_no_file_can_be) {
    const TemporaryDirectory directory;
    const auto missing = directory.path() + "/missing/host.json";
    EXPECT_THROW(save_snapshot(missing, no_ap_host(), ""), SystemError);
    EXPECT_FALSE(std::filesystem::exists(directory.path() + "/missing"));
    EXPECT_THROW(save_snapshot(directory.path(), no_ap_host(), ""), SystemError);
    EXPECT_THROW(save_snapshot(directory.path() + "/", no_ap_host(), ""), SystemError);
    EXPECT_THROW(save_snapshot(directory.path() + "/.", no_ap_host(), ""), SystemError);
    EXPECT_THROW(save_snapshot("", no_ap_host(), ""), SystemError);
}

TEST(Snapshot, never_takes_the_place_of_a_link_or_pipe) {
    const TemporaryDirectory directory;
    const auto target = directory.path() + "/target";
    const auto link = directory.path() + "/link.json";
    const auto pipe = directory.path() + "/pipe.json";
    put(target, "old");
    ASSERT_EQ(::symlink("target", link.c_str()), 0);
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    EXPECT_THROW(save_snapshot(link, no_ap_host(), ""), InputError);
    EXPECT_THROW(save_snapshot(pipe, no_ap_host(), ""), InputError);
    // What /dev/stdout is; not that one itself, which a save gone wrong would replace for the whole machine.
    const auto output = directory.path() + "/stdout";
    ASSERT_EQ(::symlink("/proc/self/fd/1", output.c_str()), 0);
    EXPECT_THROW(save_snapshot(output, no_ap_host(), ""), InputError);
    EXPECT_TRUE(std::filesystem::is_symlink(output));
    EXPECT_TRUE(std::filesystem::is_symlink(link));
    EXPECT_TRUE(std::filesystem::is_fifo(pipe));
    EXPECT_EQ(content(target), "old");
}

TEST(Snapshot, loading_what_is_no_file_is_refused_at_once) {
    const TemporaryDirectory directory;
    const auto pipe = directory.path() + "/pipe.json";
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    EXPECT_THROW(load_snapshot(pipe), InputError);
    EXPECT_THROW(load_snapshot(directory.path()), InputError);
    EXPECT_THROW(load_snapshot("/dev/null"), InputError);
    EXPECT_THROW(load_snapshot(directory.path() + "/missing.json"), SystemError);
}

TEST(Snapshot, of_more_than_the_largest_size_is_not_opened) {
    const TemporaryDirectory directory;
    const auto path = directory.path() + "/large.json";
    put(path, "");
    ASSERT_EQ(::truncate(path.c_str(), static_cast<off_t>(snapshot_max_bytes) + 1), 0);
    try {
        load_snapshot(path);
        FAIL() << "it was read";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr("has 134217729 bytes; a snapshot has at most 134217728"));
    }
}

}  // namespace
}  // namespace vfioap
