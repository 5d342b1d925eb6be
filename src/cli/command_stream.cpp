// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapctl stream: what a kernel that can migrate a vfio-ap device sends and takes.
#include "ap/error.h"
#include "cli/commands.h"
#include "cli/guest_argument.h"
#include "cli/host_location.h"
#include "compat/check.h"
#include "host/ap_config.h"
#include "report/stream.h"
#include "stream/device.h"
#include "stream/reader.h"
#include "stream/verify.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

namespace vfioap {
namespace {

struct StreamArguments {
    std::string mdev;
    std::string file = "-";
    std::string layout;
    bool write = false;
    ReportOptions report;
};

/// A stream that is read piece by piece from a file or from standard input.
class Input {
  public:
    explicit Input(const std::string& file)
        : standard_{file == "-"}, name_{standard_ ? "standard input" : file} {
        if (!standard_) {
            fd_ = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
            if (fd_ < 0) throw SystemError{"open", name_, errno};
        } else if (::isatty(STDIN_FILENO) == 1) {
            throw InputError{name_, "is a terminal; expected a stream from a pipe, or a file's name"};
        }
    }
    ~Input() {
        if (!standard_) ::close(fd_);
    }
    Input(const Input&) = delete;
    Input& operator=(const Input&) = delete;
    Input(Input&&) = delete;
    Input& operator=(Input&&) = delete;

    [[nodiscard]] const std::string& name() const { return name_; }

    /// Calls `take` with each piece until it says no.
    template <typename Take>
    void each_piece(Take take) const {
        std::vector<std::uint8_t> buffer(std::size_t{64} * 1024);
        while (true) {
            const auto got = ::read(fd_, buffer.data(), buffer.size());
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) throw SystemError{"read", name_, errno};
            if (got == 0 || !take(std::span{buffer}.first(static_cast<std::size_t>(got)))) return;
        }
    }

  private:
    bool standard_;
    std::string name_;
    int fd_ = STDIN_FILENO;
};

/// All of it; whether it is good is not asked here.
StreamReader read_stream(const Input& input, const StreamArguments& options) {
    StreamReader reader{parse_layout(options.layout)};
    input.each_piece([&](std::span<const std::uint8_t> piece) { return reader.feed(piece); });
    reader.finish();
    return reader;
}

void refuse_faulty(const Input& input, const StreamReader& reader) {
    if (reader.fault()) throw InputError{input.name(), to_text(*reader.fault())};
}

int save(const CommonOptions& common, const StreamArguments& options) {
    if (::isatty(STDOUT_FILENO) == 1) {
        throw InputError{"standard output",
                         "is a terminal, and a stream is binary; redirect it to a file or a pipe"};
    }
    const Host host{parse_host_location(common.source, local_sysfs_root(common.sysfs_root))};
    const auto mdev = mdev_at(host, options.mdev, common.uri);
    const auto configuration = [&] {
        auto source = describe_source(guest_with(mdev), *host.read_for(mdev, {}));
        if (!source.configuration_known) {
            const auto why = std::find_if(source.findings.begin(), source.findings.end(),
                                          [](const Finding& f) { return f.severity == Severity::error; });
            throw InputError{"mdev " + mdev.to_string(), why == source.findings.end()
                                                             ? "its configuration could not be read"
                                                             : why->message};
        }
        return std::move(source.configuration);
    };
    MigrationDevice device{{mdev, Role::source, parse_layout(options.layout), Profile::automatic, {}, false},
                           {configuration, {}, {}}};
    if (const auto outcome = device.request(DeviceState::stop_copy); !outcome) throw Error{outcome.reason};
    auto stream = device.take_save_stream();
    std::vector<std::uint8_t> buffer(std::size_t{64} * 1024);
    while (const auto count = stream.read(buffer).bytes)
        write_output({reinterpret_cast<const char*>(buffer.data()), count});
    return exit_compatible;
}

int decode(const CommonOptions& common, const StreamArguments& options) {
    const Input input{options.file};
    const auto reader = read_stream(input, options);
    // What came before a fault helps to find it.
    if (common.format == "json" || reader.size() > 0)
        write_output(common.format == "json" ? render_stream_json(reader) : render_stream_text(reader));
    refuse_faulty(input, reader);
    return exit_compatible;
}

int verify(const CommonOptions& common, const StreamArguments& options) {
    if (common.destination.empty()) throw CLI::RequiredError{"--destination"};
    const Host host{parse_host_location(common.destination, local_sysfs_root(common.sysfs_root))};
    const auto mdev = mdev_of(options.mdev, common.uri);
    const Input input{options.file};
    const auto reader = read_stream(input, options);
    refuse_faulty(input, reader);
    const auto source = describe_stream(reader, {"source", "stream:" + options.file});
    const auto queues = apqns_of(source.configuration);
    const auto report =
        check(guest_with(mdev), source, *host.read_for(mdev, queues),
              {Mode::native, parse_profile(common.profile).value(), options.report.strict, false});
    return show_report(report, common, options.report);
}

int restore(const CommonOptions& common, const StreamArguments& options) {
    const auto location = parse_host_location(common.destination.empty() ? "local" : common.destination,
                                              local_sysfs_root(common.sysfs_root));
    if (options.write && location.kind != HostLocation::Kind::sysfs)
        throw InputError{location.value, "only a sysfs root can be written to"};
    const Host host{location};
    const auto mdev = mdev_of(options.mdev, common.uri);
    MigrationDevice::Side side;
    side.inventory = [&](const Uuid& uuid, const std::vector<Apqn>& queues) {
        return host.read_for(uuid, queues);
    };
    if (options.write) {
        side.restore = [&](const Uuid& uuid, const MdevContents& contents, const std::vector<Apqn>& queues) {
            write_ap_config(location.value, uuid, contents, queues);
        };
    }
    MigrationDevice device{{mdev,
                            Role::destination,
                            parse_layout(options.layout),
                            parse_profile(common.profile).value(),
                            {},
                            false},
                           std::move(side)};
    const Input input{options.file};
    device.request(DeviceState::resuming);
    auto stream = device.take_resume_stream();
    input.each_piece([&](std::span<const std::uint8_t> piece) { return stream.write(piece).error == 0; });
    if (const auto outcome = device.request(DeviceState::stop); !outcome) {
        warn("vfioapctl", fmt::format("not restored: {} ({})", outcome.reason, errno_name(outcome.error)));
        const auto& report = device.report();
        if (!report || report->verdict == Verdict::compatible) return exit_usage;
        return show_report(*report, common, {});
    }
    write_output(device.restored()
                     ? device.restored()->to_string() + '\n'
                     : std::string{"profile compare: the mdev holds what the guest has; nothing is "
                                   "to be written\n"});
    return exit_compatible;
}

using Action = int (*)(const CommonOptions&, const StreamArguments&);

CLI::App* add_action(CLI::App& stream, const char* name, const char* help, const char* usage, Action action,
                     const CommonOptions& common, const std::shared_ptr<StreamArguments>& options,
                     Command& chosen) {
    auto* const command = stream.add_subcommand(name, help);
    set_usage(*command, usage);
    command->callback([&chosen, &common, options, action] {
        chosen = [&common, options, action] { return action(common, *options); };
    });
    return command;
}

void add_mdev(CLI::App& command, StreamArguments& options, const char* help) {
    command.add_option("MDEV", options.mdev, help)->required()->type_name("");
}

void add_file(CLI::App& command, StreamArguments& options) {
    command.add_option("FILE", options.file, "The stream (default: standard input)")->type_name("");
}

void add_layout(CLI::App& command, StreamArguments& options, const char* help) {
    add_choice(command, "--layout", options.layout, {"l1", "l2", "l2b", "l3"},
               std::string{help} + ": l1, l2, l2b, l3", "LAYOUT");
}

}  // namespace

void add_stream(CLI::App& app, const CommonOptions& common, Command& chosen) {
    const auto options = std::make_shared<StreamArguments>();
    auto* const stream = app.add_subcommand("stream", "Write, read and judge migration streams");
    set_usage(*stream, "vfioapctl stream COMMAND …");
    const std::string more = "vfioapctl --help has the other options, man 5 vfioap-stream the layouts.";
    // The commands below inherit it.
    stream->footer(
        "HOST is a sysfs root (a directory), a snapshot (a .json file), local, or the name of a host.\n" +
        more);
    stream->require_subcommand(0, 1);
    stream->callback([stream] {
        if (stream->get_subcommands().empty()) throw CLI::RequiredError{"save, decode, verify or restore"};
    });

    auto* command = add_action(*stream, "save", "Write to standard output what a guest's device would send",
                               "vfioapctl stream save [-s HOST] [--layout LAYOUT] MDEV|GUEST", save, common,
                               options, chosen);
    add_mdev(*command, *options, "UUID of an mdev at --source, or the guest that has it");
    add_layout(*command, *options, "Layout to write (default: l3, the newest)");

    command = add_action(*stream, "decode", "Show what is in a stream, and what is wrong with it",
                         "vfioapctl stream decode [--format FORMAT] [--layout LAYOUT] [FILE]", decode, common,
                         options, chosen);
    command->footer(more);
    add_file(*command, *options);
    add_layout(*command, *options, "Layout the stream must have (default: found out)");

    command = add_action(*stream, "verify", "Tell whether a destination takes a stream, and why not",
                         "vfioapctl stream verify -d HOST [OPTIONS] MDEV|GUEST [FILE]", verify, common,
                         options, chosen);
    add_mdev(*command, *options, "UUID of the mdev, or the guest that has it");
    add_file(*command, *options);
    add_layout(*command, *options, "Layout the stream must have (default: found out)");
    add_report_options(*command, options->report);

    command = add_action(*stream, "restore",
                         "Give the destination's mdev what a stream has; without --write only print it",
                         "vfioapctl stream restore [-d HOST] [--write] [OPTIONS] MDEV|GUEST [FILE]", restore,
                         common, options, chosen);
    add_mdev(*command, *options,
             "UUID of an mdev at --destination (default: local), or the guest that has it");
    add_file(*command, *options);
    add_layout(*command, *options, "Layout the stream must have (default: found out)");
    command->add_flag("--write", options->write, "Write it to ap_config (default: only print it)");
}

}  // namespace vfioap
