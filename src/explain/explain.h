// SPDX-License-Identifier: LGPL-2.1-or-later
// From log lines to causes: why a migration failed, queue by queue, and what would make that certain.
#pragma once

#include "compat/report.h"
#include "explain/log_scanner.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// refused: before anything was sent; failed: afterwards.
enum class AttemptOutcome : std::uint8_t { failed, refused, completed, unknown };
/// certain: a line says so. likely: what usually is behind the lines. possible: nothing speaks against it.
enum class Certainty : std::uint8_t { certain, likely, possible };
std::string_view to_text(AttemptOutcome outcome);
std::string_view to_text(Certainty confidence);

struct Evidence {
    std::string source;      ///< file name as given, `standard input` or `journal`
    std::uint64_t line = 0;  ///< from 1
    std::string text;        ///< printable ASCII, cut to the part that matters
    friend bool operator==(const Evidence&, const Evidence&) = default;
};

struct Cause {
    RuleId rule{};
    Side host = Side::destination;              ///< where to look
    std::vector<Apqn> queues;                   ///< sorted; empty: all, or not known which
    std::vector<std::uint8_t> control_domains;  ///< sorted
    Certainty confidence = Certainty::possible;
    std::string message;
    std::vector<Evidence> evidence;  ///< at most Explainer::most_evidence
    std::vector<Remedy> remedies;
};

/// One attempt to migrate one guest.
struct Migration {
    std::string guest;  ///< empty: not told
    std::optional<Uuid> mdev;
    AttemptOutcome outcome = AttemptOutcome::unknown;
    std::string source_host;  ///< empty: not told
    std::string destination_host;
    std::vector<Cause> causes;         ///< likeliest first
    std::vector<Evidence> evidence;    ///< of the outcome
    std::vector<std::string> missing;  ///< what would make it certain, and the command that shows it
};

struct Explanation {
    std::vector<Migration> migrations;
    /// Further migrations were seen and not kept.
    bool more = false;

    /// A migration was found, and each that did not succeed has a cause that is certain or likely.
    [[nodiscard]] bool explained() const;
};

/// What is known beside the logs.
struct ExplainContext {
    std::string guest;        ///< only its migrations; empty: all
    std::vector<Uuid> mdevs;  ///< of that guest, where known
    std::string source;       ///< name of the host; empty: not known
    std::string destination;
    /// The check of a guest with this mdev between the two hosts whose inventories are at hand; null: there
    /// are none. The names are for the commands of remedies.
    std::function<std::optional<Report>(const std::string& guest, const std::optional<Uuid>& mdev,
                                        Profile profile)>
        judge;
};

/// Reads logs, one after the other, and keeps what migrations are in them. Needs constant memory for any log.
class Explainer {
  public:
    static constexpr std::size_t most_evidence = 8;
    static constexpr std::size_t most_migrations = 32;

    Explainer();
    ~Explainer();
    Explainer(const Explainer&) = delete;
    Explainer& operator=(const Explainer&) = delete;
    Explainer(Explainer&&) = delete;
    Explainer& operator=(Explainer&&) = delete;

    /// Reads one log whole. `name` stands in the evidence.
    void read(const std::string& name, const LogScanner::Input& input);
    /// The same from memory.
    void read(const std::string& name, std::string_view text);
    /// What the logs tell, in the order in which they began to.
    [[nodiscard]] Explanation finish(const ExplainContext& context) const;

  private:
    class State;
    std::unique_ptr<State> state_;
};

}  // namespace vfioap
