// SPDX-License-Identifier: LGPL-2.1-or-later
// Every method on the bus has its row in the table, and what has none is refused.
#include "service/gate.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace vfioap {
namespace {

TEST(Gate, knows_every_method_that_the_introspection_files_name) {
    std::size_t methods = 0;
    for (const auto& file : std::filesystem::directory_iterator{VFIOAP_SOURCE_DIRECTORY "/dbus"}) {
        if (!file.path().filename().string().ends_with(".xml")) continue;
        std::ostringstream text;
        text << std::ifstream{file.path()}.rdbuf();
        const auto interface = file.path().stem().string();
        const auto xml = text.str();
        constexpr std::string_view begin = "<method name=\"";
        for (auto at = xml.find(begin); at != std::string::npos; at = xml.find(begin, at + 1)) {
            const auto name =
                xml.substr(at + begin.size(), xml.find('"', at + begin.size()) - at - begin.size());
            EXPECT_NE(permission_of(interface + '.' + name), Permission::nobody) << name;
            ++methods;
        }
    }
    EXPECT_EQ(methods, 15);
}

TEST(Gate, refuses_what_it_does_not_know) {
    for (const auto* const member : {"", "GetInventory", "org.vfioap1.Manager", "org.vfioap1.Manager.Explode",
                                     "org.vfioap1.Manager.GetInventory2", "org.vfioap1.Mdev.GetInventory"})
        EXPECT_EQ(permission_of(member), Permission::nobody) << member;
    for (const auto* const member : {"OpenMigration", "ApplyPlan", "UndoPlan"})
        EXPECT_EQ(permission_of(std::string{"org.vfioap1.Manager."} + member), Permission::manage);
    for (const auto* const member : {"Cancel", "GetReport", "Close"})
        EXPECT_EQ(permission_of(std::string{"org.vfioap1.Plan."} + member), Permission::owner);
}

}  // namespace
}  // namespace vfioap
