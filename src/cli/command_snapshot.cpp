// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapctl snapshot: the inventory of a host as one file.
#include "ap/error.h"
#include "cli/commands.h"
#include "cli/host_location.h"
#include "cli/program.h"
#include "host/capabilities.h"
#include "host/snapshot.h"

#include <ctime>
#include <memory>
#include <ostream>
#include <streambuf>

#include <fmt/chrono.h>

#include <CLI/CLI.hpp>

namespace vfioap {
namespace {

/// Standard output as a stream that tells when it cannot be written.
class OutputBuffer : public std::streambuf {
  public:
    OutputBuffer() : buffer_(std::size_t{64} * 1024, '\0') {
        setp(buffer_.data(), buffer_.data() + buffer_.size());
    }
    void flush_all() {
        write_output({pbase(), static_cast<std::size_t>(pptr() - pbase())});
        setp(buffer_.data(), buffer_.data() + buffer_.size());
    }

  private:
    int_type overflow(int_type c) override {
        flush_all();
        return traits_type::eq_int_type(c, traits_type::eof()) ? traits_type::not_eof(c)
                                                               : sputc(traits_type::to_char_type(c));
    }
    std::string buffer_;
};

struct SnapshotArguments {
    std::string host;
    std::string output;
};

int take_snapshot(const CommonOptions& common, const SnapshotArguments& options) {
    const auto& where = options.host.empty() ? common.source : options.host;
    const auto location = parse_host_location(where, local_sysfs_root(common.sysfs_root));
    const Host host{location};
    const auto taken = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
    const auto inventory = std::make_shared<Inventory>(*host.read_all());
    ask_local_host(location, usual_emulator, *inventory);
    if (!options.output.empty() && options.output != "-") {
        save_snapshot(options.output, *inventory, taken);
        return 0;
    }
    OutputBuffer buffer;
    std::ostream out{&buffer};
    // A stream swallows exceptions unless asked not to.
    out.exceptions(std::ios::badbit | std::ios::failbit);
    write_snapshot(out, *inventory, taken);
    buffer.flush_all();
    return 0;
}

}  // namespace

void add_snapshot(CLI::App& app, const CommonOptions& common, Command& chosen) {
    const auto options = std::make_shared<SnapshotArguments>();
    auto* const command = app.add_subcommand("snapshot", "Write the inventory of a host as one JSON file");
    set_usage(*command, "vfioapctl snapshot [-o FILE] [HOST]");
    command->add_option("HOST", options->host, "The host (default: local)")->type_name("");
    command
        ->add_option("-o,--output", options->output,
                     "File to write, whole or not at all (default: standard output)")
        ->type_name("FILE");
    command->callback([&chosen, &common, options] {
        chosen = [&common, options] { return take_snapshot(common, *options); };
    });
}

}  // namespace vfioap
