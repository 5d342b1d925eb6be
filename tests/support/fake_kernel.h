// SPDX-License-Identifier: LGPL-2.1-or-later
// Lets a directory that looks like sysfs answer to writes as the kernel would.
#pragma once

#include "host/inventory.h"

#include <string>
#include <string_view>
#include <vector>

#include "support/kernel_model.h"
#include "support/temporary_directory.h"

namespace vfioap::test {

/// Runs commands of administrators on a fake root and brings the root into the state that a kernel would be
/// in afterwards: the masks, overrides, bindings, mdevs and everything that follows from them.
///
///     FakeKernel kernel{root.path()};
///     EXPECT_EQ(kernel.run("echo -0x47 > /sys/bus/ap/aqmask").message, "");
///
/// In a command `/sys/` stands for the root and `/etc/` for a directory that is gone with this object.
/// `modprobe vfio_ap` loads the driver, `chzdev -t ap apmask=…` changes the mask at once as the real one does
/// (that it also keeps it is not played), `mdevctl` and `driverctl` only remember; all others are the
/// system's own. A command that writes several attributes has them take effect in the order of their paths.
class FakeKernel {
  public:
    /// From now on nobody else writes to the root.
    explicit FakeKernel(std::string root);

    struct Answer {
        int status = 0;       ///< 0: the command went well and the kernel took what it wrote
        std::string message;  ///< else why not: `bus/ap/apmask: EBUSY`
    };
    /// What the kernel refuses leaves no trace in the root.
    Answer run(std::string_view command);

    /// The calls of mdevctl, driverctl and chzdev so far, with their arguments.
    [[nodiscard]] std::vector<std::string> recorded() const;

  private:
    std::string root_;
    Inventory host_;
    TemporaryDirectory state_;
    Hidden hidden_;
};

}  // namespace vfioap::test
