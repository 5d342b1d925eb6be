// SPDX-License-Identifier: LGPL-2.1-or-later
// Has plans carried out by a host's service, and what they made taken back.
#pragma once

#include "cli/host_location.h"
#include "cli/service_client.h"
#include "compat/check.h"
#include "plan/plan.h"

#include <optional>
#include <string>
#include <vector>

namespace vfioap {

/// What a service says of it: `vfioap-apply/1`. Fit for a terminal.
struct ServiceReport {
    struct Item {
        std::string text;
        std::vector<std::string> commands;
    };
    std::string json;  ///< the document
    std::string action;
    std::string state;
    std::string reason;
    std::string guest;
    std::string host;
    std::string plan;  ///< its state; empty: none was made
    std::vector<Item> steps;
    std::vector<Item> undone;
    std::vector<Item> failed;
    std::vector<Item> left;
    std::vector<Item> remaining;
};

/// Throws InputError where it is no such document. `origin`: who said it.
ServiceReport parse_service_report(const std::string& json, const std::string& origin);

/// What came of it and what is left to do. Ends with a newline.
std::string render_service_report(const ServiceReport& report);

/// exit_compatible: done, or taken back; exit_incompatible: all is as before; exit_undetermined: something
/// needs a person, or is not known.
int exit_code(const ServiceReport& report);

/// Writes the report as asked for, `text` or `json`, and gives its exit code.
int show_service_report(const ServiceReport& report, const std::string& format);
/// Says on a terminal, on standard error, what is being done; never cancels.
ServiceClient::TellPlan plan_progress();

class PlanService {
  public:
    /// Of another host, or of this one where it serves that sysfs root; it is started if need be. Throws
    /// InputError for what has no service, UnreachableError.
    explicit PlanService(const HostLocation& location);

    /// The guest, which has an mdev, is described by what a check needs, and by nothing else of its domain.
    ServiceReport apply(const Guest& guest, const Host& source, const PlanOptions& options,
                        const ServiceClient::TellPlan& tell);
    /// `guest`: name, UUID or the UUID of its mdev.
    ServiceReport take_back(const std::string& guest, const ServiceClient::TellPlan& tell);

  private:
    std::string name_;
    ServiceClient client_;
};

}  // namespace vfioap
