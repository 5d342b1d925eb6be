// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/destinations.h"

#include "ap/error.h"
#include "cli/service_client.h"
#include "host/snapshot.h"
#include "service/log.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <sys/stat.h>

namespace vfioap {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds first_retry = 5s;
constexpr std::chrono::milliseconds longest_retry = 5min;
/// A change is often the first of several.
constexpr auto settle = 500ms;
/// Some things change without a sign.
constexpr auto retry_after = 10min;

}  // namespace

RemoteFollower::RemoteFollower(std::string host, std::shared_ptr<const Event> changed)
    : host_{std::move(host)},
      changed_{std::move(changed)},
      problem_{host_ + ": it has not answered yet"},
      thread_{[this] { run(); }} {}

RemoteFollower::~RemoteFollower() {
    stop_.raise();
    thread_.join();
}

std::shared_ptr<const Inventory> RemoteFollower::inventory() const {
    const std::lock_guard lock{mutex_};
    if (!inventory_) throw UnreachableError{problem_};
    return inventory_;
}

void RemoteFollower::tell(std::shared_ptr<const Inventory> inventory, std::string problem) {
    {
        const std::lock_guard lock{mutex_};
        inventory_ = std::move(inventory);
        problem_ = std::move(problem);
    }
    changed_->raise();
}

void RemoteFollower::run() {
    auto retry = first_retry;
    do {
        try {
            ServiceClient service{{host_, false, stop_.fd()}};
            // Before the first look: nothing is missed in between.
            service.follow();
            do {
                tell(std::make_shared<const Inventory>(service.inventory()), {});
                retry = first_retry;
            } while (!service.wait_for_change(retry_after) || !stop_.wait(settle));
        } catch (const std::exception& error) {
            tell(nullptr, error.what());
        }
    } while (!stop_.wait(std::exchange(retry, std::min(retry * 2, longest_retry))));
}

Destination::Destination(std::string name, std::string local_root,
                         const std::shared_ptr<const Event>& changed)
    : name_{std::move(name)}, local_root_{std::move(local_root)} {
    try {
        const auto location = parse_host_location(name_, local_root_);
        if (location.kind == HostLocation::Kind::remote)
            remote_ = std::make_unique<RemoteFollower>(location.value, changed);
    } catch (const Error&) {
        // A file may come yet.
    }
}

Host Destination::open() {
    if (remote_) return Host{remote_->inventory()};
    const auto location = parse_host_location(name_, local_root_);
    if (location.kind != HostLocation::Kind::snapshot) return Host{location};
    struct stat info {};
    if (::stat(location.value.c_str(), &info) != 0) throw SystemError{"open", location.value, errno};
    const Version version{info.st_dev, info.st_ino, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
    if (!snapshot_ || version != version_) {
        snapshot_ = std::make_shared<const Inventory>(load_snapshot(location.value));
        version_ = version;
    }
    return Host{snapshot_};
}

DestinationVerdicts check_destinations(
    const std::vector<Uuid>& mdevs, const std::vector<std::shared_ptr<Destination>>& destinations,
    const std::function<Verdict(const Uuid& mdev, const Host& destination)>& check) {
    DestinationVerdicts known;
    for (const auto& destination : destinations) {
        auto& problem = known.problems[destination->name()];
        try {
            const Host target{destination->open()};
            for (const auto& mdev : mdevs)
                known.verdicts[mdev][destination->name()] = to_text(check(mdev, target));
        } catch (...) {
            problem = error_text(std::current_exception());
            for (const auto& mdev : mdevs)
                known.verdicts[mdev][destination->name()] = to_text(Verdict::undetermined);
        }
    }
    return known;
}

}  // namespace vfioap
