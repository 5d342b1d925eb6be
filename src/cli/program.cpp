// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cli/program.h"

#include "ap/error.h"
#include "report/json.h"
#include "report/text.h"
#include "text/safe.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

namespace vfioap {
namespace {

int complain(std::string_view name, std::string_view what, int code) {
    warn(name, what);
    return code;
}

class HelpFormatter : public CLI::Formatter {
  public:
    explicit HelpFormatter(std::string usage) : usage_{std::move(usage)} { column_width(32); }
    std::string make_usage(const CLI::App* /*app*/, std::string /*name*/)
        const override {  // NOLINT(performance-unnecessary-value-param): as declared there

        return "Usage: " + usage_ + '\n';
    }

  private:
    std::string usage_;
};

}  // namespace

void set_usage(CLI::App& app, std::string usage) {
    app.formatter(std::make_shared<HelpFormatter>(std::move(usage)));
}

void add_choice(CLI::App& app, const std::string& names, std::string& value,
                const std::vector<std::string>& words, const std::string& help, const std::string& type) {
    // The help names the words; the validator would add them once more.
    app.add_option(names, value, help)->check(CLI::IsMember{words}.description(""))->type_name(type);
}

void add_common_options(CLI::App& app, CommonOptions& options) {
    app.set_help_flag("-h,--help", "Print this help and exit");
    app.set_version_flag("--version", app.get_name() + " " VFIOAP_VERSION, "Print the version and exit");
    app.add_option("-s,--source", options.source, "Where the guest runs (default: local)")->type_name("HOST");
    app.add_option("-d,--destination", options.destination, "Where the guest is to go")->type_name("HOST");
    app.add_option("--sysfs-root", options.sysfs_root, "The local sysfs root (default: $SYSFS_ROOT or /sys)")
        ->type_name("DIR");
    app.add_option("-c,--connect", options.uri, "libvirt to ask for guests (default: qemu:///system)")
        ->type_name("URI");
    add_choice(app, "--profile", options.profile, {"auto", "compare", "restore"},
               "What the destination's driver does: auto, compare, restore", "PROFILE");
    add_choice(app, "--format", options.format, {"text", "json"}, "Output: text, json", "FORMAT");
    add_choice(app, "--color", options.color, {"auto", "always", "never"}, "Colours: auto, always, never",
               "WHEN");
}

void add_report_options(CLI::App& app, ReportOptions& options) {
    app.add_flag("--strict", options.strict, "Take warnings for errors");
    app.add_flag("--all-queues", options.all_queues, "Name every queue instead of folding long lists");
    app.add_flag("-q,--quiet", options.quiet, "Print nothing; the exit status tells");
}

int exit_code(Verdict verdict) {
    switch (verdict) {
        case Verdict::compatible:
            return exit_compatible;
        case Verdict::incompatible:
            return exit_incompatible;
        case Verdict::undetermined:
            break;
    }
    return exit_undetermined;
}

int show_report(const Report& report, const CommonOptions& common, const ReportOptions& options) {
    if (!options.quiet) {
        write_output(common.format == "json" ? render_json(report)
                                             : render_text(report, {use_color(common.color),
                                                                    options.all_queues, output_width()}));
    }
    return exit_code(report.verdict);
}

int run_program(const std::string& name, int argc, char** argv,
                const std::function<Command(CLI::App&)>& set_up) noexcept {
    // A reader that closes the pipe is told by write, not by the end of the process.
    std::signal(SIGPIPE, SIG_IGN);  // NOLINT(cert-err33-c): cannot fail for SIGPIPE
    try {
        CLI::App app{"", name};
        const auto run = set_up(app);
        try {
            app.parse(argc, argv);
            return run();
        } catch (const CLI::Success& asked) {
            return app.exit(asked);
        } catch (const CLI::ParseError& error) {
            // The command that was being read knows better than the whole program.
            const CLI::App* at = &app;
            auto help = name;
            while (!at->get_subcommands().empty()) {
                at = at->get_subcommands().front();
                help += ' ' + at->get_name();
            }
            std::string what = error.what();
            std::replace(what.begin(), what.end(), '\n', ' ');
            // Of a command that is mistyped, its arguments are not expected either.
            const auto words = app.remaining(true);
            const bool has_commands = !at->get_subcommands([](const CLI::App*) { return true; }).empty();
            if (has_commands && !words.empty() && words.front().rfind('-', 0) != 0)
                what = fmt::format("{}: no such command", words.front());
            return complain(name, fmt::format("{} (see {} --help)", what, help), exit_usage);
        }
    } catch (const UnreachableError& error) {
        return complain(name, error.what(), exit_undetermined);
    } catch (const std::bad_alloc&) {
        return complain(name, "out of memory", exit_usage);
    } catch (const std::exception& error) {
        return complain(name, error.what(), exit_usage);
    }
}

void warn(std::string_view name, std::string_view what) {
    const auto line = fmt::format("{}: {}\n", name, safe(what));
    // Where standard error is closed there is nobody left to tell.
    static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
}

void write_output(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
        if (written < 0) {
            if (errno == EINTR) continue;
            if (errno == EPIPE) return;
            throw SystemError{"write", "standard output", errno};
        }
        text.remove_prefix(static_cast<std::size_t>(written));
    }
}

bool use_color(std::string_view when) {
    if (when != "auto") return when == "always";
    const char* const term = std::getenv("TERM");
    const char* const no_color = std::getenv("NO_COLOR");
    return ::isatty(STDOUT_FILENO) == 1 && (no_color == nullptr || *no_color == '\0') && term != nullptr &&
           std::string_view{term} != "dumb";
}

unsigned output_width() {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
    return std::clamp<unsigned>(size.ws_col, 60, 120);
}

}  // namespace vfioap
