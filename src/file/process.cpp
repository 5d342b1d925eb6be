// SPDX-License-Identifier: LGPL-2.1-or-later
#include "file/process.h"

#include "ap/error.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vfioap {
namespace {

using Stream = ProcessOrder::Stream;

struct Pipe {
    explicit Pipe(const std::string& name) {
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw SystemError{"pipe", name, errno};
    }
    std::array<int, 2> ends{};
};

class SpawnAttributes {
  public:
    explicit SpawnAttributes(bool own_group) {
        ::posix_spawnattr_init(&attributes_);
        sigset_t signals;
        ::sigemptyset(&signals);
        ::posix_spawnattr_setsigmask(&attributes_, &signals);
        ::sigaddset(&signals, SIGPIPE);
        ::posix_spawnattr_setsigdefault(&attributes_, &signals);
        ::posix_spawnattr_setpgroup(&attributes_, 0);
        int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
        if (own_group) flags |= POSIX_SPAWN_SETPGROUP;
        ::posix_spawnattr_setflags(&attributes_, static_cast<short>(flags));
    }
    ~SpawnAttributes() { ::posix_spawnattr_destroy(&attributes_); }
    SpawnAttributes(const SpawnAttributes&) = delete;
    SpawnAttributes& operator=(const SpawnAttributes&) = delete;
    SpawnAttributes(SpawnAttributes&&) = delete;
    SpawnAttributes& operator=(SpawnAttributes&&) = delete;

    [[nodiscard]] const posix_spawnattr_t* get() const { return &attributes_; }

  private:
    posix_spawnattr_t attributes_{};
};

class SpawnFiles {
  public:
    SpawnFiles() { ::posix_spawn_file_actions_init(&actions_); }
    ~SpawnFiles() { ::posix_spawn_file_actions_destroy(&actions_); }
    SpawnFiles(const SpawnFiles&) = delete;
    SpawnFiles& operator=(const SpawnFiles&) = delete;
    SpawnFiles(SpawnFiles&&) = delete;
    SpawnFiles& operator=(SpawnFiles&&) = delete;

    /// `end`: of the pipe, where it is piped.
    void add(int standard, Stream stream, int end) {
        if (stream == Stream::nothing)
            ::posix_spawn_file_actions_addopen(&actions_, standard, "/dev/null",
                                               standard == STDIN_FILENO ? O_RDONLY : O_WRONLY, 0);
        if (stream == Stream::piped) ::posix_spawn_file_actions_adddup2(&actions_, end, standard);
    }
    [[nodiscard]] const posix_spawn_file_actions_t* get() const { return &actions_; }

  private:
    posix_spawn_file_actions_t actions_{};
};

/// With a null pointer at the end. `words` stay as they are: exec takes them for changeable by tradition
/// only.
std::vector<char*> pointers_to(const std::vector<std::string>& words) {
    std::vector<char*> pointers;
    pointers.reserve(words.size() + 1);
    for (const auto& word : words)
        pointers.push_back(const_cast<char*>(word.c_str()));
    pointers.push_back(nullptr);
    return pointers;
}

}  // namespace

Process::Process(const ProcessOrder& order) : name_{order.words.at(0)}, own_group_{order.own_group} {
    Descriptor child_output{-1};
    if (order.input == Stream::piped) {
        const Pipe pipe{name_};
        child_input_.reset(pipe.ends[0]);
        input_.reset(pipe.ends[1]);
    }
    if (order.output == Stream::piped) {
        const Pipe pipe{name_};
        output_.reset(pipe.ends[0]);
        child_output.reset(pipe.ends[1]);
    }
    start(order, child_output.get());
}

void Process::start(const ProcessOrder& order, int child_output) {
    const SpawnAttributes attributes{own_group_};
    SpawnFiles files;
    files.add(STDIN_FILENO, order.input, child_input_.get());
    files.add(STDOUT_FILENO, order.output, child_output);
    files.add(STDERR_FILENO, order.errors, -1);
    const auto arguments = pointers_to(order.words);
    const auto own = order.environment ? pointers_to(*order.environment) : std::vector<char*>{};
    const int error = ::posix_spawnp(&pid_, arguments.front(), files.get(), attributes.get(),
                                     arguments.data(), order.environment ? own.data() : environ);
    if (error != 0) {
        pid_ = -1;
        throw SystemError{"run", name_, error};
    }
    // By its number, since glibc has it from 2.36 on only; O_CLOEXEC is set by the kernel.
    ended_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    if (ended_.valid()) return;
    const int number = errno;
    kill();
    throw SystemError{"watch", name_, number};
}

Process::~Process() {
    kill();
}

ProcessEnd Process::wait() {
    while (!end_) {
        int status = 0;
        if (::waitpid(pid_, &status, 0) == pid_) {
            end_ = WIFEXITED(status) ? ProcessEnd{true, WEXITSTATUS(status)}
                                     : ProcessEnd{false, WTERMSIG(status)};
        } else if (errno != EINTR) {
            throw SystemError{"wait for", name_, errno};
        }
    }
    return *end_;
}

void Process::kill() noexcept {
    if (pid_ < 0 || end_) return;
    ::kill(own_group_ ? -pid_ : pid_, SIGKILL);
    // What it is where somebody else has reaped it.
    int status = SIGKILL;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    end_ = WIFEXITED(status) ? ProcessEnd{true, WEXITSTATUS(status)} : ProcessEnd{false, WTERMSIG(status)};
}

ProcessResult run_process(const ProcessOrder& order, const ProcessLimits& limits, std::string_view input) {
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + limits.time;
    Process process{order};
    ProcessResult result;
    const auto killed = [&](ProcessResult::Ending why) {
        process.kill();
        result.ending = why;
        result.end = process.wait();
        return result;
    };
    bool more = order.output == Stream::piped;
    while (true) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
        if (left <= 0) return killed(ProcessResult::Ending::too_long);
        // A descriptor below 0 is none that poll looks at.
        std::array<pollfd, 3> ready{pollfd{process.ended(), POLLIN, 0},
                                    pollfd{more ? process.output() : -1, POLLIN, 0},
                                    pollfd{input.empty() ? -1 : process.input(), POLLOUT, 0}};
        if (::poll(ready.data(), ready.size(), static_cast<int>(std::min<std::int64_t>(left, INT_MAX))) < 0) {
            if (errno == EINTR) continue;
            throw SystemError{"wait for", order.words.front(), errno};
        }
        if (ready[1].revents != 0) {
            std::array<char, 65536> piece{};
            const auto got = ::read(process.output(), piece.data(), piece.size());
            if (got < 0 && errno != EINTR) throw SystemError{"read from", order.words.front(), errno};
            more = got != 0;
            if (got > 0) result.output.append(piece.data(), static_cast<std::size_t>(got));
            if (result.output.size() > limits.output) {
                result.output.resize(limits.output);
                return killed(ProcessResult::Ending::too_much);
            }
        } else if (ready[0].revents != 0) {
            // All has been read that it said; what it has left behind may have the pipe still.
            result.end = process.wait();
            return result;
        }
        if (ready[2].revents != 0) {
            // A pipe that can be written to has room for so much, at least.
            const auto written =
                ::write(process.input(), input.data(), std::min<std::size_t>(input.size(), PIPE_BUF));
            if (written < 0 && errno != EINTR) throw SystemError{"write to", order.words.front(), errno};
            if (written > 0) input.remove_prefix(static_cast<std::size_t>(written));
        }
    }
}

}  // namespace vfioap
