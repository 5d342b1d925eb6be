// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cli/host_location.h"

#include "ap/error.h"
#include "cli/service_client.h"
#include "compat/live_update.h"
#include "host/capabilities.h"
#include "host/snapshot.h"
#include "hosts/remote_host.h"

#include <cerrno>
#include <cstdlib>

#include <fmt/format.h>
#include <sys/stat.h>

namespace vfioap {

HostLocation parse_host_location(std::string_view text, const std::string& local_root) {
    using Kind = HostLocation::Kind;
    const auto after = [text](std::string_view prefix) { return std::string{text.substr(prefix.size())}; };
    const std::string name{text};
    if (name.empty())
        throw InputError{"host", "expected a directory, a .json file, local or a host's name, found nothing"};
    if (text.starts_with("sysfs:")) return {Kind::sysfs, after("sysfs:")};
    if (text.starts_with("snapshot:")) return {Kind::snapshot, after("snapshot:")};
    if (text.starts_with("host:")) {
        if (!RemoteHost::parse(text.substr(5))) throw InputError{name, "not a host name"};
        return {Kind::remote, after("host:")};
    }
    if (text == "local") return {Kind::sysfs, local_root};
    struct stat info {};
    if (::stat(name.c_str(), &info) == 0) {
        if (S_ISDIR(info.st_mode)) return {Kind::sysfs, name};
        if (text.ends_with(".json")) return {Kind::snapshot, name};
        throw InputError{name, "neither a directory (a sysfs root) nor a .json file (a snapshot)"};
    }
    const int error = errno;
    if (text.find('/') != std::string_view::npos || text.ends_with(".json"))
        throw SystemError{"open", name, error};
    if (!RemoteHost::parse(text))
        throw InputError{name, "not a directory, not a .json file and not a host name"};
    return {Kind::remote, name};
}

std::string local_sysfs_root(const std::string& option) {
    if (!option.empty()) return option;
    const char* const variable = ::secure_getenv("SYSFS_ROOT");
    return variable != nullptr && *variable != '\0' ? variable : "/sys";
}

Host::Host(const HostLocation& location) {
    switch (location.kind) {
        case HostLocation::Kind::sysfs:
            root_.emplace(location.value);
            break;
        case HostLocation::Kind::snapshot:
            snapshot_ = std::make_shared<const Inventory>(load_snapshot(location.value));
            break;
        case HostLocation::Kind::remote:
            snapshot_ = std::make_shared<const Inventory>(ServiceClient{{location.value}}.inventory());
            break;
    }
}

ReportHost Host::identity() const {
    return root_ ? ReportHost{root_->name(), root_->location()}
                 : ReportHost{snapshot_->name, snapshot_->location};
}

std::vector<Uuid> Host::mdevs() const {
    if (root_) return root_->mdevs();
    std::vector<Uuid> uuids;
    for (const auto& mdev : snapshot_->mdevs)
        uuids.push_back(mdev.uuid);
    return uuids;
}

std::shared_ptr<const Inventory> Host::read_for(const Uuid& mdev, const std::vector<Apqn>& queues) const {
    return root_ ? std::make_shared<const Inventory>(root_->read_for(mdev, queues)) : snapshot_;
}

std::shared_ptr<const Inventory> Host::read_all() const {
    return root_ ? std::make_shared<const Inventory>(root_->read_all(Depth::full)) : snapshot_;
}

void ask_local_host(const HostLocation& location, const std::string& emulator, Inventory& inventory) {
    if (location.kind != HostLocation::Kind::sysfs || !SysfsRoot{location.value}.is_real()) return;
    inventory.iommufd = probe_iommufd();
    if (!emulator.empty()) {
        const auto qemu = probe_emulator(emulator);
        if (qemu.version) inventory.qemu = qemu;
    }
}

Report check_live_update_at(const DomainXml& domain, const HostLocation& location, bool strict) {
    const Host host{location};
    auto inventory =
        domain.vfio_ap.empty() ? *host.read_all() : *host.read_for(domain.vfio_ap.front().mdev, {});
    ask_local_host(location, domain.emulator, inventory);
    return check_live_update(domain, inventory, strict);
}

Report check_between(const Guest& guest, const Host& source, const Host& destination,
                     const CheckOptions& options) {
    if (guest.mdevs.empty()) {
        // Nothing of either host matters, but who they are.
        Source from;
        from.host = source.identity();
        Inventory to;
        to.name = destination.identity().name;
        to.location = destination.identity().location;
        return check(guest, from, to, options);
    }
    const auto& mdev = guest.mdevs.front();
    const auto from = describe_source(guest, *source.read_for(mdev, {}));
    const auto queues = apqns_of(from.configuration);
    return check(guest, from, *destination.read_for(mdev, queues), options);
}

}  // namespace vfioap
