// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/sysfs.h"

#include "ap/error.h"
#include "file/descriptor.h"
#include "host/attributes.h"
#include "host/snapshot.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace vfioap {
namespace {

/// sysfs prints an attribute into one page, the last byte of which stays free.
constexpr std::size_t page_bytes = 4095;
/// No attribute but the matrices is longer than this: `features`, `mkvps` and `ap_config` are the longest.
constexpr std::size_t small_bytes = 1024;
/// A matrix of 65,536 queues written whole, as a directory that only looks like sysfs may have it.
constexpr std::size_t matrix_bytes = std::size_t{ap_queues} * 8;
/// How often a value that changes while it is read is read again.
constexpr int most_attempts = 5;
/// From this many queues on, one read of the driver's directory costs less than a look for each queue.
constexpr std::size_t few_queues = 1024;

/// An open directory below the sysfs root, with its path from there (ending in `/`) for the records.
class Directory {
  public:
    Directory() = default;
    Directory(int fd, std::string path) : fd_{fd}, path_{std::move(path)} {}
    Directory(Directory&& other) noexcept
        : fd_{std::exchange(other.fd_, -1)}, path_{std::move(other.path_)} {}
    Directory& operator=(Directory&& other) noexcept {
        std::swap(fd_, other.fd_);
        std::swap(path_, other.path_);
        return *this;
    }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;
    ~Directory() {
        if (fd_ >= 0) ::close(fd_);
    }
    [[nodiscard]] int fd() const { return fd_; }
    [[nodiscard]] const std::string& path() const { return path_; }
    explicit operator bool() const { return fd_ >= 0; }

  private:
    int fd_ = -1;
    std::string path_;
};

/// O_NONBLOCK: a FIFO in a directory that only looks like sysfs must not stop the scan.
int open_at(int directory, const char* path, int flags) {
    return ::openat(directory, path, flags | O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

bool exists_at(const Directory& directory, const char* path) {
    struct stat info {};
    return ::fstatat(directory.fd(), path, &info, AT_SYMLINK_NOFOLLOW) == 0;
}

/// What was found, fit for a message: short, and without anything a terminal would act on.
std::string quoted(std::string_view text) {
    std::string result = "\"";
    for (const char c : text.substr(0, 40))
        result += c >= ' ' && c <= '~' ? c : '?';
    return result + (text.size() > 40 ? "…\"" : "\"");
}

class SysfsReader {
  public:
    SysfsReader(int root, const Inventory& identity)
        : inventory_{identity}, root_{::fcntl(root, F_DUPFD_CLOEXEC, 0), ""} {
        buffer_.resize(small_bytes + 1);
    }

    Inventory read_all(Depth depth) {
        read_host();
        read_all_drivers();
        read_mdevs(nullptr);
        read_devices(depth);
        return finish();
    }

    Inventory read_again(const Inventory& before, const Mask& adapters) {
        read_host();
        read_all_drivers();
        read_mdevs(nullptr);
        read_devices_again(before, adapters);
        return finish();
    }

    std::vector<Uuid> mdevs() {
        bool on_bus = false;
        auto uuids = list_mdevs(open_mdevs(on_bus));
        std::sort(uuids.begin(), uuids.end());
        return uuids;
    }

    Inventory read_for(const Uuid& uuid, const std::vector<Apqn>& queues) {
        inventory_.complete = false;
        read_host();
        read_mdevs(&uuid);
        auto wanted = queues;
        const auto mdev = std::find_if(inventory_.mdevs.begin(), inventory_.mdevs.end(),
                                       [&](const Mdev& m) { return m.uuid == uuid; });
        std::optional<Apqn> witness;
        if (mdev != inventory_.mdevs.end()) {
            const auto assigned = mdev->matrix();
            wanted.insert(wanted.end(), assigned.begin(), assigned.end());
            if (mdev->guest_matrix) {
                wanted.insert(wanted.end(), mdev->guest_matrix->begin(), mdev->guest_matrix->end());
            }
            // One queue tells whether the mdev is in use: `status` takes two locks of the whole driver.
            const auto& passed = mdev->guest_matrix ? *mdev->guest_matrix : assigned;
            if (!passed.empty()) witness = passed.front();
        }
        std::sort(wanted.begin(), wanted.end());
        wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
        read_some_devices(wanted, witness);
        // With no queue left to vfio_ap by the masks, those that it has are overridden.
        if (inventory_.ap && inventory_.ap->apmask == Mask::all() && inventory_.ap->aqmask == Mask::all() &&
            vfio_ap_driver_) {
            for_each_name(vfio_ap_driver_, [this](std::string_view name) {
                inventory_.vfio_ap_has_queues =
                    inventory_.vfio_ap_has_queues || Apqn::parse(name).has_value();
            });
        }
        return finish();
    }

  private:
    Inventory finish() {
        inventory_.sort();
        return std::move(inventory_);
    }

    void record(const Directory& directory, std::string_view name, int error, std::string detail) {
        inventory_.unreadable.push_back({directory.path() + std::string{name}, error, std::move(detail)});
    }

    /// A directory that is not there gives an empty one; what cannot be opened is recorded, too.
    Directory open_directory(const Directory& parent, const std::string& name) {
        const int fd = open_at(parent.fd(), name.c_str(), O_DIRECTORY);
        if (fd < 0 && errno != ENOENT) record(parent, name, errno, "cannot be opened");
        return Directory{fd, parent.path() + name + '/'};
    }

    /// Calls `use` with each name in the directory.
    template <typename Use>
    void for_each_name(const Directory& directory, Use use) {
        // A second descriptor, since closedir closes the one it was given.
        const int fd = open_at(directory.fd(), ".", O_DIRECTORY);
        DIR* const stream = fd < 0 ? nullptr : ::fdopendir(fd);
        if (stream == nullptr) {
            record(directory, "", errno, "cannot be listed");
            if (fd >= 0) ::close(fd);
            return;
        }
        errno = 0;
        while (const dirent* const entry = ::readdir(stream)) {  // NOLINT(concurrency-mt-unsafe): own stream
            use(std::string_view{entry->d_name});
            errno = 0;
        }
        if (errno != 0) record(directory, "", errno, "cannot be listed");
        ::closedir(stream);
    }

    /// The text of an attribute without its newline, in a buffer that the next read uses again. Nothing when
    /// it is absent; nothing and a record when it cannot be read or is longer than `limit`.
    std::optional<std::string_view> read_text(const Directory& directory, const char* name,
                                              std::size_t limit) {
        const int fd = open_at(directory.fd(), name, 0);
        if (fd < 0) {
            if (errno != ENOENT && errno != ENOTDIR) record(directory, name, errno, "");
            return {};
        }
        std::size_t size = 0;
        ssize_t got = 0;
        do {
            // Few long ones are: only what is needed is paid for.
            if (size == buffer_.size()) buffer_.resize(size * 4);
            got = ::read(fd, buffer_.data() + size, std::min(buffer_.size(), limit + 1) - size);
            if (got > 0) size += static_cast<std::size_t>(got);
            // sysfs gives a small attribute whole in one read; a long one is read until nothing more comes.
        } while ((got < 0 && errno == EINTR) || (got > 0 && size <= limit && limit > small_bytes));
        const int error = errno;
        ::close(fd);
        if (got < 0) {
            record(directory, name, error, "");
            return {};
        }
        if (size > limit) {
            record(directory, name, 0, fmt::format("is longer than {} bytes", limit));
            return {};
        }
        return std::string_view{buffer_.data(), size};
    }

    template <typename Value>
    std::optional<Value> read(const Directory& directory, const char* name,
                              std::optional<Value> (*parse)(std::string_view), const char* expected,
                              std::size_t limit = small_bytes) {
        const auto text = read_text(directory, name, limit);
        if (!text) return {};
        auto value = parse(trimmed(*text));
        if (!value)
            record(directory, name, 0,
                   fmt::format("expected {}, found {}", expected, quoted(trimmed(*text))));
        return value;
    }

    /// The last part of a symbolic link's target; empty when there is no such link.
    static std::string link_name(const Directory& directory, const char* name) {
        std::array<char, 1024> target{};
        const ssize_t size = ::readlinkat(directory.fd(), name, target.data(), target.size());
        if (size <= 0) return {};
        const std::string_view text{target.data(), static_cast<std::size_t>(size)};
        return std::string{text.substr(text.rfind('/') + 1)};
    }

    /// The bus, the driver's own attributes and the Secure Execution state.
    void read_host() {
        const auto bus = open_directory(root_, "bus/ap");
        if (bus) {
            constexpr const char* a_mask = "0x and 64 hexadecimal digits";
            constexpr const char* a_number = "a number from 0 to 255";
            ApBus& ap = inventory_.ap.emplace();
            ap.apmask = read<Mask>(bus, "apmask", Mask::parse, a_mask);
            ap.aqmask = read<Mask>(bus, "aqmask", Mask::parse, a_mask);
            ap.ap_adapter_mask = read(bus, "ap_adapter_mask", parse_host_mask, a_mask).value_or(HostMask{});
            ap.ap_usage_domain_mask =
                read(bus, "ap_usage_domain_mask", parse_host_mask, a_mask).value_or(HostMask{});
            ap.ap_control_domain_mask =
                read(bus, "ap_control_domain_mask", parse_host_mask, a_mask).value_or(HostMask{});
            ap.ap_max_adapter_id = read(bus, "ap_max_adapter_id", parse_number_256, a_number);
            ap.ap_max_domain_id = read(bus, "ap_max_domain_id", parse_number_256, a_number);
            ap.bindings = read(bus, "bindings", parse_text, "N/M or N/M (complete)");
            ap.features = read(bus, "features", parse_words, "words");
            ap.scans = read(bus, "scans", parse_count, "a number");
            drivers_ = open_directory(bus, "drivers");
            if (drivers_) vfio_ap_driver_ = open_directory(drivers_, std::string{vfio_ap_driver_name});
        }
        // Both paths lead to the same device; a partial root may have only the other one.
        matrix_ = open_directory(root_, "devices/vfio_ap/matrix");
        if (!matrix_) matrix_ = open_directory(root_, "bus/matrix/devices/matrix");
        if (vfio_ap_driver_ || matrix_) {
            VfioAp& driver = inventory_.vfio_ap.emplace();
            if (matrix_) {
                driver.features = read(matrix_, "features", parse_words, "words");
                driver.available_instances =
                    read(matrix_, "mdev_supported_types/vfio_ap-passthrough/available_instances",
                         parse_unsigned, "a number");
            }
        }
        const auto uv = open_directory(root_, "firmware/uv");
        if (uv) {
            inventory_.prot_virt_guest = read(uv, "prot_virt_guest", parse_flag, "0 or 1");
            inventory_.prot_virt_host = read(uv, "prot_virt_host", parse_flag, "0 or 1");
        }
    }

    /// Which queue and card is bound to which driver: one directory read per driver, instead of a link per
    /// queue.
    void read_all_drivers() {
        if (!drivers_) return;
        for_each_name(drivers_, [this](std::string_view name) {
            if (name.starts_with('.')) return;
            const auto driver = open_directory(drivers_, std::string{name});
            if (driver) read_bound(driver, std::string{name});
        });
        have_bound_ = true;
    }

    void read_bound(const Directory& driver, const std::string& name) {
        names_.push_back(name);
        const auto index = static_cast<std::uint8_t>(names_.size() - 1);
        if (names_.size() > 255) return;
        if (queue_driver_.empty()) queue_driver_.resize(ap_queues);
        for_each_name(driver, [&](std::string_view entry) {
            if (const auto apqn = Apqn::parse(entry)) {
                // vfio_ap's own directory has the last word.
                auto& bound = queue_driver_[apqn->number()];
                if (names_[bound] != vfio_ap_driver_name) bound = index;
            } else if (entry.starts_with("card")) {
                if (const auto apid = parse_adapter(entry.substr(4))) card_driver_[*apid] = index;
            }
        });
    }

    std::string driver_of(const Directory& card, const char* queue, Apqn apqn, const char* link) {
        if (have_bound_) {
            if (const auto& name = listed_driver(apqn); !name.empty()) return name;
        } else if (vfio_ap_driver_ && exists_at(vfio_ap_driver_, queue)) {
            return std::string{vfio_ap_driver_name};
        }
        auto name = link_name(card, link);
        // The driver's directory counts: bound since it was read, or the link is stale.
        if (name == vfio_ap_driver_name && vfio_ap_driver_ && !exists_at(vfio_ap_driver_, queue))
            name.clear();
        return name;
    }

    void read_devices(Depth depth) {
        const auto devices = open_directory(root_, "devices/ap");
        if (!devices) return;
        for (const auto apid : list_cards(devices))
            read_card_and_queues(devices, apid, depth);
    }

    std::vector<std::uint8_t> list_cards(const Directory& devices) {
        std::vector<std::uint8_t> apids;
        for_each_name(devices, [&](std::string_view name) {
            if (!name.starts_with("card")) return;
            if (const auto apid = parse_adapter(name.substr(4))) apids.push_back(*apid);
        });
        std::sort(apids.begin(), apids.end());
        return apids;
    }

    void read_card_and_queues(const Directory& devices, std::uint8_t apid, Depth depth) {
        const auto card = open_directory(devices, "card" + adapter_text(apid));
        if (!card) return;
        read_card(card, apid, true, depth == Depth::full);
        std::vector<std::uint8_t> apqis;
        for_each_name(card, [&](std::string_view name) {
            const auto apqn = Apqn::parse(name);
            if (apqn && apqn->apid() == apid) apqis.push_back(apqn->apqi());
        });
        std::sort(apqis.begin(), apqis.end());
        for (const auto apqi : apqis) {
            const QueueScope scope{.se = true,
                                   .override = true,
                                   .online = true,
                                   .costly = depth == Depth::full,
                                   .status = depth == Depth::full};
            read_queue(card, Apqn{apid, apqi}, scope);
        }
    }

    void read_devices_again(const Inventory& before, const Mask& adapters) {
        const auto devices = open_directory(root_, "devices/ap");
        if (!devices) return;
        // Without the drivers' directories each queue has to be asked for its driver.
        const bool comparable = have_bound_ && before.prot_virt_guest == inventory_.prot_virt_guest;
        inventory_.queues.reserve(before.queues.size());
        Mask kept;
        auto first = before.queues.begin();
        for (const auto apid : list_cards(devices)) {
            while (first != before.queues.end() && first->apqn.apid() < apid)
                ++first;
            auto last = first;
            bool as_bound = true;
            for (; last != before.queues.end() && last->apqn.apid() == apid; ++last)
                as_bound = as_bound && last->driver == listed_driver(last->apqn);
            const auto* const card = before.find_card(apid);
            if (comparable && as_bound && card != nullptr && card->driver == names_[card_driver_[apid]] &&
                !adapters.test(apid)) {
                inventory_.cards.push_back(*card);
                inventory_.queues.insert(inventory_.queues.end(), first, last);
                kept.set(apid);
            } else {
                read_card_and_queues(devices, apid, Depth::state);
            }
            first = last;
        }
        constexpr std::string_view cards = "devices/ap/card";
        for (const auto& item : before.unreadable) {
            if (!item.path.starts_with(cards)) continue;
            const auto apid = parse_adapter(std::string_view{item.path}.substr(cards.size(), 2));
            if (apid && kept.test(*apid)) inventory_.unreadable.push_back(item);
        }
    }

    /// The driver in the directory of which the queue is; empty: in none.
    [[nodiscard]] const std::string& listed_driver(Apqn apqn) const {
        return names_[queue_driver_.empty() ? 0 : queue_driver_[apqn.number()]];
    }

    void read_some_devices(const std::vector<Apqn>& wanted, std::optional<Apqn> witness) {
        const auto devices = open_directory(root_, "devices/ap");
        if (!devices) return;
        if (wanted.size() > few_queues && vfio_ap_driver_) {
            names_.resize(1);
            read_bound(vfio_ap_driver_, std::string{vfio_ap_driver_name});
            have_bound_ = true;
        }
        Directory card;
        int open_card = -1;
        for (const auto apqn : wanted) {
            if (apqn.apid() != open_card) {
                open_card = apqn.apid();
                card = open_directory(devices, "card" + adapter_text(apqn.apid()));
                if (card) read_card(card, apqn.apid(), false, false);
            }
            if (!card) continue;
            const QueueScope scope{
                .se = false, .override = false, .online = false, .costly = true, .status = apqn == witness};
            read_queue(card, apqn, scope);
        }
    }

    void read_card(const Directory& directory, std::uint8_t apid, bool everything, bool costly) {
        Card card;
        card.apid = apid;
        card.hwtype = read(directory, "hwtype", parse_number_256, "a number from 0 to 255");
        card.raw_hwtype = read(directory, "raw_hwtype", parse_number_256, "a number from 0 to 255");
        card.ap_functions = read(directory, "ap_functions", parse_functions, "0x and 8 hexadecimal digits");
        card.config = read(directory, "config", parse_flag, "0 or 1");
        card.chkstop = read(directory, "chkstop", parse_flag, "0 or 1");
        if (everything) {
            card.depth = read(directory, "depth", parse_number_65536, "a number from 0 to 65535");
            card.max_msg_size = read(directory, "max_msg_size", parse_unsigned, "a number of bytes");
            card.type = read(directory, "type", parse_text, "a card type");
            card.online = read(directory, "online", parse_flag, "0 or 1");
            card.driver = names_[card_driver_[apid]];
            if (card.driver.empty()) card.driver = link_name(directory, "driver");
        }
        if (costly) card.serialnr = read(directory, "serialnr", parse_text, "a serial number");
        inventory_.cards.push_back(std::move(card));
    }

    /// Which attributes of a queue to read beyond `config`, `chkstop` and the driver.
    struct QueueScope {
        bool se;
        bool override;
        bool online;
        bool costly;  ///< `ap_functions`, `mkvps`, `op_modes`
        bool status;
    };

    void read_queue(const Directory& card, Apqn apqn, QueueScope scope) {
        // The attribute's name is put behind the queue's without building a string for each read.
        std::array<char, 32> path{};
        const auto name = apqn.to_string();
        std::memcpy(path.data(), name.data(), name.size());
        const auto in_queue = [&path](std::string_view attribute) {
            path[7] = '/';
            std::memcpy(&path[8], attribute.data(), attribute.size());
            path[8 + attribute.size()] = '\0';
            return static_cast<const char*>(path.data());
        };
        const std::size_t records = inventory_.unreadable.size();
        Queue queue;
        queue.apqn = apqn;
        queue.config = read(card, in_queue("config"), parse_flag, "0 or 1");
        // Kernels without the attribute exist; but it is also what a queue that is not there looks like.
        if (!queue.config && !exists_at(card, name.c_str())) return note_vanished(card, name, records);
        queue.chkstop = read(card, in_queue("chkstop"), parse_flag, "0 or 1");
        queue.driver = driver_of(card, name.c_str(), apqn, in_queue("driver"));
        // Of the zcrypt drivers only.
        if (scope.online && !queue.bound_to_vfio_ap())
            queue.online = read(card, in_queue("online"), parse_flag, "0 or 1");
        // Only where this Linux is known to be no Secure Execution guest are the attributes known to be
        // absent.
        if (scope.se && inventory_.prot_virt_guest != false) {
            queue.se_bind = read(card, in_queue("se_bind"), parse_se_bind, "-, bound or unbound")
                                .value_or(SeBind::absent);
            if (const auto association =
                    read(card, in_queue("se_associate"), parse_association, "an association")) {
                queue.se_associate = association->state;
                queue.association = association->index;
            }
        }
        // Of vfio_ap only.
        if (scope.status && queue.bound_to_vfio_ap()) {
            queue.status =
                read(card, in_queue("status"), parse_queue_status, "unassigned, assigned or in use")
                    .value_or(QueueStatus::absent);
        }
        QueueDetail detail;
        if (scope.override || !queue.bound_to_vfio_ap()) {
            if (auto text = read(card, in_queue("driver_override"), parse_text, "a driver's name")) {
                queue.has_driver_override = true;
                // The driver core prints (null) for none.
                if (*text != "(null)") detail.driver_override = std::move(*text);
            }
        }
        if (scope.costly) {
            queue.ap_functions =
                read(card, in_queue("ap_functions"), parse_functions, "0x and 8 hexadecimal digits");
            detail.mkvps = read(card, in_queue("mkvps"), MasterKeys::parse, "master key patterns");
            if (scope.status)
                detail.op_modes = read(card, in_queue("op_modes"), parse_text, "EP11 operational modes");
        }
        // Gone while it was read: what could not be read then says nothing about it.
        if (inventory_.unreadable.size() > records && !exists_at(card, name.c_str())) {
            return note_vanished(card, name, records);
        }
        queue.detail = shared(std::move(detail));
        inventory_.queues.push_back(std::move(queue));
    }

    /// A queue that was listed and is gone is recorded once; one that was only asked for is simply not there.
    void note_vanished(const Directory& card, const std::string& name, std::size_t records) {
        inventory_.unreadable.resize(records);
        if (inventory_.complete) record(card, name, ENOENT, "vanished while the host was read");
    }

    /// Equal details are kept once: keys are set per domain, so that many queues have the same.
    std::shared_ptr<const QueueDetail> shared(QueueDetail detail) {
        if (detail == QueueDetail{}) return nullptr;
        std::string key = detail.driver_override + '\n' + detail.op_modes.value_or("-");
        if (detail.mkvps) {
            for (const auto& line : detail.mkvps->lines())
                key += '\n' + line;
        }
        auto& known = details_[key];
        if (!known) known = std::make_shared<const QueueDetail>(std::move(detail));
        return known;
    }

    /// Where the mdevs are; `on_bus`: on the mdev bus, which a partial root may have instead of the device.
    Directory open_mdevs(bool& on_bus) {
        auto parent = open_directory(root_, "devices/vfio_ap/matrix");
        on_bus = !parent;
        if (on_bus) parent = open_directory(root_, "bus/mdev/devices");
        return parent;
    }

    std::vector<Uuid> list_mdevs(const Directory& parent) {
        std::vector<Uuid> uuids;
        if (!parent) return uuids;
        for_each_name(parent, [&](std::string_view name) {
            if (auto uuid = Uuid::parse(name)) uuids.push_back(std::move(*uuid));
        });
        return uuids;
    }

    /// All mdevs; when only `wanted` matters, of the others just what is assigned to them.
    void read_mdevs(const Uuid* wanted) {
        bool on_bus = false;
        const auto parent = open_mdevs(on_bus);
        const auto uuids = list_mdevs(parent);
        for (const auto& uuid : uuids) {
            const auto directory = open_directory(parent, uuid.to_string());
            if (!directory) {
                record(parent, uuid.to_string(), ENOENT, "vanished while the host was read");
                continue;
            }
            Mdev mdev{uuid};
            if (on_bus || wanted == nullptr || *wanted == uuid) {
                mdev.device_api = read(directory, "mdev_type/device_api", parse_text, "vfio-ap");
                // The mdev bus is not ours alone.
                if (on_bus && mdev.device_api != "vfio-ap") continue;
                if (auto type = link_name(directory, "mdev_type"); !type.empty()) mdev.type = std::move(type);
            }
            read_mdev(directory, mdev, wanted == nullptr || *wanted == uuid);
            inventory_.mdevs.push_back(std::move(mdev));
        }
    }

    void read_mdev(const Directory& directory, Mdev& mdev, bool everything) {
        read_assigned(directory, mdev, everything);
        // Of every mdev: it tells which driver the host has.
        mdev.migratable = read(directory, "migratable", parse_flag, "0 or 1");
        if (!everything) return;
        if (auto matrix = read(directory, "guest_matrix", parse_matrix, "lines XX.YYYY", matrix_bytes)) {
            mdev.guest_matrix = std::move(matrix->queues);
        }
    }

    /// Assigned adapters, domains and control domains from `matrix` and `control_domains`, or from
    /// `ap_config` where `matrix` fills its page: then it was cut without a word. The kernel prints
    /// `ap_config` without a lock, so it counts once it reads the same twice, and both are read again when
    /// they disagree.
    void read_assigned(const Directory& directory, Mdev& mdev, bool everything) {
        const std::size_t records = inventory_.unreadable.size();
        for (int attempt = 0; attempt < most_attempts; ++attempt) {
            inventory_.unreadable.resize(records);
            const auto text = read_text(directory, "matrix", matrix_bytes);
            const bool page_full = text && text->size() == page_bytes;
            auto matrix = text ? parse_matrix(*text) : std::nullopt;
            if (text && !matrix) record(directory, "matrix", 0, "expected lines XX.YYYY, XX. or .YYYY");
            if (matrix) {
                mdev.adapters = matrix->adapters;
                mdev.domains = matrix->domains;
            }
            if (!everything && matrix && !page_full) return;
            mdev.control_domains =
                read(directory, "control_domains", parse_control_domains, "lines YYYY", matrix_bytes);
            const auto config = read_config(directory);
            mdev.ap_config = config.has_value() || exists_at(directory, "ap_config");
            mdev.matrix_truncated = page_full && !config;
            if (!config) return;
            if (!matrix || page_full) {
                mdev.adapters = config->adapters;
                mdev.domains = config->domains;
            }
            if (!mdev.control_domains) mdev.control_domains = config->control_domains;
            if (*config == mdev.contents()) return;
        }
        record(directory, "ap_config", 0, "does not agree with matrix and control_domains");
    }

    std::optional<MdevContents> read_config(const Directory& directory) {
        auto config = read(directory, "ap_config", MdevContents::parse, "three masks");
        for (int attempt = 0; config && attempt < most_attempts; ++attempt) {
            const auto again = read(directory, "ap_config", MdevContents::parse, "three masks");
            if (again == config) return config;
            config = again;
        }
        if (config) record(directory, "ap_config", 0, "kept changing while it was read");
        return {};
    }

    Inventory inventory_;
    Directory root_;
    Directory drivers_;
    Directory vfio_ap_driver_;
    Directory matrix_;
    std::string buffer_;
    std::vector<std::string> names_{""};      // drivers; 0: none
    std::vector<std::uint8_t> queue_driver_;  // by APQN, an index of names_
    std::array<std::uint8_t, ap_devices> card_driver_{};
    bool have_bound_ = false;
    std::unordered_map<std::string, std::shared_ptr<const QueueDetail>> details_;
};

/// Where that cannot be told it is taken for sysfs: nothing is written then that nobody asked for.
bool is_in_sysfs(int fd) {
    struct statfs info {};
    return ::fstatfs(fd, &info) != 0 || static_cast<std::uint64_t>(info.f_type) == SYSFS_MAGIC;
}

/// A directory of one's own may have links into sysfs in it, or parts of sysfs mounted on it.
bool leads_to_sysfs(int root) {
    if (is_in_sysfs(root)) return true;
    for (const char* const name : {"bus", "devices"}) {
        const Descriptor directory{::openat(root, name, O_PATH | O_DIRECTORY | O_CLOEXEC)};
        if (directory.valid() && is_in_sysfs(directory.get())) return true;
    }
    return false;
}

/// The machine's own name for its own sysfs; else the directory's, or its parent's where it is itself called
/// `sys`.
std::string host_name(const std::string& path, bool real) {
    if (real) {
        utsname names{};
        if (::uname(&names) == 0) return static_cast<const char*>(names.nodename);
    }
    auto end = path.size();
    while (true) {
        const auto slash = path.rfind('/', end - 1);
        auto part = path.substr(slash + 1, end - slash - 1);
        if (part != "sys" && !part.empty()) return part;
        if (slash == 0 || slash == std::string::npos) return path;
        end = slash;
    }
}

Inventory identity_of(const std::string& path, bool real) {
    Inventory identity;
    identity.name = host_name(path, real);
    if (!real) {
        const auto file = path + '/' + std::string{identity_file};
        try {
            auto told = load_snapshot(file);
            identity.name = std::move(told.name);
            identity.qemu = std::move(told.qemu);
            identity.iommufd = told.iommufd;
        } catch (const SystemError& error) {
            if (error.number() != ENOENT) {
                identity.unreadable.push_back({std::string{identity_file}, error.number(), ""});
            }
        } catch (const InputError& error) {
            identity.unreadable.push_back({std::string{identity_file}, 0, error.what()});
        }
    }
    identity.location = "sysfs:" + path;
    return identity;
}

}  // namespace

SysfsRoot::SysfsRoot(const std::string& directory)
    : fd_{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)}, real_{leads_to_sysfs(fd_)} {
    if (fd_ < 0) throw SystemError{"open", directory, errno};
    struct stat info {};
    if (::fstatat(fd_, "bus", &info, 0) != 0 && ::fstatat(fd_, "devices", &info, 0) != 0) {
        ::close(fd_);
        throw InputError{directory,
                         "not a sysfs root: expected a directory with bus/ap and devices/ap in it"};
    }
    char* const canonical = ::realpath(directory.c_str(), nullptr);
    path_ = canonical != nullptr ? canonical : directory;
    std::free(canonical);  // NOLINT(cppcoreguidelines-no-malloc): realpath allocates so
    identity_ = identity_of(path_, real_);
}

SysfsRoot::~SysfsRoot() {
    ::close(fd_);
}

std::vector<Uuid> SysfsRoot::mdevs() const {
    return SysfsReader{fd_, identity_}.mdevs();
}

Inventory SysfsRoot::read_all(Depth depth) const {
    return SysfsReader{fd_, identity_}.read_all(depth);
}

Inventory SysfsRoot::read_again(const Inventory& before, const Mask& adapters) const {
    return SysfsReader{fd_, identity_}.read_again(before, adapters);
}

Inventory SysfsRoot::read_for(const Uuid& uuid, const std::vector<Apqn>& queues) const {
    return SysfsReader{fd_, identity_}.read_for(uuid, queues);
}

}  // namespace vfioap
