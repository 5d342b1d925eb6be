// SPDX-License-Identifier: LGPL-2.1-or-later
// A snapshot is anybody's: reading it ends in an inventory or in an InputError, and what was read can be
// written and read again.
#include "ap/error.h"
#include "host/snapshot.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <sstream>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::istringstream in{std::string{reinterpret_cast<const char*>(data), size}};
    try {
        const auto inventory = vfioap::read_snapshot(in, "fuzz");
        std::stringstream again;
        vfioap::write_snapshot(again, inventory, {});
        if (!(vfioap::read_snapshot(again, "again") == inventory)) std::abort();
    } catch (const vfioap::InputError& error) {
        // A refusal of what we wrote ourselves would start so.
        if (std::string_view{error.what()}.starts_with("again")) std::abort();
    }
    return 0;
}
