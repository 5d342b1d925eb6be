// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plan/applied_record.h"

#include "ap/error.h"
#include "file/records.h"
#include "file/replace_file.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using Json = nlohmann::ordered_json;

/// 65,536 queues, each with an override.
constexpr std::size_t max_bytes = std::size_t{32} * 1024 * 1024;
constexpr std::string_view schema = "vfioap-applied/1";

Json json_of(const AppliedChange& change) {
    Json json{{"kind", to_text(change.kind)}};
    switch (change.kind) {
        case AppliedChange::Kind::driver:
            break;
        case AppliedChange::Kind::mask:
            json["attribute"] = change.apmask ? "apmask" : "aqmask";
            [[fallthrough]];
        case AppliedChange::Kind::cards:
            json["numbers"] = change.numbers.to_string();
            break;
        case AppliedChange::Kind::binding:
            json["queue"] = change.queue->to_string();
            json["driver"] = change.driver;
            json["override_before"] = change.override_before;
            json["override_after"] = change.override_after;
            break;
        case AppliedChange::Kind::contents:
            json["before"] = change.before.to_string();
            json["after"] = change.after.to_string();
            [[fallthrough]];
        case AppliedChange::Kind::mdev:
            json["mdev"] = change.mdev->to_string();
            break;
    }
    return json;
}

Json json_of(const std::optional<std::string>& text) {
    return text ? Json(*text) : Json(nullptr);
}

/// Reads members, and says which is wrong.
class Reader {
  public:
    Reader(const Json& json, const std::string& file, std::string where)
        : json_{json}, file_{file}, where_{std::move(where)} {
        if (!json.is_object()) fail("", "an object");
    }

    [[noreturn]] void fail(const std::string& name, std::string_view expected) const {
        throw InputError{file_, where_ + (name.empty() ? "" : "." + name),
                         fmt::format("expected {}", expected)};
    }
    [[nodiscard]] const Json& member(const char* name) const {
        const auto found = json_.find(name);
        if (found == json_.end()) fail(name, "a value");
        return *found;
    }
    [[nodiscard]] std::string text(const char* name) const {
        const auto& value = member(name);
        if (!value.is_string()) fail(name, "a string");
        return value.get<std::string>();
    }
    [[nodiscard]] std::optional<std::string> optional_text(const char* name) const {
        return member(name).is_null() ? std::nullopt : std::optional{text(name)};
    }
    template <typename Parse>
    [[nodiscard]] auto parsed(const char* name, Parse parse, std::string_view expected) const {
        auto value = parse(text(name));
        if (!value) fail(name, expected);
        return *std::move(value);
    }
    [[nodiscard]] std::optional<Uuid> optional_uuid(const char* name) const {
        if (member(name).is_null()) return std::nullopt;
        return parsed(name, Uuid::parse, "a UUID");
    }
    template <typename Each>
    void elements(const char* name, Each each) const {
        const auto& array = member(name);
        if (!array.is_array()) fail(name, "an array");
        std::size_t number = 0;
        for (const auto& element : array)
            each(Reader{element, file_, fmt::format("{}.{}[{}]", where_, name, number++)});
    }

  private:
    const Json& json_;
    const std::string& file_;
    std::string where_;
};

AppliedChange change_from(const Reader& json) {
    AppliedChange change;
    change.kind = json.parsed("kind", parse_applied_kind, "a kind of change");
    switch (change.kind) {
        case AppliedChange::Kind::driver:
            break;
        case AppliedChange::Kind::mask: {
            const auto attribute = json.text("attribute");
            if (attribute != "apmask" && attribute != "aqmask") json.fail("attribute", "apmask or aqmask");
            change.apmask = attribute == "apmask";
            [[fallthrough]];
        }
        case AppliedChange::Kind::cards:
            change.numbers = json.parsed("numbers", Mask::parse, "a mask");
            break;
        case AppliedChange::Kind::binding:
            change.queue = json.parsed("queue", Apqn::parse, "a queue");
            change.driver = json.text("driver");
            change.override_before = json.text("override_before");
            change.override_after = json.text("override_after");
            break;
        case AppliedChange::Kind::contents:
            change.before = json.parsed("before", MdevContents::parse, "three masks");
            change.after = json.parsed("after", MdevContents::parse, "three masks");
            [[fallthrough]];
        case AppliedChange::Kind::mdev:
            change.mdev = json.parsed("mdev", Uuid::parse, "a UUID");
            break;
    }
    return change;
}

AppliedRecord record_from(const std::string& text, const std::string& file) {
    const auto document = Json::parse(text, nullptr, false);
    const Reader json{document, file, "$"};
    if (json.text("schema") != schema) json.fail("schema", schema);
    AppliedRecord record;
    record.guest = json.text("guest");
    record.guest_uuid = json.optional_uuid("guest_uuid");
    record.mdev = json.parsed("mdev", Uuid::parse, "a UUID");
    json.elements("changes", [&](const Reader& element) { record.changes.push_back(change_from(element)); });
    const auto& finished = json.member("finished");
    if (!finished.is_number_unsigned() || finished.get<std::size_t>() > record.changes.size())
        json.fail("finished", "how many changes are finished");
    record.finished = finished.get<std::size_t>();
    json.elements("files", [&](const Reader& element) {
        const auto& written = element.member("written");
        if (!written.is_boolean()) element.fail("written", "true or false");
        record.files.push_back({element.text("path"), element.optional_text("before"),
                                element.optional_text("after"), written.get<bool>()});
    });
    return record;
}

}  // namespace

bool AppliedRecord::unfinished() const {
    return finished < changes.size() ||
           std::any_of(files.begin(), files.end(), [](const KeptFile& file) { return !file.written; });
}

std::string AppliedRecords::path(const Uuid& mdev) const {
    return fmt::format("{}/{}.json", directory_, mdev.to_string());
}

void AppliedRecords::write(const AppliedRecord& record) const {
    const auto file = path(*record.mdev);
    if (record.changes.empty() && record.files.empty()) {
        if (::unlink(file.c_str()) != 0 && errno != ENOENT) throw SystemError{"remove", file, errno};
        return;
    }
    if (::mkdir(directory_.c_str(), 0700) != 0 && errno != EEXIST)
        throw SystemError{"create", directory_, errno};
    Json changes = Json::array();
    for (const auto& change : record.changes)
        changes.push_back(json_of(change));
    Json files = Json::array();
    for (const auto& kept : record.files) {
        files.push_back({{"path", kept.path},
                         {"before", json_of(kept.before)},
                         {"after", json_of(kept.after)},
                         {"written", kept.written}});
    }
    const Json json{{"schema", schema},
                    {"guest", record.guest},
                    {"guest_uuid", record.guest_uuid ? Json(record.guest_uuid->to_string()) : Json(nullptr)},
                    {"mdev", record.mdev->to_string()},
                    {"changes", std::move(changes)},
                    {"finished", record.finished},
                    {"files", std::move(files)}};
    replace_file(file, json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n', 0600);
}

std::optional<AppliedRecord> AppliedRecords::read(const Uuid& mdev) const {
    const auto file = path(mdev);
    const auto text = read_file(file, max_bytes);
    if (!text) return std::nullopt;
    auto record = record_from(*text, file);
    if (record.mdev != mdev) throw InputError{file, "$.mdev", "expected the UUID of its name"};
    return record;
}

std::vector<AppliedRecord> AppliedRecords::all(std::vector<std::string>& problems) const {
    auto records = read_records(directory_, problems, [this](const Uuid& uuid) { return read(uuid); });
    std::sort(records.begin(), records.end(),
              [](const AppliedRecord& a, const AppliedRecord& b) { return *a.mdev < *b.mdev; });
    return records;
}

}  // namespace vfioap
