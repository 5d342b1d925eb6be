// SPDX-License-Identifier: LGPL-2.1-or-later
// The guest that a command line names.
#pragma once

#include "cli/host_location.h"
#include "compat/check.h"
#include "domain/domain_xml.h"

#include <string>

namespace vfioap {

/// `-`: domain XML on standard input; something with a `/` in it, ending in `.xml`, or the name of an
/// existing file: a file; anything else: a domain's name or UUID, asked from libvirt at `uri`. Throws
/// SystemError, InputError.
Guest load_guest(const std::string& argument, const std::string& uri);

/// The same guest's whole domain.
DomainXml load_domain(const std::string& argument, const std::string& uri);

/// The mdev that is named: by its UUID, or by the guest that has it. Throws as load_guest() does, and
/// InputError where the guest has none.
Uuid mdev_of(const std::string& argument, const std::string& uri);

/// The same; a UUID that is not of an mdev at `host` may be a guest's.
Uuid mdev_at(const Host& host, const std::string& argument, const std::string& uri);

}  // namespace vfioap
