// SPDX-License-Identifier: LGPL-2.1-or-later
// The report of one check: values only. src/report makes text and JSON of it.
#pragma once

#include "ap/apqn.h"
#include "ap/mask.h"
#include "ap/uuid.h"
#include "compat/rules.h"

#include <optional>
#include <string>
#include <vector>

namespace vfioap {

/// What mends a finding.
struct Remedy {
    Side host = Side::destination;      ///< where to do it
    std::string text;                   ///< what it does; one sentence
    std::vector<std::string> commands;  ///< shell commands for root, in order; empty: no command mends it
    friend bool operator==(const Remedy&, const Remedy&) = default;
};

/// What one rule found, for all queues that have the same values.
struct Finding {
    RuleId rule{};
    Severity severity = Severity::error;
    Side host = Side::destination;
    std::vector<Apqn> queues;                   ///< sorted
    std::vector<std::uint8_t> control_domains;  ///< sorted
    std::string source;                         ///< the source's value; empty where none is compared
    std::string destination;                    ///< the destination's
    std::string message;                        ///< one sentence
    /// What the destination's kernel would log for it; `{queue}` and `{domain}` stand for each queue and
    /// control domain in turn. kernel_messages() fills them in.
    std::vector<std::string> kernel_lines;
    std::vector<Remedy> remedies;
};

/// The lines that the destination's kernel would log for a finding if it came to it, with every queue and
/// control domain filled in.
std::vector<std::string> kernel_messages(const Finding& finding);

/// How the first obstacle that stops a migration shows itself.
struct Prediction {
    std::optional<int> error;          ///< errno of the destination's kernel
    std::optional<std::string> virsh;  ///< what virsh prints on the source
    /// Findings whose kernel lines would be logged, as indices, in the order of the driver's steps.
    std::vector<std::size_t> findings;
    /// Only the first queue of them is logged (profile compare gives up there).
    bool first_queue_only = false;
};

struct ReportGuest {
    std::string name;
    std::optional<Uuid> uuid;
    std::optional<Uuid> mdev;
};

struct ReportHost {
    std::string name;
    std::string location;
};

struct Report {
    Verdict verdict = Verdict::compatible;
    Mode mode = Mode::detached;
    std::string mode_reason;  ///< why this mode, where it was not asked for
    std::optional<Profile> profile;
    ReportGuest guest;
    ReportHost source;
    ReportHost destination;
    std::vector<Apqn> queues;
    Mask control_domains;
    std::vector<Finding> findings;  ///< errors, warnings, infos; by rule; by first queue
    Prediction prediction;

    [[nodiscard]] std::size_t count(Severity severity) const;
};

/// The lines that the destination's kernel would log in the predicted failure, in order.
std::vector<std::string> predicted_kernel_log(const Report& report);

}  // namespace vfioap
