// SPDX-License-Identifier: LGPL-2.1-or-later
// The lock that s390-tools (chzdev, ap-check for mdevctl) hold while they change the AP configuration.
#pragma once

#include <chrono>
#include <functional>
#include <string>

namespace vfioap {

inline constexpr const char* ap_lock_file = "/run/lock/s390apconfig.lock";

/// Held as long as the object lives: a file with the holder's process id, which is linked into its place, so
/// that it is there whole or not at all (s390-tools, libutil/util_lockfile.c). The file of a process that is
/// gone is taken away, and so is one that says no process for two minutes.
class ApLock {
  public:
    /// Waits as long as `patience`, and no longer once `cancelled` says so, which is asked now and then.
    /// Throws Error where somebody else has it for so long, SystemError.
    ApLock(std::string path, std::chrono::milliseconds patience, const std::function<bool()>& cancelled);
    ~ApLock();
    ApLock(const ApLock&) = delete;
    ApLock& operator=(const ApLock&) = delete;
    ApLock(ApLock&&) = delete;
    ApLock& operator=(ApLock&&) = delete;

  private:
    std::string path_;
};

}  // namespace vfioap
