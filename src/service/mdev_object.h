// SPDX-License-Identifier: LGPL-2.1-or-later
// /org/vfioap1/mdev/<uuid with _>: a mediated device of this host, on the bus.
#pragma once

#include "ap/uuid.h"
#include "service/bus.h"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "Mdev_adaptor.h"

namespace vfioap {

/// What the bus tells of an mdev.
struct MdevState {
    std::string guest;                ///< libvirt domain; empty: none is known
    std::vector<std::string> queues;  ///< what the guest gets
    std::uint32_t assigned = 0;       ///< queues in the matrix
    std::vector<std::string> control_domains;
    std::string arriving;                         ///< a guest on its way here that is to have it; empty: none
    std::map<std::string, std::string> verdicts;  ///< by known destination
    friend bool operator==(const MdevState&, const MdevState&) = default;
};

class MdevObject final
    : public sdbus::AdaptorInterfaces<org::vfioap1::Mdev_adaptor, sdbus::ManagedObject_adaptor> {
  public:
    MdevObject(sdbus::IConnection& connection, vfioap::Uuid uuid, MdevState state,
               std::function<bool(const vfioap::Uuid&)> in_use);
    ~MdevObject();
    MdevObject(const MdevObject&) = delete;
    MdevObject& operator=(const MdevObject&) = delete;
    MdevObject(MdevObject&&) = delete;
    MdevObject& operator=(MdevObject&&) = delete;

    static std::string path_of(const vfioap::Uuid& uuid);
    [[nodiscard]] const MdevState& state() const { return state_; }
    /// Tells what has changed, and nothing when nothing has.
    void update(MdevState state);

  private:
    std::string Uuid() override { return uuid_.to_string(); }
    std::string Guest() override { return state_.guest; }
    std::vector<std::string> Queues() override { return state_.queues; }
    std::uint32_t AssignedQueues() override { return state_.assigned; }
    std::vector<std::string> ControlDomains() override { return state_.control_domains; }
    bool InUse() override;
    std::string Arriving() override { return state_.arriving; }
    std::map<std::string, std::string> Verdicts() override { return state_.verdicts; }

    vfioap::Uuid uuid_;
    MdevState state_;
    std::function<bool(const vfioap::Uuid&)> in_use_;
};

}  // namespace vfioap
