// SPDX-License-Identifier: LGPL-2.1-or-later
#include "told.h"

#include "ap/error.h"
#include "text/safe.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

#include <fmt/format.h>
#include <sys/mman.h>
#include <syslog.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using Json = nlohmann::json;

/// Standard input that has been written already: nobody has to stay for its reader.
bool give_input(std::string_view text) {
    const int fd = ::memfd_create("told", 0);
    if (fd < 0) return false;
    while (!text.empty()) {
        const ssize_t count = ::write(fd, text.data(), text.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(count));
    }
    return ::lseek(fd, 0, SEEK_SET) == 0 && ::dup2(fd, STDIN_FILENO) == STDIN_FILENO;
}

/// Beside this program.
std::string teller() {
    std::array<char, 4096> self{};
    const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size());
    const std::string path(self.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
    return path.substr(0, path.rfind('/') + 1) + "vfioap-hook-tell";
}

}  // namespace

std::string to_json(const Told& told) {
    Json json{{"guest", told.call.guest}, {"operation", told.call.operation},
              {"part", told.call.part},   {"mdev", told.mdev ? told.mdev->to_string() : ""},
              {"service", told.service},  {"log", Json::array()}};
    for (const auto& log : told.log)
        json["log"].push_back({{"priority", log.priority},
                               {"message", log.message},
                               {"verdict", log.verdict},
                               {"rules", log.rules}});
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Told told_from_json(const std::string& text) {
    try {
        const auto json = Json::parse(text);
        Told told;
        told.call = {json.at("guest"), json.at("operation"), json.at("part"), {}};
        told.mdev = Uuid::parse(json.at("mdev").get<std::string>());
        told.service = json.at("service");
        for (const auto& log : json.at("log"))
            told.log.push_back({log.at("priority"), log.at("message"), log.at("verdict"), log.at("rules")});
        return told;
    } catch (const Json::exception& error) {
        throw InputError{"standard input", error.what()};
    }
}

void write_syslog(const Told& told) {
    ::openlog("vfioap-hook", LOG_PID, LOG_DAEMON);
    for (const auto& log : told.log) {
        std::string_view rest = log.message;
        while (!rest.empty()) {
            const auto line = rest.substr(0, rest.find('\n'));
            rest.remove_prefix(std::min(line.size() + 1, rest.size()));
            if (!line.empty()) ::syslog(log.priority, "%.*s", static_cast<int>(line.size()), line.data());
        }
    }
}

void tell(const Told& told) {
    auto named = told;
    for (auto& log : named.log)
        log.message = fmt::format("guest {}: {} {}: {}", safe(told.call.guest), safe(told.call.operation),
                                  safe(told.call.part), log.message);
    const auto program = teller();
    if (give_input(to_json(named))) ::execl(program.c_str(), program.c_str(), static_cast<char*>(nullptr));
    const int error = errno;
    named.log.push_back({LOG_ERR, fmt::format("{} cannot be run: {}", program, errno_text(error)), {}, {}});
    write_syslog(named);
    ::_exit(1);
}

}  // namespace vfioap
