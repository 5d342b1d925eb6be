// SPDX-License-Identifier: LGPL-2.1-or-later
// May the guest be handed to a new QEMU on the same host (migration mode cpr-transfer)? It needs no device
// that can migrate, so it is what a vfio-ap guest can have today. A pure function of values.
//
// Facts: QEMU, docs/devel/migration/CPR.rst and the series "Live update: vfio and iommufd" (10.1); kernel,
// include/uapi/linux/iommufd.h; libvirt 9.0, 11.3 and 12.8 as tried.
#pragma once

#include "compat/report.h"
#include "domain/domain_xml.h"
#include "host/inventory.h"

#include <string>

namespace vfioap {

/// `strict`: warnings become errors. What `host` does not tell of QEMU and iommufd is a warning.
Report check_live_update(const DomainXml& domain, const Inventory& host, bool strict);

/// Whether a version, `10.1.0`, is of a QEMU that can keep an iommufd and a vfio device over a transfer: 10.1
/// and later. False for what is no version.
bool transfers_vfio(const std::string& version);

}  // namespace vfioap
