// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioap-make-hosts: writes the example hosts, and makes sysfs roots of snapshots for the tests.
#include "ap/error.h"
#include "host/materialize.h"
#include "host/snapshot.h"

#include <cstdio>
#include <exception>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "support/example_hosts.h"

namespace {

constexpr const char* usage =
    "usage: vfioap-make-hosts write DIR              the example hosts, as DIR/NAME.json\n"
    "       vfioap-make-hosts largest FILE           a host with 65,536 queues\n"
    "       vfioap-make-hosts load FILE              reads it and prints the most memory used, in kB\n"
    "       vfioap-make-hosts materialize FILE DIR   a sysfs root from a snapshot\n"
    "       vfioap-make-hosts table FILE             cards and queues: NAME TYPE DRIVER\n";

void write(const std::string& directory) {
    for (const auto& host : vfioap::test::example_hosts())
        vfioap::save_snapshot(fmt::format("{}/{}.json", directory, host.name), host,
                              vfioap::test::example_time);
}

void print_row(const std::string& name, const vfioap::Card* card, const std::string& driver) {
    fmt::print("{} {} {}\n", name, card != nullptr ? card->type.value_or("-") : "-",
               driver.empty() ? "-no-driver-" : driver);
}

void table(const std::string& file) {
    const auto host = vfioap::load_snapshot(file);
    auto queue = host.queues.begin();
    for (const auto& card : host.cards) {
        print_row(vfioap::adapter_text(card.apid), &card, card.driver);
        for (; queue != host.queues.end() && queue->apqn.apid() <= card.apid; ++queue)
            print_row(queue->apqn.to_string(), &card, queue->driver);
    }
}

/// `VmHWM`, not ru_maxrss: that one starts with what the parent had.
std::string most_memory() {
    std::ifstream status{"/proc/self/status"};
    for (std::string line; std::getline(status, line);) {
        std::istringstream words{line};
        std::string name;
        std::string number;
        if (words >> name >> number && name == "VmHWM:") return number;
    }
    return "unknown";
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::vector<std::string> words(argv + 1, argv + argc);
        if (words.size() == 2 && words[0] == "write") {
            write(words[1]);
        } else if (words.size() == 3 && words[0] == "materialize") {
            vfioap::materialize(vfioap::load_snapshot(words[1]), words[2]);
        } else if (words.size() == 2 && words[0] == "table") {
            table(words[1]);
        } else if (words.size() == 2 && words[0] == "largest") {
            vfioap::save_snapshot(words[1], vfioap::test::largest_host(), vfioap::test::example_time);
        } else if (words.size() == 2 && words[0] == "load") {
            const auto host = vfioap::load_snapshot(words[1]);
            fmt::print("{} queues, {} kB\n", host.queues.size(), most_memory());
        } else {
            std::fputs(usage, stderr);
            return 2;
        }
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "vfioap-make-hosts: %s\n", error.what());
        return 1;
    }
}
