// SPDX-License-Identifier: LGPL-2.1-or-later
// Other programs, run without a shell.
#pragma once

#include "file/descriptor.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace vfioap {

/// What is to be run: `words`, the program and its arguments. A program without a slash is looked for along
/// PATH. Beyond its standard streams it inherits no descriptor of ours (all have O_CLOEXEC), and neither an
/// ignored SIGPIPE nor a blocked signal: programs that write to a pipe rely on SIGPIPE to end them.
struct ProcessOrder {
    enum class Stream : std::uint8_t {
        nothing,    ///< /dev/null
        inherited,  ///< as this process has it
        piped,      ///< from or to this process
    };
    std::vector<std::string> words;
    Stream input = Stream::nothing;
    Stream output = Stream::nothing;
    Stream errors = Stream::nothing;                        ///< not to be piped
    std::optional<std::vector<std::string>> environment{};  ///< `NAME=VALUE`; empty: that of this process
    bool own_group = false;  ///< what it starts is killed with it, unless that leaves its process group
};

/// How a process has ended.
struct ProcessEnd {
    bool exited = false;  ///< else a signal has ended it
    int number = 0;       ///< exit code, or signal
    [[nodiscard]] bool ok() const { return exited && number == 0; }
    friend bool operator==(const ProcessEnd&, const ProcessEnd&) = default;
};

/// A program that runs. One that still does when this ends is killed.
class Process {
  public:
    /// Throws SystemError: ENOENT where there is no such program.
    explicit Process(const ProcessOrder& order);
    ~Process();
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    Process(Process&&) = delete;
    Process& operator=(Process&&) = delete;

    /// Where a piped input is written, and a piped output read.
    [[nodiscard]] int input() const { return input_.get(); }
    [[nodiscard]] int output() const { return output_.get(); }
    /// Readable when it has ended.
    [[nodiscard]] int ended() const { return ended_.get(); }
    /// Waits until it has ended. Throws SystemError.
    ProcessEnd wait();
    /// Sends SIGKILL, and waits.
    void kill() noexcept;

  private:
    void start(const ProcessOrder& order, int child_output);

    std::string name_;
    Descriptor child_input_{-1};  // kept, so that a write never meets a pipe without a reader, and SIGPIPE
    Descriptor input_{-1};
    Descriptor output_{-1};
    Descriptor ended_{-1};
    pid_t pid_ = -1;
    std::optional<ProcessEnd> end_;
    bool own_group_ = false;
};

struct ProcessLimits {
    std::chrono::milliseconds time;
    std::size_t output = 0;  ///< bytes
};

struct ProcessResult {
    enum class Ending : std::uint8_t {
        ended,     ///< by itself
        too_long,  ///< killed, since its time was over
        too_much,  ///< killed, since it had more to say than was wanted
    };
    Ending ending = Ending::ended;
    ProcessEnd end;
    std::string output;  ///< where it is piped; of one that was killed, what it had said by then
    [[nodiscard]] bool ok() const { return ending == Ending::ended && end.ok(); }
};

/// Runs a program until it ends or has to be killed. A piped input gets `input`, and is not closed before the
/// program has ended: there are those that take its end for an order to stop. Throws as Process does.
ProcessResult run_process(const ProcessOrder& order, const ProcessLimits& limits,
                          std::string_view input = {});

}  // namespace vfioap
