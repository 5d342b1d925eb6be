// SPDX-License-Identifier: LGPL-2.1-or-later
// Asks libvirt for the domain XML of a guest that is named on the command line.
#pragma once

#include "cli/libvirt_library.h"

#include <string>
#include <vector>

namespace vfioap {

/// The XML of `guest`, a name or UUID, live where it runs, else as defined. The connection to `uri` (empty:
/// libvirt's default) is read-only; nothing is changed. What looks like a UUID is looked up as one first, and
/// then as a name, since a guest may be named so.
///
/// Throws InputError where libvirt has no such guest, and Error where there is no libvirt to ask: no
/// library, no connection, no answer. One line each; nothing is printed. To be parsed with
/// parse_domain_xml(), since `uri` may name another, less trusted host.
std::string domain_xml_from_libvirt(const std::string& uri, const std::string& guest,
                                    const char* library = libvirt_library);

/// The XML of every guest that libvirt has, running or not. Errors as above.
std::vector<std::string> all_domain_xml_from_libvirt(const std::string& uri);

}  // namespace vfioap
