// SPDX-License-Identifier: LGPL-2.1-or-later
// What the local kernel's iommufd and an emulator can, asked without changing or starting anything.
#pragma once

#include "host/inventory.h"

#include <optional>
#include <string>

namespace vfioap {

/// Asks `device`, normally /dev/iommu. Empty members: it could not be opened.
Iommufd probe_iommufd(const std::string& device);

/// Asks the program at `path` for its version (`-version`) and, of a machine without anything that never
/// runs, over QMP for its migration modes and the properties of vfio-ap. Nothing is asked of a path that is
/// not absolute, or of a file that is not regular, not root's, or that others may write: the path comes from
/// a domain. Takes at most `seconds`; what was not answered by then is empty.
Qemu probe_emulator(const std::string& path, unsigned seconds = 5);

}  // namespace vfioap
