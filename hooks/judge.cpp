// SPDX-License-Identifier: LGPL-2.1-or-later
// vfioap-hook-judge: what vfioap-hook hands a guest with a vfio-ap device to. man 8 vfioap-hook.
//
// usage: vfioap-hook-judge [--config FILE] GUEST OPERATION SUB-OPERATION EXTRA <domain
//
// libvirtd waits, without end, until this process has ended and nobody has its output open any more. So the
// work is done in a child that has none of it: a read of sysfs that hangs holds up the child alone, and what
// is told to the journal and the service is told after the answer, by vfioap-hook-tell.
#include "ap/error.h"
#include "config/settings.h"
#include "domain/domain_xml.h"
#include "host/known_keys.h"
#include "host/sysfs.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <syslog.h>
#include <unistd.h>

#include "hook.h"
#include "told.h"

namespace vfioap {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr const char* known_keys = "/var/lib/vfioap/known-keys.json";
constexpr const char* given_keys = "/etc/vfioap/master-keys";

/// With the keys that were seen while the host's own drivers had the queues: with the guest's they cannot be.
Inventory read_host(const std::string& root, const Uuid& mdev, const std::vector<Apqn>& queues,
                    std::vector<std::string>& messages) {
    auto inventory = SysfsRoot{root}.read_for(mdev, queues);
    if (queues.empty()) return inventory;
    auto loaded = load_known_keys(known_keys);
    if (!loaded.message.empty()) messages.push_back(loaded.message);
    auto given = load_given_keys(given_keys);
    messages.insert(messages.end(), given.messages.begin(), given.messages.end());
    loaded.keys.give(std::move(given.keys));
    loaded.keys.merge_into(inventory);
    return inventory;
}

/// Where libvirt keeps what it saves by itself (libvirt, src/qemu/qemu_conf.c, saveDir).
bool has_managed_save(const std::string& guest) {
    const auto file = fmt::format("/var/lib/libvirt/qemu/save/{}.save", guest);
    return guest.find('/') == std::string::npos && ::access(file.c_str(), F_OK) == 0;
}

/// Exit code, then the text for standard error.
void answer_parent(int fd, const HookAnswer& answer) {
    const auto text = fmt::format("{}{}", answer.exit_code, answer.error);
    std::string_view rest = text;
    while (!rest.empty()) {
        const ssize_t count = ::write(fd, rest.data(), rest.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) break;
        rest.remove_prefix(static_cast<std::size_t>(count));
    }
    ::close(fd);
}

/// Nothing of what libvirtd listens to, and nothing it could be waited for by.
void leave_output() {
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (null < 0 || ::dup2(null, fd) < 0) ::close(fd);
    }
    ::setsid();
}

void work(int answer_to, const HookCall& call, const std::string& xml, const LoadedSettings& loaded) {
    const auto& settings = loaded.settings;
    std::vector<std::string> messages = loaded.messages;
    const HookHost host{[&](const Uuid& mdev, const std::vector<Apqn>& queues) {
        return read_host(settings.sysfs_root, mdev, queues, messages);
    }};
    auto answer = answer_hook(call, xml, settings.of_guest(call.guest), host);
    answer_parent(answer_to, answer);
    if (!answer.mdev && answer.log.empty()) return;
    for (auto& message : messages)
        answer.log.push_back({LOG_WARNING, std::move(message), {}, {}});
    tell({call, answer.mdev, std::move(answer.log), answer.exit_code == 0});
}

/// What the child says, or nothing if it did not in time or not at all.
std::optional<std::string> listen(int fd, Clock::time_point deadline) {
    std::string text;
    while (true) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
        pollfd child{fd, POLLIN, 0};
        const int ready = ::poll(&child, 1, static_cast<int>(std::max(left, 0ms).count()));
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return std::nullopt;
        char piece[4096];
        const ssize_t count = ::read(fd, piece, sizeof piece);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return std::nullopt;
        if (count == 0) break;
        text.append(piece, static_cast<std::size_t>(count));
    }
    if (text.empty() || (text.front() != '0' && text.front() != '1')) return std::nullopt;
    return text;
}

/// For libvirt, and for a child of its own to log.
int give(const HookCall& call, const HookAnswer& answer) {
    if (const pid_t child = ::fork(); child == 0) {
        leave_output();
        tell({call, answer.mdev, answer.log, false});
    }
    std::fputs(answer.error.c_str(), stderr);
    return answer.exit_code;
}

int judge(const HookCall& call, const std::string& config) {
    const auto start = Clock::now();
    const auto loaded = load_settings(config);
    const auto settings = loaded.settings.of_guest(call.guest);
    std::string xml;
    try {
        xml = read_domain_xml(STDIN_FILENO, "the domain");
    } catch (const Error& error) {
        return give(call, answer_unknown(call, settings, error.what()));
    }
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        return give(call, answer_unknown(call, settings, SystemError{"create", "pipe", errno}.what()));
    const pid_t child = ::fork();
    if (child < 0)
        return give(call, answer_unknown(call, settings, SystemError{"create", "process", errno}.what()));
    if (child == 0) {
        ::close(ends[0]);
        leave_output();
        try {
            work(ends[1], call, xml, loaded);
        } catch (const std::exception&) {
            // Without an answer its parent knows what to do.
        }
        ::_exit(0);
    }
    ::close(ends[1]);
    if (const auto said = listen(ends[0], start + settings.timeout)) {
        std::fputs(said->c_str() + 1, stderr);
        return said->front() - '0';
    }
    // It has ended without a word, or it hangs.
    const bool late = Clock::now() >= start + settings.timeout;
    ::kill(child, SIGKILL);
    return give(call,
                answer_unknown(call, settings,
                               late ? fmt::format("the check took longer than {} s", settings.timeout.count())
                                    : std::string{"the check has failed"}));
}

}  // namespace
}  // namespace vfioap

int main(int argc, char** argv) {
    using namespace vfioap;
    std::string config = "/etc/vfioap/vfioap.conf";
    if (argc == 7 && std::strcmp(argv[1], "--config") == 0) {
        config = argv[2];
    } else if (argc != 5) {
        std::fputs("usage: vfioap-hook [--config FILE] GUEST OPERATION SUB-OPERATION EXTRA <DOMAIN-XML\n",
                   stderr);
        return 2;
    }
    // A reader that is gone is no reason to be killed.
    std::signal(SIGPIPE, SIG_IGN);  // NOLINT(cert-err33-c): cannot fail for SIGPIPE
    HookCall call{argv[argc - 4], argv[argc - 3], argv[argc - 2], argv[argc - 1]};
    if (!concerns(call)) return 0;
    try {
        call.managed_save = has_managed_save(call.guest);
        return judge(call, config);
    } catch (const std::exception& error) {
        // Out of memory: nothing is known, and nobody can be asked.
        ::syslog(LOG_ERR, "vfioap-hook: not checked: %s", error.what());
        return 0;
    }
}
