// SPDX-License-Identifier: LGPL-2.1-or-later
// What the hook decides, apart from how it is called: man 8 vfioap-hook.
//
// libvirt, docs/hooks.rst: GUEST OPERATION SUB-OPERATION EXTRA, the domain on standard input. Exit 1 of
// migrate, restore and prepare ends what libvirtd is doing; of reconnect it would end the guest.
#pragma once

#include "ap/apqn.h"
#include "ap/uuid.h"
#include "config/settings.h"
#include "host/inventory.h"

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

struct HookCall {
    std::string guest;
    std::string operation;  ///< `migrate`
    std::string part;       ///< `begin` or `end`
    std::string extra;      ///< `-`, or the reason of a release
    /// libvirt keeps a file of the guest that `virsh start` restores. 11.3, not 9.0 nor 12.8, takes a hook's
    /// failure at `restore` for success then, and removes the file: the guest is lost, and nobody told. What
    /// fails at `prepare`, which follows, is a failure, and the file stays: there such a guest is judged.
    bool managed_save = false;
};

/// One message for the journal.
struct HookLog {
    int priority = 6;                ///< of syslog(3), LOG_INFO
    std::string message;             ///< may have several lines
    std::string verdict;             ///< of a report; else empty
    std::vector<std::string> rules;  ///< that it is about
};

struct HookAnswer {
    int exit_code = 0;
    std::string error;  ///< for standard error, which libvirt shows to the user where the exit code is 1
    std::vector<HookLog> log;
    std::optional<Uuid> mdev;  ///< of the guest, where it has one
};

/// What the hook knows of its host.
struct HookHost {
    /// The inventory that the check of the mdev's guest needs, those queues in it. Throws Error.
    std::function<Inventory(const Uuid& mdev, const std::vector<Apqn>& queues)> read;
};

/// Operations that mean something for a guest with a vfio-ap device: they are told to the service.
bool concerns(const HookCall& call);

/// Decides. `xml` is untrusted. Never throws but std::bad_alloc.
HookAnswer answer_hook(const HookCall& call, std::string_view xml, const GuestSettings& settings,
                       const HookHost& host);

/// What is done where it is not known whether the guest can come: `why` is one line.
HookAnswer answer_unknown(const HookCall& call, const GuestSettings& settings, const std::string& why);

}  // namespace vfioap
