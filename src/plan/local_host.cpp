// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plan/local_host.h"

#include "ap/error.h"
#include "file/descriptor.h"
#include "file/process.h"
#include "file/replace_file.h"
#include "host/attributes.h"

#include <cerrno>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace vfioap {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto longest_command = 60s;
constexpr std::size_t max_attribute = 4096;

bool run_shell(const std::string& command) {
    ProcessOrder order{{"/bin/sh", "-c", command}};
    order.own_group = true;
    return run_process(order, {longest_command}).ok();
}

}  // namespace

Inventory LocalHost::read_for(const Uuid& mdev, const std::vector<Apqn>& queues) {
    auto inventory = root_.read_for(mdev, queues);
    keys_.merge_into(inventory);
    return inventory;
}

std::string LocalHost::driver_override(Apqn queue) {
    const auto path = fmt::format("{}/{}/driver_override", path_, queue_path(queue));
    const auto text = read_file(path, max_attribute);
    const auto parsed = parse_text(trimmed(text.value_or("")));
    if (!parsed) throw InputError{path, "expected the name of a driver"};
    // Some buses print that where none is set.
    return *parsed == "(null)" ? std::string{} : *parsed;
}

void LocalHost::write(const SysfsWrite& write) {
    const auto path = path_ + '/' + write.path;
    const Descriptor file{::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY)};
    if (!file.valid()) throw SystemError{"write " + write.value + " to", path, errno};
    const auto text = write.value + '\n';
    // One write: an attribute takes no half of a value.
    ssize_t written = -1;
    do {
        written = ::write(file.get(), text.data(), text.size());
    } while (written < 0 && errno == EINTR);
    if (written != static_cast<ssize_t>(text.size()))
        throw SystemError{"write " + write.value + " to", path, written < 0 ? errno : EIO};
}

void LocalHost::load_driver() {
    if (!root_.is_real())
        throw Error{fmt::format("the driver vfio_ap is not loaded, and {} is not /sys", path_)};
    if (!run_shell("modprobe vfio_ap || systemctl start modprobe@vfio_ap.service"))
        throw Error{"the driver vfio_ap could not be loaded; by hand: modprobe vfio_ap"};
}

void LocalHost::pause(std::chrono::milliseconds time) {
    std::this_thread::sleep_for(time);
}

std::chrono::milliseconds LocalHost::clock() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch());
}

bool run_command(std::string_view tool, const std::string& command) {
    // What they write below /etc is for all to read, as from anywhere else.
    return run_shell(fmt::format("umask 022; command -v {} && {{ {}; }}", tool, command));
}

}  // namespace vfioap
