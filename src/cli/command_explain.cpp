// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapctl explain: why a migration failed.
#include "ap/error.h"
#include "cli/commands.h"
#include "cli/guest_argument.h"
#include "cli/host_location.h"
#include "cli/program.h"
#include "explain/explain.h"
#include "file/descriptor.h"
#include "file/process.h"
#include "report/explanation.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

namespace vfioap {
namespace {

struct ExplainArguments {
    std::vector<std::string> files;
    std::string guest;
    std::string since;
    bool all_queues = false;
};

LogScanner::Input from_descriptor(int fd, const std::string& name) {
    return [fd, name](char* into, std::size_t size) -> std::size_t {
        while (true) {
            const auto got = ::read(fd, into, size);
            if (got >= 0) return static_cast<std::size_t>(got);
            if (errno != EINTR) throw SystemError{"read", name, errno};
        }
    };
}

void read_log(Explainer& explainer, const std::string& name) {
    if (name == "-") {
        explainer.read("standard input", from_descriptor(STDIN_FILENO, "standard input"));
        return;
    }
    const Descriptor file{::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)};
    if (file.get() < 0) throw SystemError{"open", name, errno};
    explainer.read(name, from_descriptor(file.get(), name));
}

/// Reads what journalctl prints, and waits for its end. No shell has a part in it.
void read_journal(Explainer& explainer, const std::string& since) {
    const auto from = "--since=" + since;
    std::vector<std::string> words{"journalctl", "--no-pager", "--quiet", "--output=json", from};
    // Who can have logged it: the kernel, libvirt's daemons, our hook; each is one more alternative.
    for (const auto* const match :
         {"_TRANSPORT=kernel", "+", "SYSLOG_IDENTIFIER=libvirtd", "SYSLOG_IDENTIFIER=virtqemud",
          "SYSLOG_IDENTIFIER=vfioap-hook", "SYSLOG_IDENTIFIER=vfioapd"})
        words.emplace_back(match);
    const auto failed = [] {
        return InputError{"journal", "journalctl failed; name log files, or another --since"};
    };
    ProcessOrder order{std::move(words)};
    order.output = ProcessOrder::Stream::piped;
    order.errors = ProcessOrder::Stream::inherited;
    std::optional<Process> journal;
    try {
        journal.emplace(order);
    } catch (const SystemError& error) {
        if (error.number() != ENOENT) throw failed();
        throw InputError{"journal", "journalctl is not there; name log files instead"};
    }
    explainer.read("journal", from_descriptor(journal->output(), "journal"));
    if (!journal->wait().ok()) throw failed();
}

/// The guest's own log, in libvirt's usual place, where it can be read.
void read_guest_log(Explainer& explainer, const std::string& guest) {
    if (guest.find('/') != std::string::npos) return;
    const auto name = fmt::format("/var/log/libvirt/qemu/{}.log", guest);
    const Descriptor file{::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)};
    struct stat info {};
    if (file.get() < 0 || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return;
    explainer.read(name, from_descriptor(file.get(), name));
}

/// Whether the name can only be that of domain XML, or libvirt knows it; else nothing more is known of the
/// guest.
std::optional<Guest> find_guest(const std::string& name, const std::string& uri) {
    if (name.empty()) return {};
    if (name == "-") throw InputError{"--guest", "domain XML on standard input; expected a name or a file"};
    const bool file = name.find('/') != std::string::npos || name.ends_with(".xml");
    if (file) return load_guest(name, uri);
    try {
        return load_guest(name, uri);
    } catch (const std::exception&) {
        // At the destination a guest that did not arrive is not known.
        return {};
    }
}

int explain(const CommonOptions& common, const ExplainArguments& options) {
    const auto guest = find_guest(options.guest, common.uri);
    ExplainContext context;
    context.guest = guest ? guest->name : options.guest;
    if (guest) context.mdevs = guest->mdevs;
    const auto root = local_sysfs_root(common.sysfs_root);
    std::optional<Host> source;
    std::optional<Host> destination;
    if (!common.destination.empty()) {
        source.emplace(parse_host_location(common.source, root));
        destination.emplace(parse_host_location(common.destination, root));
        context.source = source->identity().name;
        context.destination = destination->identity().name;
        context.judge = [&](const std::string& name, const std::optional<Uuid>& mdev,
                            Profile profile) -> std::optional<Report> {
            const auto mdevs = source->mdevs();
            auto uuid = mdev;
            // A log without it can only be of a host's single mdev.
            if (!uuid && mdevs.size() == 1) uuid = mdevs.front();
            if (!uuid) return {};
            auto checked = guest ? *guest : guest_with(*uuid);
            if (!guest && !name.empty()) checked.name = name;
            CheckOptions check;
            check.mode = Mode::native;
            check.profile = parse_profile(common.profile).value();
            if (check.profile == Profile::automatic) check.profile = profile;
            return check_between(checked, *source, *destination, check);
        };
    }
    Explainer explainer;
    if (options.files.empty()) {
        read_journal(explainer, options.since.empty() ? "-24h" : options.since);
        if (!context.guest.empty()) read_guest_log(explainer, context.guest);
    } else {
        if (!options.since.empty()) throw InputError{"--since", "is for the journal, not for files"};
        if (std::count(options.files.begin(), options.files.end(), "-") > 1)
            throw InputError{"-", "standard input can be read once only"};
        for (const auto& file : options.files)
            read_log(explainer, file);
    }
    const auto explanation = explainer.finish(context);
    write_output(common.format == "json"
                     ? render_explanation_json(explanation)
                     : render_explanation_text(
                           explanation, {use_color(common.color), options.all_queues, output_width()}));
    return explanation.explained() ? 0 : 1;
}

}  // namespace

void add_explain(CLI::App& app, const CommonOptions& common, Command& chosen) {
    const auto options = std::make_shared<ExplainArguments>();
    auto* const command = app.add_subcommand("explain", "Tell from logs why a migration failed");
    set_usage(*command, "vfioapctl explain [--guest GUEST] [--since TIME] [-s HOST -d HOST] [FILE…]");
    command->footer("Exit status: 0 explained, 1 not explained, 2 usage or unreadable input.");
    command->add_option("FILE", options->files, "Logs, or - for standard input (default: the journal)")
        ->type_name("");
    command->add_flag("--all-queues", options->all_queues,
                      "Name every queue and line instead of folding long lists");
    command->add_option("--guest", options->guest, "Only this guest: its name, or a file with its domain XML")
        ->type_name("GUEST");
    command
        ->add_option("--since", options->since,
                     "How far back in the journal, as journalctl takes it (default: -24h)")
        ->type_name("TIME");
    command->callback(
        [&chosen, &common, options] { chosen = [&common, options] { return explain(common, *options); }; });
}

}  // namespace vfioap
