// SPDX-License-Identifier: LGPL-2.1-or-later
// The state that a guest's domain carries, at both ends: what the source writes into it, and what the
// destination makes of it. Nothing else is known of the source there.
#pragma once

#include "compat/check.h"
#include "domain/domain_xml.h"
#include "domain/state.h"

namespace vfioap {

/// What a guest has through `mdev`, to be kept in its domain. The layout is what the newest driver of the
/// host's kind uses, since sysfs does not tell: `l1` where mdevs have the attribute `migratable` of patch
/// version v1, else `l3`. Never `detached`. `inventory` must hold the queues that are assigned to the mdev.
///
/// Throws InputError where there is no such mdev, or where what the guest has cannot be told whole: no state
/// is better than one of a part.
DomainState state_of(const Inventory& inventory, const Uuid& mdev);

/// The guest that a domain describes. Where its state says that the device is away for a move and it has no
/// vfio-ap hostdev, the state's mdev is the guest's.
Guest guest_of(const DomainXml& domain);

/// The source of a move of which nothing is known but the domain. Without a state that can be read and is of
/// the guest's mdev: with the finding guest.state-missing; nothing then is known of the configuration.
///
/// `arriving`: libvirt is bringing the guest here at this moment, with or without the device. With it, the
/// source's kernel and QEMU can migrate it, for libvirt asks QEMU for migration blockers
/// before it sends anything, and CheckOptions need not say which mode it is. Not arriving, both are unknown.
Source describe_state(const DomainXml& domain, bool arriving);

}  // namespace vfioap
