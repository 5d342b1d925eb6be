// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioapctl migrate: moves a guest, with its device or by detaching it, and brings to an end what was left.
#include "ap/error.h"
#include "cli/commands.h"
#include "cli/host_location.h"
#include "cli/libvirt_guest.h"
#include "cli/plan_service.h"
#include "cli/service_client.h"
#include "compat/state.h"
#include "hosts/remote_host.h"
#include "move/drift_watch.h"
#include "move/libvirt_host.h"
#include "move/mover.h"
#include "move/outcome_table.h"
#include "plan/render.h"
#include "report/text.h"
#include "text/safe.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using Json = nlohmann::ordered_json;

// Exit codes of this command.
constexpr int exit_moved = 0;
constexpr int exit_not_moved = 1;
constexpr int exit_needs_person = 3;

struct MigrateArguments {
    std::string guest;
    bool all = false;
    bool recover = false;
    bool dry_run = false;
    bool detached = false;
    bool native = false;
    bool yes = false;
    bool prepare = false;
    bool keep_prepared = false;
    std::string destination_uri;
    std::string journal = move_directory;
    unsigned detach_timeout = 60;
    MigrateOptions migrate;
};

volatile std::sig_atomic_t interrupts = 0;

void on_signal(int /*number*/) {
    interrupts = 1;
}

/// While the guest is on its way, nobody ends this by Ctrl-C but in good order.
class SignalsHeld {
  public:
    SignalsHeld() {
        interrupts = 0;
        struct sigaction action {};
        action.sa_handler = on_signal;
        for (std::size_t i = 0; i < numbers.size(); ++i)
            ::sigaction(numbers[i], &action, &before_[i]);
    }
    ~SignalsHeld() {
        for (std::size_t i = 0; i < numbers.size(); ++i)
            ::sigaction(numbers[i], &before_[i], nullptr);
    }
    SignalsHeld(const SignalsHeld&) = delete;
    SignalsHeld& operator=(const SignalsHeld&) = delete;
    SignalsHeld(SignalsHeld&&) = delete;
    SignalsHeld& operator=(SignalsHeld&&) = delete;

  private:
    static constexpr std::array<int, 3> numbers{SIGINT, SIGTERM, SIGHUP};
    std::array<struct sigaction, 3> before_{};
};

/// Where one move goes.
struct Way {
    std::string guest;
    Uuid guest_uuid;
    std::optional<Uuid> mdev;
    std::string source;  // host locations
    std::string destination;
    std::string source_uri;
    std::string destination_uri;
};

struct Ended {
    MoveResult result;
    std::string mode;
};

/// Shows what happens, on standard error where the result is JSON.
class Screen final : public MoveWatcher {
  public:
    Screen(const CommonOptions& common, std::function<std::string()> state)
        : fd_{common.format == "json" ? STDERR_FILENO : STDOUT_FILENO},
          terminal_{::isatty(fd_) == 1},
          state_{std::move(state)} {}

    /// From now on it is the one to say whether the hosts drift apart; null: nobody is.
    void set_watch(DriftWatch* watch) { watch_ = watch; }
    void line(const std::string& text) {
        end_progress();
        put(safe(text) + '\n');
    }
    /// Lines that are fit for a terminal already, each with its newline.
    void lines(const std::string& text) {
        end_progress();
        put(text);
    }
    void begins(MoveStep step) override {
        static constexpr std::array<std::string_view, 4> words{"telling the destination what the guest has",
                                                               "detaching the device", "migrating",
                                                               "attaching the device"};
        line(fmt::format("  {:<8} {}", to_text(step), words.at(static_cast<std::size_t>(step))));
    }
    void progresses(const MigrateProgress& progress) override {
        if (progress.total == 0) return;
        const auto percent = 100 - std::min<std::uint64_t>(100, progress.remaining * 100 / progress.total);
        constexpr std::uint64_t mib = std::uint64_t{1024} * 1024;
        if (terminal_) {
            constexpr std::size_t width = 30;
            const std::string bar(width * percent / 100, '#');
            put(fmt::format(
                "\r           [{:<{}}] {:>3} %  {} MiB left, {} pages/s dirtied, {} ms downtime \x1b[K", bar,
                width, percent, progress.remaining / mib, progress.dirty_rate, progress.downtime));
            in_progress_ = true;
        } else if (percent / 25 != shown_) {
            shown_ = percent / 25;
            line(fmt::format("           {} %, {} MiB left", percent, progress.remaining / mib));
        }
    }
    void notes(const std::string& text) override { line("  !        " + text); }
    [[nodiscard]] bool interrupted() override { return interrupts != 0; }
    [[nodiscard]] std::optional<Drift> drift(std::chrono::milliseconds most) override {
        if (watch_ == nullptr) return std::nullopt;
        auto found = watch_->found(most);
        for (const auto& problem : watch_->take_problems())
            notes("not watched for changes: " + problem);
        return found;
    }
    void pause(std::chrono::milliseconds time) override { std::this_thread::sleep_for(time); }
    [[nodiscard]] std::chrono::milliseconds clock() override {
        return std::chrono::duration_cast<std::chrono::milliseconds>(
            std::chrono::steady_clock::now().time_since_epoch());
    }
    [[nodiscard]] std::string state_at_destination() override {
        try {
            return state_();
        } catch (const Error& error) {
            notes(error.what());
            return {};
        }
    }

  private:
    void put(const std::string& text) const {
        // A screen that is gone is no reason to leave a guest halfway.
        static_cast<void>(!::write(fd_, text.data(), text.size()));
    }
    void end_progress() {
        if (std::exchange(in_progress_, false)) put("\r\x1b[K");
    }

    int fd_;
    bool terminal_;
    std::function<std::string()> state_;
    DriftWatch* watch_ = nullptr;
    bool in_progress_ = false;
    std::uint64_t shown_ = 0;
};

std::string destination_uri_of(const MigrateArguments& options, const CommonOptions& common,
                               const std::string& root) {
    if (!options.destination_uri.empty()) return options.destination_uri;
    const auto location = parse_host_location(common.destination, root);
    if (location.kind != HostLocation::Kind::remote)
        throw InputError{
            common.destination,
            "is not the name of a host; say with --desturi where its libvirt is (qemu+ssh://HOST/system)"};
    return fmt::format("qemu+ssh://{}/system", RemoteHost::parse(location.value).value().authority());
}

Json move_json(const Way& way, const Ended& ended) {
    const auto& result = ended.result;
    return {{"guest",
             {{"name", way.guest},
              {"uuid", way.guest_uuid.to_string()},
              {"mdev", way.mdev ? Json(way.mdev->to_string()) : Json(nullptr)}}},
            {"mode", ended.mode},
            {"source", way.source},
            {"destination", way.destination},
            {"outcome", to_text(result.outcome)},
            {"host", result.host.empty() ? Json(nullptr) : Json(result.host)},
            {"has_device", result.has_device},
            {"reason", result.reason},
            {"rules", result.rules},
            {"to_do", result.to_do}};
}

int exit_of(MoveOutcome outcome) {
    switch (outcome) {
        case MoveOutcome::moved:
        case MoveOutcome::would_move:
            return exit_moved;
        case MoveOutcome::not_moved:
            return exit_not_moved;
        case MoveOutcome::needs_person:
            break;
    }
    return exit_needs_person;
}

void show(Screen& screen, const Way& way, const MoveResult& result) {
    switch (result.outcome) {
        case MoveOutcome::moved:
            screen.line(fmt::format("MOVED: {} runs on {}{}", way.guest, result.host,
                                    way.mdev && result.has_device ? " with its device" : ""));
            break;
        case MoveOutcome::not_moved:
            screen.line(
                fmt::format("NOT MOVED: {} runs on {} as before: {}", way.guest, result.host, result.reason));
            break;
        case MoveOutcome::needs_person:
            screen.line(fmt::format("NEEDS YOU: {}{}", way.guest,
                                    result.host.empty() ? ": where it runs is not known"
                                    : result.has_device
                                        ? fmt::format(" runs on {} with its device", result.host)
                                        : fmt::format(" runs on {} without its device", result.host)));
            if (!result.reason.empty()) screen.line("  reason   " + result.reason);
            break;
        case MoveOutcome::would_move:
            // Its steps are shown already.
            break;
    }
    for (const auto& each : result.to_do)
        screen.line("  do       " + each);
}

/// At the destination the guest must have what it had: how what it has there differs, or why that cannot be
/// said. Nothing where it cannot be seen at all.
std::optional<std::string> difference_at(const HostLocation& destination, const DomainState& before) {
    if (destination.kind == HostLocation::Kind::snapshot) return std::nullopt;
    try {
        const auto now = state_of(*Host{destination}.read_for(before.mdev, {}), before.mdev);
        auto differs = difference(before.configuration, now.configuration);
        return differs.empty() ? std::nullopt : std::optional{"it has " + differs};
    } catch (const Error& error) {
        return fmt::format("what it has there could not be read: {}", error.what());
    }
}

/// The rules that a move breaks, each once.
std::vector<std::string> broken_rules(const Report& report) {
    std::vector<std::string> rules;
    for (const auto& finding : report.findings) {
        const std::string name{rule(finding.rule).name};
        if (finding.severity == Severity::error && std::find(rules.begin(), rules.end(), name) == rules.end())
            rules.push_back(name);
    }
    return rules;
}

bool confirmed(const std::string& guest) {
    std::cerr << fmt::format(
        "The device of {} will be detached and attached again: for a moment it has no crypto device, which "
        "its driver\n"
        "and applications must cope with. Go on? [y/N] ",
        safe(guest));
    std::string answer;
    std::getline(std::cin, answer);
    return answer == "y" || answer == "Y" || answer == "yes";
}

class Migrate {
  public:
    Migrate(const CommonOptions& common, const MigrateArguments& options)
        : common_{common},
          options_{options},
          root_{local_sysfs_root(common.sysfs_root)},
          journal_{options.journal},
          libvirt_{load_libvirt()} {
        run_libvirt_events(libvirt_);
    }

    int recover() {
        std::vector<std::string> problems;
        int code = exit_moved;
        bool found = false;
        for (const auto& record : journal_.all(problems)) {
            if (!options_.guest.empty() && record.guest != options_.guest &&
                record.guest_uuid.to_string() != options_.guest)
                continue;
            found = true;
            code = std::max(code, recover(record));
        }
        for (const auto& problem : problems)
            warn("vfioapctl", problem);
        if (!problems.empty()) code = exit_needs_person;
        if (!found && problems.empty()) {
            if (!options_.guest.empty())
                throw InputError{options_.guest, "no move of this guest was left unfinished on this host"};
            Screen{common_, {}}.line("No move was left unfinished on this host.");
        }
        return finish(code);
    }

    int move_all() {
        std::vector<GuestOutcome> outcomes;
        int code = exit_moved;
        for (const auto& xml : all_domain_xml_from_libvirt(common_.uri)) {
            const auto domain = parse_domain_xml(xml, common_.uri);
            if (domain.vfio_ap.empty() || !domain.uuid) continue;
            LibvirtHost here{libvirt_, common_.uri, false, *domain.uuid, domain.vfio_ap.front().mdev};
            if (here.look().state != GuestLook::State::running) continue;
            const int ended = move(domain);
            outcomes.push_back({domain.name, last_});
            code = std::max(code, ended);
            if (ended == exit_needs_person || interrupts != 0) break;
        }
        Screen{common_, {}}.lines(render_outcomes(outcomes));
        return finish(code);
    }

    int move_one() {
        const auto xml = domain_xml_from_libvirt(common_.uri, options_.guest);
        return finish(move(parse_domain_xml(xml, options_.guest)));
    }

  private:
    int finish(int code) const {
        if (common_.format == "json") {
            const Json document{{"schema", "vfioap-moves/1"}, {"moves", moves_}};
            write_output(document.dump(2, ' ', false, Json::error_handler_t::replace) + '\n');
        }
        return code;
    }

    int end(Screen& screen, const Way& way, const Ended& ended) {
        show(screen, way, ended.result);
        moves_.push_back(move_json(way, ended));
        last_ = ended.result.outcome;
        return exit_of(last_);
    }

    int refuse(Screen& screen, const Way& way, const std::string& mode, std::string reason,
               std::vector<std::string> rules = {}) {
        MoveResult result;
        result.rules = std::move(rules);
        result.outcome = MoveOutcome::not_moved;
        result.reason = std::move(reason);
        result.host = "this host";
        result.has_device = way.mdev.has_value();
        return end(screen, way, {std::move(result), mode});
    }

    int recover(const MoveRecord& record) {
        const Way way{record.guest,       record.guest_uuid, record.mdev,           record.source,
                      record.destination, record.source_uri, record.destination_uri};
        Screen screen{common_, state_reader(way)};
        screen.line(fmt::format("{}: its move from {} to {} ended at the step {}", record.guest,
                                record.source_uri, record.destination_uri, record.step));
        const auto lock = journal_.lock(record.guest_uuid);
        const SignalsHeld held;
        LibvirtHost here{libvirt_, record.source_uri, false, record.guest_uuid, record.mdev};
        std::optional<LibvirtHost> there;
        try {
            there.emplace(libvirt_, record.destination_uri, true, record.guest_uuid, record.mdev);
        } catch (const Error& error) {
            MoveResult result;
            result.reason = error.what();
            result.to_do.push_back(
                fmt::format("when it answers again: vfioapctl migrate --recover {}", record.guest));
            return end(screen, way, {std::move(result), "detached"});
        }
        auto result = recover_move(here, *there, journal_, record, screen);
        if (record.prepared) take_back(screen, way, result);
        return end(screen, way, {std::move(result), "detached"});
    }

    /// What was made for a guest that has not moved is of no use.
    void take_back(Screen& screen, const Way& way, MoveResult& result) const {
        if (result.outcome != MoveOutcome::not_moved || options_.keep_prepared || !way.mdev) return;
        screen.line(fmt::format("  unplan   taking back what was made at {}", way.destination));
        const auto by_hand = fmt::format("vfioapctl unplan -d {} {}", way.destination, way.mdev->to_string());
        try {
            PlanService service{parse_host_location(way.destination, root_)};
            const auto report =
                service.take_back(way.mdev->to_string(), [](const ServicePlan&) { return true; });
            if (exit_code(report) == exit_compatible) return;
            result.to_do.push_back(
                fmt::format("what was made at {} is not taken back: {}; then: {}", way.destination,
                            report.failed.empty() ? report.reason : report.failed.front().text, by_hand));
        } catch (const ServiceError& error) {
            // Killed before it was asked for, or refused.
            if (error.name().ends_with(".NoSuchPlan")) return;
            result.to_do.push_back(fmt::format("{}; then: {}", error.what(), by_hand));
        } catch (const Error& error) {
            result.to_do.push_back(fmt::format("{}; when it answers: {}", error.what(), by_hand));
        }
        result.outcome = MoveOutcome::needs_person;
    }

    [[nodiscard]] std::function<std::string()> state_reader(const Way& way) const {
        return [way, root = root_] {
            const auto location = parse_host_location(way.destination, root);
            if (location.kind == HostLocation::Kind::snapshot || !way.mdev) return std::string{};
            return state_metadata(state_of(*Host{location}.read_for(*way.mdev, {}), *way.mdev));
        };
    }

    int move(const DomainXml& domain) {
        const auto guest = guest_of(domain);
        if (!guest.uuid) throw InputError{guest.name, "libvirt does not say its UUID"};
        Way way{guest.name,
                *guest.uuid,
                {},
                common_.source,
                common_.destination,
                common_.uri,
                destination_uri_of(options_, common_, root_)};
        if (!guest.mdevs.empty()) way.mdev = guest.mdevs.front();
        Screen screen{common_, state_reader(way)};
        if (journal_.read(way.guest_uuid)) {
            MoveResult result;
            result.reason = "an earlier move of it was left unfinished";
            result.to_do.push_back(fmt::format("vfioapctl migrate --recover {}", guest.name));
            return end(screen, way, {std::move(result), "detached"});
        }
        if (!way.mdev)
            return refuse(screen, way, "native", "it has no vfio-ap device; move it with virsh migrate");
        const auto source_at = parse_host_location(common_.source, root_);
        const auto destination_at = parse_host_location(common_.destination, root_);
        const Host source{source_at};
        const Host destination{destination_at};
        auto wanted = Mode::automatic;
        if (options_.detached) wanted = Mode::detached;
        if (options_.native) wanted = Mode::native;
        const CheckOptions check_options{wanted, parse_profile(common_.profile).value(), false};
        const auto report = check_between(guest, source, destination, check_options);
        const bool native = report.mode == Mode::native;
        const std::string mode{to_text(report.mode)};
        screen.line(fmt::format("{}: from {} to {}, {}", guest.name, report.source.name,
                                report.destination.name, mode));
        const bool prepare = report.verdict != Verdict::compatible && options_.prepare && way.mdev;
        Plan plan;
        if (prepare) {
            plan = make_plan(guest, describe_source(guest, *source.read_for(*way.mdev, {})),
                             [&](const Uuid& uuid, const std::vector<Apqn>& queues) {
                                 return *destination.read_for(uuid, queues);
                             },
                             {check_options});
            if (const auto reason = why_not(plan); !reason.empty()) {
                if (common_.format != "json")
                    write_output(render_plan_text(plan, {use_color(common_.color), false, output_width()}));
                return refuse(screen, way, mode, reason);
            }
            screen.line(fmt::format("  check    {}; {} step{} would make it compatible",
                                    to_text(report.verdict), plan.steps.size(),
                                    plan.steps.size() == 1 ? "" : "s"));
        } else if (report.verdict != Verdict::compatible) {
            if (common_.format != "json")
                write_output(render_text(report, {use_color(common_.color), false, output_width()}));
            return refuse(
                screen, way, mode,
                fmt::format("the check says {}; what the destination needs: vfioapctl plan {} -d {}",
                            to_text(report.verdict), guest.name, common_.destination),
                broken_rules(report));
        }
        if (!prepare) {
            const auto warnings = report.count(Severity::warning);
            screen.line(fmt::format(
                "  check    compatible{}",
                warnings == 0 ? std::string{}
                              : fmt::format(", {} warning{}: vfioap-check -d {} {} tells them", warnings,
                                            warnings == 1 ? "" : "s", common_.destination, guest.name)));
        }
        if (options_.dry_run) {
            for (const auto& step : plan.steps)
                screen.line(fmt::format("  would    at {}: {}", report.destination.name, step.what));
            static constexpr std::array<std::string_view, 5> steps{
                "mark the guest's state: its device is away for a move",
                "detach the device, and wait until it is gone", "migrate the guest",
                "attach the device at the destination", "compare what the guest has with before"};
            for (std::size_t i = native ? 2 : 0; i < steps.size(); ++i)
                if (!native || i != 3) screen.line(fmt::format("  would    {}", steps.at(i)));
            MoveResult result;
            result.outcome = MoveOutcome::would_move;
            result.host = "this host";
            result.has_device = true;
            return end(screen, way, {std::move(result), mode});
        }
        if (!native && !options_.detached && !options_.yes) {
            if (::isatty(STDIN_FILENO) != 1)
                throw InputError{guest.name,
                                 "its device has to be detached for the move; say --detached if that may be"};
            if (!confirmed(guest.name)) return refuse(screen, way, mode, "it was not wanted");
        }
        return carry_out(screen, way, mode,
                         {guest, report.mode, check_options, source_at, destination_at, prepare});
    }

    /// What was judged.
    struct Judged {
        Guest guest;
        Mode mode;
        CheckOptions options;
        HostLocation source;
        HostLocation destination;
        bool prepare = false;  ///< the destination is to be made ready
    };

    /// Why a plan does not get a guest on its way; empty: it does.
    std::string why_not(const Plan& plan) const {
        if (plan.state != Plan::State::complete)
            return "the destination is not ready, and no command makes it so";
        if (std::any_of(plan.steps.begin(), plan.steps.end(),
                        [](const PlanStep& step) { return step.host == Side::source; }))
            return fmt::format("something is to be done here first: vfioapctl plan -d {} {}",
                               common_.destination, plan.report.guest.name);
        return {};
    }

    struct Prepared {
        std::string why_not;     ///< empty: the destination is ready
        bool something = false;  ///< something may be there to take back
    };

    /// Has the destination made ready.
    Prepared prepare(Screen& screen, const Judged& judged) const {
        Prepared prepared;
        try {
            PlanService service{judged.destination};
            const Host source{judged.source};
            prepared.something = true;
            const auto report = service.apply(judged.guest, source, {judged.options},
                                              [&, last = std::string{}](const ServicePlan& plan) mutable {
                                                  if (plan.step != std::exchange(last, plan.step))
                                                      screen.line("  prepare  " + plan.step);
                                                  return interrupts == 0;
                                              });
            prepared.something = report.state == "done" || report.state == "failed";
            for (const auto& item : report.left)
                screen.notes(item.text);
            if (report.state != "done") {
                prepared.why_not = fmt::format("the destination could not be made ready: {}",
                                               report.reason.empty() ? report.state : report.reason);
                return prepared;
            }
            screen.line("  prepare  done");
            const auto again = check_between(judged.guest, source, Host{judged.destination}, judged.options);
            if (interrupts != 0) {
                prepared.why_not = "it was interrupted";
            } else if (again.verdict != Verdict::compatible) {
                prepared.why_not = fmt::format("the destination was made ready, but the check says {}",
                                               to_text(again.verdict));
            }
        } catch (const ServiceError& error) {
            prepared = {error.what(), false};
        } catch (const Error& error) {
            prepared.why_not = error.what();
        }
        return prepared;
    }

    int carry_out(Screen& screen, const Way& way, const std::string& mode, const Judged& judged) {
        const bool native = judged.mode == Mode::native;
        const auto& mdev = *way.mdev;
        const auto lock = journal_.lock(way.guest_uuid);
        const SignalsHeld held;
        LibvirtHost here{libvirt_, way.source_uri, false, way.guest_uuid, mdev};
        const auto now = here.look();
        if (now.state != GuestLook::State::running)
            return refuse(screen, way, mode, "it does not run; virsh migrate --offline moves its definition");
        if (now.busy) return refuse(screen, way, mode, "libvirt is busy with it");
        if (!now.has_device)
            return refuse(screen, way, mode,
                          "its device is not attached; attach it, or move it with virsh migrate");
        std::optional<LibvirtHost> there;
        GuestLook before;
        try {
            there.emplace(libvirt_, way.destination_uri, true, way.guest_uuid, mdev);
            before = there->look();
        } catch (const Error& error) {
            return refuse(screen, way, mode, error.what());
        }
        if (before.state != GuestLook::State::absent)
            return refuse(screen, way, mode, "a guest with its UUID runs at the destination");
        const auto source = Host{judged.source}.read_for(mdev, {});
        const auto had = state_of(*source, mdev);
        auto marked = had;
        marked.detached = true;
        MoveOrder order{{way.guest,
                         way.guest_uuid,
                         mdev,
                         way.source_uri,
                         way.destination_uri,
                         way.source,
                         way.destination,
                         state_metadata(had),
                         now.persistent,
                         options_.migrate.persistent && !before.persistent,
                         {}},
                        state_metadata(marked),
                        std::chrono::seconds{options_.detach_timeout},
                        options_.migrate,
                        native};
        // Nothing has been moved yet.
        const auto stay = [&](std::string reason, bool something) {
            MoveResult result;
            result.outcome = MoveOutcome::not_moved;
            result.reason = std::move(reason);
            result.host = here.name();
            result.has_device = true;
            if (something) take_back(screen, way, result);
            if (judged.prepare) journal_.remove(way.guest_uuid);
            return end(screen, way, {std::move(result), mode});
        };
        if (judged.prepare) {
            // Whoever dies from here on leaves something to take back.
            order.record.prepared = true;
            order.record.step = "prepare";
            journal_.write(order.record);
            if (auto prepared = prepare(screen, judged); !prepared.why_not.empty())
                return stay(std::move(prepared.why_not), prepared.something);
        }
        const auto session = native ? open_session(mdev) : std::optional<ServiceClient>{};
        std::optional<DriftWatch> watch;
        try {
            // A device that is away for the move keeps nothing at the source.
            watch.emplace(judged.destination, native ? std::optional{judged.source} : std::nullopt,
                          JudgedMove{judged.guest, describe_source(judged.guest, *source), had, judged.mode,
                                     judged.options.profile});
        } catch (const Error& error) {
            return stay(error.what(), judged.prepare);
        }
        screen.set_watch(&*watch);
        auto result = move_detached(here, *there, journal_, order, screen);
        screen.set_watch(nullptr);
        if (judged.prepare) take_back(screen, way, result);
        if (result.outcome == MoveOutcome::moved) {
            if (const auto differs = difference_at(judged.destination, had)) {
                result.outcome = MoveOutcome::needs_person;
                result.to_do.push_back(
                    fmt::format("on {}: {}; compare with: vfioapctl status", result.host, *differs));
            } else {
                const auto queues = had.configuration.queues.size();
                const auto domains = had.configuration.control_domains.count();
                screen.line(fmt::format("  verify   {} queue{}, {} control domain{}, as before", queues,
                                        queues == 1 ? "" : "s", domains, domains == 1 ? "" : "s"));
            }
        }
        return end(screen, way, {std::move(result), mode});
    }

    /// The service of this host aborts the job at once when what moves is not what was judged.
    /// Without one it takes DriftWatch a second.
    static std::optional<ServiceClient> open_session(const Uuid& mdev) {
        try {
            auto service = ServiceClient::local();
            service.open_migration(mdev, "source", true);
            return service;
        } catch (const Error&) {
            return std::nullopt;
        }
    }

    const CommonOptions& common_;
    const MigrateArguments& options_;
    std::string root_;
    MoveJournal journal_;
    Libvirt libvirt_;
    Json moves_ = Json::array();
    MoveOutcome last_ = MoveOutcome::not_moved;
};

}  // namespace

void add_migrate(CLI::App& app, const CommonOptions& common, Command& chosen) {
    const auto options = std::make_shared<MigrateArguments>();
    auto* const command =
        app.add_subcommand("migrate", "Move a running guest, and its device with it or after it");
    set_usage(
        *command,
        "vfioapctl migrate -d HOST [OPTIONS] GUEST\n       vfioapctl migrate -d HOST --all [OPTIONS]\n       "
        "vfioapctl migrate --recover [GUEST]");
    command->footer(
        "Exit status: 0 moved, 1 not moved and all as before, 2 usage, 3 something needs a person.\n"
        "man 1 vfioapctl tells more.");
    command->add_option("GUEST", options->guest, "Domain name or UUID")->type_name("");
    command->add_flag("--all", options->all, "All running guests with a vfio-ap device, one after another");
    command->add_flag("--recover", options->recover, "Bring to an end a move whose mover was killed");
    command->add_flag("--dry-run", options->dry_run, "Only check, and show the steps");
    auto* const detached =
        command->add_flag("--detached", options->detached,
                          "Detach the device, migrate, attach it (default: where nothing else works, "
                          "after a question)");
    command->add_flag("--native", options->native, "Migrate the device with the guest")->excludes(detached);
    command->add_flag("-y,--yes", options->yes, "Do not ask");
    command->add_flag("--prepare", options->prepare, "Make the destination ready first, through its service");
    command->add_flag("--keep-prepared", options->keep_prepared,
                      "Leave that, even where the guest does not move");
    command
        ->add_option("--desturi", options->destination_uri,
                     "libvirt of the destination (default: qemu+ssh://HOST/system)")
        ->type_name("URI");
    command
        ->add_option("--migrateuri", options->migrate.migrate_uri, "Where QEMU sends to, tcp://HOST[:PORT]")
        ->type_name("URI");
    command
        ->add_option("--detach-timeout", options->detach_timeout,
                     "Seconds that the guest has to release the device (default: 60)")
        ->check(CLI::Range(1U, 86'400U))
        ->option_text("SECONDS");
    command->add_option("--bandwidth", options->migrate.bandwidth, "MiB/s at most")->type_name("MIB");
    command->add_flag("--persistent", options->migrate.persistent, "Define the guest at the destination");
    command->add_flag("--undefinesource", options->migrate.undefine_source, "Undefine it here");
    command->add_flag("--copy-storage-all", options->migrate.copy_storage_all, "Copy its disks");
    command->add_flag("--copy-storage-inc", options->migrate.copy_storage_inc,
                      "Copy what its disks have changed");
    command->add_flag("--auto-converge", options->migrate.auto_converge,
                      "Slow it down if it is too busy to move");
    command->add_flag("--compressed", options->migrate.compressed, "Send compressed memory");
    command->add_flag("--unsafe", options->migrate.unsafe, "Even where libvirt sees a danger for its disks");
    command
        ->add_option("--journal", options->journal,
                     "Where moves are written down (default: /var/lib/vfioap/moves)")
        ->type_name("DIR");
    command->callback([&chosen, &common, options] {
        if (!options->recover) {
            if (common.destination.empty()) throw CLI::RequiredError{"--destination"};
            if (options->guest.empty() == !options->all)
                throw CLI::ValidationError{"expected either a guest or --all"};
        }
        chosen = [&common, options] {
            Migrate migrate{common, *options};
            if (options->recover) return migrate.recover();
            return options->all ? migrate.move_all() : migrate.move_one();
        };
    });
}

}  // namespace vfioap
