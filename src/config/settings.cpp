// SPDX-License-Identifier: LGPL-2.1-or-later
#include "config/settings.h"

#include "ap/error.h"
#include "file/replace_file.h"
#include "text/safe.h"
#include "text/utf8.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vfioap {
namespace {

constexpr std::string_view blanks = " \t\r\n\v\f";
constexpr std::size_t max_messages = 100;
constexpr std::size_t max_destinations = 256;

template <typename Value, std::size_t size>
using Words = std::array<std::pair<Value, std::string_view>, size>;

constexpr Words<Policy, 3> policy_words{
    {{Policy::enforce, "enforce"}, {Policy::warn, "warn"}, {Policy::off, "off"}}};
constexpr Words<UnknownPolicy, 2> unknown_words{
    {{UnknownPolicy::allow, "allow"}, {UnknownPolicy::deny, "deny"}}};
constexpr Words<MdevPolicy, 2> mdev_words{
    {{MdevPolicy::require, "require"}, {MdevPolicy::on_demand, "on-demand"}}};
constexpr Words<Profile, 3> profile_words{
    {{Profile::automatic, "auto"}, {Profile::compare, "compare"}, {Profile::restore, "restore"}}};

template <typename Value, std::size_t size>
std::string_view word_of(const Words<Value, size>& words, Value value) {
    for (const auto& [candidate, word] : words) {
        if (candidate == value) return word;
    }
    return {};
}

struct Key {
    std::string_view name;
    bool of_guests;  ///< may stand in a section `[guest NAME]`
};
constexpr std::array<Key, 7> keys{{{"policy", true},
                                   {"unknown", true},
                                   {"timeout", true},
                                   {"profile", true},
                                   {"mdev", true},
                                   {"sysfs_root", false},
                                   {"destinations", false}}};

/// How many letters have to be changed, left out or put in (Levenshtein).
std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = std::exchange(row[0], i + 1);
        for (std::size_t j = 0; j < b.size(); ++j) {
            const auto replaced = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
        }
    }
    return row[b.size()];
}

std::string_view nearest_key(std::string_view name, bool of_guests) {
    std::string_view nearest;
    std::size_t least = 0;
    for (const auto& key : keys) {
        if (of_guests && !key.of_guests) continue;
        const auto steps = distance(name, key.name);
        if (nearest.empty() || steps < least) {
            nearest = key.name;
            least = steps;
        }
    }
    return nearest;
}

std::string_view without_blanks(std::string_view text) {
    text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
    return text.substr(0, text.find_last_not_of(blanks) + 1);
}

/// Reads the file line by line. By hand: the syntax is four rules, and the INI libraries of the distributions
/// cut what they take (inih: lines at 197 bytes, names of sections at 49) or do not tell the number of a
/// line.
class SettingsReader {
  public:
    SettingsReader(std::string_view text, const std::string& origin) : rest_{text}, origin_{origin} {}

    LoadedSettings read() {
        if (rest_.starts_with("\xef\xbb\xbf")) rest_.remove_prefix(3);
        while (!rest_.empty()) {
            const auto line = rest_.substr(0, rest_.find('\n'));
            rest_.remove_prefix(std::min(line.size() + 1, rest_.size()));
            ++number_;
            take_line(line);
        }
        return std::move(loaded_);
    }

  private:
    enum class Section : std::uint8_t { all, guest, unknown };

    void complain(std::string_view found, std::string_view expected) {
        if (loaded_.messages.size() < max_messages)
            loaded_.messages.push_back(
                fmt::format("{}:{}: {}; expected {}", origin_, number_, found, expected));
    }

    void take_line(std::string_view line) {
        const auto text = without_blanks(line);
        if (text.empty() || text.front() == '#' || text.front() == ';') return;
        if (text.find('\0') != std::string_view::npos) return complain("a line with a NUL byte", "text");
        // A value goes on in lines that begin with a blank.
        if (!last_key_.empty() && text.data() != line.data()) return take_more(value_of(text));
        if (text.front() == '[') return begin_section(text);
        // As libraries of this syntax have it, a colon will do.
        const auto end = text.find_first_of("=:");
        if (end == std::string_view::npos || end > comment_of(text))
            return complain("a line without \"=\"", "KEY = VALUE");
        take(without_blanks(text.substr(0, end)), value_of(text.substr(end + 1)));
    }

    /// Where a comment within the line begins: at a semicolon behind a blank.
    static std::size_t comment_of(std::string_view text) {
        for (std::size_t i = 1; i < text.size(); ++i) {
            if (text[i] == ';' && blanks.find(text[i - 1]) != std::string_view::npos) return i;
        }
        return std::string_view::npos;
    }
    static std::string_view value_of(std::string_view text) {
        return without_blanks(text.substr(0, comment_of(text)));
    }

    void begin_section(std::string_view text) {
        last_key_.clear();
        section_ = Section::unknown;
        const auto end = text.find(']');
        if (end == std::string_view::npos) {
            complain("a section without \"]\"", "[guest NAME]");
            return;
        }
        const auto name = without_blanks(text.substr(1, end - 1));
        static constexpr std::string_view guest = "guest";
        const auto of =
            name.starts_with(guest) ? without_blanks(name.substr(guest.size())) : std::string_view{};
        if (of.empty() || of.data() == name.data() + guest.size() || has_control(of)) {
            complain(fmt::format("section [{}], whose lines are ignored", printable(name)), "[guest NAME]");
            return;
        }
        section_ = Section::guest;
        guest_ = of;
        loaded_.settings.guests.try_emplace(guest_);
    }

    void take_more(std::string_view value) {
        if (section_ == Section::unknown) return;
        if (last_key_ == "destinations" && section_ == Section::all) return take_destinations(value);
        complain(fmt::format("{} goes on in a second line", printable(last_key_)), "one line");
    }

    void take(std::string_view name, std::string_view value) {
        last_key_ = name;
        if (section_ == Section::unknown) return;
        const bool of_guest = section_ == Section::guest;
        const auto* const key =
            std::find_if(keys.begin(), keys.end(), [name](const Key& known) { return known.name == name; });
        if (key == keys.end()) {
            complain(fmt::format("unknown key {}", printable(name)),
                     fmt::format("{}, for instance", nearest_key(name, of_guest)));
            return;
        }
        if (of_guest && !key->of_guests) {
            complain(fmt::format("{} for one guest", name), "it before all sections");
            return;
        }
        const auto first = lines_.try_emplace({of_guest ? guest_ : "", std::string{name}}, number_);
        if (!first.second) {
            complain(fmt::format("{} a second time, which is ignored", name),
                     fmt::format("it only once, as in line {}", first.first->second));
            return;
        }
        if (name == "sysfs_root") {
            take_root(value);
        } else if (name == "destinations") {
            take_destinations(value);
        } else {
            take_for_guests(name, value);
        }
    }

    void take_for_guests(std::string_view name, std::string_view value) {
        GuestOverrides read;
        if (name == "policy") read.policy = word(name, value, policy_words);
        if (name == "unknown") read.unknown = word(name, value, unknown_words);
        if (name == "profile") read.profile = word(name, value, profile_words);
        if (name == "mdev") read.mdev = word(name, value, mdev_words);
        if (name == "timeout") read.timeout = seconds(value);
        const auto set = [](auto& to, const auto& from) {
            if (from) to = *from;
        };
        const auto set_all = [&](auto& to) {
            set(to.policy, read.policy);
            set(to.unknown, read.unknown);
            set(to.timeout, read.timeout);
            set(to.profile, read.profile);
            set(to.mdev, read.mdev);
        };
        if (section_ == Section::guest) {
            set_all(loaded_.settings.guests[guest_]);
        } else {
            set_all(loaded_.settings.all);
        }
    }

    template <typename Value, std::size_t size>
    std::optional<Value> word(std::string_view name, std::string_view text, const Words<Value, size>& words) {
        std::vector<std::string_view> known;
        for (const auto& [value, candidate] : words) {
            if (candidate == text) return value;
            known.push_back(candidate);
        }
        complain(fmt::format("{} \"{}\"", name, printable(text)), fmt::format("{}", fmt::join(known, ", ")));
        return {};
    }

    std::optional<std::chrono::seconds> seconds(std::string_view text) {
        unsigned number = 0;
        const auto* const end = text.data() + text.size();
        const auto [rest, error] = std::from_chars(text.data(), end, number);
        if (error == std::errc{} && rest == end && number >= 1 && number <= 60)
            return std::chrono::seconds{number};
        complain(fmt::format("timeout \"{}\"", printable(text)), "whole seconds, 1 to 60");
        return {};
    }

    void take_root(std::string_view value) {
        if (value.starts_with('/') && !has_control(value)) {
            loaded_.settings.sysfs_root = value;
        } else {
            complain(fmt::format("sysfs_root \"{}\"", printable(value)), "an absolute path, such as /sys");
        }
    }

    void take_destinations(std::string_view value) {
        static constexpr std::string_view separators = ", \t";
        auto& destinations = loaded_.settings.destinations;
        while (true) {
            value.remove_prefix(std::min(value.find_first_not_of(separators), value.size()));
            if (value.empty()) return;
            const auto item = value.substr(0, value.find_first_of(separators));
            value.remove_prefix(item.size());
            if (has_control(item)) {
                complain(fmt::format("destination \"{}\"", printable(item)), "a host location of one line");
            } else if (std::find(destinations.begin(), destinations.end(), item) != destinations.end()) {
                complain(fmt::format("destination {} a second time", printable(item)), "each once");
            } else if (destinations.size() == max_destinations) {
                complain("more destinations", fmt::format("at most {}", max_destinations));
                return;
            } else {
                destinations.emplace_back(item);
            }
        }
    }

    std::string_view rest_;
    const std::string& origin_;
    std::size_t number_ = 0;
    Section section_ = Section::all;
    std::string guest_;
    std::string last_key_;
    std::map<std::pair<std::string, std::string>, std::size_t>
        lines_;  // of each guest's and key's first value
    LoadedSettings loaded_;
};

}  // namespace

std::string_view to_text(Policy policy) {
    return word_of(policy_words, policy);
}
std::string_view to_text(UnknownPolicy policy) {
    return word_of(unknown_words, policy);
}
std::string_view to_text(MdevPolicy policy) {
    return word_of(mdev_words, policy);
}

GuestSettings Settings::of_guest(std::string_view name) const {
    auto settings = all;
    const auto found = guests.find(name);
    if (found == guests.end()) return settings;
    const auto& own = found->second;
    settings.policy = own.policy.value_or(all.policy);
    settings.unknown = own.unknown.value_or(all.unknown);
    settings.timeout = own.timeout.value_or(all.timeout);
    settings.profile = own.profile.value_or(all.profile);
    settings.mdev = own.mdev.value_or(all.mdev);
    return settings;
}

LoadedSettings parse_settings(std::string_view text, const std::string& origin) {
    return SettingsReader{text, origin}.read();
}

LoadedSettings load_settings(const std::string& path) {
    try {
        const auto text = read_file(path, settings_max_bytes);
        return text ? parse_settings(*text, path) : LoadedSettings{};
    } catch (const SystemError& error) {
        return {{}, {error.what()}};
    }
}

}  // namespace vfioap
