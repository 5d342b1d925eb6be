// SPDX-License-Identifier: LGPL-2.1-or-later
#include "explain/explain.h"

#include "ap/hwinfo.h"
#include "explain/attempt.h"
#include "explain/hook_report.h"
#include "text/safe.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include <fmt/format.h>

namespace vfioap {
namespace {

/// The same thing told so much later belongs to another attempt.
constexpr double same_attempt_seconds = 120;
/// Bytes of a line that are kept as evidence.
constexpr std::size_t shown_bytes = 400;
/// The journal's form of a message that is not text; it may hide anything.
constexpr std::string_view byte_message = "\"MESSAGE\":[";

unsigned number_of(std::string_view digits, int base) {
    unsigned value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    return value;
}

bool is_terminal(MessageKind kind) {
    return kind == MessageKind::failed || kind == MessageKind::refused || kind == MessageKind::completed;
}

/// The device that a line of QEMU names; empty: none.
bool names_vfio_ap(std::string_view device) {
    return device.find("vfio-ap") != std::string_view::npos ||
           device.find("vfio_ap") != std::string_view::npos;
}

/// All that one line tells.
struct Unit {
    LogLine line;
    Evidence evidence;
    std::vector<MessageMatch> matches;
    std::optional<Uuid> mdev;
    std::string guest;
    bool terminal = false;
    int error = 0;
};

void add_evidence(std::vector<Evidence>& list, const Evidence& evidence) {
    if (list.size() >= Explainer::most_evidence) return;
    if (std::find(list.begin(), list.end(), evidence) == list.end()) list.push_back(evidence);
}

}  // namespace

std::string_view to_text(AttemptOutcome outcome) {
    static constexpr std::array<std::string_view, 4> words{"failed", "refused", "completed", "unknown"};
    return words[static_cast<std::size_t>(outcome)];
}

std::string_view to_text(Certainty confidence) {
    static constexpr std::array<std::string_view, 3> words{"certain", "likely", "possible"};
    return words[static_cast<std::size_t>(confidence)];
}

bool Explanation::explained() const {
    return !migrations.empty() &&
           std::all_of(migrations.begin(), migrations.end(), [](const Migration& migration) {
               return migration.outcome == AttemptOutcome::completed ||
                      std::any_of(migration.causes.begin(), migration.causes.end(),
                                  [](const Cause& cause) { return cause.confidence != Certainty::possible; });
           });
}

class Explainer::State {
  public:
    State() : search_{anchors()} {
        for (const auto& record : messages())
            patterns_.emplace_back(record);
    }

    void read(const std::string& name, const LogScanner::Input& input) {
        log_ = Log{};
        ++logs_;
        LogScanner scanner{search_};
        scanner.scan(input, [&](const LogPiece& piece) { return take(name, piece); });
        leave_hook_report();
        join();
    }

    [[nodiscard]] Explanation finish(const ExplainContext& context) const {
        Explanation explanation;
        explanation.more = more_;
        for (const auto& attempt : attempts_) {
            if (!wanted(attempt, context)) continue;
            explanation.migrations.push_back(conclude(attempt, context));
        }
        return explanation;
    }

  private:
    /// What is known while one log is read.
    struct Log {
        std::vector<Attempt> attempts;
        std::string guest;         // of the QEMU log that is being read
        std::optional<Uuid> mdev;  // of that
        bool incoming = false;
        std::size_t broken_at = 0;       // line that says that the stream broke off; 0: none
        std::size_t report_due = 0;      // line that may begin the report of the hook of an attempt
        std::size_t report_attempt = 0;  // that one
        std::optional<HookReport> hook;  // that is being read
        std::size_t hook_attempt = 0;
        Evidence hook_evidence;
    };

    static std::vector<std::string_view> anchors() {
        std::vector<std::string_view> result{byte_message};
        for (const auto& record : messages())
            result.push_back(Pattern{record}.anchor());
        return result;
    }

    static bool wanted(const Attempt& attempt, const ExplainContext& context) {
        if (context.guest.empty()) return true;
        if (!attempt.guest.empty()) return attempt.guest == context.guest;
        return !attempt.mdev || context.mdevs.empty() ||
               std::find(context.mdevs.begin(), context.mdevs.end(), *attempt.mdev) != context.mdevs.end();
    }

    unsigned take(const std::string& name, const LogPiece& piece) {
        Unit unit;
        std::size_t from = piece.from;
        std::size_t to = piece.to;
        if (piece.whole) {
            unit.line = parse_log_line(piece.text);
            from = 0;
            to = unit.line.message.size() + 1;
        } else {
            unit.line.message = piece.text;
        }
        // A journal's entry of several lines counts as one line of the log.
        const std::string_view message{unit.line.message};
        unsigned more = 0;
        std::size_t begin = 0;
        while (begin <= message.size()) {
            const auto feed = piece.whole ? message.find('\n', begin) : std::string_view::npos;
            const auto text = message.substr(begin, feed == std::string_view::npos ? feed : feed - begin);
            unit.evidence = {name, piece.line, {}};
            take_text(unit, text, piece.whole ? 0 : from, piece.whole ? text.size() + 1 : to);
            more = log_.hook ? HookReport::most_lines : 0;
            if (feed == std::string_view::npos) break;
            begin = feed + 1;
        }
        return more;
    }

    void take_text(Unit& unit, std::string_view text, std::size_t from, std::size_t to) {
        unit.matches.clear();
        unit.mdev.reset();
        unit.guest.clear();
        unit.terminal = false;
        unit.error = 0;
        for (const auto& pattern : patterns_) {
            auto at = from;
            for (unsigned found = 0; found < 64; ++found) {
                auto match = pattern.find(text, at, to);
                if (!match) break;
                at = match->end > match->begin ? match->end : match->begin + 1;
                unit.matches.push_back(std::move(*match));
            }
        }
        if (unit.matches.empty()) {
            if (log_.hook && !log_.hook->add_line(text)) leave_hook_report();
            return;
        }
        std::stable_sort(unit.matches.begin(), unit.matches.end(),
                         [](const MessageMatch& a, const MessageMatch& b) { return a.begin < b.begin; });
        // A report's own lines quote what kernel and virsh would say: they are no news.
        const auto head =
            std::find_if(unit.matches.begin(), unit.matches.end(),
                         [](const MessageMatch& match) { return match.message->source == LogSource::hook; });
        if (log_.hook && head == unit.matches.end() && log_.hook->add_line(text)) return;
        leave_hook_report();
        const auto first = unit.matches.front().begin;
        const auto cut = text.size() > shown_bytes && first > shown_bytes / 2 ? first - shown_bytes / 4 : 0;
        unit.evidence.text = printable(text.substr(cut, 4 * shown_bytes), shown_bytes);
        bool news = false;
        for (auto& match : unit.matches) {
            note(unit, match);
            news = news || match.message->kind != MessageKind::context;
        }
        if (!news) return;
        // libvirtd logs a refusal several times, and the report behind it has no time of its own.
        const bool follows = head != unit.matches.end() && unit.evidence.line == log_.report_due;
        const auto number = follows ? log_.report_attempt : choose(unit);
        if (number == log_.attempts.size()) return;
        if (std::any_of(unit.matches.begin(), unit.matches.end(),
                        [](const MessageMatch& match) { return match.message->id == "hook-failed"; })) {
            log_.report_due = unit.evidence.line + 1;
            log_.report_attempt = number;
        }
        apply(unit, log_.attempts[number]);
        if (head != unit.matches.end()) {
            log_.hook.emplace(text.substr(head->begin));
            log_.hook_attempt = number;
            log_.hook_evidence = unit.evidence;
        }
    }

    /// What a match says of the log and of the line, whatever attempt that belongs to.
    void note(Unit& unit, MessageMatch& match) {
        const auto& record = *match.message;
        if (record.id == "starting") {
            log_.guest.clear();
            log_.mdev.reset();
            log_.incoming = false;
        } else if (record.id == "name") {
            log_.guest = printable(match.text);
        } else if (record.id == "sysfsdev") {
            if (unit.matches.size() == 1) log_.mdev = match.mdev;
        } else if (record.id == "incoming") {
            log_.incoming = true;
        } else if (record.id == "no-stream" || record.id == "stream-broken") {
            log_.broken_at = unit.evidence.line;
            forget_error(unit);
        }
        if (match.mdev && !unit.mdev) unit.mdev = match.mdev;
        if (record.kind == MessageKind::context) return;
        if (record.source == LogSource::qemu) {
            if (unit.guest.empty()) unit.guest = log_.guest;
            if (!unit.mdev) unit.mdev = log_.mdev;
        }
        if (record.source == LogSource::hook) unit.guest = printable(match.text);
        unit.terminal = unit.terminal || is_terminal(record.kind);
        // The errno then is QEMU's, for want of a whole stream: no driver has said it.
        const bool broken = log_.broken_at != 0 && unit.evidence.line - log_.broken_at <= 1;
        if (record.id == "load-failed" && unit.error == 0 && !broken) unit.error = errno_of(match.text);
        if (record.id == "vmstate-failed") unit.error = static_cast<int>(number_of(match.y, 10));
    }

    /// libvirt 11 tells what QEMU ended with before it tells of the broken stream.
    void forget_error(const Unit& unit) {
        if (log_.attempts.empty()) return;
        auto& attempt = log_.attempts.back();
        const auto gap = apart(attempt.last, unit.line.time);
        if (attempt.error == EINVAL && attempt.drafts.empty() && gap && *gap <= same_attempt_seconds)
            attempt.error = 0;
    }

    /// The other end of a migration that the source's QEMU has refused ends so, for want of a stream.
    [[nodiscard]] static bool follows_refusal(const Attempt& attempt, const Unit& unit) {
        const auto gap = apart(attempt.last, unit.line.time);
        return attempt.refused && !attempt.by_hook && unit.error == EINVAL && gap &&
               *gap <= same_attempt_seconds;
    }

    /// Whether what the line tells cannot be of the attempt that it seems to belong to.
    [[nodiscard]] static bool starts_anew(const Attempt& attempt, const Unit& unit) {
        const auto gap = apart(attempt.last, unit.line.time);
        const auto within = [&] { return gap && *gap <= same_attempt_seconds; };
        if (gap && *gap > same_attempt_seconds) return true;
        for (const auto& match : unit.matches) {
            const auto& record = *match.message;
            switch (record.kind) {
                case MessageKind::cause:
                case MessageKind::headline: {
                    const auto seen = attempt.seen.find(&record);
                    // The driver names a queue once per attempt.
                    if (seen == attempt.seen.end()) break;
                    const bool again = std::any_of(match.queues.begin(), match.queues.end(),
                                                   [&](Apqn queue) { return seen->second.contains(queue); });
                    if (again && !(gap && *gap == 0)) return true;
                    break;
                }
                case MessageKind::started:
                    if (attempt.started || attempt.refused) return true;
                    break;
                case MessageKind::completed:
                    if (attempt.failed || attempt.refused || attempt.completed) return !within();
                    break;
                case MessageKind::failed:
                case MessageKind::refused:
                    if (attempt.completed) return true;
                    if (attempt.told.contains({&record, unit.line.channel})) return !within();
                    break;
                case MessageKind::context:
                    break;
            }
        }
        return false;
    }

    /// Whether `error` can be what the lines of the attempt end with.
    [[nodiscard]] static bool fits(const Attempt& attempt, int error) {
        if (attempt.failed && attempt.error != 0 && attempt.error != error) return false;
        const auto* const meaning = errno_meaning(error);
        if (meaning == nullptr || attempt.drafts.empty()) return true;
        for (const auto& [key, draft] : attempt.drafts) {
            for (const auto rule : draft.rules)
                if (std::find(meaning->rules.begin(), meaning->rules.end(), rule) != meaning->rules.end())
                    return true;
        }
        return false;
    }

    /// The attempt that the line belongs to, a new one where there is none; the number of attempts where
    /// there may be no more.
    std::size_t choose(const Unit& unit) {
        auto& attempts = log_.attempts;
        auto found = attempts.size();
        const auto newest = [&](auto suits) {
            for (std::size_t i = attempts.size(); i-- > 0;)
                if (suits(attempts[i])) return i;
            return attempts.size();
        };
        if (unit.mdev || !unit.guest.empty()) {
            found = newest([&](const Attempt& a) {
                return (unit.mdev && a.mdev == unit.mdev) || (!unit.guest.empty() && a.guest == unit.guest);
            });
            if (found == attempts.size()) {
                found = newest([&](const Attempt& a) {
                    return (!a.mdev || !unit.mdev) && (a.guest.empty() || unit.guest.empty()) &&
                           !starts_anew(a, unit);
                });
            }
        } else if (unit.terminal) {
            // Several guests at a time fail one after the other; the line names none.
            for (std::size_t i = 0; i < attempts.size() && found == attempts.size(); ++i) {
                const auto& a = attempts[i];
                if (!starts_anew(a, unit) &&
                    (unit.error == 0 || follows_refusal(a, unit) || (fits(a, unit.error) && a.error == 0)))
                    found = i;
            }
            if (found == attempts.size())
                found =
                    newest([&](const Attempt& a) { return !starts_anew(a, unit) && fits(a, unit.error); });
        } else {
            found = newest([](const Attempt&) { return true; });
        }
        if (found < attempts.size() && !starts_anew(attempts[found], unit)) return found;
        if (attempts.size() >= most_migrations) {
            more_ = true;
            return attempts.size();
        }
        Attempt fresh;
        if (found < attempts.size() && (unit.mdev || !unit.guest.empty())) {
            fresh.guest = attempts[found].guest;
            fresh.mdev = attempts[found].mdev;
        }
        attempts.push_back(std::move(fresh));
        return attempts.size() - 1;
    }

    void apply(const Unit& unit, Attempt& attempt) {
        const bool consequence = follows_refusal(attempt, unit);
        attempt.logs.insert(logs_);
        if (!attempt.mdev) attempt.mdev = unit.mdev;
        if (attempt.guest.empty()) attempt.guest = unit.guest;
        if (unit.line.time) {
            if (!attempt.first) attempt.first = unit.line.time;
            attempt.last = unit.line.time;
        }
        for (const auto& match : unit.matches)
            apply(unit, match, attempt);
        // A line that libvirt wraps names both ends; it was written at one of them, and which is not told.
        if (unit.error != 0 && attempt.error == 0 && !consequence) attempt.error = unit.error;
    }

    void apply(const Unit& unit, const MessageMatch& match, Attempt& attempt) {
        const auto& record = *match.message;
        if (!unit.line.host.empty() && record.source != LogSource::libvirt) {
            if (record.written == Side::source) attempt.source_host = unit.line.host;
            if (record.written == Side::destination) attempt.destination_host = unit.line.host;
        }
        if (is_terminal(record.kind)) attempt.told.insert({&record, unit.line.channel});
        switch (record.kind) {
            case MessageKind::started:
                attempt.started = true;
                add_evidence(attempt.evidence, unit.evidence);
                break;
            case MessageKind::completed:
                attempt.completed = true;
                add_evidence(attempt.evidence, unit.evidence);
                break;
            case MessageKind::failed:
                attempt.failed = true;
                add_evidence(attempt.evidence, unit.evidence);
                if (record.id.starts_with("section")) {
                    if (names_vfio_ap(match.text) || match.text.empty()) {
                        attempt.about_vfio_ap = attempt.about_vfio_ap || !match.text.empty();
                    } else {
                        attempt.other_device = printable(match.text);
                    }
                }
                break;
            case MessageKind::refused:
                attempt.refused = true;
                attempt.by_hook = attempt.by_hook || record.id == "hook-failed";
                add_evidence(attempt.evidence, unit.evidence);
                if (record.rules.count > 0) apply_refusal(unit, match, attempt);
                break;
            case MessageKind::headline:
                attempt.kernel_seen = true;
                attempt.has_headlines = true;
                for (const auto queue : match.queues) {
                    attempt.headlines.insert(queue);
                    attempt.seen[&record].insert(queue);
                    attempt.current = queue;
                }
                add_evidence(attempt.headline_evidence, unit.evidence);
                break;
            case MessageKind::cause:
                attempt.kernel_seen = true;
                apply_cause(unit, match, attempt);
                break;
            case MessageKind::context:
                break;
        }
    }

    static void apply_refusal(const Unit& unit, const MessageMatch& match, Attempt& attempt) {
        const auto& record = *match.message;
        if ((record.id == "non-migratable" || record.id == "state-blocked") && !match.text.empty() &&
            !names_vfio_ap(match.text)) {
            attempt.other_device = printable(match.text);
            return;
        }
        const auto uuid = match.mdev     ? match.mdev->to_string()
                          : attempt.mdev ? attempt.mdev->to_string()
                                         : "it";
        if (auto* const draft = draft_for(
                attempt,
                std::string{record.rules.ids[0] == RuleId::qemu_no_migration ? std::string_view{"qemu"}
                                                                             : record.id},
                record)) {
            draft->text = fill(record.meaning, {{"uuid", uuid}});
            add_evidence(draft->evidence, unit.evidence);
        }
    }

    static Draft* draft_for(Attempt& attempt, const std::string& key, const Message& record) {
        const auto found = attempt.drafts.find(key);
        if (found != attempt.drafts.end()) return &found->second;
        if (attempt.drafts.size() >= Attempt::most_drafts) return nullptr;
        auto& draft = attempt.drafts[key];
        attempt.order.push_back(key);
        draft.message = &record;
        draft.rules.assign(record.rules.span().begin(), record.rules.span().end());
        return &draft;
    }

    static void note_profile(Attempt& attempt, const Message& record) {
        Profile profile = Profile::automatic;
        if (record.id == "config-size" || record.id == "queue-count" || record.id == "not-in-matrix" ||
            record.id == "bs-v2" || record.id == "secure-host-v1")
            profile = Profile::compare;
        if (record.id == "queue-not-available" || record.id == "control-domain" ||
            record.id == "already-assigned" || record.id == "re-assign" || record.id == "hwinfo-target")
            profile = Profile::restore;
        if (profile == Profile::automatic) return;
        attempt.profile_clashes =
            attempt.profile_clashes || (attempt.profile != Profile::automatic && attempt.profile != profile);
        attempt.profile = profile;
    }

    static void apply_cause(const Unit& unit, const MessageMatch& match, Attempt& attempt) {
        const auto& record = *match.message;
        note_profile(attempt, record);
        auto queues = match.queues;
        const auto rule = record.rules.ids[0];
        // The line of the types has no queue: it is about the one of the headline.
        if (queues.empty() && rule == RuleId::queue_type && attempt.current)
            queues.push_back(*attempt.current);
        auto key = std::string{record.id};
        auto text = std::string{record.meaning};
        auto rules = record.rules;
        std::string facility;
        bool source_has = false;
        const auto target = record.pattern.find("target queue") != std::string_view::npos;
        if (record.pattern.find("{not}") != std::string_view::npos) {
            facility = record.meaning;
            source_has = match.negated == target;
            key = fmt::format("{} {}", facility, source_has);
        } else if (rule == RuleId::queue_type) {
            const auto ours = number_of(match.x, 16);
            const auto theirs = number_of(match.y, 16);
            key = fmt::format("type {} {}", ours, theirs);
            text = fill(text, {{"x", ap_type_text(ours)}, {"y", ap_type_text(theirs)}});
            // Printed for every queue by v1 and v2: such types are no obstacle.
            if (theirs >= ours) {
                rules = {RuleId::driver_stricter, RuleId::queue_class};
                text = "the types are compatible, and yet the driver refuses";
            }
        } else if (rule == RuleId::queue_class) {
            key = "class";
        } else if (!match.rc.empty()) {
            const auto rc = number_of(match.rc.starts_with("0x") ? std::string_view{match.rc}.substr(2)
                                                                 : std::string_view{match.rc},
                                      16);
            key = fmt::format("rc {}", rc);
            rules = MessageRules{rule_of_response(rc)};
            text = fill(text, {{"rc", match.rc}});
        } else if (match.other) {
            key = "elsewhere " + match.other->to_string();
            text = fill(text, {{"other", match.other->to_string()}});
        } else if (match.domain) {
            text = "not available at the destination";
        } else {
            key += fmt::format(" {} {}", match.x, match.y);
            text = fill(text, {{"x", match.x}, {"y", match.y}});
        }
        auto* const draft = draft_for(attempt, key, record);
        for (const auto queue : queues)
            attempt.seen[&record].insert(queue);
        if (draft == nullptr) return;
        draft->rules.assign(rules.span().begin(), rules.span().end());
        draft->text = text;
        draft->facility = facility;
        draft->source_has = source_has;
        for (const auto queue : queues) {
            draft->queues.insert(queue);
            draft->has_queues = true;
        }
        if (match.domain) draft->domains.insert(*match.domain);
        add_evidence(draft->evidence, unit.evidence);
    }

    /// What our hook's report says becomes a draft for each of its findings.
    void leave_hook_report() {
        if (!log_.hook) return;
        auto& attempt = log_.attempts[log_.hook_attempt];
        for (auto& finding : log_.hook->findings()) {
            const auto key = fmt::format("hook {} {}", rule(finding.rule).name, finding.what);
            auto* const draft = draft_for(attempt, key, message("hook-report"));
            if (draft == nullptr) break;
            draft->rules = {finding.rule};
            draft->line = printable(finding.what, shown_bytes);
            for (const auto queue : finding.queues) {
                draft->queues.insert(queue);
                draft->has_queues = true;
            }
            draft->domains.insert(finding.control_domains.begin(), finding.control_domains.end());
            draft->remedies = finding.remedies;
            add_evidence(draft->evidence, log_.hook_evidence);
        }
        const auto& hook = *log_.hook;
        if (!attempt.mdev) attempt.mdev = hook.mdev();
        if (attempt.source_host.empty()) attempt.source_host = printable(hook.source());
        if (attempt.destination_host.empty()) attempt.destination_host = printable(hook.destination());
        log_.hook.reset();
    }

    /// Adds what this log told to what others told of the same attempts; the newest first, since an older one
    /// may be in one log only.
    void join() {
        const auto fits_other = [this](const Attempt& a, const Attempt& b) {
            if (a.logs.contains(logs_)) return false;
            if (a.mdev && b.mdev && a.mdev != b.mdev) return false;
            if (!a.guest.empty() && !b.guest.empty() && a.guest != b.guest) return false;
            if (a.completed != b.completed && (a.failed || b.failed || a.refused || b.refused)) return false;
            if (const auto gap = apart(a.last, b.last); gap && *gap > same_attempt_seconds) return false;
            if (a.error != 0 && b.error != 0 && a.error != b.error) return false;
            return (b.error == 0 || fits(a, b.error)) && (a.error == 0 || fits(b, a.error));
        };
        for (std::size_t i = log_.attempts.size(); i-- > 0;) {
            const auto& fresh = log_.attempts[i];
            std::size_t best = attempts_.size();
            int best_score = -1;
            for (std::size_t j = attempts_.size(); j-- > 0;) {
                const auto& old = attempts_[j];
                if (!fits_other(old, fresh)) continue;
                const int score = (old.mdev && old.mdev == fresh.mdev ? 2 : 0) +
                                  (!old.guest.empty() && old.guest == fresh.guest ? 2 : 0) +
                                  (apart(old.last, fresh.last) ? 1 : 0);
                if (score > best_score) {
                    best = j;
                    best_score = score;
                }
            }
            if (best < attempts_.size()) {
                attempts_[best].merge(fresh);
                continue;
            }
            if (attempts_.size() >= most_migrations) {
                more_ = true;
                continue;
            }
            new_.push_back(fresh);
        }
        attempts_.insert(attempts_.end(), std::make_move_iterator(new_.rbegin()),
                         std::make_move_iterator(new_.rend()));
        new_.clear();
        log_ = Log{};
    }

    AnchorSearch search_;
    std::vector<Pattern> patterns_;
    Log log_;
    std::size_t logs_ = 0;
    std::vector<Attempt> attempts_;
    std::vector<Attempt> new_;
    bool more_ = false;
};

Explainer::Explainer() : state_{std::make_unique<State>()} {}
Explainer::~Explainer() = default;

void Explainer::read(const std::string& name, const LogScanner::Input& input) {
    state_->read(name, input);
}

void Explainer::read(const std::string& name, std::string_view text) {
    state_->read(name, [&text](char* into, std::size_t size) {
        const auto given = std::min(size, text.size());
        std::memcpy(into, text.data(), given);
        text.remove_prefix(given);
        return given;
    });
}

Explanation Explainer::finish(const ExplainContext& context) const {
    return state_->finish(context);
}

}  // namespace vfioap
