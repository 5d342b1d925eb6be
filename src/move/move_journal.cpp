// SPDX-License-Identifier: LGPL-2.1-or-later
#include "move/move_journal.h"

#include "ap/error.h"
#include "file/records.h"
#include "file/replace_file.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t max_bytes = std::size_t{4} * 1024 * 1024;
constexpr std::string_view schema = "vfioap-move/1";

MoveRecord parse(const std::string& text, const std::string& path) {
    const auto json = Json::parse(text, nullptr, false);
    if (!json.is_object()) throw InputError{path, "expected a JSON object"};
    const auto member = [&](const char* name) {
        const auto found = json.find(name);
        if (found == json.end() || !found->is_string())
            throw InputError{path, fmt::format("$.{}: expected a string", name)};
        return found->get<std::string>();
    };
    const auto uuid = [&](const char* name) {
        const auto parsed = Uuid::parse(member(name));
        if (!parsed) throw InputError{path, fmt::format("$.{}: expected a UUID", name)};
        return *parsed;
    };
    if (member("schema") != schema) throw InputError{path, fmt::format("$.schema: expected {}", schema)};
    const auto flag = [&](const char* name) {
        const auto found = json.find(name);
        if (found == json.end() || !found->is_boolean())
            throw InputError{path, fmt::format("$.{}: expected true or false", name)};
        return found->get<bool>();
    };
    return {member("guest"), uuid("guest_uuid"), uuid("mdev"), member("source_uri"),
            member("destination_uri"), member("source"), member("destination"), member("state"),
            flag("was_persistent"), flag("defined_there"), member("step"),
            // Moves that began before there was such a thing.
            json.contains("prepared") && flag("prepared")};
}

}  // namespace

MoveLock::MoveLock(const std::string& path)
    : fd_{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)} {
    if (!fd_.valid()) throw SystemError{"open", path, errno};
    if (::flock(fd_.get(), LOCK_EX | LOCK_NB) == 0) return;
    if (errno == EWOULDBLOCK) throw InputError{path, "this guest is being moved by another process"};
    throw SystemError{"lock", path, errno};
}

MoveLock MoveJournal::lock(const Uuid& guest) const {
    make_directory();
    return MoveLock{fmt::format("{}/{}.lock", directory_, guest.to_string())};
}

void MoveJournal::make_directory() const {
    std::error_code error;
    std::filesystem::create_directories(directory_, error);
    if (error) throw SystemError{"create", directory_, error.value()};
}

std::string MoveJournal::path(const Uuid& guest) const {
    return fmt::format("{}/{}.json", directory_, guest.to_string());
}

void MoveJournal::write(const MoveRecord& record) const {
    make_directory();
    const Json json{{"schema", schema},
                    {"guest", record.guest},
                    {"guest_uuid", record.guest_uuid.to_string()},
                    {"mdev", record.mdev.to_string()},
                    {"source_uri", record.source_uri},
                    {"destination_uri", record.destination_uri},
                    {"source", record.source},
                    {"destination", record.destination},
                    {"state", record.state},
                    {"was_persistent", record.was_persistent},
                    {"defined_there", record.defined_there},
                    {"step", record.step},
                    {"prepared", record.prepared}};
    replace_file(path(record.guest_uuid), json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n',
                 0600);
}

void MoveJournal::remove(const Uuid& guest) const {
    const auto file = path(guest);
    if (::unlink(file.c_str()) != 0 && errno != ENOENT) throw SystemError{"remove", file, errno};
}

std::optional<MoveRecord> MoveJournal::read(const Uuid& guest) const {
    const auto file = path(guest);
    const auto text = read_file(file, max_bytes);
    if (!text) return std::nullopt;
    return parse(*text, file);
}

std::vector<MoveRecord> MoveJournal::all(std::vector<std::string>& problems) const {
    auto records = read_records(directory_, problems, [this](const Uuid& uuid) { return read(uuid); });
    std::sort(records.begin(), records.end(),
              [](const MoveRecord& a, const MoveRecord& b) { return a.guest < b.guest; });
    return records;
}

}  // namespace vfioap
