// SPDX-License-Identifier: LGPL-2.1-or-later
// /org/vfioap1/migration/<n>: one end of a migration, on the bus.
#pragma once

#include "service/requests.h"
#include "stream/device.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "Migration_adaptor.h"

namespace vfioap {

class MigrationObject final
    : public std::enable_shared_from_this<MigrationObject>,
      public sdbus::AdaptorInterfaces<org::vfioap1::Migration_adaptor, sdbus::ManagedObject_adaptor> {
  public:
    /// `close`: has the object taken away soon, not at once.
    MigrationObject(sdbus::IConnection& connection, const std::string& path, Requests& requests,
                    std::string owner, std::shared_ptr<MigrationDevice> device, bool aborts_job,
                    std::function<void()> close);
    ~MigrationObject();
    MigrationObject(const MigrationObject&) = delete;
    MigrationObject& operator=(const MigrationObject&) = delete;
    MigrationObject(MigrationObject&&) = delete;
    MigrationObject& operator=(MigrationObject&&) = delete;

    [[nodiscard]] const std::string& owner() const { return owner_; }
    [[nodiscard]] const MigrationDevice& device() const { return *device_; }
    /// Libvirt's job with the guest is to be aborted when the configuration drifts.
    [[nodiscard]] bool aborts_job() const { return aborts_job_; }

    /// This side's end of the stream, or -1; and what to wait for there, of poll(2).
    [[nodiscard]] int fd() const { return fd_; }
    [[nodiscard]] short events() const;
    /// Moves bytes as far as that goes without waiting.
    void pump();

  private:
    void SetState(sdbus::Result<>&& result, std::string state) override;
    void TakeStream(sdbus::Result<sdbus::UnixFd>&& result) override;
    void GetReport(sdbus::Result<std::string>&& result) override;
    void Reset(sdbus::Result<>&& result) override;
    void Close(sdbus::Result<>&& result) override;
    std::string State() override;
    std::string Mdev() override;
    std::string Role() override;
    std::string Layout() override;
    std::uint64_t BytesTransferred() override;

    /// Serves a call with `work(*this)`, unless the migration is closed before its turn comes.
    template <typename... Out, typename Work>
    void serve(const char* member, sdbus::Result<Out...>&& result, Work work);
    void set_state(const std::string& word);
    sdbus::UnixFd take_stream();
    void give();
    void take();
    void close_stream();
    void tell_changes();

    Requests& requests_;
    std::string owner_;
    std::shared_ptr<MigrationDevice> device_;
    bool aborts_job_;
    std::function<void()> close_;
    int fd_ = -1;
    std::optional<SaveStream> saving_;
    std::optional<ResumeStream> resuming_;
    std::vector<std::uint8_t> buffer_;
    std::size_t begin_ = 0;  // of what is in the buffer and was not given yet
    std::size_t end_ = 0;
    std::string told_state_;
    std::string told_layout_;
};

}  // namespace vfioap
