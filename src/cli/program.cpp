// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cli/program.h"

#include "ap/error.h"
#include "report/text.h"

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
    std::string make_usage(const CLI::App* /*app*/, std::string /*name*/) const override {
        return "Usage: " + usage_ + '\n';
    }

  private:
    std::string usage_;
};

}  // namespace

void set_usage(CLI::App& app, std::string usage) {
    app.formatter(std::make_shared<HelpFormatter>(std::move(usage)));
}

int run_program(CLI::App& app, std::string_view name, int argc, char** argv,
                const std::function<int()>& body) {
    // A reader that closes the pipe is told by write, not by the end of the process.
    std::signal(SIGPIPE, SIG_IGN);  // NOLINT(cert-err33-c): cannot fail for SIGPIPE
    try {
        try {
            app.parse(argc, argv);
            return body();
        } catch (const CLI::Success& asked) {
            return app.exit(asked);
        } catch (const CLI::ParseError& error) {
            std::string what = error.what();
            std::replace(what.begin(), what.end(), '\n', ' ');
            return complain(name, fmt::format("{} (see {} --help)", what, name), exit_usage);
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
    const auto line = fmt::format("{}: {}\n", name, terminal_safe(what));
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
