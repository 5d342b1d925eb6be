// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/destinations.h"

#include "host/snapshot.h"

#include <new>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/example_hosts.h"
#include "support/host_builder.h"
#include "support/temporary_directory.h"

namespace vfioap {
namespace {

using testing::HasSubstr;
using testing::Pair;
using testing::UnorderedElementsAre;

TEST(Destinations, of_which_one_cannot_be_checked_leave_the_others_their_verdicts) {
    const test::TemporaryDirectory directory;
    const auto changed = std::make_shared<const Event>();
    std::vector<std::shared_ptr<Destination>> destinations;
    const auto destination = [&](const std::string& name) {
        return destinations.emplace_back(std::make_shared<Destination>(name, "/sys", changed))->name();
    };
    const auto snapshot = [&](const std::string& name) {
        auto path = directory.path() + '/' + name + ".json";
        save_snapshot(path, test::HostBuilder(name).z16().build(), {});
        return destination(path);
    };
    const auto odd = snapshot("odd");
    const auto good = snapshot("good");
    const auto missing = destination(directory.path() + "/missing.json");
    const auto thrower = snapshot("thrower");
    const auto mdev = test::uuid(test::example_mdev);
    const auto known = check_destinations({mdev}, destinations, [](const Uuid& /*mdev*/, const Host& target) {
        if (target.identity().name == "odd") throw std::bad_alloc{};
        if (target.identity().name == "thrower") throw 5;  // NOLINT(hicpp-exception-baseclass): on purpose
        return Verdict::compatible;
    });
    EXPECT_THAT(known.verdicts.at(mdev),
                UnorderedElementsAre(Pair(odd, "undetermined"), Pair(good, "compatible"),
                                     Pair(missing, "undetermined"), Pair(thrower, "undetermined")));
    EXPECT_THAT(known.problems, UnorderedElementsAre(Pair(odd, "out of memory"), Pair(good, ""),
                                                     Pair(missing, HasSubstr("missing.json")),
                                                     Pair(thrower, "unknown exception")));
}

}  // namespace
}  // namespace vfioap
