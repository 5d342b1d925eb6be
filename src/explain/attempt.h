// SPDX-License-Identifier: LGPL-2.1-or-later
// What the lines of one attempt to migrate have told so far.
#pragma once

#include "explain/explain.h"
#include "explain/log_line.h"
#include "explain/pattern.h"

#include <bitset>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace vfioap {

/// Any of the 65,536 queues, in 8 KiB at most.
class QueueSet {
  public:
    void insert(Apqn queue);
    [[nodiscard]] bool contains(Apqn queue) const;
    [[nodiscard]] std::vector<Apqn> sorted() const;
    void merge(const QueueSet& other);

  private:
    std::shared_ptr<std::bitset<ap_queues>> bits_;
};

/// Causes of one kind with the same values.
struct Draft {
    const Message* message = nullptr;
    std::vector<RuleId> rules;  ///< the likeliest first
    std::string text;           ///< message without the number of queues
    std::string facility;       ///< of feature lines: its name, else empty
    bool source_has = false;    ///< of feature lines
    QueueSet queues;
    bool has_queues = false;
    std::set<std::uint8_t> domains;
    std::vector<Evidence> evidence;
    std::vector<Remedy> remedies;  ///< as a hook's report has them
    std::string line;              ///< message as a hook's report has it
};

struct Attempt {
    static constexpr std::size_t most_drafts = 32;

    std::string guest;
    std::optional<Uuid> mdev;
    std::string source_host;
    std::string destination_host;
    std::optional<LogTime> first;
    std::optional<LogTime> last;
    bool started = false;
    bool failed = false;
    bool refused = false;
    bool completed = false;
    bool kernel_seen = false;
    bool by_hook = false;  ///< a hook refused it; ours where there are drafts of its report
    int error = 0;
    bool about_vfio_ap = false;  ///< a line names the device whose state was not taken
    std::string other_device;    ///< or it is this one
    std::map<std::string, Draft> drafts;
    std::vector<std::string> order;  ///< of the drafts
    std::map<const Message*, QueueSet> seen;
    std::set<std::pair<const Message*, unsigned>> told;  ///< and by whom
    QueueSet headlines;
    std::vector<Evidence> headline_evidence;
    bool has_headlines = false;
    std::optional<Apqn> current;  ///< queue of the last headline
    std::vector<Evidence> evidence;
    std::set<std::size_t> logs;  ///< that have told of it
    Profile profile = Profile::automatic;
    bool profile_clashes = false;

    /// Takes what `other`, of another log, tells of the same attempt.
    void merge(const Attempt& other);
};

/// The errno whose text (strerror, English) this is; 0: none.
int errno_of(std::string_view text);

/// Makes of an attempt what is shown.
Migration conclude(const Attempt& attempt, const ExplainContext& context);

}  // namespace vfioap
