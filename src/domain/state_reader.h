// SPDX-License-Identifier: LGPL-2.1-or-later
// Reads the state element from the events of the XML parser (domain_xml.cpp).
#pragma once

#include "domain/state.h"
#include "domain/xml_attributes.h"

#include <bitset>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// Something in the element is not as it should be. what(): what was found and what is expected, as one clean
/// line; where it is, the caller knows.
class StateProblem : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Takes one element `config`: begin(), then for each of its children begin_part(), text() and end_part(), at
/// last end(). All but text() throw StateProblem.
class StateReader {
  public:
    void begin(const XmlAttributes& attributes);
    /// False: the child is not known; it has neither text nor end here.
    bool begin_part(std::string_view name, const XmlAttributes& attributes);
    /// Comes in pieces. The caller limits the length of the whole element.
    void text(std::string_view piece) { text_ += piece; }
    void end_part();
    DomainState end();

  private:
    enum class Part : std::uint8_t { queues, hwinfo, control_domains, master_keys };

    void end_queues();
    void end_hwinfo();
    void end_control_domains();
    void end_master_keys();

    std::optional<Uuid> mdev_;
    std::string host_;
    std::string layout_;
    bool detached_ = false;

    Part part_ = Part::queues;
    std::string text_;
    std::optional<Hwinfo> tapq_;              // of queues
    std::vector<Apqn> hwinfo_queues_;         // of hwinfo
    std::shared_ptr<const MasterKeys> keys_;  // of master-keys

    std::vector<GuestQueue> queues_;  // as they come
    std::bitset<ap_queues> seen_;
    std::optional<Mask> control_domains_;
    std::vector<std::pair<Apqn, std::shared_ptr<const MasterKeys>>> queue_keys_;
    std::bitset<ap_queues> keys_seen_;
};

}  // namespace vfioap
