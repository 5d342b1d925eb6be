// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioap-bench-service: hosts for measuring the service, and calls of it. tests/bench/service.py runs it.
#include "ap/error.h"
#include "compat/state.h"
#include "host/materialize.h"
#include "host/sysfs.h"
#include "service/metadata_text.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "support/host_builder.h"
#include <systemd/sd-bus.h>

namespace vfioap {
namespace {

constexpr const char* mdev = "62177883-f1bb-47f0-914d-32a22e3a8804";

test::HostBuilder::Numbers first(int count) {
    test::HostBuilder::Numbers numbers;
    for (int i = 0; i < count; ++i)
        numbers.push_back(static_cast<std::uint8_t>(i));
    return numbers;
}

/// A root with so many queues, all of them vfio_ap's, twenty of them in an mdev, and a guest with that as it
/// arrives from elsewhere.
void make(int adapters, int domains, const std::string& directory) {
    const auto host = test::HostBuilder("lpar1")
                          .z16()
                          .cards(first(adapters), "CEX8C")
                          .domains(first(domains))
                          .free_adapters(first(adapters))
                          .mdev(mdev)
                          .assign(first(4), first(5))
                          .build();
    materialize(host, directory + "/sys");
    auto state = state_of(host, test::uuid(mdev));
    state.host = "elsewhere";
    std::ofstream{directory + "/guest.xml"} << fmt::format(
        "<domain type='kvm'><name>guest1</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid><metadata>{}"
        "</metadata><devices><hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address "
        "uuid='{}'/>"
        "</source></hostdev></devices></domain>\n",
        state_element(state), mdev);
}

void check(int result, const char* what) {
    if (result < 0) throw std::runtime_error{fmt::format("{}: {}", what, result)};
}

/// The same with a guest that has them all, on a kernel whose queues tell their own facilities, and whose
/// device is away for a move: what the hook has most to do with.
void make_all(int adapters, int domains, const std::string& directory) {
    const auto host = test::HostBuilder("lpar1")
                          .z16()
                          .kernel(test::Kernel::newest)
                          .cards(first(adapters), "CEX8C")
                          .domains(first(domains))
                          .bind_to_vfio_ap()
                          .mdev(mdev)
                          .assign(first(adapters), first(domains), first(domains))
                          .build();
    materialize(host, directory + "/sys");
    auto state = state_of(host, test::uuid(mdev));
    state.host = "elsewhere";
    state.detached = true;
    std::ofstream{directory + "/guest.xml"} << fmt::format(
        "<domain type='kvm'><name>guest1</name><metadata>{}</metadata></domain>\n", state_element(state));
}

/// As much as must be read of that host: three attributes of each queue, one after the other. Milliseconds.
void loop(const std::string& root) {
    const auto begin = std::chrono::steady_clock::now();
    const int devices = ::open((root + "/devices/ap").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check(devices, "devices/ap");
    for (unsigned apid = 0; apid < ap_devices; ++apid) {
        const int card = ::openat(devices, fmt::format("card{:02x}", apid).c_str(), O_PATH | O_CLOEXEC);
        if (card < 0) continue;
        for (unsigned apqi = 0; apqi < ap_devices; ++apqi) {
            for (const char* const name : {"config", "chkstop", "ap_functions"}) {
                const auto path = fmt::format("{:02x}.{:04x}/{}", apid, apqi, name);
                const int fd = ::openat(card, path.c_str(), O_RDONLY | O_CLOEXEC);
                if (fd < 0) continue;
                char text[64];
                if (::read(fd, text, sizeof text) < 0) check(-1, name);
                ::close(fd);
            }
        }
        ::close(card);
    }
    ::close(devices);
    const std::chrono::duration<double, std::milli> passed = std::chrono::steady_clock::now() - begin;
    fmt::print("{}\n", passed.count());
}

/// Both calls in turn, so that what else the machine does meets both alike. Prints the median of each, in
/// microseconds.
void call(const char* address, const char* file, int rounds) {
    std::ifstream in{file};
    const std::string xml{std::istreambuf_iterator<char>{in}, {}};
    sd_bus* bus = nullptr;
    check(::sd_bus_new(&bus), "sd_bus_new");
    check(::sd_bus_set_address(bus, address), "address");
    check(::sd_bus_set_bus_client(bus, 1), "client");
    check(::sd_bus_start(bus), "start");
    const auto timed = [&](const char* interface, const char* member, bool with_xml) {
        const auto begin = std::chrono::steady_clock::now();
        sd_bus_message* reply = nullptr;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        const int result = with_xml
                               ? ::sd_bus_call_method(bus, "org.vfioap1", "/org/vfioap1", interface, member,
                                                      &error, &reply, "ssa{sv}", xml.c_str(), "", 0U)
                               : ::sd_bus_call_method(bus, "org.vfioap1", "/org/vfioap1", interface, member,
                                                      &error, &reply, "");
        check(result, error.message != nullptr ? error.message : member);
        ::sd_bus_message_unref(reply);
        return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
    };
    std::vector<double> empty;
    std::vector<double> checks;
    for (int i = 0; i < rounds; ++i) {
        empty.push_back(timed("org.freedesktop.DBus.Peer", "Ping", false));
        checks.push_back(timed("org.vfioap1.Manager", "CheckXml", true));
    }
    ::sd_bus_flush_close_unref(bus);
    for (auto* const times : {&empty, &checks}) {
        std::nth_element(times->begin(), times->begin() + rounds / 2, times->end());
        fmt::print("{}\n", (*times)[static_cast<std::size_t>(rounds / 2)]);
    }
}

}  // namespace
}  // namespace vfioap

int main(int argc, char** argv) {
    try {
        if (argc == 5 && std::string_view{argv[1]} == "make") {
            vfioap::make(std::atoi(argv[2]), std::atoi(argv[3]), argv[4]);
        } else if (argc == 5 && std::string_view{argv[1]} == "make-all") {
            vfioap::make_all(std::atoi(argv[2]), std::atoi(argv[3]), argv[4]);
        } else if (argc == 3 && std::string_view{argv[1]} == "loop") {
            vfioap::loop(argv[2]);
        } else if (argc == 5 && std::string_view{argv[1]} == "call") {
            vfioap::call(argv[2], argv[3], std::atoi(argv[4]));
        } else {
            std::fputs(
                "usage: vfioap-bench-service make | make-all ADAPTERS DOMAINS DIR | loop ROOT | call ADDRESS "
                "XML "
                "ROUNDS\n",
                stderr);
            return 2;
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "vfioap-bench-service: %s\n", error.what());
        return 1;
    }
    return 0;
}
