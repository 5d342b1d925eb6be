// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/capabilities.h"

#include "ap/error.h"
#include "file/descriptor.h"
#include "file/process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfioap {
namespace {

// <linux/iommufd.h> of 6.14; older headers lack them.
constexpr unsigned long ioas_map_file = _IO(';', 0x8f);
constexpr unsigned long ioas_change_process = _IO(';', 0x92);

/// Every command of iommufd begins with its structure's size, which the kernel compares with the least it
/// must have before it does anything (drivers/iommu/iommufd/main.c, iommufd_fops_ioctl): a size of 0 is
/// refused with EINVAL by a kernel that knows the command, and a command that it does not know with ENOTTY.
/// Neither has an effect.
std::optional<bool> knows(int fd, unsigned long command) {
    std::array<std::uint32_t, 16> nothing{};
    if (::ioctl(fd, command, nothing.data()) == 0) return {};
    if (errno == EINVAL) return true;
    if (errno == ENOTTY) return false;
    return {};
}

/// Runs a program, gives it `input`, and takes what it prints until it ends, or the time does. Nothing where
/// it cannot be run.
std::string answer_of(std::vector<std::string> words, std::string_view input, unsigned seconds) {
    constexpr std::size_t most = std::size_t{4} * 1024 * 1024;
    ProcessOrder order{std::move(words)};
    order.input = order.output = ProcessOrder::Stream::piped;
    order.environment = {"PATH=/usr/bin:/bin", "LC_ALL=C"};
    try {
        return run_process(order, {std::chrono::seconds{seconds}, most}, input).output;
    } catch (const SystemError&) {
        return {};
    }
}

bool may_be_run(const std::string& path) {
    struct stat info {};
    return path.starts_with('/') && ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
           info.st_uid == 0 && (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/// The line of `answer` that replies to the request `id`.
std::optional<std::string_view> reply(std::string_view answer, std::string_view id) {
    while (!answer.empty()) {
        const auto line = answer.substr(0, answer.find('\n'));
        if (line.find(id) != std::string_view::npos) return line;
        answer.remove_prefix(std::min(line.size() + 1, answer.size()));
    }
    return {};
}

}  // namespace

Iommufd probe_iommufd(const std::string& device, const std::string& loaded) {
    Iommufd iommufd;
    if (::access(loaded.c_str(), F_OK) != 0) {
        iommufd.present = ::access(device.c_str(), F_OK) == 0;
        return iommufd;
    }
    const Descriptor fd{::open(device.c_str(), O_RDWR | O_CLOEXEC)};
    if (!fd.valid()) {
        // The kernel has it, whatever of it is shown here.
        iommufd.present = true;
        return iommufd;
    }
    struct stat info {};
    iommufd.present = ::fstat(fd.get(), &info) == 0 && S_ISCHR(info.st_mode);
    if (!iommufd.present) return iommufd;
    iommufd.map_file = knows(fd.get(), ioas_map_file);
    iommufd.change_process = knows(fd.get(), ioas_change_process);
    return iommufd;
}

Qemu probe_emulator(const std::string& path, unsigned seconds) {
    Qemu qemu;
    if (!may_be_run(path)) return qemu;
    static constexpr std::string_view before = "QEMU emulator version ";
    const auto said = answer_of({path, "-version"}, "", seconds);
    if (const auto at = said.find(before); at != std::string::npos) {
        auto version = said.substr(at + before.size(), 64);
        version.resize(std::min(version.find_first_not_of("0123456789."), version.size()));
        if (!version.empty()) qemu.version = std::move(version);
    }
    if (!qemu.version) return qemu;
    const auto answer = answer_of({path, "-machine", "none", "-S", "-nodefaults", "-no-user-config",
                                   "-display", "none", "-qmp", "stdio"},
                                  "{\"execute\":\"qmp_capabilities\"}\n"
                                  "{\"execute\":\"query-qmp-schema\",\"id\":\"vfioap-schema\"}\n"
                                  "{\"execute\":\"device-list-properties\",\"arguments\":{\"typename\":"
                                  "\"vfio-ap\"},\"id\":\"vfioap-device\"}\n"
                                  "{\"execute\":\"quit\"}\n",
                                  seconds);
    const auto has = [](std::string_view line, std::string_view word) {
        return line.find(word) != std::string_view::npos;
    };
    if (const auto line = reply(answer, "\"vfioap-schema\""); line && has(*line, "\"return\""))
        qemu.cpr_transfer = has(*line, "\"cpr-transfer\"");
    if (const auto line = reply(answer, "\"vfioap-device\""); line && has(*line, "\"return\""))
        qemu.vfio_ap_iommufd = has(*line, "\"iommufd\"");
    return qemu;
}

const Qemu& EmulatorProbe::ask() {
    struct stat info {};
    if (::stat(path_.c_str(), &info) != 0) {
        seen_ = {};
        qemu_ = {};
        return qemu_;
    }
    const std::array<std::int64_t, 5> now{static_cast<std::int64_t>(info.st_dev),
                                          static_cast<std::int64_t>(info.st_ino), info.st_ctim.tv_sec,
                                          info.st_ctim.tv_nsec, info.st_size};
    if (now != seen_) {
        qemu_ = probe_emulator(path_);
        seen_ = now;
    }
    return qemu_;
}

}  // namespace vfioap
