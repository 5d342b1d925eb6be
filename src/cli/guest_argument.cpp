// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cli/guest_argument.h"

#include "ap/error.h"
#include "cli/libvirt_guest.h"
#include "compat/state.h"

#include <algorithm>

#include <fmt/format.h>
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

Uuid mdev_of(const std::string& argument, const std::string& uri) {
    if (const auto uuid = Uuid::parse(argument)) return *uuid;
    const auto guest = load_guest(argument, uri);
    if (guest.mdevs.empty()) throw InputError{argument, "the guest has no vfio-ap device"};
    return guest.mdevs.front();
}

Uuid mdev_at(const Host& host, const std::string& argument, const std::string& uri) {
    const auto uuid = Uuid::parse(argument);
    if (!uuid) return mdev_of(argument, uri);
    const auto mdevs = host.mdevs();
    if (std::find(mdevs.begin(), mdevs.end(), *uuid) != mdevs.end()) return *uuid;
    Guest guest;
    try {
        guest = load_guest(argument, uri);
    } catch (const Error&) {
        throw InputError{argument,
                         fmt::format("{} has no mdev with this UUID, and libvirt knows no such guest",
                                     host.identity().name)};
    }
    if (guest.mdevs.empty()) throw InputError{argument, "the guest has no vfio-ap device"};
    return guest.mdevs.front();
}

}  // namespace vfioap
