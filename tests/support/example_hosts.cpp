// SPDX-License-Identifier: LGPL-2.1-or-later
#include "support/example_hosts.h"

#include "host/snapshot.h"

#include <sstream>

#include "support/host_builder.h"

namespace vfioap::test {
namespace {

using Numbers = HostBuilder::Numbers;

// Guests, by the mdevs that they have everywhere.
constexpr std::string_view payments = "1c7b6ad4-3f0e-4c0e-8d6a-6d2b1f0a7e11";
constexpr std::string_view web = "2f9e0c58-92aa-4f2b-b0f4-0a5c44d3b822";
constexpr std::string_view archive = "3d1a7f36-5b7c-4a57-9f3d-8e21c7a5c933";
constexpr std::string_view idle = "4e5d2b90-7e61-4be8-a1c2-57f06d9e1a44";

constexpr const char* ep11_modes = "FIPS2009 BSI2009 FIPS2011 BSI2011 BSICC2017";

Numbers range(unsigned first, unsigned count) {
    Numbers numbers;
    for (unsigned i = 0; i < count; ++i)
        numbers.push_back(static_cast<std::uint8_t>(first + i));
    return numbers;
}

/// 16 adapters in all three modes and 40 domains: the first eight CCA, then four EP11, then four
/// accelerators. Domains 0000–001f are the guests', the others the host's.
HostBuilder large(HostBuilder host, const std::string& type) {
    host.cards(range(0, 8), type + 'C').cards(range(8, 4), type + 'P').cards(range(12, 4), type + 'A');
    host.domains(range(0, 40));
    for (unsigned apid = 0; apid < 12; ++apid) {
        // A master key is set per domain, alike on all cards of a mode.
        for (unsigned apqi = 32; apqi < 40; ++apqi) {
            const Apqn apqn{static_cast<std::uint8_t>(apid), static_cast<std::uint8_t>(apqi)};
            host.master_keys(apqn, apid < 8 ? cca_keys(apqi) : ep11_keys(apqi));
        }
        if (apid >= 8) host.op_modes(static_cast<std::uint8_t>(apid), ep11_modes);
    }
    return host;
}

HostBuilder& guests_of_large(HostBuilder& host) {
    return host.mdev(payments)
        .assign(range(0, 4), range(0, 8), range(0, 8))
        .in_use()
        .mdev(web)
        .assign(range(12, 4), range(0, 4))
        .in_use()
        .mdev(archive)
        .assign(range(8, 4), range(8, 4), range(8, 4))
        .mdev(idle);
}

Inventory z14_cex6() {
    auto host = large(HostBuilder{"z14-cex6"}.z14(), "CEX6");
    host.free_domains(range(0, 32));
    return guests_of_large(host).build();
}

Inventory z15_cex7() {
    auto host = large(HostBuilder{"z15-cex7"}.z15(), "CEX7");
    host.free_domains(range(0, 32));
    return guests_of_large(host).build();
}

Inventory z16_cex8() {
    auto host = large(HostBuilder{"z16-cex8"}.z16(), "CEX8");
    host.free_domains(range(0, 32)).qemu("10.0.2", false);
    return guests_of_large(host).build();
}

/// Cards of two generations, and one newer than the kernel, which treats it as CEX8.
Inventory z16_mixed() {
    return HostBuilder{"z16-mixed"}
        .z16()
        .card(0x01, "CEX7C")
        .card(0x02, "CEX7P")
        .card(0x05, "CEX8C")
        .card(0x06, "CEX8P")
        .card(0x07, "CEX8A")
        .card(0x0a, "CEX9C")
        .domains({0x04, 0x0b, 0x47})
        .free_domains({0x04, 0x47})
        .check_stop(std::uint8_t{0x02})
        .master_keys(Apqn{0x01, 0x0b}, cca_keys(11))
        .master_keys(Apqn{0x05, 0x0b}, cca_keys(11))
        .master_keys(Apqn{0x0a, 0x0b}, with_register(cca_keys(11), "AES NEW: full 0x5aa5c33c0ff05aa5"))
        .master_keys(Apqn{0x06, 0x0b}, ep11_keys(11))
        .op_modes(0x06, ep11_modes)
        .mdev(payments)
        .assign({0x01, 0x05, 0x0a}, {0x04, 0x47}, {0x04, 0x47})
        .in_use()
        .mdev(archive)
        .assign({0x06, 0x07}, {0x47})
        .build();
}

/// Guests with more assigned than there is. The kernel refuses to give one queue to two mdevs, so they share
/// adapters and domains but no queue.
Inventory z16_overprovisioned() {
    return HostBuilder{"z16-overprovisioned"}
        .z16()
        .card(0x05, "CEX8C")
        .card(0x06, "CEX8P")
        .card(0x07, "CEX8A")
        .domains({0x04, 0x0b, 0x47, 0x54})
        .control_domains({0x04, 0x0b, 0x47, 0x54, 0x60})
        .free_domains({0x04, 0x0b, 0x47})
        .vanish({0x06, 0x0b})
        .master_keys(Apqn{0x05, 0x54}, cca_keys(84))
        .master_keys(Apqn{0x06, 0x54}, ep11_keys(84))
        .mdev(payments)  // adapter 63 and domain 00ab are not there; control domain 00ab is no one's
        .assign({0x05, 0x06, 0x63}, {0x04, 0xab}, {0x04, 0x60, 0xab})
        .in_use()
        .mdev(web)  // the same adapters; 06 falls out whole, because 06.000b is missing
        .assign({0x05, 0x06}, {0x0b, 0x47}, {0x0b})
        .in_use()
        .mdev(archive)  // nothing of it is there
        .assign({0x64, 0x65}, {0x04})
        .mdev(idle)  // adapters only
        .assign({0x07}, {})
        .mdev("5a0f4d3c-8c1b-47a9-9d52-c1d0e7f3b255")  // domains only
        .assign({}, {0x04, 0x47}, {0x04})
        .build();
}

/// Two adapters and one domain for guests, by the masks: everything else is the host's, and a guest that was
/// set up before lost an adapter to that.
Inventory z16_masks() {
    return HostBuilder{"z16-masks"}
        .z16()
        .cards({0x05, 0x06, 0x09}, "CEX8C")
        .card(0x07, "CEX8A")
        .card(0x08, "CEX8P")
        .domains({0x04, 0x0b, 0x47})
        .free_adapters({0x05, 0x08})
        .free_domains({0x47})
        .master_keys(0x06, cca_keys(4))
        .master_keys(0x09, unknown_cca_keys())
        .serial(0x09, "")
        .offline({0x06, 0x0b})
        .deconfigure(0x09)
        .mdev(payments)
        .assign({0x05}, {0x04, 0x0b}, {0x04, 0x0b})
        .in_use()
        .mdev(web)  // 07.0004 went to the host, and adapter 07 with it
        .assign({0x07, 0x08}, {0x04, 0x47}, {})
        .in_use()
        .build();
}

/// The newest kernel: queues go to guests one by one, by driver_override, and tell their own facilities.
Inventory z16_override() {
    return HostBuilder{"z16-override"}
        .z16()
        .kernel(Kernel::newest)
        .cards({0x05, 0x06}, "CEX8C")
        .card(0x07, "CEX8P")
        .card(0x08, "CEX8A")
        .domains({0x04, 0x47, 0x54})
        .bind_to_vfio_ap()
        .bind_to_host({0x05, 0x54})
        .bind_to_host({0x06, 0x54})
        .bind_to_host({0x07, 0x54})
        .bind_to_host({0x08, 0x54})
        .master_keys(Apqn{0x05, 0x54}, cca_keys(84))
        .master_keys(Apqn{0x06, 0x54}, cca_keys(84))
        .master_keys(Apqn{0x07, 0x54}, ep11_keys(84))
        .op_modes(0x07, ep11_modes)
        .bind_state({0x06, 0x47}, 1)
        .check_stop(Apqn{0x08, 0x54})
        .no_answer({0x08, 0x54})
        .mdev(payments)
        .assign({0x05, 0x07}, {0x04, 0x47}, {0x04, 0x47})
        .in_use()
        .mdev(archive)
        .assign({0x06}, {0x04})
        .build();
}

/// No guest ever had crypto here: the driver is not loaded.
Inventory z15_no_vfio_ap() {
    return HostBuilder{"z15-no-vfio-ap"}
        .z15()
        .card(0x01, "CEX7C")
        .card(0x02, "CEX7A")
        .domains({0x04, 0x47})
        .without_vfio_ap()
        .master_keys(0x01, cca_keys(1))
        .build();
}

/// The day the series lands: the kernel can migrate, and so can QEMU.
Inventory z16_migratable() {
    return HostBuilder{"z16-migratable"}
        .z16()
        .kernel(Kernel::restore)
        .qemu("12.0.0", true)
        .card(0x05, "CEX8C")
        .card(0x06, "CEX8P")
        .card(0x07, "CEX8A")
        .domains({0x04, 0x47, 0xab})
        .bind_to_vfio_ap()
        .mdev(example_mdev)
        .assign({0x05, 0x06}, {0x04, 0x47}, {0x04, 0x47})
        .in_use()
        .mdev(idle)
        .build();
}

/// A kernel with the first patch version.
Inventory z16_v1() {
    return HostBuilder{"z16-v1"}
        .z16()
        .kernel(Kernel::series_v1)
        .qemu("8.2.0", true)
        .card(0x05, "CEX8C")
        .card(0x06, "CEX8P")
        .card(0x07, "CEX8A")
        .domains({0x04, 0x47, 0xab})
        .free_domains({0x04, 0x47, 0xab})
        .mdev(example_mdev)
        .assign({0x05, 0x06}, {0x04, 0x47}, {0x04, 0x47})
        .in_use()
        .migratable(true)
        .mdev(web)
        .assign({0x07}, {0x04, 0x47})
        .in_use()
        .migratable(false)
        .build();
}

/// The three hosts of the demo. guest1 runs on lpar-a.
Inventory lpar_a() {
    return HostBuilder{"lpar-a"}
        .z16()
        .qemu("10.0.2", false)
        .card(0x05, "CEX8C")
        .card(0x06, "CEX8P")
        .card(0x07, "CEX8A")
        .domains({0x04, 0x47, 0xab})
        .free_domains({0x04, 0x47})
        .master_keys(0x05, cca_keys(5))
        .master_keys(0x06, ep11_keys(6))
        .mdev(example_mdev)
        .assign({0x05, 0x06}, {0x04, 0x47}, {0x04, 0x47})
        .in_use()
        .build();
}

/// The hardware for guest1 is there, but its mdev is not, 06.0047 is still the host's, and an mdev that
/// nobody uses has 05.0047: all to be mended by commands.
Inventory lpar_b() {
    return HostBuilder{"lpar-b"}
        .z16()
        .qemu("10.0.2", false)
        .card(0x05, "CEX8C")
        .card(0x06, "CEX8P")
        .card(0x07, "CEX8A")
        .domains({0x04, 0x47, 0xab})
        .free_adapters({0x05})
        .free_domains({0x04})
        .master_keys(0x05, cca_keys(5))
        .master_keys(0x06, ep11_keys(6))
        .op_modes(0x06, ep11_modes)
        .mdev(idle)
        .assign({0x05}, {0x47}, {0x47})
        .build();
}

/// An older machine with other keys, without adapter 06 and without control domain 0047, and where a running
/// guest has the queues of adapter 05: no command mends that.
Inventory lpar_c() {
    return HostBuilder{"lpar-c"}
        .z15()
        .card(0x05, "CEX7C")
        .card(0x07, "CEX7A")
        .domains({0x04, 0x47})
        .control_domains({0x04})
        .free_domains({0x04, 0x47})
        .master_keys(0x05, cca_keys(50))
        .mdev(web)
        .assign({0x05}, {0x04, 0x47}, {0x04})
        .in_use()
        .build();
}

}  // namespace

std::vector<Inventory> example_hosts() {
    return {z14_cex6(),  z15_cex7(),     z16_cex8(),       z16_mixed(),      z16_overprovisioned(),
            z16_masks(), z16_override(), z15_no_vfio_ap(), z16_migratable(), z16_v1(),
            lpar_a(),    lpar_b(),       lpar_c()};
}

Inventory largest_host() {
    const auto all = range(0, ap_devices);
    HostBuilder host{"largest"};
    host.kernel(Kernel::newest).cards(all, "CEX8C").domains(all).bind_to_vfio_ap();
    for (const auto apid : all)
        host.master_keys(apid, cca_keys(apid));
    return host.mdev(example_mdev).assign(all, all, all).in_use().build();
}

std::string example_text(const Inventory& host) {
    std::ostringstream out;
    write_snapshot(out, host, example_time);
    return out.str();
}

}  // namespace vfioap::test
