// SPDX-License-Identifier: LGPL-2.1-or-later
// A real libvirtd of the test's own, with nothing of it outside one directory. It serves libvirt's test
// driver: no QEMU is needed, and its domains last as long as some connection does.
#pragma once

#include <string>

#include <sys/types.h>

#include "support/temporary_directory.h"

namespace vfioap::test {

class PrivateLibvirtd {
  public:
    PrivateLibvirtd() = default;
    ~PrivateLibvirtd();
    PrivateLibvirtd(const PrivateLibvirtd&) = delete;
    PrivateLibvirtd& operator=(const PrivateLibvirtd&) = delete;
    PrivateLibvirtd(PrivateLibvirtd&&) = delete;
    PrivateLibvirtd& operator=(PrivateLibvirtd&&) = delete;

    /// Empty: it answers. Else why this machine cannot have one.
    std::string start();
    void kill();
    /// SIGSTOP or SIGCONT.
    void signal(int number) const;
    [[nodiscard]] std::string uri() const { return "test+unix:///default?socket=" + socket(); }

  private:
    [[nodiscard]] std::string socket() const { return directory_.path() + "/run/libvirt/libvirt-sock"; }

    TemporaryDirectory directory_;
    pid_t pid_ = -1;
};

}  // namespace vfioap::test
