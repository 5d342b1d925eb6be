// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/plan_object.h"

#include "text/safe.h"

#include <utility>
#include <vector>

#include <fmt/format.h>

namespace vfioap {

void PlanProgress::begins(const std::string& what, std::size_t done, std::size_t total) {
    {
        const std::lock_guard lock{mutex_};
        // What another host called its things is in it.
        seen_.step = safe(what);
        seen_.done = static_cast<std::uint32_t>(done);
        seen_.total = static_cast<std::uint32_t>(total);
    }
    changed_->raise();
}

void PlanProgress::finish(const ApplyReport& report) {
    {
        const std::lock_guard lock{mutex_};
        seen_.state = report.state;
        seen_.step.clear();
        if (report.state == ApplyState::done) seen_.done = seen_.total;
        seen_.report = render_apply_json(report);
    }
    changed_->raise();
}

PlanProgress::Seen PlanProgress::seen() const {
    const std::lock_guard lock{mutex_};
    return seen_;
}

PlanObject::PlanObject(sdbus::IConnection& connection, const std::string& path, Requests& requests,
                       std::string owner, std::string guest, Uuid mdev,
                       std::shared_ptr<PlanProgress> progress, std::function<void()> close)
    : AdaptorInterfaces{connection, bus::ObjectPath{path}},
      requests_{requests},
      owner_{std::move(owner)},
      guest_{std::move(guest)},
      mdev_{std::move(mdev)},
      progress_{std::move(progress)},
      close_{std::move(close)} {
    registerAdaptor();
    emitInterfacesAddedSignal();
}

PlanObject::~PlanObject() {
    try {
        emitInterfacesRemovedSignal();
        unregisterAdaptor();
    } catch (const std::exception&) {
        // Mostly the bus is gone, and all objects with it.
    }
}

template <typename... Out, typename Work>
void PlanObject::serve(const char* member, sdbus::Result<Out...>&& result, Work work) {
    requests_.serve(
        getObject(), fmt::format("{}.{}", Plan_adaptor::INTERFACE_NAME, member), std::move(result),
        [weak = weak_from_this(), work = std::move(work)] {
            const auto self = weak.lock();
            if (!self) throw CallError{"Closed", "the plan is closed"};
            return work(*self);
        },
        owner_);
}

void PlanObject::Cancel(sdbus::Result<>&& result) {
    serve("Cancel", std::move(result), [](PlanObject& self) {
        self.cancel();
        return std::tuple<>{};
    });
}

void PlanObject::GetReport(sdbus::Result<std::string>&& result) {
    serve("GetReport", std::move(result), [](PlanObject& self) {
        self.update();
        if (self.running()) throw CallError{"NoReport", "it is not finished; the property State tells when"};
        return std::tuple{self.told_.report};
    });
}

void PlanObject::Close(sdbus::Result<>&& result) {
    serve("Close", std::move(result), [](PlanObject& self) {
        self.abandon();
        return std::tuple<>{};
    });
}

void PlanObject::abandon() {
    abandoned_ = true;
    if (!running()) close_();
}

void PlanObject::update() {
    const auto before = std::exchange(told_, progress_->seen());
    std::vector<std::string> changed;
    if (told_.state != before.state) changed.emplace_back("State");
    if (told_.step != before.step) changed.emplace_back("Step");
    if (told_.done != before.done) changed.emplace_back("StepsDone");
    if (told_.total != before.total) changed.emplace_back("StepsTotal");
    if (!changed.empty()) bus::emit_changed(getObject(), Plan_adaptor::INTERFACE_NAME, changed);
    if (abandoned_ && !running()) close_();
}

}  // namespace vfioap
