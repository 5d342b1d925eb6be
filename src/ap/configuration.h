// SPDX-License-Identifier: LGPL-2.1-or-later
// What a guest has of the AP hardware.
#pragma once

#include "ap/apqn.h"
#include "ap/hwinfo.h"
#include "ap/mask.h"
#include "ap/master_keys.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// One queue that is passed through to a guest.
struct GuestQueue {
    Apqn apqn;
    /// Unknown when the attributes it is made of could not be read.
    std::optional<Hwinfo> hwinfo;
    /// Null when they are not known. Shared: many queues have the same.
    std::shared_ptr<const MasterKeys> master_keys;
};

/// The AP configuration of a running guest: what has to be there again after it moved.
struct GuestConfiguration {
    std::vector<GuestQueue> queues;  ///< sorted by APQN, each once
    Mask control_domains;
};

/// What an mdev holds, or is to hold.
struct MdevContents {
    Mask adapters;
    Mask domains;
    Mask control_domains;

    /// From the form of the attribute `ap_config`: three masks, `apm,aqm,adm`, each as Mask::parse() takes
    /// it. Anything else gives nothing.
    static std::optional<MdevContents> parse(std::string_view text);
    /// As `ap_config` prints it, without the newline.
    [[nodiscard]] std::string to_string() const;
    [[nodiscard]] bool none() const { return adapters.none() && domains.none() && control_domains.none(); }
    friend bool operator==(const MdevContents&, const MdevContents&) = default;
};

/// The queues alone.
std::vector<Apqn> apqns_of(const GuestConfiguration& configuration);

/// Which adapters, and which usage domains, the queues are of.
Mask adapters_of(const std::vector<Apqn>& queues);
Mask domains_of(const std::vector<Apqn>& queues);

}  // namespace vfioap
