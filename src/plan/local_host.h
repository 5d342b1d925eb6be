// SPDX-License-Identifier: LGPL-2.1-or-later
// This very host, or what a sysfs root shows of one, as something that can be changed.
#pragma once

#include "host/known_keys.h"
#include "host/sysfs.h"
#include "plan/applied_change.h"

#include <string>
#include <string_view>

namespace vfioap {

class LocalHost final : public ApplyHost {
  public:
    /// `keys`: master keys that sysfs does not show any more. Throws as SysfsRoot does.
    LocalHost(const std::string& root, KnownKeys keys) : root_{root}, path_{root}, keys_{std::move(keys)} {}

    Inventory read_for(const Uuid& mdev, const std::vector<Apqn>& queues) override;
    std::string driver_override(Apqn queue) override;
    void write(const SysfsWrite& write) override;
    /// By modprobe, or systemd's unit for it where this process may not load modules; only where the root is
    /// the real sysfs.
    void load_driver() override;
    void pause(std::chrono::milliseconds time) override;
    [[nodiscard]] std::chrono::milliseconds clock() override;

  private:
    SysfsRoot root_;
    std::string path_;
    KnownKeys keys_;
};

/// Runs a shell command of a plan that needs `tool`, with nothing to read and nobody who reads what it says.
/// False: there is no such tool, it fails, or takes longer than a minute, when it is ended.
bool run_command(std::string_view tool, const std::string& command);

}  // namespace vfioap
