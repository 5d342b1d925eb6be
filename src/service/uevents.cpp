// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/uevents.h"

#include <cerrno>
#include <utility>

#include <libudev.h>

namespace vfioap {

std::optional<UeventMonitor> UeventMonitor::open() {
    udev* const context = ::udev_new();
    if (context == nullptr) return {};
    udev_monitor* const monitor = ::udev_monitor_new_from_netlink(context, "kernel");
    // The monitor keeps the context.
    ::udev_unref(context);
    if (monitor == nullptr) return {};
    UeventMonitor result{monitor};
    for (const auto* const subsystem : {"ap", "mdev", "matrix"}) {
        if (::udev_monitor_filter_add_match_subsystem_devtype(monitor, subsystem, nullptr) < 0) return {};
    }
    if (::udev_monitor_enable_receiving(monitor) < 0) return {};
    return result;
}

UeventMonitor::UeventMonitor(UeventMonitor&& other) noexcept
    : monitor_{std::exchange(other.monitor_, nullptr)} {}

UeventMonitor& UeventMonitor::operator=(UeventMonitor&& other) noexcept {
    std::swap(monitor_, other.monitor_);
    return *this;
}

UeventMonitor::~UeventMonitor() {
    if (monitor_ != nullptr) ::udev_monitor_unref(monitor_);
}

int UeventMonitor::fd() const {
    return ::udev_monitor_get_fd(monitor_);
}

std::optional<UeventMonitor::Event> UeventMonitor::next() {
    errno = 0;
    udev_device* const device = ::udev_monitor_receive_device(monitor_);
    if (device == nullptr) {
        if (errno == ENOBUFS) return Event{{}, true};
        return {};
    }
    const char* const path = ::udev_device_get_devpath(device);
    Event event{path != nullptr ? path : "", false};
    ::udev_device_unref(device);
    return event;
}

}  // namespace vfioap
