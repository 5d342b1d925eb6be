// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plan/apply.h"

#include "ap/error.h"
#include "file/directory.h"
#include "file/replace_file.h"
#include "host/ap_lock.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

using Json = nlohmann::ordered_json;

using namespace std::chrono_literals;

constexpr auto between_looks = 200ms;
constexpr std::size_t max_kept_file = std::size_t{1024} * 1024;

/// The files below `etc` that the persistent commands of plans may write. Throws SystemError: what cannot be
/// read now could not be put back.
std::map<std::string, std::string> kept_files(const std::string& etc) {
    std::map<std::string, std::string> files;
    const auto add = [&](const std::string& path) {
        if (auto text = read_file(path, max_kept_file)) files.emplace(path, *std::move(text));
    };
    add(etc + "/udev/rules.d/41-ap.rules");
    add(etc + "/modules-load.d/vfio_ap.conf");
    for (const auto* directory : {"/mdevctl.d/matrix", "/driverctl.d"}) {
        for (const auto& name : list_directory(etc + directory)) {
            const auto path = fmt::format("{}{}/{}", etc, directory, name);
            struct stat info {};
            if (::stat(path.c_str(), &info) == 0 ? S_ISREG(info.st_mode) : errno != ENOENT) add(path);
        }
    }
    return files;
}

/// With the mode that the file has now, whatever this process's umask is.
void put_back(const std::string& path, const std::string& text) {
    struct stat now {};
    const bool known = ::stat(path.c_str(), &now) == 0;
    replace_file(path, text, 0644);
    if (known && ::chmod(path.c_str(), now.st_mode & 07777) != 0)
        throw SystemError{"change the mode of", path, errno};
}

/// Only the source can do the steps that the plan still has.
bool is_green(const Plan& plan) {
    return plan.obstacles.empty() &&
           std::all_of(plan.steps.begin(), plan.steps.end(),
                       [](const PlanStep& step) { return step.host == Side::source; });
}

}  // namespace

/// One apply, or one undo.
class Applier::Work {
  public:
    explicit Work(Applier& applier)
        : host_{applier.host_},
          records_{applier.records_},
          options_{applier.options_},
          watcher_{applier.watcher_} {}

    ApplyReport apply(const Guest& guest, const Source& source, const PlanOptions& options) {
        report_.guest = guest.name;
        if (guest.mdevs.empty()) {
            report_.state = ApplyState::done;
            report_.plan_state = Plan::State::nothing_to_do;
            return std::move(report_);
        }
        mdev_ = guest.mdevs.front();
        report_.mdev = mdev_;
        const auto plan_now = [&] {
            return make_plan(
                guest, source,
                [this](const Uuid& uuid, const auto& queues) { return host_.read_for(uuid, queues); },
                options);
        };
        try {
            watcher_.begins("waiting for the AP lock", 0, 0);
            const ApLock lock{options_.lock, options_.lock_patience, [this] { return watcher_.cancelled(); }};
            watcher_.begins("looking at the host", 0, 0);
            const auto plan = plan_now();
            describe(plan);
            if (!plan.obstacles.empty()) {
                report_.reason = plan.state == Plan::State::blocked
                                     ? "no command makes this host ready for the guest"
                                     : "what the guest needs here is not known";
                return std::move(report_);
            }
            load_record(guest);
            try {
                do_steps(plan);
                check_again(plan_now());
                record_.finished = record_.changes.size();
                records_.write(record_);
            } catch (const std::exception& error) {
                // Whatever it is: nothing stays half done.
                report_.reason = error.what();
                undo_from(record_.finished);
                return std::move(report_);
            }
            report_.state = ApplyState::done;
        } catch (const Error& error) {
            report_.reason = error.what();
            return std::move(report_);
        }
        // Those programs take the lock themselves.
        keep();
        return std::move(report_);
    }

    ApplyReport undo(const Uuid& mdev, const std::string& user, bool all) {
        mdev_ = mdev;
        report_.undoing = true;
        report_.mdev = mdev;
        try {
            watcher_.begins("waiting for the AP lock", 0, 0);
            const ApLock lock{options_.lock, options_.lock_patience,
                              [this, all] { return all && watcher_.cancelled(); }};
            auto found = records_.read(mdev);
            if (!found) throw Error{"nothing was applied here for mdev " + mdev.to_string()};
            record_ = *std::move(found);
            report_.guest = record_.guest;
            const auto now = host_.read_for(mdev, {});
            report_.host = now.name;
            const auto* const there = now.find_mdev(mdev);
            const bool used = there != nullptr && is_in_use(now, *there) == true;
            if (all && (used || !user.empty())) {
                throw Error{
                    fmt::format("mdev {} is used by {}", mdev.to_string(),
                                user.empty() ? "a guest (virsh dumpxml tells which)" : "guest " + user)};
            }
            all_ = all;
            undo_from(all ? 0 : record_.finished);
        } catch (const Error& error) {
            report_.reason = error.what();
        }
        return std::move(report_);
    }

  private:
    void describe(const Plan& plan) {
        report_.host = plan.report.destination.name;
        report_.plan_state = plan.state;
        report_.verdict = plan.report.verdict;
        for (const auto& obstacle : plan.obstacles)
            report_.remaining.push_back(
                {fmt::format("{}: {}", rule(obstacle.rule).name, obstacle.message), obstacle.todo});
        for (const auto& step : plan.steps) {
            if (step.host == Side::source) {
                report_.remaining.push_back(
                    {fmt::format("at {}: {}", plan.report.source.name, step.what), commands_of(step)});
            } else {
                report_.steps.push_back({to_text(step.kind), rule(step.rule).name, step.what});
            }
        }
    }

    void load_record(const Guest& guest) {
        if (auto found = records_.read(*mdev_)) record_ = *std::move(found);
        if (record_.unfinished())
            throw Error{
                "an earlier apply for this mdev was not undone; take it back first: "
                "vfioapctl unplan"};
        record_.guest = guest.name;
        record_.guest_uuid = guest.uuid;
        record_.mdev = mdev_;
    }

    void do_steps(const Plan& plan) {
        std::size_t number = 0;
        for (const auto& step : plan.steps) {
            if (step.host == Side::source) continue;
            auto& told = report_.steps.at(number);
            watcher_.begins(step.what, number++, report_.steps.size());
            if (watcher_.cancelled()) throw Error{"it was cancelled"};
            told.outcome = ApplyReport::Step::Outcome::failed;
            told.outcome =
                do_step(step) ? ApplyReport::Step::Outcome::done : ApplyReport::Step::Outcome::already;
            persistent_.insert(persistent_.end(), step.persistent.begin(), step.persistent.end());
        }
        watcher_.begins("checking again", number, report_.steps.size());
        if (watcher_.cancelled()) throw Error{"it was cancelled"};
    }

    /// Whether there was something to do.
    bool do_step(const PlanStep& step) {
        if (step.kind == PlanStep::Kind::wait) {
            wait_for(step.queues);
            return true;
        }
        const auto read = [&] { return host_.read_for(step.mdev.value_or(*mdev_), step.queues); };
        const auto changes = changes_of(step, read(), host_);
        if (changes.empty()) return false;
        // First written down: who finds it undone has nothing to undo.
        record_.changes.insert(record_.changes.end(), changes.begin(), changes.end());
        records_.write(record_);
        if (step.kind == PlanStep::Kind::load_driver) host_.load_driver();
        for (const auto& write : step.writes)
            host_.write(write);
        // What binds queues may take its time: wait_for() waits for it, and the check sees it.
        if (step.kind != PlanStep::Kind::reserve && !changes_of(step, read(), host_).empty())
            throw Error{fmt::format("the kernel took it without a word, but it is not done: {}", step.what)};
        return true;
    }

    void wait_for(const std::vector<Apqn>& queues) {
        const auto deadline = host_.clock() + options_.binding_patience;
        while (true) {
            const auto now = host_.read_for(*mdev_, queues);
            const bool bound = std::all_of(queues.begin(), queues.end(), [&](Apqn apqn) {
                const auto* const queue = now.find_queue(apqn);
                return queue != nullptr && queue->bound_to_vfio_ap();
            });
            const auto& bindings = now.ap ? now.ap->bindings : std::nullopt;
            if (bound && (!bindings || bindings->find("complete") != std::string::npos)) return;
            if (watcher_.cancelled()) throw Error{"it was cancelled"};
            if (host_.clock() >= deadline) {
                // Some other queue has no driver: none of the guest's business.
                if (bound) return;
                throw Error{fmt::format(
                    "not all queues of the guest are bound to vfio_ap after {} s",
                    std::chrono::duration_cast<std::chrono::seconds>(options_.binding_patience).count())};
            }
            host_.pause(between_looks);
        }
    }

    void check_again(const Plan& plan) {
        report_.verdict = plan.report.verdict;
        if (is_green(plan)) return;
        const auto step = std::find_if(plan.steps.begin(), plan.steps.end(),
                                       [](const PlanStep& each) { return each.host != Side::source; });
        throw Error{fmt::format("all steps were done, but the check is not green: {}",
                                plan.obstacles.empty() ? step->why : plan.obstacles.front().message)};
    }

    /// In reverse order, to the end, whatever fails on the way: what can be as before, shall be.
    void undo_from(std::size_t first) {
        report_.state = ApplyState::undone;
        std::vector<AppliedChange> stuck;
        for (auto number = record_.changes.size(); number-- > first;) {
            const auto& change = record_.changes[number];
            const auto what = text_of(change);
            watcher_.begins("undoing: " + what, record_.changes.size() - number - 1,
                            record_.changes.size() - first);
            const auto [outcome, text] = vfioap::undo(record_.changes, number, *mdev_, host_);
            const ApplyReport::Item item{text.empty() ? what : fmt::format("{}: {}", what, text), {}};
            // What an apply leaves behind that was not finished is not as before, whoever has to do with it.
            const bool mends = all_ || change.kind == AppliedChange::Kind::driver;
            if (outcome == Undoing::Outcome::undone) {
                report_.undone.push_back(item);
            } else if (outcome == Undoing::Outcome::left && mends) {
                report_.left.push_back(item);
            } else if (outcome != Undoing::Outcome::idle) {
                report_.failed.push_back(item);
                stuck.insert(stuck.begin(), change);
            }
        }
        put_files_back();
        record_.changes.resize(first);
        record_.changes.insert(record_.changes.end(), stuck.begin(), stuck.end());
        record_.finished = record_.changes.size();
        try {
            records_.write(record_);
        } catch (const Error& error) {
            report_.failed.push_back({error.what(), {}});
        }
        if (!report_.failed.empty()) report_.state = ApplyState::failed;
    }

    /// Those of finished applies only where all is taken back.
    void put_files_back() {
        std::vector<KeptFile> stay;
        for (const auto& file : record_.files) {
            if (!all_ && file.written) {
                stay.push_back(file);
                continue;
            }
            try {
                const auto now = read_file(file.path, max_kept_file);
                if (now == file.before) continue;
                if (!file.written || now != file.after) {
                    report_.left.push_back(
                        {file.path + ": it is not what it was, nor what was written here", {}});
                    continue;
                }
                if (file.before) {
                    put_back(file.path, *file.before);
                } else if (::unlink(file.path.c_str()) != 0) {
                    throw SystemError{"remove", file.path, errno};
                }
                report_.undone.push_back({file.path, {}});
            } catch (const Error& error) {
                report_.failed.push_back({error.what(), {}});
                stay.push_back(file);
            }
        }
        record_.files = std::move(stay);
    }

    /// What fails here is said, and nothing is undone for it: the guest can come.
    void keep() {
        if (persistent_.empty()) return;
        if (!options_.keeping) {
            report_.left.push_back({"not kept for the next boot", persistent_});
            return;
        }
        watcher_.begins("keeping it for the next boot", report_.steps.size(), report_.steps.size());
        try {
            remember_files(false);
            for (const auto& command : persistent_) {
                if (options_.keeping->run(tool_of(command), command)) {
                    report_.kept.push_back(command);
                } else {
                    report_.left.push_back({"not kept for the next boot", {command}});
                }
            }
            remember_files(true);
        } catch (const std::exception& error) {
            report_.left.push_back(
                {fmt::format("whether it is kept for the next boot is not known: {}", error.what()),
                 persistent_});
        }
    }

    /// Before the commands run, all files that may be written; afterwards those that were.
    void remember_files(bool written) {
        const auto now = kept_files(options_.keeping->etc);
        const auto text_now = [&](const std::string& path) {
            const auto found = now.find(path);
            return found == now.end() ? std::nullopt : std::optional{found->second};
        };
        const auto known = [this](const std::string& path) {
            return std::find_if(record_.files.begin(), record_.files.end(),
                                [&](const KeptFile& file) { return file.path == path; });
        };
        if (!written) before_ = now;
        for (const auto& [path, text] : now) {
            if (known(path) != record_.files.end()) continue;
            const auto found = before_.find(path);
            record_.files.push_back(
                {path, found == before_.end() ? std::nullopt : std::optional{found->second}, {}, false});
        }
        std::vector<KeptFile> files;
        for (auto& file : record_.files) {
            if (written) {
                file.after = text_now(file.path);
                file.written = true;
            }
            if (!written || file.after != file.before) files.push_back(file);
        }
        record_.files = std::move(files);
        records_.write(record_);
    }

    ApplyHost& host_;
    const AppliedRecords& records_;
    const ApplyOptions& options_;
    ApplyWatcher& watcher_;
    ApplyReport report_;
    std::optional<Uuid> mdev_;
    AppliedRecord record_;
    bool all_ = false;  // all that was ever applied is taken back
    std::vector<std::string> persistent_;
    std::map<std::string, std::string> before_;  // files, before the commands
};

std::string_view to_text(ApplyState state) {
    static constexpr std::array<std::string_view, 5> words{"running", "done", "undone", "refused", "failed"};
    return words[static_cast<std::size_t>(state)];
}

std::string_view to_text(ApplyReport::Step::Outcome outcome) {
    static constexpr std::array<std::string_view, 4> words{"done", "already", "failed", "not-begun"};
    return words[static_cast<std::size_t>(outcome)];
}

ApplyReport Applier::apply(const Guest& guest, const Source& source, const PlanOptions& options) {
    return Work{*this}.apply(guest, source, options);
}

ApplyReport Applier::take_back(const Uuid& mdev, const std::string& user) {
    return Work{*this}.undo(mdev, user, true);
}

ApplyReport Applier::recover(const Uuid& mdev) {
    return Work{*this}.undo(mdev, {}, false);
}

std::string render_apply_json(const ApplyReport& report) {
    const auto items = [](const std::vector<ApplyReport::Item>& list) {
        Json array = Json::array();
        for (const auto& item : list)
            array.push_back({{"text", item.text}, {"commands", item.commands}});
        return array;
    };
    Json steps = Json::array();
    for (const auto& step : report.steps) {
        steps.push_back({{"step", step.kind},
                         {"rule", step.rule},
                         {"text", step.text},
                         {"outcome", to_text(step.outcome)}});
    }
    const Json document{{"schema", apply_schema},
                        {"action", report.undoing ? "undo" : "apply"},
                        {"state", to_text(report.state)},
                        {"reason", report.reason},
                        {"guest", report.guest},
                        {"mdev", report.mdev ? Json(report.mdev->to_string()) : Json(nullptr)},
                        {"host", report.host},
                        {"plan", report.plan_state ? Json(to_text(*report.plan_state)) : Json(nullptr)},
                        {"verdict", report.verdict ? Json(to_text(*report.verdict)) : Json(nullptr)},
                        {"steps", std::move(steps)},
                        {"undone", items(report.undone)},
                        {"failed", items(report.failed)},
                        {"left", items(report.left)},
                        {"remaining", items(report.remaining)},
                        {"kept", report.kept}};
    return document.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace vfioap
