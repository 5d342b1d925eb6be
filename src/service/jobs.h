// SPDX-License-Identifier: LGPL-2.1-or-later
// What clients asked for and is not done yet. One client's many requests do not make another wait for all of
// them.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <string>

namespace vfioap {

/// Jobs of clients, one of each in turn. For one thread.
class Jobs {
  public:
    using Job = std::function<void()>;

    /// As many of one client may wait.
    static constexpr std::size_t most_of_one = 64;
    /// As many may wait in all.
    static constexpr std::size_t most = 16384;

    /// False: too many of this client, or of all, wait already.
    bool add(const std::string& client, Job job);
    /// Does the next one; false: none waits.
    bool run_one();
    [[nodiscard]] bool empty() const { return turns_.empty(); }
    /// A client that is gone needs no answers.
    void forget(const std::string& client);

  private:
    std::map<std::string, std::deque<Job>> waiting_;
    std::deque<std::string> turns_;  // clients with jobs, the next one first
    std::size_t count_ = 0;
};

}  // namespace vfioap
