// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/private_libvirtd.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <thread>

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vfioap::test {
namespace {

constexpr int cannot_run = 127;

bool answers(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return false;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    ::close(fd);
    return connected;
}

std::string last_line(const std::string& path) {
    std::ifstream file{path};
    std::string line;
    std::string last;
    while (std::getline(file, line))
        last = line;
    return last;
}

}  // namespace

PrivateLibvirtd::~PrivateLibvirtd() {
    kill();
}

std::string PrivateLibvirtd::start() {
    const auto& home = directory_.path();
    const auto log = home + "/log";
    // libvirtd of a user other than root keeps to that user's directories; as root it would take the host's
    // own.
    const bool root = ::geteuid() == 0;
    uid_t uid = ::geteuid();
    gid_t gid = ::getegid();
    if (root) {
        const auto* const nobody = ::getpwnam("nobody");
        if (nobody == nullptr) return "no user nobody to run libvirtd as";
        uid = nobody->pw_uid;
        gid = nobody->pw_gid;
        if (::chown(home.c_str(), uid, gid) != 0) return "cannot give nobody a directory";
    }
    const auto run = home + "/run";
    ::unlink(socket().c_str());
    ::mkdir(run.c_str(), 0700);
    if (root && ::chown(run.c_str(), uid, gid) != 0) return "cannot give nobody a directory";
    std::array<std::string, 7> environment{
        "PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin",
        "HOME=" + home,
        "XDG_RUNTIME_DIR=" + run,
        "XDG_CONFIG_HOME=" + home + "/config",
        "XDG_CACHE_HOME=" + home + "/cache",
        "XDG_DATA_HOME=" + home + "/data",
        "XDG_STATE_HOME=" + home + "/state",
    };
    std::array<char*, environment.size() + 1> variables{};
    for (std::size_t i = 0; i < environment.size(); ++i)
        variables[i] = environment[i].data();
    std::string name = "libvirtd";
    std::string pid_option = "--pid-file";
    std::string pid_file = home + "/pid";
    std::array<char*, 4> arguments{name.data(), pid_option.data(), pid_file.data(), nullptr};

    pid_ = ::fork();
    if (pid_ < 0) return "cannot fork";
    if (pid_ == 0) {
        // Only calls that are safe between fork and exec.
        sigset_t none;
        ::sigemptyset(&none);
        ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
        const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
        ::dup2(out, 1);
        ::dup2(out, 2);
        if (root && (::setgroups(0, nullptr) != 0 || ::setresgid(gid, gid, gid) != 0 ||
                     ::setresuid(uid, uid, uid) != 0))
            ::_exit(cannot_run);
        // After the change of user, which drops it.
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (const char* const path : {"/usr/sbin/libvirtd", "/usr/bin/libvirtd"})
            ::execve(path, arguments.data(), variables.data());
        ::_exit(cannot_run);
    }
    for (int i = 0; i < 200; ++i) {
        if (answers(socket())) return {};
        int status = 0;
        if (::waitpid(pid_, &status, WNOHANG) == pid_) {
            pid_ = -1;
            if (WIFEXITED(status) && WEXITSTATUS(status) == cannot_run) return "no libvirtd to run";
            return "libvirtd ended: " + last_line(log);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{50});
    }
    return "libvirtd does not answer: " + last_line(log);
}

void PrivateLibvirtd::kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

void PrivateLibvirtd::signal(int number) const {
    if (pid_ > 0) ::kill(pid_, number);
}

}  // namespace vfioap::test
