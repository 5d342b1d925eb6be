// SPDX-License-Identifier: LGPL-2.1-or-later
// Gives an mdev all its adapters, domains and control domains at once.
#pragma once

#include "ap/apqn.h"
#include "ap/configuration.h"
#include "ap/error.h"
#include "ap/uuid.h"

#include <string>
#include <vector>

namespace vfioap {

/// What an mdev was to hold could not be given to it.
class ApConfigError : public SystemError {
  public:
    /// what(): `OBJECT: cannot write: REASON`, and whether the mdev holds what it held before.
    ApConfigError(const std::string& object, int number, bool undone);
    /// The mdev holds what it held before.
    [[nodiscard]] bool undone() const { return undone_; }

  private:
    bool undone_;
};

/// Writes `ap_config` of an mdev below the sysfs root `root` (kernel: vfio_ap_ops.c, ap_config_store: one
/// write, all or nothing) and looks whether the mdev then holds `contents` and passes `queues` (sorted) on to
/// its guest, which the kernel may withhold without a word. When anything fails, what it held before is
/// written again. A mdev that holds `contents` already is not written to.
///
/// Throws ApConfigError, with the errno of the kernel, and SystemError where there is nothing to write to.
void write_ap_config(const std::string& root, const Uuid& uuid, const MdevContents& contents,
                     const std::vector<Apqn>& queues);

}  // namespace vfioap
