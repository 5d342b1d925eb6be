// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/host_glance.h"

#include "file/descriptor.h"
#include "host/attributes.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfioap {
namespace {

constexpr std::size_t words_per_adapter = ap_devices / 64;
/// sysfs prints an attribute into one page; the last byte stays free.
constexpr std::size_t page = 4096;
constexpr std::size_t uuid_length = 36;
/// A number that no text gives.
constexpr std::uint64_t absent = 1;

/// O_NONBLOCK: a FIFO in a directory that only looks like sysfs must not stop the service.
int open_at(int directory, const char* path, int flags) {
    return ::openat(directory, path, flags | O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

/// Each step can be undone, so that texts which differ in one word never give the same number.
std::uint64_t mix(std::uint64_t sum, std::uint64_t word) {
    sum = (sum ^ word) * 0x9e3779b97f4a7c15U;
    return sum ^ (sum >> 29U);
}

std::uint64_t print_of_error(int number) {
    // ENOTDIR: what is gone may have been above.
    if (number == ENOENT || number == ENOTDIR || number == ENODEV) return absent;
    return mix(absent, static_cast<std::uint64_t>(number));
}

std::uint64_t mix_text(std::uint64_t sum, const char* text, std::size_t size) {
    std::uint64_t word = 0;
    while (size >= sizeof word) {
        std::memcpy(&word, text, sizeof word);
        sum = mix(sum, word);
        text += sizeof word;
        size -= sizeof word;
    }
    word = 0;
    std::memcpy(&word, text, size);
    return mix(mix(sum, word), size);
}

/// Of the text of an attribute. One read is enough for sysfs; a file that only looks like it may be longer.
std::uint64_t print(int directory, const char* path) {
    const Descriptor file{open_at(directory, path, 0)};
    if (file.get() < 0) return print_of_error(errno);
    std::array<char, page> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): read into
    std::uint64_t sum = 0;
    while (true) {
        const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return print_of_error(errno);
        const auto bytes = static_cast<std::size_t>(got);
        sum = mix_text(sum, buffer.data(), bytes);
        if (bytes < buffer.size()) return sum;
    }
}

/// As SysfsRoot reads it, but for the record of what is wrong.
std::optional<bool> flag(int directory, const char* path) {
    const Descriptor file{open_at(directory, path, 0)};
    if (file.get() < 0) return {};
    std::array<char, 16> buffer{};
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got <= 0) return {};
    return parse_flag(trimmed({buffer.data(), static_cast<std::size_t>(got)}));
}

std::uint64_t print_of_directory(const struct stat& info) {
    // sysfs has the number of subdirectories here and no time stamps worth a look; other file systems have at
    // least one of the two. A directory that was made anew has another inode.
    std::uint64_t sum = mix(mix(absent, info.st_ino), info.st_nlink);
    sum = mix(sum, static_cast<std::uint64_t>(info.st_mtim.tv_sec));
    return mix(sum, static_cast<std::uint64_t>(info.st_mtim.tv_nsec));
}

}  // namespace

HostGlance::HostGlance()
    : bound_(ap_queues / 64), bound_now_(ap_queues / 64), entries_(std::size_t{32} * 1024) {}

/// Calls `use` with each name in the directory; what comes back tells how it went. readdir() would allocate
/// as much each time.
template <typename Use>
HostGlance::Print HostGlance::for_each_name(int parent, const char* path, Use use) {
    const Descriptor directory{open_at(parent, path, O_DIRECTORY)};
    if (directory.get() < 0) return print_of_error(errno);
    while (true) {
        const ssize_t got = ::getdents64(directory.get(), entries_.data(), entries_.size());
        if (got < 0) return print_of_error(errno);
        if (got == 0) return 0;
        for (std::size_t at = 0; at < static_cast<std::size_t>(got);) {
            std::uint16_t length = 0;
            std::memcpy(&length, &entries_[at + offsetof(dirent64, d_reclen)], sizeof length);
            use(std::string_view{&entries_[at + offsetof(dirent64, d_name)]});
            at += length;
        }
    }
}

HostGlance::Difference HostGlance::look(int root, Scope scope) {
    Difference difference;
    const auto scans = print(root, "bus/ap/scans");
    const bool scanned = std::exchange(scans_, scans) != scans;
    difference.any = look_at_host(root);
    if (look_at_mdevs(root, scope.locked || first_)) difference.any = true;
    if (scope.everything || scanned || first_) {
        look_at_bound(root, difference.adapters);
        look_at_cards(root, difference.adapters);
        look_at_queues(root, scanned ? ap_queues : queues_per_look, difference.adapters);
    }
    if (std::exchange(first_, false)) {
        difference.any = true;
        difference.adapters = Mask::all();
    }
    difference.any = difference.any || !difference.adapters.none();
    return difference;
}

bool HostGlance::look_at_host(int root) {
    constexpr std::array<const char*, host_attributes> attributes{
        "bus/ap/apmask", "bus/ap/aqmask", "bus/ap/ap_adapter_mask", "bus/ap/ap_usage_domain_mask",
        "bus/ap/ap_control_domain_mask", "bus/ap/ap_max_adapter_id", "bus/ap/ap_max_domain_id",
        "bus/ap/bindings", "bus/ap/features", "devices/vfio_ap/matrix/features",
        "devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/available_instances",
        // Where a partial root has the driver's attributes.
        "bus/matrix/devices/matrix/features", "firmware/uv/prot_virt_guest", "firmware/uv/prot_virt_host"};
    bool different = false;
    for (std::size_t i = 0; i < attributes.size(); ++i) {
        const auto now = print(root, attributes[i]);
        different = std::exchange(host_[i], now) != now || different;
    }
    return different;
}

bool HostGlance::look_at_mdevs(int root, bool locked) {
    const char* place = "devices/vfio_ap/matrix";
    mdevs_now_.clear();
    const auto list = [&] {
        return for_each_name(root, place, [&](std::string_view name) {
            // What is no UUID after all only costs a look.
            if (name.size() != uuid_length) return;
            std::memcpy(mdevs_now_.emplace_back().uuid.data(), name.data(), uuid_length);
        });
    };
    if (list() != 0) {
        place = "bus/mdev/devices";
        list();
    }
    std::sort(mdevs_now_.begin(), mdevs_now_.end(),
              [](const MdevSeen& a, const MdevSeen& b) { return a.uuid < b.uuid; });
    const Descriptor parent{open_at(root, place, O_DIRECTORY)};
    auto known = mdevs_.begin();
    for (auto& seen : mdevs_now_) {
        while (known != mdevs_.end() && known->uuid < seen.uuid)
            ++known;
        const bool is_known = known != mdevs_.end() && known->uuid == seen.uuid;
        if (is_known) seen = *known;
        look_at_mdev(parent.get(), seen, locked || !is_known);
    }
    std::swap(mdevs_, mdevs_now_);
    return mdevs_ != mdevs_now_;
}

bool HostGlance::saw_more(const Inventory& inventory) const {
    // The first of its attributes stands for the bus.
    if (!inventory.ap && host_.front() != absent) return true;
    for (unsigned apid = 0; apid < ap_devices; ++apid) {
        if (cards_[apid].directory != 0 && inventory.find_card(apid) == nullptr) return true;
    }
    return std::any_of(mdevs_.begin(), mdevs_.end(), [&](const MdevSeen& seen) {
        const auto uuid = Uuid::parse({seen.uuid.data(), seen.uuid.size()});
        return uuid && inventory.find_mdev(*uuid) == nullptr;
    });
}

void HostGlance::look_at_mdev(int parent, MdevSeen& seen, bool locked) {
    std::array<char, uuid_length + 32> path{};
    std::memcpy(path.data(), seen.uuid.data(), uuid_length);
    path[uuid_length] = '/';
    const auto attribute = [&path](std::string_view name) {
        std::memcpy(&path[uuid_length + 1], name.data(), name.size());
        path[uuid_length + 1 + name.size()] = '\0';
        return static_cast<const char*>(path.data());
    };
    // Of one that is cut in two by a write, the next look tells.
    seen.config = print(parent, attribute("ap_config"));
    if (locked || seen.config == absent) {
        seen.assigned = print(parent, attribute("matrix"));
        seen.guest = print(parent, attribute("guest_matrix"));
    }
    seen.rest = mix(print(parent, attribute("control_domains")), print(parent, attribute("migratable")));
}

void HostGlance::look_at_bound(int root, Mask& adapters) {
    std::fill(bound_now_.begin(), bound_now_.end(), 0);
    const auto listed = for_each_name(root, "bus/ap/drivers/vfio_ap", [&](std::string_view name) {
        if (const auto apqn = Apqn::parse(name))
            bound_now_[apqn->number() / 64U] |= std::uint64_t{1} << (apqn->number() % 64U);
    });
    const bool other = std::exchange(bound_listed_, listed) != listed;
    for (std::size_t i = 0; i < bound_.size(); ++i) {
        if (other || bound_[i] != bound_now_[i]) adapters.set(static_cast<unsigned>(i / words_per_adapter));
    }
    std::swap(bound_, bound_now_);
}

void HostGlance::look_at_cards(int root, Mask& adapters) {
    const Descriptor devices{open_at(root, "devices/ap", O_DIRECTORY)};
    Mask there;
    for_each_name(root, "devices/ap", [&](std::string_view name) {
        if (!name.starts_with("card")) return;
        if (const auto apid = parse_adapter(name.substr(4))) there.set(*apid);
    });
    for (unsigned apid = 0; apid < ap_devices; ++apid) {
        CardSeen seen;
        if (there.test(apid)) {
            std::array<char, 16> path{"card"};
            const auto number = adapter_text(apid);
            std::memcpy(&path[4], number.data(), 2);
            struct stat info {};
            if (::fstatat(devices.get(), path.data(), &info, 0) == 0)
                seen.directory = print_of_directory(info);
            for (const std::string_view name : {"/config", "/chkstop", "/online"}) {
                std::memcpy(&path[6], name.data(), name.size());
                path[6 + name.size()] = '\0';
                seen.state = mix(seen.state, print(devices.get(), path.data()));
            }
        }
        if (std::exchange(cards_[apid], seen) != seen) adapters.set(apid);
    }
}

void HostGlance::look_at_queues(int root, std::size_t most, Mask& adapters) {
    if (assigned_.empty()) return;
    const Descriptor devices{open_at(root, "devices/ap", O_DIRECTORY)};
    for (std::size_t i = std::min(most, assigned_.size()); i > 0; --i) {
        if (next_assigned_ >= assigned_.size()) next_assigned_ = 0;
        const auto& queue = inventory_->queues[assigned_[next_assigned_++]];
        // One read for a card is enough to know that it has to be read again.
        if (adapters.test(queue.apqn.apid())) continue;
        std::array<char, 32> path{"card"};
        const auto name = queue.apqn.to_string();
        std::memcpy(&path[4], name.data(), 2);
        path[6] = '/';
        std::memcpy(&path[7], name.data(), 7);
        std::memcpy(&path[14], "/config", 8);
        bool different = flag(devices.get(), path.data()) != queue.config;
        std::memcpy(&path[14], "/chkstop", 9);
        different = flag(devices.get(), path.data()) != queue.chkstop || different;
        if (different) adapters.set(queue.apqn.apid());
    }
}

void HostGlance::expect(const Inventory& inventory) {
    inventory_ = &inventory;
    assigned_.clear();
    for (std::size_t i = 0; i < inventory.queues.size(); ++i) {
        for (const auto& mdev : inventory.mdevs) {
            if (!mdev.assigned(inventory.queues[i].apqn)) continue;
            assigned_.push_back(static_cast<std::uint32_t>(i));
            break;
        }
    }
}

}  // namespace vfioap
