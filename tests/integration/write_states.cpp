// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes states of guests, small and as large as they can be, for what is held against them outside of the
// program. usage: vfioap-write-states DIRECTORY
#include "ap/error.h"
#include "compat/state.h"

#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>

#include "support/example_hosts.h"
#include "support/host_builder.h"

namespace {

using vfioap::Apqn;
using vfioap::DomainState;
using vfioap::Hwinfo;

void write(const std::string& path, const DomainState& state) {
    std::ofstream file{path};
    file << vfioap::state_element(state) << '\n';
    file.close();
    if (!file) throw std::runtime_error{path + ": cannot be written"};
}

/// `kinds` different hwinfos in turn, and as many different master keys; 0: none.
DomainState largest(unsigned kinds, unsigned keys) {
    DomainState state{vfioap::test::uuid(vfioap::test::example_mdev), "lpar <&> \"1\"", "l3", true, {}};
    for (unsigned i = 0; i < vfioap::ap_queues; ++i) {
        state.configuration.queues.push_back({Apqn::from_number(static_cast<std::uint16_t>(i)),
                                              Hwinfo{0x928000000e000000 + i % kinds}, nullptr});
        if (keys != 0) {
            state.configuration.queues.back().master_keys =
                std::make_shared<const vfioap::MasterKeys>(vfioap::test::cca_keys(i % keys));
        }
    }
    state.configuration.control_domains = vfioap::Mask::all();
    return state;
}

void write_all(const std::string& directory) {
    for (const auto& host : vfioap::test::example_hosts()) {
        for (const auto& mdev : host.mdevs) {
            try {
                write(directory + '/' + host.name + '-' + mdev.uuid.to_string() + ".xml",
                      vfioap::state_of(host, mdev.uuid));
            } catch (const vfioap::InputError& error) {
                std::puts(error.what());
            }
        }
    }
    write(directory + "/same.xml", largest(1, 1));
    write(directory + "/two-in-turn.xml", largest(2, 2));
    write(directory + "/by-domain.xml", largest(256, 256));
    write(directory + "/many.xml", largest(5000, 300));
    write(directory + "/each-its-own.xml", largest(vfioap::ap_queues, vfioap::ap_queues));
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc != 2) throw std::runtime_error{"usage: vfioap-write-states DIRECTORY"};
        write_all(argv[1]);
        return 0;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "%s\n", error.what()));
        return 1;
    }
}
