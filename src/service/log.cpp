// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/log.h"

#include "text/safe.h"

#include <array>
#include <cstdlib>
#include <new>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

namespace vfioap {

std::string log_line(LogLevel level, std::string_view message, bool journal) {
    constexpr std::array<std::string_view, 3> priorities{SD_ERR, SD_WARNING, SD_NOTICE};
    const auto priority = journal ? priorities.at(static_cast<std::size_t>(level)) : std::string_view{};
    return fmt::format("{}vfioapd: {}\n", priority, safe(message));
}

bool is_journal_stream(int fd, const char* variable) {
    struct stat info {};
    return variable != nullptr && ::fstat(fd, &info) == 0 &&
           fmt::format("{}:{}", info.st_dev, info.st_ino) == variable;
}

void log_message(LogLevel level, std::string_view message) {
    static const bool journal = is_journal_stream(STDERR_FILENO, ::secure_getenv("JOURNAL_STREAM"));
    const auto line = log_line(level, message, journal);
    // Where standard error is closed there is nobody left to tell.
    static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
}

std::string error_text(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::bad_alloc&) {
        return "out of memory";
    } catch (const std::exception& known) {
        return known.what();
    } catch (...) {
        return "unknown exception";
    }
}

}  // namespace vfioap
