// SPDX-License-Identifier: LGPL-2.1-or-later
#include "compat/live_update.h"

#include "compat/findings.h"
#include "compat/remedies.h"
#include "compat/state.h"

#include <algorithm>
#include <charconv>
#include <tuple>

#include <fmt/format.h>

namespace vfioap {
namespace {

class LiveUpdateCheck {
  public:
    LiveUpdateCheck(const DomainXml& domain, const Inventory& host)
        : domain_{domain}, xml_{domain.live_update}, host_{host} {}

    Report run(bool strict) {
        report_.mode = Mode::live_update;
        report_.guest = {domain_.name, domain_.uuid, {}};
        report_.source = {host_.name, host_.location};
        report_.destination = report_.source;
        std::vector<Uuid> mdevs;
        for (const auto& hostdev : domain_.vfio_ap)
            mdevs.push_back(hostdev.mdev);
        for (const auto& device : xml_.devices)
            if (std::find(mdevs.begin(), mdevs.end(), device.mdev) == mdevs.end())
                mdevs.push_back(device.mdev);
        if (mdevs.empty()) {
            add(RuleId::guest_no_vfio_ap, Severity::info,
                fmt::format("guest {} has no vfio-ap device: nothing of vfio-ap is in the way",
                            domain_.name));
        } else {
            report_.guest.mdev = mdevs.front();
            if (const auto* const mdev = host_.find_mdev(mdevs.front())) {
                report_.control_domains = mdev->control_domains.value_or(Mask{});
                report_.queues = mdev->guest_matrix ? *mdev->guest_matrix : mdev->matrix();
            }
            if (mdevs.size() > 1) {
                add(RuleId::guest_multiple_vfio_ap, Severity::error,
                    fmt::format("guest {} has {} vfio-ap devices, of which at most one works", domain_.name,
                                mdevs.size()))
                    .remedies = advise(Side::source, "leave one vfio-ap device in the domain");
            }
            if (domain_.secure_execution) {
                add(RuleId::guest_secure_execution, Severity::error,
                    fmt::format(
                        "guest {} runs in Secure Execution: QEMU does not migrate it, not even to itself",
                        domain_.name))
                    .remedies = advise(Side::source, "shut the guest down and start it with the new QEMU");
            }
            check_iommufd();
            check_memory();
            check_qemu();
            check_kernel();
        }
        std::stable_sort(report_.findings.begin(), report_.findings.end(),
                         [&](const Finding& a, const Finding& b) {
                             return std::make_tuple(a.severity, a.rule) < std::make_tuple(b.severity, b.rule);
                         });
        bool failed = false;
        for (auto& finding : report_.findings) {
            if (strict && finding.severity == Severity::warning) finding.severity = Severity::error;
            failed = failed || finding.severity == Severity::error;
        }
        report_.verdict = failed ? Verdict::incompatible : Verdict::compatible;
        return std::move(report_);
    }

  private:
    Finding& add(RuleId id, Severity severity, std::string message) {
        report_.findings.push_back(make_finding(id, severity, Side::source, std::move(message)));
        return report_.findings.back();
    }

    [[nodiscard]] Remedy edit(std::string text, std::vector<std::string> xml) const {
        // Commands are for a shell; what the editor is to be given is a comment to it.
        for (auto& line : xml)
            line.insert(0, "# ");
        xml.insert(xml.begin(), "virsh edit " + domain_.name);
        return {Side::source, std::move(text), std::move(xml)};
    }

    /// Attached through a legacy container the mappings have no owner for a moment, which an mdev cannot
    /// bear.
    void check_iommufd() {
        const auto by_qemu = [](const PassedDevice& device) { return device.iommufd; };
        if (domain_.vfio_ap.empty() && std::all_of(xml_.devices.begin(), xml_.devices.end(), by_qemu)) return;
        const auto& uuid = report_.guest.mdev->to_string();
        const bool asked =
            xml_.iommufd || std::any_of(domain_.vfio_ap.begin(), domain_.vfio_ap.end(),
                                        [](const VfioApHostdev& hostdev) { return hostdev.iommufd; });
        auto& finding =
            add(RuleId::live_update_iommufd, Severity::error,
                asked ? "the domain asks for iommufd, but libvirt drops that for a vfio-ap mdev "
                        "(12.8 does, and earlier "
                        "ones do not know it)"
                : domain_.vfio_ap.empty()
                    ? "QEMU is given the device without iommufd"
                    : "libvirt gives QEMU the device without iommufd (12.8 and every version before it)");
        finding.source = asked ? "dropped" : "legacy container";
        if (domain_.vfio_ap.empty()) {
            finding.remedies = {
                edit("add the object and name it in the device's argument",
                     {"<qemu:arg value='-object'/><qemu:arg value='iommufd,id=iommufd0'/>",
                      fmt::format("<qemu:arg value='-device'/><qemu:arg value='vfio-ap,sysfsdev="
                                  "/sys/bus/mdev/devices/{},iommufd=iommufd0'/>",
                                  uuid)})};
            return;
        }
        finding.remedies = {
            edit(
                "have QEMU take the device itself: remove the hostdev, and put into the domain, whose "
                "element needs "
                "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'",
                {"<qemu:commandline>", "  <qemu:arg value='-object'/><qemu:arg value='iommufd,id=iommufd0'/>",
                 fmt::format(
                     "  <qemu:arg value='-device'/><qemu:arg value='vfio-ap,sysfsdev=/sys/bus/mdev/devices/"
                     "{},iommufd=iommufd0'/>",
                     uuid),
                 "</qemu:commandline>"}),
            {Side::source,
             "libvirt then knows nothing of the device: let its QEMU open /dev/iommu and the mdev's "
             "/dev/vfio device "
             "(cgroup_device_acl in qemu.conf), allow the locked memory (<memtune><hard_limit>), and restart "
             "the guest",
             {}}};
    }

    void check_memory() {
        const bool backed = xml_.memory_source == "memfd" || xml_.memory_source == "file" || xml_.hugepages;
        if (!backed || xml_.memory_access != "shared") {
            const auto source =
                backed ? (xml_.memory_source.empty() ? "hugepages" : xml_.memory_source) : "anonymous";
            auto& finding =
                add(RuleId::live_update_memory, Severity::error,
                    backed ? fmt::format("the guest's memory ({}) is not shared", source)
                           : std::string{"the guest's memory is anonymous: the new QEMU cannot get at it"});
            finding.source =
                fmt::format("{}, {}", source, xml_.memory_access.empty() ? "private" : xml_.memory_access);
            finding.remedies = {
                edit("back the memory by something that two processes can share",
                     {xml_.hugepages
                          ? "<memoryBacking><hugepages/><access mode='shared'/></memoryBacking>"
                          : "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"})};
        }
        if (xml_.aux_ram_share) return;
        auto& finding =
            add(RuleId::live_update_memory, Severity::error,
                "the memory that QEMU makes for itself is not shared: the machine has no aux-ram-share=on");
        finding.source = "aux-ram-share off";
        finding.remedies = {
            edit("give QEMU the option, which libvirt does not know (11.3)",
                 {"<qemu:commandline>", "  <qemu:arg value='-machine'/><qemu:arg value='aux-ram-share=on'/>",
                  "</qemu:commandline>"})};
    }

    void check_qemu() {
        const auto qemu = host_.qemu.value_or(Qemu{});
        const bool old = qemu.version && !transfers_vfio(*qemu.version);
        if (old || qemu.cpr_transfer == false || qemu.vfio_ap_iommufd == false) {
            auto& finding =
                add(RuleId::live_update_qemu, Severity::error,
                    old ? fmt::format("QEMU {} of {} cannot hand over a vfio device: that came with 10.1",
                                      *qemu.version, host_.name)
                    : qemu.cpr_transfer == false
                        ? fmt::format("QEMU of {} has no migration mode cpr-transfer", host_.name)
                        : fmt::format("vfio-ap of QEMU at {} does not know iommufd", host_.name));
            if (qemu.version) finding.source = *qemu.version;
            finding.remedies =
                advise(Side::source, "install QEMU 10.1 or later, and restart the guest with it");
        } else if (!qemu.version || !qemu.cpr_transfer) {
            auto& finding =
                add(RuleId::live_update_qemu, Severity::warning,
                    fmt::format("whether QEMU of {} can do cpr-transfer with a vfio device is not known",
                                host_.name));
            finding.remedies = {
                {Side::source,
                 "look for 10.1 or later",
                 {(domain_.emulator.empty() ? "qemu-system-s390x" : domain_.emulator) + " -version"}}};
        }
    }

    void check_kernel() {
        if (!host_.iommufd) {
            auto& finding = add(RuleId::live_update_kernel, Severity::warning,
                                fmt::format("what iommufd of {} can is not known", host_.name));
            finding.remedies =
                advise(Side::source, "check on the host itself, or with a snapshot taken there");
            return;
        }
        const auto& iommufd = *host_.iommufd;
        if (!iommufd.present) {
            auto& finding = add(RuleId::live_update_kernel, Severity::error,
                                fmt::format("{} has no /dev/iommu", host_.name));
            finding.remedies = {{Side::source, "load the module", {"modprobe iommufd"}}};
        } else if (iommufd.map_file == false || iommufd.change_process == false) {
            auto& finding = add(
                RuleId::live_update_kernel, Severity::error,
                fmt::format("iommufd of {} does not know {}", host_.name,
                            iommufd.map_file == false ? "IOMMU_IOAS_MAP_FILE" : "IOMMU_IOAS_CHANGE_PROCESS"));
            finding.remedies = advise(Side::source, "use a newer kernel: 6.14 has both");
        } else if (!iommufd.map_file || !iommufd.change_process) {
            auto& finding = add(RuleId::live_update_kernel, Severity::warning,
                                fmt::format("/dev/iommu of {} could not be asked", host_.name));
            finding.remedies = advise(Side::source, "check as root");
        }
    }

    const DomainXml& domain_;
    const LiveUpdateXml& xml_;
    const Inventory& host_;
    Report report_;
};

}  // namespace

bool transfers_vfio(const std::string& version) {
    unsigned major = 0;
    unsigned minor = 0;
    const auto* const end = version.data() + version.size();
    const auto [dot, error] = std::from_chars(version.data(), end, major);
    if (error != std::errc{} || dot == end || *dot != '.') return false;
    if (std::from_chars(dot + 1, end, minor).ec != std::errc{}) return false;
    return major > 10 || (major == 10 && minor >= 1);
}

Report check_live_update(const DomainXml& domain, const Inventory& host, bool strict) {
    return LiveUpdateCheck{domain, host}.run(strict);
}

}  // namespace vfioap
