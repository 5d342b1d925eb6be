// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/known_keys.h"

#include "ap/error.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/example_hosts.h"
#include "support/host_builder.h"
#include "support/move.h"
#include "support/temporary_directory.h"

namespace vfioap {
namespace {

using test::cca_keys;
using test::ep11_keys;
using test::HostBuilder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;
using namespace std::chrono_literals;

const std::chrono::sys_seconds noon = std::chrono::sys_days{std::chrono::year{2026} / 11 / 21} + 12h;

HostBuilder builder() {
    HostBuilder host{"lpar"};
    host.z16().kernel(test::Kernel::newest).card(5, "CEX8C").card(6, "CEX8P").domains({4, 0x47});
    host.serial(5, "93AADFK719");
    return host;
}

Inventory with_keys() {
    return builder().master_keys(5, cca_keys(5)).master_keys(6, ep11_keys(6)).build();
}

/// All queues are vfio_ap's, and nothing shows their keys.
Inventory without_keys() {
    return builder().bind_to_vfio_ap().build();
}

const MasterKeys* keys_of(const Inventory& host, Apqn apqn) {
    const auto* const queue = host.find_queue(apqn);
    return queue == nullptr ? nullptr : queue->mkvps();
}

std::string bytes_of(const std::string& path) {
    std::ifstream file{path, std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
}

void write(const std::string& path, const std::string& bytes) {
    std::ofstream{path, std::ios::binary} << bytes;
}

TEST(KnownKeys, come_back_when_vfio_ap_has_the_queues) {
    KnownKeys known;
    EXPECT_TRUE(known.remember(with_keys(), noon));
    EXPECT_EQ(known.remembered().size(), 4U);
    auto host = without_keys();
    ASSERT_EQ(keys_of(host, {5, 4}), nullptr);
    known.merge_into(host);
    EXPECT_EQ(*keys_of(host, {5, 4}), cca_keys(5));
    EXPECT_EQ(*keys_of(host, {5, 0x47}), cca_keys(5));
    EXPECT_EQ(*keys_of(host, {6, 0x47}), ep11_keys(6));
    // The rest of the queue is as it was.
    EXPECT_EQ(host.find_queue({5, 4})->driver_override(), "vfio_ap");
}

TEST(KnownKeys, change_only_by_what_is_new) {
    KnownKeys known;
    EXPECT_FALSE(known.remember(without_keys(), noon));
    EXPECT_TRUE(known.remember(with_keys(), noon));
    EXPECT_FALSE(known.remember(with_keys(), noon + 23h));
    EXPECT_FALSE(known.remember(without_keys(), noon + 48h));
    EXPECT_TRUE(known.remember(with_keys(), noon + 24h));
    EXPECT_FALSE(known.remember(with_keys(), noon + 25h));
    auto other = with_keys();
    test::card_of(other, 5).serialnr = "93AADFK720";
    EXPECT_TRUE(known.remember(other, noon + 25h));
    EXPECT_FALSE(known.remember(builder().master_keys(5, test::unknown_cca_keys()).build(), noon + 26h));
    EXPECT_EQ(*known.remembered().at({5, 4}).keys, cca_keys(5));
    EXPECT_TRUE(known.remember(builder().master_keys({5, 4}, cca_keys(9)).build(), noon + 27h));
    EXPECT_EQ(*known.remembered().at({5, 4}).keys, cca_keys(9));
    EXPECT_EQ(*known.remembered().at({5, 0x47}).keys, cca_keys(5));
    // The clock was wrong before.
    EXPECT_TRUE(known.remember(with_keys(), noon - 1000h));
}

TEST(KnownKeys, of_queues_of_vfio_ap_are_not_taken_for_seen) {
    KnownKeys known;
    EXPECT_FALSE(known.remember(builder().master_keys(5, cca_keys(5)).bind_to_vfio_ap().build(), noon));
    EXPECT_THAT(known.remembered(), IsEmpty());
}

TEST(KnownKeys, do_not_replace_what_a_queue_shows) {
    KnownKeys known;
    known.remember(with_keys(), noon);
    auto host = builder().master_keys(5, cca_keys(8)).build();
    known.merge_into(host);
    EXPECT_EQ(*keys_of(host, {5, 4}), cca_keys(8));
    EXPECT_EQ(*keys_of(host, {6, 4}), ep11_keys(6));
}

TEST(KnownKeys, are_not_those_of_another_card) {
    KnownKeys known;
    known.remember(with_keys(), noon);
    auto exchanged = without_keys();
    test::card_of(exchanged, 5).serialnr = "93AADFK720";
    known.merge_into(exchanged);
    EXPECT_EQ(keys_of(exchanged, {5, 4}), nullptr);
    auto silent = without_keys();
    test::card_of(silent, 5).serialnr.reset();
    known.merge_into(silent);
    EXPECT_NE(keys_of(silent, {5, 4}), nullptr);
    // Switched from EP11 to CCA.
    auto switched = HostBuilder{"lpar"}.z16().card(6, "CEX8C").domains({4}).bind_to_vfio_ap().build();
    known.merge_into(switched);
    EXPECT_EQ(keys_of(switched, {6, 4}), nullptr);
}

TEST(KnownKeys, are_saved_and_loaded) {
    const test::TemporaryDirectory directory;
    const auto path = directory.path() + "/known-keys.json";
    auto loaded = load_known_keys(path);
    EXPECT_THAT(loaded.keys.remembered(), IsEmpty());
    EXPECT_EQ(loaded.message, "");
    loaded.keys.remember(with_keys(), noon);
    save_known_keys(path, loaded.keys);
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator{directory.path()}, {}), 1);
    const auto text = bytes_of(path);
    EXPECT_THAT(
        text,
        StartsWith("{\n  \"schema\": \"vfioap-known-keys/1\",\n  \"keys\": [\n    {\"queues\":\"05.0004 "
                   "05.0047\",\"serialnr\":\"93AADFK719\",\"seen\":\"2026-11-21T12:00:00Z\",\"mkvps\":["));
    const auto again = load_known_keys(path);
    EXPECT_EQ(again.message, "");
    ASSERT_EQ(again.keys.remembered().size(), 4U);
    EXPECT_EQ(again.keys.remembered().at({5, 4}).serialnr, "93AADFK719");
    EXPECT_EQ(again.keys.remembered().at({5, 4}).seen, noon);
    save_known_keys(path, again.keys);
    EXPECT_EQ(bytes_of(path), text);
}

TEST(KnownKeys, of_the_largest_host_are_saved_and_loaded) {
    const test::TemporaryDirectory directory;
    const auto path = directory.path() + "/known-keys.json";
    auto host = test::largest_host();
    for (auto& queue : host.queues)
        queue.driver = "cex4queue";
    KnownKeys known;
    EXPECT_TRUE(known.remember(host, noon));
    save_known_keys(path, known);
    const auto again = load_known_keys(path);
    EXPECT_EQ(again.message, "");
    ASSERT_EQ(again.keys.remembered().size(), known.remembered().size());
    EXPECT_GT(known.remembered().size(), 1000U);
    for (const auto& [apqn, entry] : known.remembered())
        ASSERT_EQ(*again.keys.remembered().at(apqn).keys, *entry.keys);
}

TEST(KnownKeys, that_cannot_be_saved_leave_the_old_file) {
    const test::TemporaryDirectory directory;
    KnownKeys known;
    EXPECT_THROW(save_known_keys(directory.path() + "/no/such/file", known), SystemError);
    EXPECT_THROW(save_known_keys(directory.path() + "/", known), SystemError);
    std::filesystem::create_directory(directory.path() + "/directory");
    EXPECT_THROW(save_known_keys(directory.path() + "/directory", known), SystemError);
    EXPECT_THROW(load_known_keys(directory.path() + "/directory"), SystemError);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator{directory.path()}, {}), 1);
}

TEST(KnownKeys, that_are_damaged_begin_anew_and_are_kept_aside) {
    const std::string entry =
        R"({"queues":"05.0004","seen":"2026-11-21T12:00:00Z","mkvps":["WK NEW: empty -"]})";
    const auto document = [](const std::string& keys) {
        return R"({"schema":"vfioap-known-keys/1","keys":[)" + keys + "]}";
    };
    struct Row {
        std::string bytes;
        std::string reason;
    };
    const std::vector<Row> rows{
        {"", "byte 1 is not JSON"},
        {document(entry).substr(0, 100), "byte 101 is not JSON"},
        {std::string(100000, '['), "is not JSON"},
        {"[]", "$: expected an object"},
        {"{}", "$.schema: expected a string"},
        {R"({"schema":"vfioap-known-keys/2","keys":[]})", "$.schema: expected vfioap-known-keys/1"},
        {R"({"schema":"vfioap-known-keys/1","keys":{}})", "$.keys: expected an array"},
        {document("7"), "$.keys[0]: expected an object"},
        {document(R"({"seen":"2026-11-21T12:00:00Z","mkvps":["WK NEW: empty -"]})"),
         "$.keys[0].queues: expected a string"},
        {document(R"({"queues":"","seen":"2026-11-21T12:00:00Z","mkvps":["WK NEW: empty -"]})"),
         "$.keys[0].queues: expected a list"},
        {document(entry + ',' + entry), "$.keys[1].queues: expected a list of queues, each once"},
        {document(R"({"queues":"05.0004","seen":"yesterday","mkvps":["WK NEW: empty -"]})"),
         "$.keys[0].seen: expected YYYY"},
        {document(R"({"queues":"05.0004","seen":"2026-11-21T12:00:00Z"})"),
         "$.keys[0].mkvps: expected 1 to 9"},
        {document(R"({"queues":"05.0004","seen":"2026-11-21T12:00:00Z","mkvps":["WK NEW: empty -",7]})"),
         "$.keys[0].mkvps: expected 1 to 9"},
        {document(R"({"queues":"05.0004","seen":"2026-11-21T12:00:00Z","mkvps":["WK NEW: none -"]})"),
         "$.keys[0].mkvps: expected 1 to 9"},
        {document(
             R"({"queues":"05.0004","serialnr":3,"seen":"2026-11-21T12:00:00Z","mkvps":["WK NEW: empty -"]})"),
         "$.keys[0].serialnr: expected a string"},
    };
    for (const auto& row : rows) {
        SCOPED_TRACE(row.reason);
        const test::TemporaryDirectory directory;
        const auto path = directory.path() + "/k.json";
        write(path, row.bytes);
        const auto loaded = load_known_keys(path);
        EXPECT_THAT(loaded.keys.remembered(), IsEmpty());
        EXPECT_THAT(loaded.message, HasSubstr(row.reason));
        EXPECT_THAT(loaded.message, HasSubstr("is now " + path + ".damaged"));
        EXPECT_EQ(bytes_of(path + ".damaged"), row.bytes);
        EXPECT_FALSE(std::filesystem::exists(path));
        // The next does not take its place.
        write(path, "2");
        EXPECT_THAT(load_known_keys(path).message, HasSubstr(path + ".damaged.1"));
        EXPECT_EQ(bytes_of(path + ".damaged"), row.bytes);
    }
}

TEST(KnownKeys, whose_file_was_tampered_with_never_do_harm) {
    const test::TemporaryDirectory directory;
    const auto path = directory.path() + "/k.json";
    KnownKeys known;
    known.remember(with_keys(), noon);
    save_known_keys(path, known);
    const auto text = bytes_of(path);
    std::mt19937 random{7};
    for (int round = 0; round < 300; ++round) {
        auto changed = text;
        for (int i = 0; i < 3; ++i)
            changed[random() % changed.size()] = static_cast<char>(random());
        write(path, changed);
        const auto loaded = load_known_keys(path);
        EXPECT_LE(loaded.keys.remembered().size(), ap_queues);
        auto host = without_keys();
        loaded.keys.merge_into(host);
    }
}

TEST(GivenKeys, override_those_remembered) {
    KnownKeys known;
    known.remember(with_keys(), noon);
    const auto lines = ep11_keys(60).lines();
    const auto given = parse_given_keys("# the new keys\n\n [06.0004]\r\n  " + lines[0] + "  \n" + lines[1] +
                                            "\n[05-06.0047]\nAES CUR: valid 0x0123456789ABCDEF",
                                        "f");
    EXPECT_THAT(given.messages, IsEmpty());
    ASSERT_EQ(given.keys.size(), 3U);
    known.give(given.keys);
    auto host = without_keys();
    known.merge_into(host);
    EXPECT_EQ(*keys_of(host, {6, 4}), ep11_keys(60));
    EXPECT_EQ(*keys_of(host, {5, 4}), cca_keys(5));
    EXPECT_EQ(keys_of(host, {5, 0x47})->find("AES", "CUR")->pattern, "0123456789abcdef");
    // An EP11 queue has no AES key.
    EXPECT_EQ(keys_of(host, {6, 0x47}), nullptr);
    // And they are not taken for seen.
    EXPECT_EQ(*known.remembered().at({6, 4}).keys, ep11_keys(6));
}

TEST(GivenKeys, that_are_bad_are_left_out_and_said) {
    const auto given = parse_given_keys(
        "AES CUR: invalid -\n"
        "[05.0004\n"
        "AES CUR: invalid -\n"
        "[5.4]\n"
        "AES CUR: invalid -\n"
        "[]\n"
        "[05.0004]\n"
        "AES CUR: valid 0x01\n"
        "[05.0005]\n"
        "[05.0006]\n"
        "AES CUR: invalid -\n"
        "[05.0006 05.0007]\n"
        "AES CUR: invalid -\n"
        "[05.0007]\n"
        "AES CUR: invalid -\n",
        "f");
    EXPECT_THAT(given.messages,
                ElementsAre(HasSubstr("f:1: text before any list of queues; expected [05.0004 05.0047]"),
                            HasSubstr("f:2: a list of queues without its end"),
                            HasSubstr("f:4: no list of queues; expected XX.YYYY"), HasSubstr("f:6: no list"),
                            HasSubstr("f:7: queues whose master keys are none; expected 1 to 9 lines"),
                            HasSubstr("f:9: queues whose master keys are none"),
                            HasSubstr("f:12: queue 05.0006 a second time; expected each queue once")));
    ASSERT_EQ(given.keys.size(), 2U);
    EXPECT_TRUE(given.keys.contains({5, 6}));
    EXPECT_TRUE(given.keys.contains({5, 7}));
}

TEST(GivenKeys, of_a_file_that_is_not_there_are_none) {
    const test::TemporaryDirectory directory;
    EXPECT_THAT(load_given_keys(directory.path() + "/keys").messages, IsEmpty());
    EXPECT_THAT(load_given_keys(directory.path()).messages, ElementsAre(HasSubstr("Is a directory")));
    write(directory.path() + "/keys", "[05.0004]\nAES CUR: invalid -\n");
    EXPECT_EQ(load_given_keys(directory.path() + "/keys").keys.size(), 1U);
}

}  // namespace
}  // namespace vfioap
