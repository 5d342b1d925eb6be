// SPDX-License-Identifier: LGPL-2.1-or-later
// One mdev during a migration: the states of a VFIO device, with the stream that it gives or takes.
#pragma once

#include "ap/configuration.h"
#include "ap/uuid.h"
#include "compat/check.h"
#include "host/inventory.h"
#include "stream/layout.h"
#include "stream/states.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// Which end of a migration a device is.
enum class Role : std::uint8_t { source, destination };
std::string_view to_text(Role role);
std::optional<Role> parse_role(std::string_view text);

/// How much was read or written, or why not.
struct Transferred {
    std::size_t bytes = 0;
    int error = 0;  ///< errno, or 0
};

struct SaveTransfer;
struct ResumeTransfer;

/// The readable end of what a source gives. Outlives its device harmlessly. Not for several threads at once.
class SaveStream {
  public:
    explicit SaveStream(std::shared_ptr<SaveTransfer> transfer) : transfer_{std::move(transfer)} {}
    /// 0 bytes and no error: the end. ENODEV: the device is not saving any more; ENOMSG: PRE_COPY, in which
    /// there is nothing yet; ESPIPE: a position was given.
    Transferred read(std::span<std::uint8_t> out, std::optional<std::uint64_t> position = {});

  private:
    std::shared_ptr<SaveTransfer> transfer_;
};

/// The writable end of what a destination takes. Outlives its device harmlessly.
class ResumeStream {
  public:
    explicit ResumeStream(std::shared_ptr<ResumeTransfer> transfer) : transfer_{std::move(transfer)} {}
    /// All of `bytes` or none, as far as anybody is told. ENODEV: the device is not resuming any more; EBUSY:
    /// another thread is writing; ESPIPE: a position was given; EIO: more than the stream's own length;
    /// EINVAL: a byte that cannot be right. After the last two nothing is taken any more.
    Transferred write(std::span<const std::uint8_t> bytes, std::optional<std::uint64_t> position = {});

  private:
    std::shared_ptr<ResumeTransfer> transfer_;
};

/// What came of a request.
struct Outcome {
    int error = 0;       ///< errno, or 0
    std::string reason;  ///< one line; empty without an error
    explicit operator bool() const { return error == 0; }
};

/// Goes through the states as <linux/vfio.h> defines them. What the guest has is read once, at the arc
/// into STOP_COPY, so that a stream is of one moment; what came is judged once, whole, at RESUMING → STOP,
/// and nothing of the host is changed before that.
class MigrationDevice {
  public:
    struct Options {
        Uuid mdev;
        Role role = Role::source;
        /// Written by a source (empty: l3), expected by a destination (empty: found out).
        std::optional<Layout> layout;
        Profile profile = Profile::automatic;
        OptionalStates states;
        /// Destination: a guest that has the mdev is the one that is on its way in. Else the mdev of a
        /// running guest is not touched.
        bool incoming = false;
    };
    /// What the device asks of its host. Each may throw an Error.
    struct Side {
        /// Source: what the guest has, now.
        std::function<GuestConfiguration()> configuration;
        /// Destination: the inventory, with these queues in it.
        std::function<std::shared_ptr<const Inventory>(const Uuid&, const std::vector<Apqn>&)> inventory;
        /// Destination, profile restore: gives the mdev its contents. Empty: nothing is written, and
        /// restored() tells what would be.
        std::function<void(const Uuid&, const MdevContents&, const std::vector<Apqn>&)> restore;
    };

    MigrationDevice(Options options, Side side);
    ~MigrationDevice();
    MigrationDevice(const MigrationDevice&) = delete;
    MigrationDevice& operator=(const MigrationDevice&) = delete;
    MigrationDevice(MigrationDevice&&) = delete;
    MigrationDevice& operator=(MigrationDevice&&) = delete;

    [[nodiscard]] const Options& options() const { return options_; }
    [[nodiscard]] DeviceState state() const { return state_; }

    /// Goes the way to `wanted`, arc by arc. On an error the device is where the last arc that went well led
    /// it (see state()), or in ERROR after a stream that could not be taken. EINVAL: no such way; EOPNOTSUPP:
    /// not this end's part; else the errno of the arc, which for a destination is what the kernel's driver
    /// would answer.
    Outcome request(DeviceState wanted);
    /// Ends a transfer, whatever state it is in, and goes to RUNNING.
    void reset();

    /// The stream of this transfer, once. Throws SystemError: ENODEV where there is none, EBUSY when it was
    /// taken before.
    SaveStream take_save_stream();
    ResumeStream take_resume_stream();

    /// Bytes read or written in the present transfer, or the last one.
    [[nodiscard]] std::uint64_t bytes_transferred() const;
    /// The layout of the stream; of one that comes in: as far as it is known.
    [[nodiscard]] std::optional<Layout> layout() const;
    /// The judgement of the last stream that was taken whole.
    [[nodiscard]] const std::optional<Report>& report() const { return report_; }
    /// What profile restore gives, or would give, the mdev.
    [[nodiscard]] const std::optional<MdevContents>& restored() const { return restored_; }

  private:
    Outcome go(DeviceState next);
    Outcome save();
    Outcome resume();
    Outcome judge();
    void end_transfer();
    /// Hands a stream out, once.
    template <typename Stream, typename Transfer>
    Stream take(const std::shared_ptr<Transfer>& transfer, bool open);

    Options options_;
    Side side_;
    DeviceState state_ = DeviceState::running;
    std::shared_ptr<SaveTransfer> saving_;
    std::shared_ptr<ResumeTransfer> resuming_;
    std::optional<Report> report_;
    std::optional<MdevContents> restored_;
};

/// The devices that are open, one for each mdev.
class MigrationDevices {
  public:
    /// Throws SystemError EBUSY while another one for this mdev lives.
    std::shared_ptr<MigrationDevice> open(MigrationDevice::Options options, MigrationDevice::Side side);

  private:
    std::mutex mutex_;
    std::map<Uuid, std::weak_ptr<MigrationDevice>> open_;
};

}  // namespace vfioap
