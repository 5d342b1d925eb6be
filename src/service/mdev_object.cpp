// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/mdev_object.h"

#include "service/requests.h"

#include <algorithm>
#include <utility>

namespace vfioap {

MdevObject::MdevObject(sdbus::IConnection& connection, vfioap::Uuid uuid, MdevState state,
                       std::function<bool(const vfioap::Uuid&)> in_use)
    : AdaptorInterfaces{connection, bus::ObjectPath{path_of(uuid)}},
      uuid_{std::move(uuid)},
      state_{std::move(state)},
      in_use_{std::move(in_use)} {
    registerAdaptor();
    emitInterfacesAddedSignal();
}

MdevObject::~MdevObject() {
    try {
        emitInterfacesRemovedSignal();
        unregisterAdaptor();
    } catch (const std::exception&) {
        // Mostly the bus is gone, and all objects with it.
    }
}

std::string MdevObject::path_of(const vfioap::Uuid& uuid) {
    auto name = uuid.to_string();
    std::replace(name.begin(), name.end(), '-', '_');
    return std::string{bus::root_path} + "/mdev/" + name;
}

bool MdevObject::InUse() {
    try {
        return in_use_(uuid_);
    } catch (...) {
        throw current_error();
    }
}

void MdevObject::update(MdevState state) {
    const auto before = std::exchange(state_, std::move(state));
    std::vector<std::string> changed;
    if (before.guest != state_.guest) changed.emplace_back("Guest");
    if (before.queues != state_.queues) changed.emplace_back("Queues");
    if (before.assigned != state_.assigned) changed.emplace_back("AssignedQueues");
    if (before.control_domains != state_.control_domains) changed.emplace_back("ControlDomains");
    if (before.arriving != state_.arriving) changed.emplace_back("Arriving");
    if (before.verdicts != state_.verdicts) changed.emplace_back("Verdicts");
    if (!changed.empty()) bus::emit_changed(getObject(), Mdev_adaptor::INTERFACE_NAME, changed);
}

}  // namespace vfioap
