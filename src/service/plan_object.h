// SPDX-License-Identifier: LGPL-2.1-or-later
// /org/vfioap1/plan/<n>: a plan that is carried out or taken back, on the bus.
#pragma once

#include "plan/apply.h"
#include "service/event.h"
#include "service/requests.h"

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "Plan_adaptor.h"

namespace vfioap {

/// What the thread that does it tells the one that serves the bus.
class PlanProgress final : public ApplyWatcher {
  public:
    struct Seen {
        ApplyState state = ApplyState::running;
        std::string step;
        std::uint32_t done = 0;
        std::uint32_t total = 0;
        std::string report;  ///< JSON; empty: not finished
    };

    /// `changed` is raised whenever there is something to tell.
    explicit PlanProgress(std::shared_ptr<const Event> changed) : changed_{std::move(changed)} {}

    void begins(const std::string& what, std::size_t done, std::size_t total) override;
    [[nodiscard]] bool cancelled() override { return cancelled_; }
    void finish(const ApplyReport& report);
    void cancel() { cancelled_ = true; }
    [[nodiscard]] Seen seen() const;

  private:
    std::shared_ptr<const Event> changed_;
    std::atomic<bool> cancelled_ = false;
    mutable std::mutex mutex_;
    Seen seen_;
};

class PlanObject final
    : public std::enable_shared_from_this<PlanObject>,
      public sdbus::AdaptorInterfaces<org::vfioap1::Plan_adaptor, sdbus::ManagedObject_adaptor> {
  public:
    /// `close`: has the object taken away soon, not at once.
    PlanObject(sdbus::IConnection& connection, const std::string& path, Requests& requests, std::string owner,
               std::string guest, Uuid mdev, std::shared_ptr<PlanProgress> progress,
               std::function<void()> close);
    ~PlanObject();
    PlanObject(const PlanObject&) = delete;
    PlanObject& operator=(const PlanObject&) = delete;
    PlanObject(PlanObject&&) = delete;
    PlanObject& operator=(PlanObject&&) = delete;

    [[nodiscard]] const std::string& owner() const { return owner_; }
    [[nodiscard]] const Uuid& mdev() const { return mdev_; }
    [[nodiscard]] bool running() const { return told_.state == ApplyState::running; }
    /// Has the work ended, and everything undone.
    void cancel() { progress_->cancel(); }
    /// Nobody wants it any more: it goes as soon as it is finished.
    void abandon();
    /// Tells what has changed.
    void update();

  private:
    void Cancel(sdbus::Result<>&& result) override;
    void GetReport(sdbus::Result<std::string>&& result) override;
    void Close(sdbus::Result<>&& result) override;
    std::string State() override { return std::string{to_text(told_.state)}; }
    std::string Guest() override { return guest_; }
    std::string Mdev() override { return mdev_.to_string(); }
    std::string Step() override { return told_.step; }
    std::uint32_t StepsDone() override { return told_.done; }
    std::uint32_t StepsTotal() override { return told_.total; }

    /// Serves a call with `work(*this)`, unless the plan is closed before its turn comes.
    template <typename... Out, typename Work>
    void serve(const char* member, sdbus::Result<Out...>&& result, Work work);

    Requests& requests_;
    std::string owner_;
    std::string guest_;
    Uuid mdev_;
    std::shared_ptr<PlanProgress> progress_;
    std::function<void()> close_;
    PlanProgress::Seen told_;
    bool abandoned_ = false;
};

}  // namespace vfioap
