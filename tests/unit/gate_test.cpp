// SPDX-License-Identifier: LGPL-2.1-or-later
// Every method on the bus has its row in the table, and what has none is refused.
#include "service/gate.h"

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>

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
        const std::regex pattern{"<method name=\"(\\w+)\">"};
        const auto xml = text.str();
        for (std::sregex_iterator match{xml.begin(), xml.end(), pattern}, end; match != end; ++match) {
            EXPECT_NE(permission_of(interface + '.' + (*match)[1].str()), Permission::nobody) << (*match)[1];
            ++methods;
        }
    }
    EXPECT_EQ(methods, 9);
}

TEST(Gate, refuses_what_it_does_not_know) {
    for (const auto* const member : {"", "GetInventory", "org.vfioap1.Manager", "org.vfioap1.Manager.Explode",
                                     "org.vfioap1.Manager.GetInventory2", "org.vfioap1.Mdev.GetInventory"})
        EXPECT_EQ(permission_of(member), Permission::nobody) << member;
    EXPECT_EQ(permission_of("org.vfioap1.Manager.OpenMigration"), Permission::manage);
}

}  // namespace
}  // namespace vfioap
