// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioap-fake-kernel: runs the commands of remedies on a fake sysfs root, which answers as a kernel would.
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include "support/fake_kernel.h"

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fputs("usage: vfioap-fake-kernel ROOT < COMMANDS\n", stderr);
        return 2;
    }
    try {
        vfioap::test::FakeKernel kernel{argv[1]};
        for (std::string command; std::getline(std::cin, command);) {
            const auto answer = kernel.run(command);
            if (answer.status == 0) continue;
            std::fprintf(stderr, "vfioap-fake-kernel: %s\n", answer.message.c_str());
            return 1;
        }
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "vfioap-fake-kernel: %s\n", error.what());
        return 2;
    }
}
