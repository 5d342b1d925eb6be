// SPDX-License-Identifier: LGPL-2.1-or-later
#include "config/settings.h"

#include <chrono>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/temporary_directory.h"

namespace vfioap {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using namespace std::chrono_literals;

TEST(Settings, have_defaults) {
    for (const std::string text : {"", "\n\n", "# policy = off\n; policy = off\n  # policy = off"}) {
        const auto loaded = parse_settings(text, "f");
        EXPECT_THAT(loaded.messages, IsEmpty());
        EXPECT_EQ(loaded.settings, Settings{});
    }
    const Settings settings;
    EXPECT_EQ(settings.all.policy, Policy::enforce);
    EXPECT_EQ(settings.all.unknown, UnknownPolicy::allow);
    EXPECT_EQ(settings.all.timeout, 2s);
    EXPECT_EQ(settings.all.profile, Profile::automatic);
    EXPECT_EQ(settings.all.mdev, MdevPolicy::require);
    EXPECT_EQ(settings.sysfs_root, "/sys");
}

TEST(Settings, are_read) {
    const std::string name(120, 'n');
    const auto loaded = parse_settings(
        "\xef\xbb\xbfpolicy = warn\r\n"
        "unknown: deny\n"
        "timeout=10 ; seconds\n"
        "profile = compare\n"
        "sysfs_root = /srv/l\xc3\xa4 b\n"
        "mdev = on-demand\n"
        "destinations = lpar-b, lpar-c,\n"
        "  root@lpar-d\tsnapshot:/a/b.json\n"
        "  # more may come\n"
        "  ,lpar-e\n"
        "[guest bank db]\n"
        "policy = off\n"
        "[guest " +
            name +
            "]\n"
            "timeout = 60\n"
            "[ guest  bank db ]\n"
            "profile = restore\n"
            "[guest web]",
        "f");
    EXPECT_THAT(loaded.messages, IsEmpty());
    const auto& settings = loaded.settings;
    EXPECT_EQ(settings.all, (GuestSettings{Policy::warn, UnknownPolicy::deny, 10s, Profile::compare,
                                           MdevPolicy::on_demand}));
    EXPECT_EQ(settings.sysfs_root, "/srv/l\xc3\xa4 b");
    EXPECT_THAT(settings.destinations,
                ElementsAre("lpar-b", "lpar-c", "root@lpar-d", "snapshot:/a/b.json", "lpar-e"));
    EXPECT_EQ(settings.of_guest("bank db"), (GuestSettings{Policy::off, UnknownPolicy::deny, 10s,
                                                           Profile::restore, MdevPolicy::on_demand}));
    EXPECT_EQ(settings.of_guest(name).timeout, 60s);
    EXPECT_EQ(settings.of_guest("web"), settings.all);
    EXPECT_EQ(settings.of_guest("other"), settings.all);
    EXPECT_EQ(settings.guests.size(), 3U);
}

TEST(Settings, have_words_that_are_read_again) {
    for (const auto policy : {Policy::enforce, Policy::warn, Policy::off})
        EXPECT_EQ(parse_settings("policy=" + std::string{to_text(policy)}, "f").settings.all.policy, policy);
    for (const auto policy : {UnknownPolicy::allow, UnknownPolicy::deny})
        EXPECT_EQ(parse_settings("unknown=" + std::string{to_text(policy)}, "f").settings.all.unknown,
                  policy);
    for (const auto policy : {MdevPolicy::require, MdevPolicy::on_demand})
        EXPECT_EQ(parse_settings("mdev=" + std::string{to_text(policy)}, "f").settings.all.mdev, policy);
    for (const auto profile : {Profile::automatic, Profile::compare, Profile::restore})
        EXPECT_EQ(parse_settings("profile=" + std::string{to_text(profile)}, "f").settings.all.profile,
                  profile);
}

TEST(Settings, that_are_broken_are_said_and_the_rest_holds) {
    struct Row {
        std::string line;
        std::string message;
    };
    const std::vector<Row> rows{
        {"policy = enforced", "policy \"enforced\"; expected enforce, warn, off"},
        {"policy = WARN", "policy \"WARN\"; expected enforce, warn, off"},
        {"policy =", "policy \"\"; expected enforce, warn, off"},
        {"policy = \x1b[31m", "policy \"?[31m\"; expected enforce, warn, off"},
        {"unknown = yes", "unknown \"yes\"; expected allow, deny"},
        {"mdev = on_demand", "mdev \"on_demand\"; expected require, on-demand"},
        {"profile = v1", "profile \"v1\"; expected auto, compare, restore"},
        {"timeout = 0", "timeout \"0\"; expected whole seconds, 1 to 60"},
        {"timeout = -1", "timeout \"-1\"; expected whole seconds, 1 to 60"},
        {"timeout = 2s", "timeout \"2s\"; expected whole seconds, 1 to 60"},
        {"timeout = 61", "timeout \"61\"; expected whole seconds, 1 to 60"},
        {"timeout = 99999999999999999999",
         "timeout \"99999999999999999999\"; expected whole seconds, 1 to 60"},
        {"sysfs_root = sys", "sysfs_root \"sys\"; expected an absolute path, such as /sys"},
        {"destination = a", "unknown key destination; expected destinations, for instance"},
        {"sysfs-root = /sys", "unknown key sysfs-root; expected sysfs_root, for instance"},
        {"Policy = off", "unknown key Policy; expected policy, for instance"},
        {"policy off", "a line without \"=\"; expected KEY = VALUE"},
        {"x", "a line without \"=\"; expected KEY = VALUE"},
        {"destinations = a b a", "destination a a second time; expected each once"},
        {"policy ; = off", "a line without \"=\"; expected KEY = VALUE"},
        {std::string{"policy = \0off", 13}, "a line with a NUL byte; expected text"},
        {"[guest]", "section [guest], whose lines are ignored; expected [guest NAME]"},
        {"[guestx]", "section [guestx], whose lines are ignored; expected [guest NAME]"},
        {"[hook]", "section [hook], whose lines are ignored; expected [guest NAME]"},
        {"[guest a", "a section without \"]\"; expected [guest NAME]"},
        {"[guest a]\npolicie = off", "unknown key policie; expected policy, for instance"},
        {"[guest a]\nsysfs_root = /", "sysfs_root for one guest; expected it before all sections"},
        {"policy = warn\npolicy = off",
         "policy a second time, which is ignored; expected it only once, as in line 2"},
        {"policy = warn\n  off", "policy goes on in a second line; expected one line"},
    };
    for (const auto& row : rows) {
        SCOPED_TRACE(row.message);
        const auto loaded =
            parse_settings("# first\n" + row.line + "\n[guest last]\nprofile = compare\n", "f");
        const auto line = row.line.find('\n') == std::string::npos ? "2" : "3";
        EXPECT_THAT(loaded.messages, ElementsAre(std::string{"f:"} + line + ": " + row.message));
        EXPECT_EQ(loaded.settings.of_guest("last").profile, Profile::compare);
        EXPECT_EQ(loaded.settings.sysfs_root, "/sys");
        EXPECT_EQ(loaded.settings.all.timeout, 2s);
        EXPECT_EQ(loaded.settings.all.policy,
                  row.line.starts_with("policy = warn\n") ? Policy::warn : Policy::enforce);
    }
}

TEST(Settings, may_have_long_lines) {
    std::string hosts;
    for (int i = 100; i < 200; ++i)
        hosts += " lpar-" + std::to_string(i);
    const std::string name(300, 'n');
    const auto loaded =
        parse_settings("destinations =" + hosts + "\n[guest " + name + "]\npolicy = off\n", "f");
    EXPECT_THAT(loaded.messages, IsEmpty());
    EXPECT_THAT(loaded.settings.destinations, SizeIs(100));
    EXPECT_EQ(loaded.settings.destinations.back(), "lpar-199");
    EXPECT_EQ(loaded.settings.of_guest(name).policy, Policy::off);
}

TEST(Settings, may_be_indented) {
    const auto loaded =
        parse_settings("  policy = warn\n[guest a]\n  [guest b]\n  policy: off ; not now\n", "f");
    EXPECT_THAT(loaded.messages, IsEmpty());
    EXPECT_EQ(loaded.settings.all.policy, Policy::warn);
    EXPECT_EQ(loaded.settings.of_guest("a").policy, Policy::warn);
    EXPECT_EQ(loaded.settings.of_guest("b").policy, Policy::off);
}

TEST(Settings, of_an_unknown_section_do_not_hold_for_all) {
    const auto loaded = parse_settings("[guset a]\npolicy = off\nnonsense = 1\n", "f");
    EXPECT_THAT(loaded.messages, SizeIs(1));
    EXPECT_EQ(loaded.settings, Settings{});
}

TEST(Settings, say_all_that_is_wrong_up_to_a_limit) {
    const auto loaded = parse_settings("a = 1\nb\npolicy = x\n[\ntimeout = 1\n", "f");
    EXPECT_THAT(loaded.messages, SizeIs(4));
    std::string many;
    for (int i = 0; i < 1000; ++i)
        many += "x = 1\n";
    EXPECT_THAT(parse_settings(many, "f").messages, SizeIs(100));
}

TEST(Settings, of_any_bytes_do_no_harm) {
    const std::string good =
        "policy = warn\ntimeout = 3\ndestinations = a,\n b\n[guest g]\nmdev = on-demand\n";
    std::mt19937 random{11};
    for (int round = 0; round < 3000; ++round) {
        auto text = good;
        for (int i = 0; i < 4; ++i)
            text[random() % text.size()] = static_cast<char>(random() % 3 == 0 ? '\n' : random());
        const auto loaded = parse_settings(text, "f");
        for (const auto& message : loaded.messages) {
            EXPECT_TRUE(message.starts_with("f:"));
            for (const char c : message)
                ASSERT_TRUE(c >= ' ' && c <= '~') << message;
        }
    }
}

TEST(Settings, of_a_file_that_is_not_there_are_the_defaults) {
    const test::TemporaryDirectory directory;
    const auto path = directory.path() + "/vfioap.conf";
    EXPECT_THAT(load_settings(path).messages, IsEmpty());
    EXPECT_EQ(load_settings(path).settings, Settings{});
    EXPECT_THAT(load_settings(directory.path()).messages, SizeIs(1));
    std::ofstream{path} << "policy = off\ntimeout = x\n";
    EXPECT_EQ(load_settings(path).settings.all.policy, Policy::off);
    EXPECT_THAT(load_settings(path).messages,
                ElementsAre(path + ":2: timeout \"x\"; expected whole seconds, 1 to 60"));
    std::ofstream{path} << std::string(settings_max_bytes + 1, '\n');
    EXPECT_THAT(load_settings(path).messages, SizeIs(1));
}

}  // namespace
}  // namespace vfioap
