// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/jobs.h"

#include <algorithm>
#include <utility>

namespace vfioap {

bool Jobs::add(const std::string& client, Job job) {
    if (count_ >= most) return false;
    auto& queue = waiting_[client];
    if (queue.size() >= most_of_one) return false;
    if (queue.empty()) turns_.push_back(client);
    queue.push_back(std::move(job));
    ++count_;
    return true;
}

bool Jobs::run_one() {
    if (turns_.empty()) return false;
    const auto client = std::move(turns_.front());
    turns_.pop_front();
    const auto found = waiting_.find(client);
    const auto job = std::move(found->second.front());
    found->second.pop_front();
    --count_;
    if (found->second.empty()) {
        waiting_.erase(found);
    } else {
        turns_.push_back(client);
    }
    job();
    return true;
}

void Jobs::forget(const std::string& client) {
    const auto found = waiting_.find(client);
    if (found == waiting_.end()) return;
    count_ -= found->second.size();
    waiting_.erase(found);
    turns_.erase(std::find(turns_.begin(), turns_.end(), client));
}

}  // namespace vfioap
