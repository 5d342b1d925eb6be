// SPDX-License-Identifier: LGPL-2.1-or-later
// The layout is that of kernel drivers/s390/crypto/{ap_bus,ap_card,ap_queue,vfio_ap_ops}.c and
// drivers/vfio/mdev; all links are relative, so that the tree can be copied and moved.
#include "host/materialize.h"

#include "ap/error.h"
#include "file/directory.h"
#include "host/snapshot.h"
#include "host/sysfs.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfioap {
namespace {

/// What `matrix` and `guest_matrix` can show: one page without its last byte.
constexpr std::size_t page_text = 4095;
/// Reading it at offset 0 gives EIO, as nothing is mapped at address 0: the one way to make a file that
/// cannot be read by root without a file system of our own.
constexpr const char* unreadable_target = "/proc/self/mem";

/// Names come from snapshots, so from anybody; they must stay names.
const std::string& checked(const std::string& name, std::string_view what) {
    const bool fits =
        !name.empty() && name.size() <= 64 && name != "." && name != ".." &&
        name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") ==
            std::string::npos;
    if (!fits) throw InputError{what, "is not a name that can be part of a path"};
    return name;
}

/// An open directory of the tree.
class NewDirectory {
  public:
    NewDirectory(int fd, std::string path) : fd_{fd}, path_{std::move(path)} {}
    ~NewDirectory() {
        if (fd_ >= 0) ::close(fd_);
    }
    NewDirectory(NewDirectory&& other) noexcept
        : fd_{std::exchange(other.fd_, -1)}, path_{std::move(other.path_)} {}
    NewDirectory(const NewDirectory&) = delete;
    NewDirectory& operator=(const NewDirectory&) = delete;
    NewDirectory& operator=(NewDirectory&&) = delete;

    [[nodiscard]] int fd() const { return fd_; }
    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] std::string path_of(std::string_view name) const {
        return fmt::format("{}/{}", path_, name);
    }

    /// The subdirectory, made if need be.
    [[nodiscard]] NewDirectory sub(const std::string& name) const {
        if (::mkdirat(fd_, name.c_str(), 0755) != 0 && errno != EEXIST) fail("make directory", name);
        const int fd = ::openat(fd_, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) fail("open directory", name);
        return {fd, path_of(name)};
    }
    void file(const char* name, std::string_view text, mode_t mode = 0644) const {
        const int fd = ::openat(fd_, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (fd < 0) fail("create", name);
        std::size_t done = 0;
        while (done < text.size()) {
            const auto count = ::write(fd, text.data() + done, text.size() - done);
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) {
                const int number = errno;
                ::close(fd);
                throw SystemError{"write", path_of(name), number};
            }
            done += static_cast<std::size_t>(count);
        }
        if (::close(fd) != 0) fail("write", name);
    }
    void line(const char* name, std::string_view text) const {
        std::string with_end{text};
        with_end += '\n';
        file(name, with_end);
    }
    void number(const char* name, std::uint64_t value) const { line(name, std::to_string(value)); }
    void link(const std::string& name, const std::string& target) const {
        if (::symlinkat(target.c_str(), fd_, name.c_str()) != 0) fail("create link", name);
    }
    /// Another name for the file `name` of `other`; false where the file system allows no more of them.
    [[nodiscard]] bool same_file(const NewDirectory& other, const char* name) const {
        if (::linkat(other.fd_, name, fd_, name, 0) == 0) return true;
        if (errno == EMLINK || errno == EPERM || errno == EOPNOTSUPP) return false;
        fail("link", name);
    }

    // Optional attributes: only those that the inventory has.
    void text(const char* name, const std::optional<std::string>& value) const {
        if (value) line(name, *value);
    }
    void number(const char* name, const std::optional<unsigned>& value) const {
        if (value) number(name, std::uint64_t{*value});
    }
    void boolean(const char* name, const std::optional<bool>& value) const {
        if (value) line(name, *value ? "1" : "0");
    }
    void functions(const std::optional<std::uint32_t>& value) const {
        if (value) line("ap_functions", fmt::format("0x{:08X}", *value));
    }
    void mask(const char* name, const std::optional<Mask>& mask) const {
        if (mask) line(name, mask->to_string());
    }
    void mask(const char* name, const HostMask& mask) const {
        if (mask.state == HostMask::State::not_supported) line(name, "not supported");
        if (mask.state == HostMask::State::value) line(name, mask.mask.to_string());
    }

  private:
    [[noreturn]] void fail(std::string_view operation, std::string_view name) const {
        throw SystemError{operation, path_of(name), errno};
    }

    int fd_;
    std::string path_;
};

/// Removes everything below, as far as that goes. Follows no link.
void clear(int fd, const std::string& path) {
    for (const auto& name : list_directory(fd, path)) {
        if (::unlinkat(fd, name.c_str(), 0) == 0) continue;
        const int below = ::openat(fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below >= 0) {
            const NewDirectory directory{below, fmt::format("{}/{}", path, name)};
            clear(directory.fd(), directory.path());
        }
        ::unlinkat(fd, name.c_str(), AT_REMOVEDIR);
    }
}

std::string joined(const std::vector<std::string>& words) {
    if (words.empty()) return "-";  // as the AP bus prints no features at all
    return fmt::format("{}", fmt::join(words, " "));
}

/// The assigned matrix as the kernel prints it (vfio_ap_ops.c, vfio_ap_mdev_matrix_show): queues, or what is
/// there of adapters and domains where the other is empty; cut silently.
std::string matrix_text(const Mask& adapters, const Mask& domains) {
    std::string text;
    if (adapters.none() || domains.none()) {
        for (const auto apid : adapters.bits())
            text += adapter_text(apid) + ".\n";
        for (const auto apqi : domains.bits())
            text += '.' + domain_text(apqi) + '\n';
    } else {
        const auto apqis = domains.bits();
        for (const auto apid : adapters.bits()) {
            for (const auto apqi : apqis) {
                if (text.size() > page_text) break;
                text += Apqn{apid, apqi}.to_string() + '\n';
            }
        }
    }
    return text.substr(0, page_text);
}

std::string queues_text(const std::vector<Apqn>& queues) {
    std::string text;
    for (const auto apqn : queues)
        text += apqn.to_string() + '\n';
    return text.substr(0, page_text);
}

std::string domains_text(const Mask& domains) {
    std::string text;
    for (const auto number : domains.bits())
        text += domain_text(number) + '\n';
    return text;
}

class Tree {
  public:
    Tree(const Inventory& inventory, const NewDirectory& root) : inventory_{inventory}, root_{root} {}

    void make() {
        const NewDirectory bus = root_.sub("bus");
        const NewDirectory devices = root_.sub("devices");
        if (inventory_.ap || !inventory_.cards.empty() || !inventory_.queues.empty()) {
            const NewDirectory bus_ap = bus.sub("ap");
            make_bus(bus_ap);
            make_cards(bus_ap, devices.sub("ap"));
        }
        if (inventory_.vfio_ap || !inventory_.mdevs.empty()) make_vfio_ap(bus, devices);
        if (inventory_.prot_virt_guest || inventory_.prot_virt_host) {
            const NewDirectory uv = root_.sub("firmware").sub("uv");
            uv.boolean("prot_virt_guest", inventory_.prot_virt_guest);
            uv.boolean("prot_virt_host", inventory_.prot_virt_host);
        }
        make_identity();
        for (const auto& item : inventory_.unreadable)
            make_unreadable(item);
    }

  private:
    /// What sysfs does not hold, as a snapshot of nothing else.
    void make_identity() const {
        Inventory identity;
        identity.name = inventory_.name;
        identity.qemu = inventory_.qemu;
        identity.iommufd = inventory_.iommufd;
        std::ostringstream text;
        write_snapshot(text, identity, "");
        root_.line(identity_file.data(), text.str());
    }

    void make_bus(const NewDirectory& bus) const {
        const ApBus ap = inventory_.ap.value_or(ApBus{});
        bus.mask("apmask", ap.apmask);
        bus.mask("aqmask", ap.aqmask);
        bus.mask("ap_adapter_mask", ap.ap_adapter_mask);
        bus.mask("ap_usage_domain_mask", ap.ap_usage_domain_mask);
        bus.mask("ap_control_domain_mask", ap.ap_control_domain_mask);
        bus.number("ap_max_adapter_id", ap.ap_max_adapter_id);
        bus.number("ap_max_domain_id", ap.ap_max_domain_id);
        bus.text("bindings", ap.bindings);
        if (ap.features) bus.line("features", joined(*ap.features));
        if (ap.scans) bus.number("scans", *ap.scans);
        // What only tools read, as an idle system has it. The default domain is the first usable one.
        const auto usable = ap.ap_usage_domain_mask.mask.bits();
        bus.line("ap_domain", usable.empty() ? "-1" : std::to_string(usable.front()));
        bus.line("ap_interrupts", "1");
        bus.line("config_time", "30");
        bus.line("poll_thread", "0");
        bus.line("poll_timeout", "250000");
    }

    /// `bus/ap/drivers/NAME`, opened once.
    const NewDirectory& driver(const NewDirectory& drivers, const std::string& name) {
        const auto found = drivers_.find(name);
        if (found != drivers_.end()) return found->second;
        return drivers_.emplace(name, drivers.sub(checked(name, "the driver of a card or queue")))
            .first->second;
    }

    /// Counters and names that nobody changes and no inventory holds.
    static void idle(const NewDirectory& device) {
        for (const char* const name : {"request_count", "requestq_count", "pendingq_count"})
            device.line(name, "0");
    }

    void make_cards(const NewDirectory& bus, const NewDirectory& devices) {
        const NewDirectory bus_devices = bus.sub("devices");
        const NewDirectory drivers = bus.sub("drivers");
        if (inventory_.vfio_ap) driver(drivers, std::string{vfio_ap_driver_name});

        for (const auto& card : inventory_.cards) {
            const auto name = "card" + adapter_text(card.apid);
            const NewDirectory device = devices.sub(name);
            device.number("hwtype", card.hwtype);
            device.number("raw_hwtype", card.raw_hwtype);
            device.functions(card.ap_functions);
            device.number("depth", card.depth);
            device.number("max_msg_size", card.max_msg_size);
            device.boolean("config", card.config);
            device.boolean("chkstop", card.chkstop);
            device.boolean("online", card.online);
            device.text("type", card.type);
            device.text("serialnr", card.serialnr);
            if (card.hwtype) device.line("modalias", fmt::format("ap:t{:02X}", *card.hwtype));
            idle(device);
            device.link("subsystem", "../../../bus/ap");
            bus_devices.link(name, "../../../devices/ap/" + name);
            if (!card.driver.empty()) {
                driver(drivers, card.driver).link(name, "../../../../devices/ap/" + name);
                device.link("driver", "../../../bus/ap/drivers/" + card.driver);
            }
        }

        // Card by card, as the queues are sorted, so that few directories are open.
        for (std::size_t first = 0; first < inventory_.queues.size();) {
            const auto apid = inventory_.queues[first].apqn.apid();
            const NewDirectory card = devices.sub("card" + adapter_text(apid));
            const NewDirectory* sample = nullptr;
            const auto first_device = card.sub(inventory_.queues[first].apqn.to_string());
            for (; first < inventory_.queues.size() && inventory_.queues[first].apqn.apid() == apid;
                 ++first) {
                const Queue& queue = inventory_.queues[first];
                const NewDirectory device = card.sub(queue.apqn.to_string());
                make_queue(queue, device, bus_devices, drivers, sample);
                sample = &first_device;
            }
        }
    }

    void make_queue(const Queue& queue, const NewDirectory& device, const NewDirectory& bus_devices,
                    const NewDirectory& drivers, const NewDirectory* sample) {
        device.boolean("config", queue.config);
        device.boolean("chkstop", queue.chkstop);
        device.boolean("online", queue.online);
        if (queue.status != QueueStatus::absent) device.line("status", to_text(queue.status));
        device.functions(queue.ap_functions);
        if (queue.has_driver_override) {
            // The driver core prints a null pointer for one that is not set.
            const auto name = queue.driver_override();
            device.line("driver_override", name.empty() ? std::string_view{"(null)"} : name);
        }
        if (queue.se_bind != SeBind::absent) device.line("se_bind", to_text(queue.se_bind));
        switch (queue.se_associate) {
            case SeAssociate::absent:
                break;
            case SeAssociate::none:
                device.line("se_associate", "-");
                break;
            case SeAssociate::unassociated:
                device.line("se_associate", "unassociated");
                break;
            case SeAssociate::pending:
                device.line("se_associate", "association pending");
                break;
            case SeAssociate::associated:
                device.line("se_associate", fmt::format("associated {}", queue.association));
                break;
        }
        if (const auto* const keys = queue.mkvps())
            device.file("mkvps", fmt::format("{}\n", fmt::join(keys->lines(), "\n")));
        if (queue.detail) device.text("op_modes", queue.detail->op_modes);

        // 65,536 queues are a million files: those that are equal and that nobody changes are one file for
        // all queues of a card, which takes a tenth of the time and memory.
        if (sample == nullptr) {
            idle(device);
        } else {
            for (const char* const name : {"request_count", "requestq_count", "pendingq_count"}) {
                if (!device.same_file(*sample, name)) device.line(name, "0");
            }
        }

        const auto name = queue.apqn.to_string();
        const auto place = queue_path(queue.apqn);
        device.link("subsystem", "../../../../bus/ap");
        bus_devices.link(name, "../../../" + place);
        if (!queue.driver.empty()) {
            driver(drivers, queue.driver).link(name, "../../../../" + place);
            device.link("driver", "../../../../bus/ap/drivers/" + queue.driver);
        }
    }

    void make_vfio_ap(const NewDirectory& bus, const NewDirectory& devices) const {
        const NewDirectory vfio_ap = devices.sub("vfio_ap");
        const NewDirectory matrix = vfio_ap.sub("matrix");
        const VfioAp driver = inventory_.vfio_ap.value_or(VfioAp{});
        if (driver.features) matrix.line("features", joined(*driver.features));
        matrix.link("subsystem", "../../../bus/matrix");

        const NewDirectory bus_matrix = bus.sub("matrix");
        bus_matrix.sub("devices").link("matrix", "../../../devices/vfio_ap/matrix");
        root_.sub("class").sub("mdev_bus").link("matrix", "../../devices/vfio_ap/matrix");

        make_types(matrix.sub("mdev_supported_types"), driver);
        const NewDirectory bus_mdev = bus.sub("mdev");
        const NewDirectory bus_mdev_devices = bus_mdev.sub("devices");
        if (inventory_.mdevs.empty()) return;
        const NewDirectory groups = root_.sub("kernel").sub("iommu_groups");
        std::size_t number = 0;
        for (const auto& mdev : inventory_.mdevs) {
            const auto& uuid = mdev.uuid.to_string();
            make_mdev(mdev, matrix.sub(uuid), number);
            bus_mdev_devices.link(uuid, "../../../" + mdev_path(mdev.uuid));
            groups.sub(std::to_string(number))
                .sub("devices")
                .link(uuid, "../../../../" + mdev_path(mdev.uuid));
            ++number;
        }
    }

    /// `mdev_supported_types`: that of vfio_ap, and whatever else the mdevs say they are.
    void make_types(const NewDirectory& types, const VfioAp& driver) const {
        const std::string usual = "vfio_ap-passthrough";
        std::map<std::string, std::optional<std::string>> apis;
        if (inventory_.vfio_ap) apis[usual] = "vfio-ap";
        std::set<std::string> seen;
        for (const auto& mdev : inventory_.mdevs) {
            if (!mdev.type) {
                // It would have to be read through the link that is not there.
                if (mdev.device_api)
                    throw InputError{"mdev " + mdev.uuid.to_string(), "has a device_api and no type"};
                continue;
            }
            const auto& type = checked(*mdev.type, "the type of mdev " + mdev.uuid.to_string());
            if (seen.insert(type).second) {
                apis[type] = mdev.device_api;
            } else if (apis[type] != mdev.device_api) {
                throw InputError{"mdev " + mdev.uuid.to_string(),
                                 "has another device_api than an mdev of the same type"};
            }
        }
        for (const auto& [name, api] : apis) {
            const NewDirectory type = types.sub(name);
            type.text("device_api", api);
            type.file("create", "", 0200);
            if (name == usual) {
                type.line("name", "VFIO AP Passthrough Device");
                type.number("available_instances", driver.available_instances);
            }
        }
    }

    static void make_mdev(const Mdev& mdev, const NewDirectory& device, std::size_t group) {
        device.file("matrix", matrix_text(mdev.adapters, mdev.domains));
        if (mdev.guest_matrix) device.file("guest_matrix", queues_text(*mdev.guest_matrix));
        if (mdev.control_domains) device.file("control_domains", domains_text(*mdev.control_domains));
        if (mdev.ap_config) {
            device.line("ap_config", mdev.contents().to_string());
        }
        device.boolean("migratable", mdev.migratable);
        for (const char* const name :
             {"assign_adapter", "assign_domain", "assign_control_domain", "unassign_adapter",
              "unassign_domain", "unassign_control_domain", "remove"})
            device.file(name, "", 0200);
        if (mdev.type) device.link("mdev_type", "../mdev_supported_types/" + *mdev.type);
        device.link("subsystem", "../../../../bus/mdev");
        device.link("iommu_group", fmt::format("../../../../kernel/iommu_groups/{}", group));
    }

    /// What could not be read cannot be read here either. With EIO it gives EIO again; with anything else
    /// it is not there, since a value would be made up.
    void make_unreadable(const Unreadable& item) const {
        std::string_view path = item.path;
        std::string name;
        // A path of links, or into nothing, has no place in the tree.
        int fd = ::openat(root_.fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (;;) {
            if (fd < 0) return;
            const auto slash = path.find('/');
            name = std::string{path.substr(0, slash)};
            const bool usable = !name.empty() && name != "." && name != ".." &&
                                name.find('\0') == std::string::npos && name.size() <= 255;
            if (!usable || slash == std::string_view::npos) {
                if (!usable) name.clear();
                break;
            }
            path.remove_prefix(slash + 1);
            const int below = ::openat(fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            ::close(fd);
            fd = below;
        }
        const NewDirectory parent{fd, item.path};
        if (name.empty()) return;
        struct stat status {};
        if (::fstatat(fd, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) {
            if (!S_ISREG(status.st_mode)) return;  // a device or a link to one, which is there after all
            if (::unlinkat(fd, name.c_str(), 0) != 0) throw SystemError{"remove", item.path, errno};
        }
        if (item.error == EIO && ::symlinkat(unreadable_target, fd, name.c_str()) != 0)
            throw SystemError{"create link", item.path, errno};
    }

    const Inventory& inventory_;
    const NewDirectory& root_;
    std::map<std::string, NewDirectory> drivers_;
};

}  // namespace

void materialize(const Inventory& inventory, const std::string& directory) {
    if (!inventory.complete)
        throw InputError{inventory.location.empty() ? inventory.name : inventory.location,
                         "holds only a part of the host; a sysfs root needs all of it"};
    const bool made = ::mkdir(directory.c_str(), 0755) == 0;
    if (!made && errno != EEXIST) throw SystemError{"make directory", directory, errno};
    const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOTDIR) throw InputError{directory, "is not a directory"};
    if (fd < 0) throw SystemError{"open directory", directory, errno};
    const NewDirectory root{fd, directory};
    if (!list_directory(fd, directory).empty())
        throw InputError{directory, "is not empty; a sysfs root is made only in a new or empty directory"};
    try {
        Tree{inventory, root}.make();
    } catch (...) {
        // The first error is the one to tell.
        try {
            clear(fd, directory);
            if (made) ::rmdir(directory.c_str());
        } catch (const Error&) {
        }
        throw;
    }
}

}  // namespace vfioap
