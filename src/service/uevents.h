// SPDX-License-Identifier: LGPL-2.1-or-later
// What the kernel tells of AP devices without being asked.
#pragma once

#include <optional>
#include <string>

struct udev_monitor;

namespace vfioap {

/// The kernel's events of the subsystems `ap`, `mdev` and `matrix`, by libudev. The kernel's own and not
/// those that udevd passes on: nothing here waits for rules, and a service in a network namespace of its own
/// gets only these. Never blocks.
class UeventMonitor {
  public:
    /// Nothing where the kernel's events cannot be had, as in many containers.
    static std::optional<UeventMonitor> open();
    ~UeventMonitor();
    UeventMonitor(UeventMonitor&& other) noexcept;
    UeventMonitor& operator=(UeventMonitor&& other) noexcept;
    UeventMonitor(const UeventMonitor&) = delete;
    UeventMonitor& operator=(const UeventMonitor&) = delete;

    /// To be polled for reading.
    [[nodiscard]] int fd() const;

    struct Event {
        std::string devpath;  ///< below /sys: `/devices/ap/card05/05.0004`
        bool lost = false;    ///< there were more than the socket could hold; devpath is empty
    };
    /// The next one; nothing when there is none for now.
    [[nodiscard]] std::optional<Event> next();

  private:
    explicit UeventMonitor(udev_monitor* monitor) : monitor_{monitor} {}
    udev_monitor* monitor_;
};

}  // namespace vfioap
