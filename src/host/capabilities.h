// SPDX-License-Identifier: LGPL-2.1-or-later
// What the local kernel's iommufd and an emulator can, asked without changing or starting anything.
#pragma once

#include "host/inventory.h"

#include <array>
#include <cstdint>
#include <string>

namespace vfioap {

/// Asks `device`, normally /dev/iommu. Empty members: it could not be opened, or was not, since the kernel
/// has not loaded it (no directory `loaded`) and would do so for whoever opens it.
Iommufd probe_iommufd(const std::string& device = "/dev/iommu",
                      const std::string& loaded = "/sys/class/misc/iommu");

/// Asks the program at `path` for its version (`-version`) and, of a machine without anything that never
/// runs, over QMP for its migration modes and the properties of vfio-ap. Nothing is asked of a path that is
/// not absolute, or of a file that is not regular, not root's, or that others may write: the path comes from
/// a domain. Takes at most `seconds`; what was not answered by then is empty.
Qemu probe_emulator(const std::string& path, unsigned seconds = 5);

/// Where s390x hosts have it, of every distribution there is.
constexpr const char* usual_emulator = "/usr/bin/qemu-system-s390x";

/// The same for who asks often: the program is asked again when its file is another one, or was changed.
class EmulatorProbe {
  public:
    explicit EmulatorProbe(std::string path) : path_{std::move(path)} {}
    const Qemu& ask();

  private:
    std::string path_;
    std::array<std::int64_t, 5> seen_{};
    Qemu qemu_;
};

}  // namespace vfioap
