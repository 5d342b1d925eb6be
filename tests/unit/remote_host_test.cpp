// SPDX-License-Identifier: LGPL-2.1-or-later
// Names of other hosts, and what becomes of them on command lines and in URIs.
#include "hosts/remote_host.h"

#include "ap/error.h"
#include "cli/host_location.h"

#include <gtest/gtest.h>

namespace vfioap {
namespace {

struct Good {
    const char* text;
    RemoteHost host;
    const char* ssh;
    const char* authority;
};

TEST(RemoteHost, is_taken_apart) {
    const Good rows[] = {
        {"lpar-b", {"", "lpar-b", ""}, "lpar-b", "lpar-b"},
        {"lpar_b.example.com", {"", "lpar_b.example.com", ""}, "lpar_b.example.com", "lpar_b.example.com"},
        {"admin@lpar-b", {"admin", "lpar-b", ""}, "admin@lpar-b", "admin@lpar-b"},
        {"lpar-b:2222", {"", "lpar-b", "2222"}, "lpar-b", "lpar-b:2222"},
        {"admin@lpar-b:1", {"admin", "lpar-b", "1"}, "admin@lpar-b", "admin@lpar-b:1"},
        {"a@corp@lpar-b", {"a@corp", "lpar-b", ""}, "a@corp@lpar-b", "a%40corp@lpar-b"},
        {"192.0.2.1:65535", {"", "192.0.2.1", "65535"}, "192.0.2.1", "192.0.2.1:65535"},
        {"::1", {"", "::1", ""}, "::1", "[::1]"},
        {"fe80::1:22", {"", "fe80::1:22", ""}, "fe80::1:22", "[fe80::1:22]"},
        {"2001:db8:1:2:3:4:5:6",
         {"", "2001:db8:1:2:3:4:5:6", ""},
         "2001:db8:1:2:3:4:5:6",
         "[2001:db8:1:2:3:4:5:6]"},
        {"[::1]", {"", "::1", ""}, "::1", "[::1]"},
        {"[::1]:22", {"", "::1", "22"}, "::1", "[::1]:22"},
        {"[::ffff:192.0.2.1]:22",
         {"", "::ffff:192.0.2.1", "22"},
         "::ffff:192.0.2.1",
         "[::ffff:192.0.2.1]:22"},
        {"user@[fe80::1]:22", {"user", "fe80::1", "22"}, "user@fe80::1", "user@[fe80::1]:22"},
        {"user@fe80::1", {"user", "fe80::1", ""}, "user@fe80::1", "user@[fe80::1]"},
        {"fe80::1%enc1", {"", "fe80::1%enc1", ""}, "fe80::1%enc1", "[fe80::1%25enc1]"},
        {"root@[fe80::1%enc1]:22",
         {"root", "fe80::1%enc1", "22"},
         "root@fe80::1%enc1",
         "root@[fe80::1%25enc1]:22"},
    };
    for (const auto& row : rows) {
        const auto host = RemoteHost::parse(row.text);
        ASSERT_TRUE(host) << row.text;
        EXPECT_EQ(*host, row.host) << row.text << ": " << host->user << ' ' << host->name << ' '
                                   << host->port;
        EXPECT_EQ(host->ssh_destination(), row.ssh);
        EXPECT_EQ(host->authority(), row.authority);
        EXPECT_EQ(host_of_uri("qemu+ssh://" + host->authority() + "/system", "this host"), row.host.name);
        const auto location = parse_host_location(std::string{"host:"} + row.text, "/sys");
        EXPECT_EQ(location.kind, HostLocation::Kind::remote) << row.text;
        EXPECT_EQ(location.value, row.text);
    }
}

TEST(RemoteHost, is_nothing_that_cannot_be_one) {
    for (const auto* text : {"",
                             "@",
                             "@lpar-b",
                             "admin@",
                             "-oProxyCommand=x",
                             "admin@-x",
                             "-x@lpar-b",
                             "lpar-b:",
                             "lpar-b:0",
                             "lpar-b:65536",
                             "lpar-b:22x",
                             "lpar-b:+22",
                             "lpar-b:-1",
                             ":22",
                             "lpar-b:1:2",
                             "1:2:3",
                             "::1::",
                             "[::1",
                             "::1]",
                             "[]",
                             "[]:22",
                             "[::1]22",
                             "[::1]:",
                             "[::1]:0",
                             "[::1]x:22",
                             "[[::1]]",
                             "[lpar-b]",
                             "[192.0.2.1]:22",
                             "fe80::1%",
                             "[fe80::1%]",
                             "fe80::1%a b",
                             "fe80::1%a;id",
                             "lpar%b",
                             "lpar b",
                             "a:b@lpar-b",
                             "lpar-b;id",
                             "$(id)",
                             "lpar\nb",
                             "lpär",
                             "[::1]:22@x:"}) {
        EXPECT_FALSE(RemoteHost::parse(text)) << text;
        EXPECT_THROW(parse_host_location(std::string{"host:"} + text, "/sys"), InputError) << text;
    }
}

TEST(HostOfUri, is_the_name_alone) {
    const struct {
        const char* uri;
        const char* host;
    } rows[] = {{"qemu:///system", "this host"},
                {"qemu", "this host"},
                {"test+unix:///default?socket=/x@y", "this host"},
                {"qemu+ssh://lpar-b/system", "lpar-b"},
                {"qemu+ssh://lpar-b", "lpar-b"},
                {"qemu+ssh://lpar-b?socket=/run/x", "lpar-b"},
                {"qemu+ssh://root@lpar-b:2222/system", "lpar-b"},
                {"qemu+ssh://a%40corp@lpar-b/system", "lpar-b"},
                {"qemu+tls://[2001:db8::5]:16514/system", "2001:db8::5"},
                {"qemu+ssh://root@[fe80::1%25enc1]/system", "fe80::1%enc1"},
                {"qemu+tcp://what is that/system", "what is that"}};
    for (const auto& row : rows)
        EXPECT_EQ(host_of_uri(row.uri, "this host"), row.host) << row.uri;
}

}  // namespace
}  // namespace vfioap
