// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plan/local_host.h"

#include "ap/error.h"
#include "host/attributes.h"
#include "host/descriptor.h"
#include "host/replace_file.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vfioap {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto longest_command = 60s;
constexpr std::size_t max_attribute = 4096;

/// Ends with its process group.
pid_t spawn_shell(const std::string& command) {
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t files;
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_init(&files);
    // Of those who spawn, some have signals blocked.
    sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setpgroup(&attributes, 0);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    for (const int fd : {0, 1, 2})
        ::posix_spawn_file_actions_addopen(&files, fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY, 0);
    std::array<std::string, 3> words{"sh", "-c", command};
    std::array<char*, 4> arguments{words[0].data(), words[1].data(), words[2].data(), nullptr};
    pid_t child = 0;
    const int error = ::posix_spawn(&child, "/bin/sh", &files, &attributes, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&files);
    ::posix_spawnattr_destroy(&attributes);
    if (error != 0) throw SystemError{"run", "/bin/sh", error};
    return child;
}

bool run_shell(const std::string& command) {
    const auto child = spawn_shell(command);
    const auto deadline = Clock::now() + longest_command;
    int status = 0;
    while (true) {
        const auto ended = ::waitpid(child, &status, WNOHANG);
        if (ended == child) return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (ended < 0 && errno != EINTR) return false;
        if (Clock::now() >= deadline) ::kill(-child, SIGKILL);
        std::this_thread::sleep_for(20ms);
    }
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
    if (path_ != "/sys")
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
