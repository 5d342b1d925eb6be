// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest on a host that libvirt is asked for.
#pragma once

#include "ap/uuid.h"
#include "cli/libvirt_library.h"
#include "move/guest_host.h"

#include <memory>
#include <string>

namespace vfioap {

/// Runs libvirt's event loop as long as the process lives: without it no connection notices that the other
/// side does not answer any more. Before the first connection; once is enough.
void run_libvirt_events(const Libvirt& libvirt);

/// One at a time may move, from any thread.
class LibvirtHost final : public GuestHost {
  public:
    /// `uri`: of this host for us; and for the other host's libvirtd, which connects to it (peer to peer),
    /// where `for_peers`, else the guest goes over connections of ours. Throws Error where there is no
    /// connection; one that is lost later is opened again when it is needed.
    LibvirtHost(const Libvirt& libvirt, std::string uri, bool for_peers, Uuid guest, const Uuid& mdev);

    [[nodiscard]] const std::string& name() const override { return name_; }
    GuestLook look() override;
    void set_state(const std::string& element) override;
    void detach() override;
    void attach() override;
    void migrate(GuestHost& destination, const MigrateOptions& options,
                 const std::function<std::string(const MigrateProgress&)>& tell) override;

    /// The domain as it runs, or is defined.
    [[nodiscard]] std::string domain_xml();

  private:
    using Connection = std::unique_ptr<virConnect, decltype(&virConnectClose)>;
    using Domain = std::unique_ptr<virDomain, decltype(&virDomainFree)>;

    virConnectPtr connection();
    Domain domain();
    [[nodiscard]] MigrateProgress progress_of(virDomainPtr domain) const;
    [[noreturn]] void fail(const std::string& what) const;

    const Libvirt& libvirt_;
    std::string uri_;
    bool for_peers_;
    Uuid guest_;
    Uuid mdev_;
    std::string device_;  // XML
    std::string name_;
    Connection connection_;
};

}  // namespace vfioap
