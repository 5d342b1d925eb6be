// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cli/guest_argument.h"

#include "cli/libvirt_guest.h"
#include "compat/state.h"

#include <sys/stat.h>
#include <unistd.h>

namespace vfioap {
namespace {

bool names_file(const std::string& argument) {
    if (argument.find('/') != std::string::npos || argument.ends_with(".xml")) return true;
    struct stat info {};
    return ::stat(argument.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

}  // namespace

DomainXml load_domain(const std::string& argument, const std::string& uri) {
    if (argument == "-") return load_domain_xml(STDIN_FILENO, "standard input");
    if (names_file(argument)) return load_domain_xml(argument);
    return parse_domain_xml(domain_xml_from_libvirt(uri, argument), argument);
}

Guest load_guest(const std::string& argument, const std::string& uri) {
    return guest_of(load_domain(argument, uri));
}

}  // namespace vfioap
