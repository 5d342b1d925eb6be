// SPDX-License-Identifier: LGPL-2.1-or-later
// Doing what a report says, on a fake root that answers as the kernel would, makes its findings go away.
#include "compat/check.h"
#include "host/sysfs.h"
#include "report/text.h"

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "support/example_hosts.h"
#include "support/fake_kernel.h"
#include "support/fake_root.h"
#include "support/host_builder.h"

namespace vfioap {
namespace {

using test::FakeKernel;
using test::FakeRoot;
using test::HostBuilder;

const HostBuilder::Numbers many{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

/// What is wrong at the destination, and how it is checked.
struct Fault {
    std::string name;
    std::function<HostBuilder(HostBuilder)> destination;
    HostBuilder::Numbers domains = {0x04, 0x47};
    test::Kernel kernel = test::Kernel::current;
};

void PrintTo(const Fault& fault, std::ostream* out) {
    *out << fault.name;
}

std::vector<Fault> faults() {
    const HostBuilder::Numbers both{0x05, 0x06};
    return {
        {"mdev_missing",
         [](HostBuilder host) {
             return host.free_domains({0x04, 0x47});
         }},
        {"mdev_empty",
         [](HostBuilder host) {
             return host.free_domains({0x04, 0x47}).mdev(test::example_mdev);
         }},
        {"reserved_by_masks", [](HostBuilder host) { return host; }},
        {"reserved_without_override",
         [](HostBuilder host) {
             return host.bind_to_vfio_ap(Apqn{0x07, 0x04});
         },
         {0x04, 0x47},
         test::Kernel::newest},
        {"one_adapter_short",
         [](HostBuilder host) {
             return host.free_domains({0x04, 0x47})
                 .mdev(test::example_mdev)
                 .assign({0x05}, {0x04, 0x47}, {0x04});
         }},
        {"an_adapter_too_many",
         [both](HostBuilder host) {
             return host.free_domains({0x04, 0x47})
                 .mdev(test::example_mdev)
                 .assign({0x05, 0x06, 0x07}, {0x04, 0x47}, {0x04, 0x47});
         }},
        {"owned_by_another",
         [](HostBuilder host) {
             return host.free_domains({0x04, 0x47})
                 .mdev("11111111-2222-3333-4444-555555555555")
                 .assign({0x05}, {0x47}, {});
         }},
        {"driver_not_loaded",
         [](HostBuilder host) {
             return host.free_domains({0x04, 0x47}).without_vfio_ap();
         }},
        {"deconfigured",
         [both](HostBuilder host) {
             return host.free_domains({0x04, 0x47})
                 .deconfigure(0x05)
                 .mdev(test::example_mdev)
                 .assign(both, {0x04, 0x47}, {0x04, 0x47});
         }},
        {"many_at_once_into_an_empty_mdev",
         [](HostBuilder host) {
             return host.free_adapters({0x05, 0x06}).mdev(test::example_mdev);
         },
         many},
        {"many_at_once_and_no_mdev", [](HostBuilder host) { return host; }, many},
    };
}

class RemedyCommands : public testing::TestWithParam<Fault> {};

TEST_P(RemedyCommands, carried_out_in_order_make_the_move_possible) {
    const auto& fault = GetParam();
    const auto host = [&](const std::string& name) {
        return HostBuilder(name)
            .z16()
            .kernel(fault.kernel)
            .cards({0x05, 0x06, 0x07}, "CEX8A")
            .domains(fault.domains);
    };
    auto source_builder = host("here");
    if (fault.kernel == test::Kernel::newest) {
        source_builder.bind_to_vfio_ap();
    } else {
        source_builder.free_domains(fault.domains);
    }
    const auto source =
        source_builder.mdev(test::example_mdev).assign({0x05, 0x06}, fault.domains, fault.domains).build();
    const FakeRoot root{fault.destination(host("there")).build()};
    const Guest guest{"guest1", {}, {test::uuid(test::example_mdev)}};
    const auto described = describe_source(guest, source);
    std::vector<Apqn> queues;
    for (const auto& queue : described.configuration.queues)
        queues.push_back(queue.apqn);
    const auto judge = [&] {
        return check(guest, described, SysfsRoot{root.path()}.read_for(guest.mdevs[0], queues),
                     {Mode::detached, Profile::automatic, true});
    };

    const auto before = judge();
    EXPECT_EQ(before.verdict, Verdict::incompatible);
    FakeKernel kernel{root.path()};
    for (const auto& finding : before.findings) {
        for (const auto& remedy : finding.remedies) {
            for (const auto& command : remedy.commands) {
                const auto answer = kernel.run(command);
                EXPECT_EQ(answer.status, 0) << command << ": " << answer.message;
            }
        }
    }
    const auto after = judge();
    EXPECT_EQ(after.verdict, Verdict::compatible) << render_text(before, {}) << render_text(after, {});
}

INSTANTIATE_TEST_SUITE_P(All, RemedyCommands, testing::ValuesIn(faults()),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace vfioap
