// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plan/plan.h"

#include "compat/contents.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vfioap {
namespace {

bool has_commands(const Finding& finding) {
    return std::any_of(finding.remedies.begin(), finding.remedies.end(),
                       [](const Remedy& remedy) { return !remedy.commands.empty(); });
}

std::string count_text(std::size_t count) {
    return fmt::format("{} queue{}", count, count == 1 ? "" : "s");
}

/// Takes up what another mdev's definition says of it, if it has one.
std::vector<std::string> redefine_commands(const Uuid& uuid) {
    const auto& name = uuid.to_string();
    return {
        fmt::format("if mdevctl list --defined | grep -q {0}; then mdevctl undefine --uuid {0}; "
                    "mdevctl define --auto --uuid {0}; fi",
                    name)};
}

class Planner {
  public:
    Planner(const Guest& guest, const Source& source, const Inventory& destination,
            const PlanOptions& options)
        : source_{source}, destination_{destination}, options_{options} {
        plan_.report = check(guest, source, destination, options.check);
        plan_.mechanism = reservation_of(destination);
    }

    Plan run() {
        for (const auto& finding : report().findings)
            sort_out(finding);
        if (!plan_.obstacles.empty()) return finish();
        // What has to be there for the next step comes first.
        add_driver();
        add_cards();
        add_releases();
        add_reservation();
        add_wait();
        add_mdev();
        add_allowance();
        return finish();
    }

  private:
    [[nodiscard]] const Report& report() const { return plan_.report; }
    /// Profile restore gives the mdev its contents on arrival.
    [[nodiscard]] bool filled_beforehand() const { return report().profile != Profile::restore; }

    /// A finding is mended by a step, or by what mends another, or stands in the way.
    void sort_out(const Finding& finding) {
        const bool mendable = has_commands(finding);
        // Of the source nothing is changed but what allows the move.
        if (finding.host != Side::destination && finding.rule != RuleId::mdev_not_migratable) {
            if (finding.severity == Severity::error) add_obstacle(finding);
            return;
        }
        switch (finding.rule) {
            case RuleId::kernel_no_vfio_ap:
                if (!mendable || !destination_.ap) return add_obstacle(finding);
                driver_ = &finding;
                return;
            case RuleId::queue_deconfigured:
                // A card that is not there has no switch.
                if (!mendable) break;
                deconfigured_ = &finding;
                return;
            case RuleId::queue_not_bound:
                not_bound_ = &finding;
                return;
            case RuleId::queue_assigned_elsewhere:
                return sort_out_owner(finding);
            case RuleId::mdev_missing:
                missing_ = &finding;
                return;
            case RuleId::mdev_not_migratable:
                if (!mendable) break;
                not_migratable_ = &finding;
                return;
            case RuleId::queue_count:
            case RuleId::queue_not_assigned:
            case RuleId::config_filtered:
            case RuleId::control_domain_missing:
            case RuleId::control_domain_extra:
                if (mendable) {
                    if (contents_ == nullptr) contents_ = &finding;
                    return;
                }
                // Fewer queues than the guest had: each that is not there has a finding of its own. So has
                // what makes the kernel withhold an adapter, unless the kernel gives no reason.
                if (finding.rule == RuleId::queue_count) return;
                if (finding.rule == RuleId::config_filtered && has_culprit(finding)) return;
                break;
            default:
                break;
        }
        if (finding.severity == Severity::error) add_obstacle(finding);
    }

    /// Whether one of the guest's other queues on the same adapters is not bound or not there.
    [[nodiscard]] bool has_culprit(const Finding& filtered) const {
        const auto adapters = adapters_of(filtered.queues);
        return std::any_of(report().findings.begin(), report().findings.end(), [&](const Finding& other) {
            return (other.rule == RuleId::queue_not_bound || other.rule == RuleId::queue_missing) &&
                   !(adapters_of(other.queues) & adapters).none();
        });
    }

    void sort_out_owner(const Finding& finding) {
        const auto uuid = Uuid::parse(finding.destination);
        const Mdev* const owner = uuid ? destination_.find_mdev(*uuid) : nullptr;
        const auto used = owner == nullptr ? std::nullopt : is_in_use(destination_, *owner);
        if (used == false && !options_.leave_unused) {
            releases_.emplace_back(owner, &finding);
            return;
        }
        auto& obstacle = add(finding);
        obstacle.owner = uuid;
        if (used == true) {
            obstacle.message += ", which a guest uses";
            obstacle.todo = {
                fmt::format("find the guest that uses mdev {} (virsh dumpxml), and move it or take the "
                            "queues from it, if it can do without them",
                            finding.destination),
                "or choose another destination"};
        } else if (used == false) {
            obstacle.message += ", which no guest uses";
            obstacle.todo = {
                "plan without --leave-unused to take them from it, if no guest is to start with it"};
        } else {
            obstacle.message += "; whether a guest uses it, this kernel does not say";
            obstacle.todo = {fmt::format(
                "look which guest has mdev {} (virsh dumpxml); if none is to have it: {}",
                finding.destination, finding.remedies.empty() ? "" : finding.remedies.front().text)};
        }
    }

    PlanObstacle& add(const Finding& finding) {
        PlanObstacle obstacle;
        obstacle.rule = finding.rule;
        obstacle.host = finding.host;
        obstacle.queues = finding.queues;
        obstacle.control_domains = finding.control_domains;
        obstacle.message = finding.message;
        plan_.obstacles.push_back(std::move(obstacle));
        return plan_.obstacles.back();
    }

    void add_obstacle(const Finding& finding) {
        auto& obstacle = add(finding);
        obstacle.undetermined = finding.rule == RuleId::host_unreadable ||
                                finding.rule == RuleId::config_truncated ||
                                finding.rule == RuleId::guest_state_missing;
        for (const auto& remedy : finding.remedies)
            obstacle.todo.push_back(remedy.text);
    }

    PlanStep& add_step(PlanStep::Kind kind, const Finding& finding, std::string what) {
        PlanStep step;
        step.kind = kind;
        step.rule = finding.rule;
        step.why = finding.message;
        step.what = std::move(what);
        plan_.steps.push_back(std::move(step));
        return plan_.steps.back();
    }

    void add_driver() {
        if (driver_ == nullptr) return;
        auto& step = add_step(PlanStep::Kind::load_driver, *driver_, "load the driver vfio_ap");
        step.persistent = load_driver(Side::destination).back().commands;
    }

    void add_cards() {
        if (deconfigured_ == nullptr) return;
        const auto remedies = configure_cards(destination_, deconfigured_->queues);
        auto& step = add_step(PlanStep::Kind::configure, *deconfigured_, remedies.front().text);
        step.queues = deconfigured_->queues;
        for (const auto apid : adapters_of(step.queues).bits()) {
            if (destination_.find_card(apid) != nullptr)
                step.writes.push_back({card_path(apid) + "/config", "1"});
        }
    }

    void add_releases() {
        for (const auto& [owner, finding] : releases_) {
            const auto going = to_take_from(*owner, finding->queues);
            auto& step = add_step(PlanStep::Kind::release, *finding,
                                  fmt::format("unassign {} from mdev {}, which no guest uses",
                                              contents_text(going), owner->uuid.to_string()));
            step.queues = finding->queues;
            step.mdev = owner->uuid;
            // Never all at once: done again later, that would undo what its owner did since.
            step.writes = content_writes(owner->uuid, going, {}, nullptr);
            step.persistent = redefine_commands(owner->uuid);
        }
    }

    void add_reservation() {
        if (not_bound_ == nullptr) return;
        const auto& queues = not_bound_->queues;
        if (plan_.mechanism == Reservation::driver_override) {
            auto& step =
                add_step(PlanStep::Kind::reserve, *not_bound_,
                         fmt::format("give {} to vfio_ap by driver_override", count_text(queues.size())));
            step.queues = queues;
            for (const auto apqn : queues) {
                for (auto& write : override_writes(destination_, apqn))
                    step.writes.push_back(std::move(write));
                step.persistent.push_back(override_command(apqn));
            }
            return;
        }
        const auto bus = destination_.ap.value_or(ApBus{});
        std::vector<Apqn> reserved;
        std::vector<Apqn> unbound;
        for (const auto apqn : queues)
            (left_to_vfio_ap(bus, apqn) ? unbound : reserved).push_back(apqn);
        if (!reserved.empty()) {
            auto change = mask_change(bus, reserved);
            auto& step = add_step(PlanStep::Kind::reserve, *not_bound_, change.text());
            step.writes = {change.write()};
            step.persistent = {change.persistent_command()};
            step.queues = reserved;
            step.also_taken = std::move(change.others);
        }
        // The masks leave them to vfio_ap already, and loading the driver binds them.
        if (!unbound.empty() && driver_ == nullptr) {
            auto& step = add_step(PlanStep::Kind::reserve, *not_bound_,
                                  fmt::format("bind {} again, which the masks leave to vfio_ap already",
                                              count_text(unbound.size())));
            for (const auto apqn : unbound)
                step.writes.push_back(probe_write(apqn));
            step.queues = std::move(unbound);
        }
    }

    void add_wait() {
        const bool changes = std::any_of(plan_.steps.begin(), plan_.steps.end(), [](const PlanStep& step) {
            return step.kind == PlanStep::Kind::load_driver || step.kind == PlanStep::Kind::configure ||
                   step.kind == PlanStep::Kind::reserve;
        });
        // A kernel without the attribute binds before the write returns.
        if (!changes || report().queues.empty() || !destination_.ap || !destination_.ap->bindings) return;
        const auto* const cause = not_bound_ != nullptr ? not_bound_
                                  : driver_ != nullptr  ? driver_
                                                        : deconfigured_;
        auto& step =
            add_step(PlanStep::Kind::wait, *cause, "wait until the bus has bound every queue to its driver");
        step.queues = report().queues;
    }

    void add_mdev() {
        const auto uuid = report().guest.mdev;
        if (!uuid) return;
        const auto* const mdev = destination_.find_mdev(*uuid);
        const auto wanted = wanted_contents(source_, destination_);
        if (missing_ != nullptr) {
            auto& step =
                add_step(PlanStep::Kind::create, *missing_, fmt::format("create mdev {}", uuid->to_string()));
            step.mdev = uuid;
            step.writes = {create_write(*uuid)};
            // Defined as it is: where it is filled first, that step defines it.
            if (!filled_beforehand() || wanted.none()) step.persistent = define_commands(*uuid);
            if (filled_beforehand() && !wanted.none())
                add_fill(*missing_, *uuid, {}, wanted, wanted, destination_.has_feature("ap_config"));
        } else if (contents_ != nullptr && mdev != nullptr) {
            // What is not the guest's goes even where the host has not got it: the kernel looks at every
            // queue that the mdev's adapters and domains make.
            const auto host = destination_.ap.value_or(ApBus{}).ap_control_domain_mask.effective();
            const auto now = mdev->contents();
            MdevContents extra{now.adapters - wanted.adapters, now.domains - wanted.domains,
                               (now.control_domains & host) - wanted.control_domains};
            MdevContents missing{wanted.adapters - now.adapters, wanted.domains - now.domains,
                                 wanted.control_domains - now.control_domains};
            auto whole = wanted;
            if (!source_.control_domains_known) {
                extra.control_domains = missing.control_domains = Mask{};
                whole.control_domains = now.control_domains;
            }
            add_fill(*contents_, *uuid, extra, missing, whole, mdev->ap_config);
        }
    }

    void add_fill(const Finding& finding, const Uuid& uuid, const MdevContents& extra,
                  const MdevContents& missing, const MdevContents& whole, bool ap_config) {
        std::vector<std::string> parts;
        if (!extra.none()) parts.push_back(fmt::format("unassign {}", contents_text(extra)));
        if (!missing.none()) parts.push_back(fmt::format("assign {}", contents_text(missing)));
        auto& step = add_step(PlanStep::Kind::fill, finding,
                              fmt::format("{} in mdev {}", fmt::join(parts, " and "), uuid.to_string()));
        if (missing_ != nullptr) {
            // All of it is one finding; this is what its second half is for.
            step.what = fmt::format("assign {} to it", contents_text(missing));
            step.why = report().profile
                           ? "the guest's queues and control domains have to be there before it comes"
                           : "the guest's queues and control domains have to be there before the "
                             "device is attached";
        }
        step.mdev = uuid;
        step.queues = report().queues;
        step.writes = content_writes(uuid, extra, missing, ap_config ? &whole : nullptr);
        step.contents = whole;
        step.persistent = define_commands(uuid);
    }

    void add_allowance() {
        if (not_migratable_ == nullptr || !report().guest.mdev) return;
        auto& step = add_step(PlanStep::Kind::allow, *not_migratable_, "allow the mdev to migrate");
        step.host = Side::source;
        step.mdev = report().guest.mdev;
        step.writes = {{mdev_path(*step.mdev) + "/migratable", "1"}};
    }

    Plan finish() {
        const auto known = [](const PlanObstacle& obstacle) { return !obstacle.undetermined; };
        if (!plan_.obstacles.empty()) {
            plan_.state = std::any_of(plan_.obstacles.begin(), plan_.obstacles.end(), known)
                              ? Plan::State::blocked
                              : Plan::State::undetermined;
        } else if (!plan_.steps.empty()) {
            plan_.state = Plan::State::complete;
        }
        return std::move(plan_);
    }

    const Source& source_;
    const Inventory& destination_;
    const PlanOptions& options_;
    Plan plan_;
    // The findings that steps mend; they are the report's.
    const Finding* driver_ = nullptr;
    const Finding* deconfigured_ = nullptr;
    const Finding* not_bound_ = nullptr;
    const Finding* missing_ = nullptr;
    const Finding* contents_ = nullptr;
    const Finding* not_migratable_ = nullptr;
    std::vector<std::pair<const Mdev*, const Finding*>> releases_;
};

}  // namespace

std::string_view to_text(PlanStep::Kind kind) {
    static constexpr std::array<std::string_view, 8> words{"load-driver", "configure", "release", "reserve",
                                                           "wait",        "create",    "fill",    "allow"};
    return words[static_cast<std::size_t>(kind)];
}

std::string_view to_text(Plan::State state) {
    static constexpr std::array<std::string_view, 4> words{"nothing-to-do", "complete", "blocked",
                                                           "undetermined"};
    return words[static_cast<std::size_t>(state)];
}

std::vector<std::string> commands_of(const PlanStep& step) {
    if (step.kind == PlanStep::Kind::load_driver) return {"modprobe vfio_ap"};
    if (step.kind == PlanStep::Kind::wait)
        return {"timeout 60 sh -c 'until grep -q complete /sys/bus/ap/bindings; do sleep 1; done'"};
    std::vector<std::string> commands;
    for (const auto& write : step.writes)
        commands.push_back(command_of(write));
    return commands;
}

std::vector<Uuid> rivals_of(const Guest& guest, const Source& source, const Inventory& destination) {
    const auto queues = apqns_of(source.configuration);
    const auto adapters = adapters_of(queues);
    const auto domains = domains_of(queues);
    std::vector<Uuid> rivals;
    for (const auto& mdev : destination.mdevs) {
        if (!guest.mdevs.empty() && mdev.uuid == guest.mdevs.front()) continue;
        if (!(mdev.adapters & adapters).none() && !(mdev.domains & domains).none())
            rivals.push_back(mdev.uuid);
    }
    return rivals;
}

void add_queues(Inventory& inventory, const Inventory& more) {
    for (const auto& queue : more.queues) {
        const auto found = std::find_if(inventory.queues.begin(), inventory.queues.end(),
                                        [&](const Queue& other) { return other.apqn == queue.apqn; });
        if (found == inventory.queues.end()) {
            inventory.queues.push_back(queue);
        } else if (queue.status != QueueStatus::absent) {
            found->status = queue.status;
        }
    }
    inventory.sort();
}

Plan make_plan(const Guest& guest, const Source& source, const Inventory& destination,
               const PlanOptions& options) {
    return Planner{guest, source, destination, options}.run();
}

Plan make_plan(const Guest& guest, const Source& source, const ReadFor& read_for,
               const PlanOptions& options) {
    auto there = read_for(guest.mdevs.front(), apqns_of(source.configuration));
    if (there.complete) return make_plan(guest, source, there, options);
    // Whether a guest uses the mdevs that have the guest's queues is asked of each: it costs locks.
    for (const auto& rival : rivals_of(guest, source, there))
        add_queues(there, read_for(rival, {}));
    return make_plan(guest, source, there, options);
}

std::string_view tool_of(std::string_view command) {
    for (const std::string_view tool : {"mdevctl", "chzdev", "driverctl"}) {
        if (command.find(tool) != std::string_view::npos) return tool;
    }
    return "sh";
}

}  // namespace vfioap
