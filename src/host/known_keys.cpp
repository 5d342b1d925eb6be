// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/known_keys.h"

#include "ap/error.h"
#include "ap/queue_list.h"
#include "file/replace_file.h"

#include <algorithm>
#include <bitset>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <tuple>
#include <utility>

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using Json = nlohmann::ordered_json;
using std::chrono::sys_seconds;

constexpr std::size_t max_serialnr = 256;

std::string time_text(sys_seconds time) {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

std::optional<sys_seconds> parse_time(const std::string& text) {
    std::tm fields{};
    const char* const rest = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &fields);
    if (text.size() != 20 || rest == nullptr || *rest != '\0') return {};
    return std::chrono::time_point_cast<std::chrono::seconds>(
        std::chrono::system_clock::from_time_t(::timegm(&fields)));
}

bool tells_nothing(const MasterKeys& keys) {
    return std::all_of(keys.registers().begin(), keys.registers().end(),
                       [](const MasterKeyRegister& entry) { return entry.state == "-"; });
}

bool of_ep11(const MasterKeys& keys) {
    return keys.find("WK", "CUR") != nullptr || keys.find("WK", "NEW") != nullptr;
}

std::string serialnr_of(const Card* card) {
    return card == nullptr ? std::string{} : card->serialnr.value_or("").substr(0, max_serialnr);
}

/// Why the file is none of ours; what is found in it may be anything.
class Damage : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

[[noreturn]] void damaged(const std::string& place, std::string_view expected) {
    throw Damage{fmt::format("{}: expected {}", place, expected)};
}

const std::string& text_member(const Json& object, const char* name, const std::string& place) {
    const auto member = object.find(name);
    if (member == object.end() || !member->is_string()) damaged(place + '.' + name, "a string");
    return member->get_ref<const std::string&>();
}

std::map<Apqn, KnownKey> entries_of(const std::string& bytes) {
    Json document;
    try {
        // The parser itself nests as deep as the document does only on the heap.
        document = Json::parse(bytes);
    } catch (const Json::parse_error& error) {
        throw Damage{fmt::format("byte {} is not JSON", error.byte)};
    }
    if (!document.is_object()) damaged("$", "an object");
    if (text_member(document, "schema", "$") != known_keys_schema)
        damaged("$.schema", fmt::format("{}", known_keys_schema));
    const auto keys = document.find("keys");
    if (keys == document.end() || !keys->is_array()) damaged("$.keys", "an array");

    std::map<Apqn, KnownKey> entries;
    std::bitset<ap_queues> seen;
    std::size_t index = 0;
    for (const auto& item : *keys) {
        const auto place = fmt::format("$.keys[{}]", index++);
        if (!item.is_object()) damaged(place, "an object");
        const auto list = parse_queue_list(text_member(item, "queues", place), seen);
        if (!list.good() || list.queues.empty()) damaged(place + ".queues", "a list of queues, each once");
        KnownKey entry;
        if (item.contains("serialnr")) entry.serialnr = text_member(item, "serialnr", place);
        if (entry.serialnr.size() > max_serialnr) damaged(place + ".serialnr", "at most 256 bytes");
        const auto time = parse_time(text_member(item, "seen", place));
        if (!time) damaged(place + ".seen", "YYYY-MM-DDThh:mm:ssZ");
        entry.seen = *time;
        const auto lines = item.find("mkvps");
        std::vector<std::string> texts;
        if (lines != item.end() && lines->is_array() && lines->size() <= 9) {
            for (const auto& line : *lines) {
                if (line.is_string()) texts.push_back(line.get<std::string>());
            }
        }
        auto parsed = MasterKeys::from_lines(texts);
        if (!parsed || texts.size() != lines->size()) damaged(place + ".mkvps", "1 to 9 lines of mkvps");
        entry.keys = std::make_shared<const MasterKeys>(*std::move(parsed));
        for (const auto apqn : list.queues)
            entries.emplace(apqn, entry);
    }
    return entries;
}

/// Where the damaged file is now; nothing where it could not be moved.
std::optional<std::string> set_aside(const std::string& path) {
    for (int number = 0; number < 10; ++number) {
        const auto name = path + ".damaged" + (number == 0 ? "" : fmt::format(".{}", number));
        const bool last = number == 9;
        if (::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, name.c_str(), last ? 0 : RENAME_NOREPLACE) == 0)
            return name;
        // A file system may not know RENAME_NOREPLACE.
        if (errno == EINVAL && ::rename(path.c_str(), name.c_str()) == 0) return name;
        if (errno != EEXIST) break;
    }
    return {};
}

std::string_view without_blanks(std::string_view line) {
    static constexpr std::string_view blanks = " \t\r";
    line.remove_prefix(std::min(line.find_first_not_of(blanks), line.size()));
    return line.substr(0, line.find_last_not_of(blanks) + 1);
}

/// Reads the administrator's file line by line.
class GivenReader {
  public:
    explicit GivenReader(const std::string& origin) : origin_{origin} {}

    void take(std::string_view line) {
        ++number_;
        line = without_blanks(line);
        if (line.empty() || line.front() == '#') return;
        if (line.front() == '[') {
            close();
            open(line);
        } else if (!section_) {
            complain(number_, "text before any list of queues", "[05.0004 05.0047]");
        } else {
            lines_.emplace_back(line);
            // A line that cannot be the tenth of nine is not kept; more need not be known of it.
            if (lines_.size() > 10) lines_.pop_back();
        }
    }

    GivenKeys finish() {
        close();
        return std::move(given_);
    }

  private:
    static constexpr std::size_t max_messages = 100;

    void complain(std::size_t line, std::string_view found, std::string_view expected) {
        if (given_.messages.size() < max_messages)
            given_.messages.push_back(fmt::format("{}:{}: {}; expected {}", origin_, line, found, expected));
    }

    void open(std::string_view line) {
        section_ = number_;
        queues_.clear();
        if (!line.ends_with(']')) {
            complain(number_, "a list of queues without its end", "[05.0004 05.0047]");
            return;
        }
        auto seen = seen_;
        auto list = parse_queue_list(line.substr(1, line.size() - 2), seen);
        if (list.twice) {
            complain(number_, fmt::format("queue {} a second time", list.twice->to_string()),
                     "each queue once");
        } else if (list.bad_item || list.queues.empty()) {
            complain(number_, "no list of queues", "XX.YYYY, or ascending ranges: [05-07.0004-0047]");
        } else {
            queues_ = std::move(list.queues);
            seen_ = seen;
        }
    }

    void close() {
        if (section_ && !queues_.empty()) {
            if (auto keys = MasterKeys::from_lines(lines_)) {
                const KnownKey entry{std::make_shared<const MasterKeys>(*std::move(keys)), {}, {}};
                for (const auto apqn : queues_)
                    given_.keys.emplace(apqn, entry);
            } else {
                complain(*section_, "queues whose master keys are none",
                         "1 to 9 lines as in mkvps, each register once: AES CUR: valid 0x0123456789abcdef");
            }
        }
        section_.reset();
        lines_.clear();
    }

    const std::string& origin_;
    GivenKeys given_;
    std::size_t number_ = 0;
    std::optional<std::size_t> section_;  // its line
    std::vector<Apqn> queues_;            // of the section; none where the list is bad
    std::vector<std::string> lines_;
    std::bitset<ap_queues> seen_;
};

/// Queues with the same keys share one value, and what is merged is shared again: there can be 65,536.
class Merger {
  public:
    void give(Queue& queue, const std::shared_ptr<const MasterKeys>& keys) {
        auto& detail = details_[{queue.detail.get(), keys.get()}];
        if (!detail) {
            auto made = std::make_shared<QueueDetail>(queue.detail ? *queue.detail : QueueDetail{});
            made->mkvps = *keys;
            kept_.push_back(queue.detail);
            detail = std::move(made);
        }
        queue.detail = detail;
    }

  private:
    std::map<std::pair<const QueueDetail*, const MasterKeys*>, std::shared_ptr<const QueueDetail>> details_;
    // Their addresses are keys above, and must not become those of others.
    std::vector<std::shared_ptr<const QueueDetail>> kept_;
};

}  // namespace

bool KnownKeys::remember(const Inventory& inventory, sys_seconds now) {
    bool changed = false;
    for (const auto& queue : inventory.queues) {
        const auto* const keys = queue.mkvps();
        if (keys == nullptr || queue.bound_to_vfio_ap() || tells_nothing(*keys)) continue;
        auto serialnr = serialnr_of(inventory.find_card(queue.apqn.apid()));
        auto& entry = remembered_[queue.apqn];
        const bool same_keys = entry.keys && *entry.keys == *keys;
        // Not to know the number now is no sign of another card, unless the keys are others.
        if (serialnr.empty() && same_keys) serialnr = entry.serialnr;
        const bool same = same_keys && entry.serialnr == serialnr;
        // A clock that was set back counts, too.
        if (same && now >= entry.seen && now - entry.seen < refresh) continue;
        if (!same_keys) entry.keys = std::make_shared<const MasterKeys>(*keys);
        entry.serialnr = std::move(serialnr);
        entry.seen = now;
        changed = true;
    }
    return changed;
}

void KnownKeys::merge_into(Inventory& inventory) const {
    if (remembered_.empty() && given_.empty()) return;
    Merger merger;
    for (auto& queue : inventory.queues) {
        if (queue.mkvps() != nullptr) continue;
        auto found = given_.find(queue.apqn);
        if (found == given_.end()) {
            found = remembered_.find(queue.apqn);
            if (found == remembered_.end()) continue;
        }
        const auto& entry = found->second;
        const Card* const card = inventory.find_card(queue.apqn.apid());
        const auto serialnr = serialnr_of(card);
        if (!serialnr.empty() && !entry.serialnr.empty() && serialnr != entry.serialnr) continue;
        if (const auto hwinfo = hwinfo_of(queue, card)) {
            if (of_ep11(*entry.keys) ? !hwinfo->ep11() : !hwinfo->cca()) continue;
        }
        merger.give(queue, entry.keys);
    }
}

LoadedKeys load_known_keys(const std::string& path) {
    LoadedKeys loaded;
    std::string reason;
    try {
        const auto bytes = read_file(path, known_keys_max_bytes);
        if (bytes) loaded.keys.remembered_ = entries_of(*bytes);
        return loaded;
    } catch (const Damage& damage) {
        reason = damage.what();
    } catch (const SystemError& error) {
        if (error.number() != EFBIG) throw;
        reason = fmt::format("more than {} bytes", known_keys_max_bytes);
    }
    const auto aside = set_aside(path);
    loaded.message = fmt::format("{}: {}; the remembered master keys begin anew, and the file {}", path,
                                 reason, aside ? "is now " + *aside : "could not be set aside");
    return loaded;
}

void save_known_keys(const std::string& path, const KnownKeys& keys) {
    // Queues of which all is the same are one element.
    std::map<std::tuple<std::vector<std::string>, std::string, sys_seconds>, std::vector<Apqn>> groups;
    for (const auto& [apqn, entry] : keys.remembered())
        groups[{entry.keys->lines(), entry.serialnr, entry.seen}].push_back(apqn);
    std::string bytes = fmt::format("{{\n  \"schema\": \"{}\",\n  \"keys\": [", known_keys_schema);
    const char* separator = "\n    ";
    for (const auto& [what, queues] : groups) {
        const auto& [lines, serialnr, seen] = what;
        Json item = Json::object();
        item["queues"] = queue_list_text(queues);
        if (!serialnr.empty()) item["serialnr"] = serialnr;
        item["seen"] = time_text(seen);
        item["mkvps"] = lines;
        bytes += separator + item.dump(-1, ' ', true, Json::error_handler_t::replace);
        separator = ",\n    ";
    }
    bytes += groups.empty() ? "]\n}\n" : "\n  ]\n}\n";
    replace_file(path, bytes, 0600);
}

GivenKeys parse_given_keys(std::string_view text, const std::string& origin) {
    GivenReader reader{origin};
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size());
        reader.take(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return reader.finish();
}

GivenKeys load_given_keys(const std::string& path) {
    try {
        const auto text = read_file(path, known_keys_max_bytes);
        return text ? parse_given_keys(*text, path) : GivenKeys{};
    } catch (const SystemError& error) {
        return {{}, {error.what()}};
    }
}

}  // namespace vfioap
