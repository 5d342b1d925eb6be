// SPDX-License-Identifier: LGPL-2.1-or-later
#include "move/drift_watch.h"

#include "ap/error.h"
#include "ap/queue_list.h"
#include "cli/service_client.h"
#include "compat/state.h"
#include "host/sysfs.h"
#include "service/host_glance.h"
#include "text/safe.h"

#include <exception>
#include <utility>

#include <fmt/format.h>

namespace vfioap {

using namespace std::chrono_literals;

namespace {

constexpr auto drift_interval = 1s;
constexpr std::size_t longest_detail = 1000;

}  // namespace

class DriftWatch::Side {
  public:
    Side() = default;
    virtual ~Side() = default;
    Side(const Side&) = delete;
    Side& operator=(const Side&) = delete;
    Side(Side&&) = delete;
    Side& operator=(Side&&) = delete;

    /// The host, where it may have changed since it was read; null: it has not. Throws Error.
    std::shared_ptr<const Inventory> read_if_changed() {
        // Until it could be judged, it has.
        due_ = has_changed() || due_;
        return due_ ? read() : nullptr;
    }
    /// What was read could be judged.
    void judged() { due_ = told_ = false; }
    /// True: nobody was told yet that it cannot be read or judged.
    bool tell_problem() { return !std::exchange(told_, true); }

  private:
    virtual bool has_changed() = 0;
    virtual std::shared_ptr<const Inventory> read() = 0;

    bool due_ = true;
    bool told_ = false;
};

namespace {

class SysfsSide final : public DriftWatch::Side {
  public:
    SysfsSide(const std::string& directory, Uuid mdev, std::vector<Apqn> queues)
        : root_{directory}, mdev_{std::move(mdev)}, queues_{std::move(queues)} {}

  private:
    bool has_changed() override { return glance_.look(root_.fd(), {}).any; }
    std::shared_ptr<const Inventory> read() override {
        auto inventory = std::make_shared<const Inventory>(root_.read_for(mdev_, queues_));
        glance_.expect(*inventory);
        inventory_ = inventory;
        return inventory;
    }

    SysfsRoot root_;
    Uuid mdev_;
    std::vector<Apqn> queues_;
    std::shared_ptr<const Inventory> inventory_;  // outlives the glance, which compares with it
    HostGlance glance_;
};

class ServiceSide final : public DriftWatch::Side {
  public:
    /// `stop`: when it is readable, every call ends.
    ServiceSide(const std::string& host, int stop) : client_{{host, true, stop}} { client_.follow(); }

  private:
    bool has_changed() override { return client_.wait_for_change(0ms); }
    std::shared_ptr<const Inventory> read() override {
        return std::make_shared<const Inventory>(client_.inventory());
    }

    ServiceClient client_;
};

}  // namespace

std::string difference(const GuestConfiguration& before, const GuestConfiguration& now) {
    const auto was = apqns_of(before);
    const auto is = apqns_of(now);
    if (was.size() != is.size()) return fmt::format("{} queues instead of {}", is.size(), was.size());
    if (was != is) return "other queues than before";
    if (before.control_domains != now.control_domains) return "other control domains than before";
    return {};
}

DriftWatch::DriftWatch(const HostLocation& destination, const std::optional<HostLocation>& source,
                       JudgedMove move)
    : move_{std::move(move)} {
    const auto& mdev = move_.state.mdev;
    const auto queues = apqns_of(move_.source.configuration);
    if (destination.kind == HostLocation::Kind::sysfs)
        destination_ = std::make_unique<SysfsSide>(destination.value, mdev, queues);
    if (destination.kind == HostLocation::Kind::remote)
        destination_ = std::make_unique<ServiceSide>(destination.value, stop_.fd());
    if (source && source->kind == HostLocation::Kind::sysfs)
        source_ = std::make_unique<SysfsSide>(source->value, mdev, std::vector<Apqn>{});
    // What was judged may have been judged a while ago: somebody had to be asked.
    judge(destination_.get(), &DriftWatch::judge_destination);
    judge(source_.get(), &DriftWatch::judge_source);
    thread_ = std::thread{[this] { run(); }};
}

DriftWatch::~DriftWatch() {
    {
        const std::lock_guard lock{mutex_};
        stopping_ = true;
    }
    stop_.raise();
    wake_.notify_all();
    thread_.join();
}

std::optional<Drift> DriftWatch::found(std::chrono::milliseconds most) {
    std::unique_lock lock{mutex_};
    if (!drift_ && most > 0ms) {
        const auto mine = ++asked_;
        wake_.notify_all();
        looked_.wait_for(lock, most, [&] { return done_ >= mine; });
    }
    return drift_;
}

std::vector<std::string> DriftWatch::take_problems() {
    const std::lock_guard lock{mutex_};
    return std::exchange(problems_, {});
}

void DriftWatch::run() {
    std::unique_lock lock{mutex_};
    while (!drift_) {
        wake_.wait_for(lock, drift_interval, [this] { return stopping_ || asked_ > done_; });
        if (stopping_) break;
        const auto asked = asked_;
        lock.unlock();
        look();
        lock.lock();
        done_ = asked;
        looked_.notify_all();
    }
}

void DriftWatch::judge(Side* side, Judge how) {
    if (side == nullptr) return;
    const auto inventory = side->read_if_changed();
    if (!inventory) return;
    auto drift = (this->*how)(*inventory);
    side->judged();
    const std::lock_guard lock{mutex_};
    if (!drift_) drift_ = std::move(drift);
}

void DriftWatch::look() {
    const auto look_at = [this](Side* side, auto how) {
        try {
            judge(side, how);
        } catch (const std::exception& error) {
            const std::lock_guard lock{mutex_};
            // What ends because this ends is no problem.
            if (!stopping_ && side->tell_problem()) problems_.emplace_back(error.what());
        }
    };
    look_at(destination_.get(), &DriftWatch::judge_destination);
    look_at(source_.get(), &DriftWatch::judge_source);
}

std::optional<Drift> DriftWatch::judge_destination(const Inventory& inventory) const {
    const auto report =
        check(move_.guest, move_.source, inventory, {move_.mode, move_.profile, false, true, false});
    for (const auto& finding : report.findings) {
        if (finding.severity != Severity::error || leaves_undetermined(finding.rule)) continue;
        const auto queues = finding.queues.empty() ? "" : ": " + queue_list_text(finding.queues);
        return Drift{rule(finding.rule).name, printable(finding.message + queues, longest_detail)};
    }
    if (report.verdict == Verdict::undetermined)
        throw Error{fmt::format("whether {} can still go to {} cannot be said", move_.guest.name,
                                report.destination.name)};
    return std::nullopt;
}

std::optional<Drift> DriftWatch::judge_source(const Inventory& inventory) const {
    const auto changed = [&](const std::string& how) {
        return Drift{rule(RuleId::config_changed).name,
                     fmt::format("{}: mdev {}: {}", inventory.name, move_.state.mdev.to_string(), how)};
    };
    if (inventory.find_mdev(move_.state.mdev) == nullptr) return changed("is not there any more");
    const auto how =
        difference(move_.state.configuration, state_of(inventory, move_.state.mdev).configuration);
    return how.empty() ? std::nullopt : std::optional{changed("it has " + how)};
}

}  // namespace vfioap
