// SPDX-License-Identifier: LGPL-2.1-or-later
// What the service has to say: lines on standard error, each with a priority where the journal reads them.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

namespace vfioap {

/// As syslog(3) orders them.
enum class LogLevel : std::uint8_t {
    error,    ///< the service could not do what it is there for
    warning,  ///< something of the host, its guests or destinations is not as it should be
    notice,   ///< something was done, or goes on
};

/// The line for `message`, with the priority in front that sd-daemon(3) has for the journal, `<4>`, where
/// that is who reads it. Characters that a terminal would act on are replaced.
std::string log_line(LogLevel level, std::string_view message, bool journal);

/// Whether `fd` is the journal's stream: the one that `variable`, the value of JOURNAL_STREAM, names by
/// device and inode (systemd.exec(5)). Null: there is none.
bool is_journal_stream(int fd, const char* variable);

/// One line on standard error. For one thread.
void log_message(LogLevel level, std::string_view message);

/// What to say of an exception; one line for those of this project.
std::string error_text(const std::exception_ptr& error);

}  // namespace vfioap
