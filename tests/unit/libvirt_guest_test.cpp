// SPDX-License-Identifier: LGPL-2.1-or-later
// Against libvirt's test driver, which needs no daemon.
#include "cli/libvirt_guest.h"

#include "ap/error.h"
#include "domain/domain_xml.h"

#include <cstdio>
#include <fstream>

#include <dlfcn.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace vfioap {
namespace {

using testing::HasSubstr;

class LibvirtGuest : public testing::Test {
  protected:
    void SetUp() override {
        if (dlopen(libvirt_library, RTLD_NOW | RTLD_LOCAL) == nullptr)
            GTEST_SKIP() << libvirt_library << " is not installed: " << dlerror();
        std::ofstream file{node_};
        file << R"(<node>
  <domain type='test'>
    <name>guest1</name>
    <uuid>6b8f5c1e-2d4a-4e0f-9b1c-7a3d5e8f1c20</uuid>
    <memory>1048576</memory>
    <os><type arch='s390x'>hvm</type></os>
    <devices>
      <hostdev mode='subsystem' type='mdev' model='vfio-ap'>
        <source><address uuid='62177883-f1bb-47f0-914d-32a22e3a8804'/></source>
      </hostdev>
    </devices>
  </domain>
  <domain type='test'>
    <name>a2c47d90-5f3b-4c68-8e17-1d9b6f0a3e52</name>
    <uuid>e91d0b37-8c26-4f5a-b3e4-5a7c2d8e6f14</uuid>
    <memory>1048576</memory>
    <os><type arch='s390x'>hvm</type></os>
  </domain>
</node>
)";
        ASSERT_TRUE(file.flush());
    }
    void TearDown() override { std::remove(node_.c_str()); }

    [[nodiscard]] std::string uri() const { return "test://" + node_; }

    const std::string node_ = testing::TempDir() + fmt::format("vfioap-node-{}.xml", getpid());
};

enum class Kind { none, input, other };
struct Outcome {
    Kind kind = Kind::none;
    std::string message;
    std::string printed;
};

Outcome outcome_of(const std::string& uri, const std::string& guest, const char* library = libvirt_library) {
    Outcome outcome;
    testing::internal::CaptureStderr();
    try {
        domain_xml_from_libvirt(uri, guest, library);
    } catch (const InputError& error) {
        outcome = {Kind::input, error.what(), {}};
    } catch (const Error& error) {
        outcome = {Kind::other, error.what(), {}};
    }
    outcome.printed = testing::internal::GetCapturedStderr();
    return outcome;
}

TEST_F(LibvirtGuest, is_found_by_name_and_by_uuid) {
    for (const char* guest :
         {"guest1", "6b8f5c1e-2d4a-4e0f-9b1c-7a3d5e8f1c20", "6B8F5C1E-2D4A-4E0F-9B1C-7A3D5E8F1C20"}) {
        const auto domain = parse_domain_xml(domain_xml_from_libvirt(uri(), guest), guest);
        EXPECT_EQ(domain.name, "guest1");
        EXPECT_EQ(domain.arch, "s390x");
        ASSERT_EQ(domain.vfio_ap.size(), 1U);
        EXPECT_EQ(domain.vfio_ap[0].mdev.to_string(), "62177883-f1bb-47f0-914d-32a22e3a8804");
    }
}

TEST_F(LibvirtGuest, whose_name_looks_like_a_uuid_is_found) {
    const auto xml = domain_xml_from_libvirt(uri(), "a2c47d90-5f3b-4c68-8e17-1d9b6f0a3e52");
    EXPECT_EQ(parse_domain_xml(xml, "x").uuid, Uuid::parse("e91d0b37-8c26-4f5a-b3e4-5a7c2d8e6f14"));
}

TEST_F(LibvirtGuest, of_the_default_test_host_is_read) {
    const auto domain = parse_domain_xml(domain_xml_from_libvirt("test:///default", "test"), "x");
    EXPECT_EQ(domain.name, "test");
    EXPECT_EQ(domain.type, "test");
    EXPECT_TRUE(domain.vfio_ap.empty());
}

TEST_F(LibvirtGuest, that_is_not_there_is_bad_input) {
    for (const char* guest : {"nobody", "00000000-1111-2222-3333-444444444444"}) {
        const auto outcome = outcome_of("test:///default", guest);
        EXPECT_EQ(outcome.kind, Kind::input);
        EXPECT_EQ(outcome.message, fmt::format("{}: no such guest at test:///default", guest));
        EXPECT_EQ(outcome.printed, "");
    }
    const auto outcome = outcome_of("test:///default", "a\x1b[31m\nb");
    EXPECT_EQ(outcome.message, "a?[31m?b: no such guest at test:///default");
}

TEST_F(LibvirtGuest, of_a_libvirt_that_is_not_there_is_another_error_and_one_line) {
    for (const char* uri : {"test:///no/such/file.xml", "nonsense:///", "not a uri",
                            "qemu+unix:///system?socket=/no/such/socket", "te\nst:///x\x1b"}) {
        SCOPED_TRACE(uri);
        const auto outcome = outcome_of(uri, "test");
        EXPECT_EQ(outcome.kind, Kind::other);
        EXPECT_THAT(outcome.message, HasSubstr(": cannot connect: "));
        EXPECT_THAT(outcome.message, testing::Not(testing::HasSubstr("unknown error")));
        EXPECT_EQ(outcome.message.find_first_of("\n\x1b"), std::string::npos) << outcome.message;
        EXPECT_EQ(outcome.printed, "");
    }
}

// These need no libvirt.
TEST(LibvirtGuestLibrary, that_is_missing_or_another_is_said_so) {
    const auto missing = outcome_of("test:///default", "test", "libvirt-not-there.so.0");
    EXPECT_EQ(missing.kind, Kind::other);
    EXPECT_THAT(missing.message, HasSubstr("no libvirt to ask"));
    EXPECT_THAT(missing.message, HasSubstr("libvirt-not-there.so.0"));
    EXPECT_EQ(missing.printed, "");
    const auto another = outcome_of("test:///default", "test", "libm.so.6");
    EXPECT_EQ(another.kind, Kind::other);
    EXPECT_THAT(another.message, HasSubstr("virSetErrorFunc"));
}

}  // namespace
}  // namespace vfioap
