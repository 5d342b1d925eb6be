// SPDX-License-Identifier: LGPL-2.1-or-later
#include "explain/log_line.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>

#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

constexpr std::size_t longest_name = 64;

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/// A number of exactly `size` digits at the front, which is taken away.
bool take_number(std::string_view& text, std::size_t size, int& value) {
    if (text.size() < size ||
        !std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size), is_digit))
        return false;
    std::from_chars(text.data(), text.data() + size, value);
    text.remove_prefix(size);
    return true;
}

bool take(std::string_view& text, std::string_view any_of) {
    if (text.empty() || any_of.find(text.front()) == std::string_view::npos) return false;
    text.remove_prefix(1);
    return true;
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
int days_to(int year, int month, int day) {
    const int y = month <= 2 ? year - 1 : year;
    const int era = y / 400;
    const int year_of_era = y - era * 400;
    const int day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

/// `.123` or `,123`, if it is there.
double take_fraction(std::string_view& text) {
    if (text.size() < 2 || (text.front() != '.' && text.front() != ',') || !is_digit(text[1])) return 0;
    text.remove_prefix(1);
    double value = 0;
    double scale = 1;
    while (!text.empty() && is_digit(text.front())) {
        scale /= 10;
        value += scale * (text.front() - '0');
        text.remove_prefix(1);
    }
    return value;
}

/// `HH:MM:SS` and a fraction.
bool take_clock(std::string_view& text, double& seconds) {
    int hour = 0;
    int minute = 0;
    int second = 0;
    auto rest = text;
    if (!take_number(rest, 2, hour) || !take(rest, ":") || !take_number(rest, 2, minute) ||
        !take(rest, ":") || !take_number(rest, 2, second))
        return false;
    seconds = hour * 3600 + minute * 60 + second + take_fraction(rest);
    text = rest;
    return true;
}

/// `2026-11-21T03:12:45.678+0000`, with a blank for the T, `Z`, `+00:00` or nothing at the end.
bool take_iso(std::string_view& text, LogTime& time) {
    int year = 0;
    int month = 0;
    int day = 0;
    double clock = 0;
    auto rest = text;
    if (!take_number(rest, 4, year) || !take(rest, "-") || !take_number(rest, 2, month) || !take(rest, "-") ||
        !take_number(rest, 2, day) || !take(rest, "T ") || !take_clock(rest, clock))
        return false;
    if (month < 1 || month > 12) return false;
    int offset = 0;
    if (!take(rest, "Z") && !rest.empty() && (rest.front() == '+' || rest.front() == '-')) {
        const int sign = rest.front() == '+' ? 1 : -1;
        auto zone = rest.substr(1);
        int hours = 0;
        int minutes = 0;
        if (take_number(zone, 2, hours)) {
            static_cast<void>(take(zone, ":"));
            if (take_number(zone, 2, minutes)) {
                offset = sign * (hours * 3600 + minutes * 60);
                rest = zone;
            }
        }
    }
    time = {LogTime::Kind::absolute, 86400.0 * days_to(year, month, day) + clock - offset};
    text = rest;
    return true;
}

int month_of(std::string_view name) {
    static constexpr std::array<std::string_view, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                             "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const auto* const found = std::find(months.begin(), months.end(), name);
    return found == months.end() ? 0 : static_cast<int>(found - months.begin()) + 1;
}

/// `Nov 21 03:12:45.678` of syslog; with `year`, `Nov 21 03:12:45 2026` of dmesg -T.
bool take_syslog(std::string_view& text, LogTime& time, bool with_year) {
    const int month = month_of(text.substr(0, 3));
    if (month == 0) return false;
    auto rest = text.substr(3);
    int day = 0;
    double clock = 0;
    int year = 2000;
    if (!take(rest, " ")) return false;
    if (take(rest, " ") ? !take_number(rest, 1, day) : !take_number(rest, 2, day)) return false;
    if (!take(rest, " ") || !take_clock(rest, clock)) return false;
    if (with_year && (!take(rest, " ") || !take_number(rest, 4, year))) return false;
    time = {with_year ? LogTime::Kind::absolute : LogTime::Kind::no_year,
            86400.0 * (days_to(year, month, day) - (with_year ? 0 : days_to(year, 1, 1))) + clock};
    text = rest;
    return true;
}

/// `[  123.456789]` or `[Sat Nov 21 03:12:45 2026]`.
bool take_dmesg(std::string_view& text, LogTime& time) {
    if (text.empty() || text.front() != '[') return false;
    const auto close = text.substr(0, 40).find(']');
    if (close == std::string_view::npos) return false;
    auto inside = text.substr(1, close - 1);
    auto named = inside.substr(std::min<std::size_t>(inside.size(), 4));
    if (!take_syslog(named, time, true)) {
        inside.remove_prefix(std::min(inside.find_first_not_of(' '), inside.size()));
        double whole = 0;
        std::size_t digits = 0;
        while (!inside.empty() && is_digit(inside.front()) && ++digits < 12) {
            whole = whole * 10 + (inside.front() - '0');
            inside.remove_prefix(1);
        }
        if (digits == 0 || inside.empty() || inside.front() != '.') return false;
        time = {LogTime::Kind::since_boot, whole + take_fraction(inside)};
    }
    text.remove_prefix(close + 1);
    return true;
}

bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= longest_name && std::all_of(text.begin(), text.end(), [](char c) {
        return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' ||
               c == '_';
    });
}

unsigned channel_of(std::string_view name) {
    const auto starts = [name](std::string_view front) { return name.starts_with(front); };
    if (starts("libvirtd") || starts("virtqemud")) return 1;
    if (starts("virsh")) return 2;
    if (starts("qemu-")) return 3;
    if (starts("kernel")) return 4;
    return 0;
}

/// ` HOST NAME[PID]: ` or ` HOST kernel: `, as the journal has it behind the time.
void take_origin(std::string_view rest, LogLine& line) {
    if (rest.empty() || rest.front() != ' ') return;
    rest.remove_prefix(1);
    const auto blank = rest.substr(0, longest_name + 1).find(' ');
    if (blank == std::string_view::npos || !is_name(rest.substr(0, blank))) return;
    const auto host = rest.substr(0, blank);
    const auto who = rest.substr(blank + 1, longest_name);
    const auto colon = who.find(':');
    if (colon == std::string_view::npos || colon == 0) return;
    const auto name = who.substr(0, colon);
    const auto pid = name.find('[');
    if (name != "kernel" && (pid == std::string_view::npos || name.back() != ']')) return;
    if (!is_name(name.substr(0, pid))) return;
    line.host = host;
    line.channel = channel_of(name);
}

std::string field_text(const nlohmann::json& entry, const char* key) {
    const auto found = entry.find(key);
    return found != entry.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

bool parse_journal(std::string_view text, LogLine& line) {
    const auto entry = nlohmann::json::parse(text, nullptr, false);
    if (!entry.is_object()) return false;
    const auto found = entry.find("MESSAGE");
    if (found == entry.end()) return false;
    if (found->is_array()) {
        // The journal's form of what is not UTF-8 text: its bytes as numbers.
        for (const auto& byte : *found) {
            if (!byte.is_number_unsigned() || byte.get<std::uint64_t>() > 255) return false;
            line.message += static_cast<char>(byte.get<unsigned>());
        }
    } else if (found->is_string()) {
        line.message = found->get<std::string>();
    } else {
        return false;
    }
    const auto host = field_text(entry, "_HOSTNAME");
    if (is_name(host)) line.host = host;
    line.channel = channel_of(field_text(entry, "SYSLOG_IDENTIFIER"));
    const auto usec = field_text(entry, "__REALTIME_TIMESTAMP");
    std::uint64_t value = 0;
    if (const auto [end, error] = std::from_chars(usec.data(), usec.data() + usec.size(), value);
        error == std::errc{} && !usec.empty())
        line.time = LogTime{LogTime::Kind::absolute, static_cast<double>(value) / 1e6};
    return true;
}

}  // namespace

std::optional<double> apart(const std::optional<LogTime>& a, const std::optional<LogTime>& b) {
    if (!a || !b || a->kind != b->kind) return {};
    return std::abs(a->seconds - b->seconds);
}

LogLine parse_log_line(std::string_view text) {
    LogLine line;
    if (text.starts_with('{') && parse_journal(text, line)) return line;
    line.message = text;
    LogTime time;
    auto rest = text;
    if (take_iso(rest, time) || take_syslog(rest, time, false)) {
        line.time = time;
        take_origin(rest, line);
        // journalctl -o short-monotonic and dmesg -x put more before it; they are messages alone.
    } else if (take_dmesg(rest, time)) {
        line.time = time;
        line.channel = 4;
    }
    if (line.channel == 0) {
        const auto front = text.substr(0, 256);
        if (front.starts_with("error: ")) {
            line.channel = 2;
        } else if (front.find(": error : ") != std::string_view::npos) {
            line.channel = 1;
        } else if (front.find("qemu-system-") != std::string_view::npos) {
            line.channel = 3;
        }
    }
    return line;
}

}  // namespace vfioap
