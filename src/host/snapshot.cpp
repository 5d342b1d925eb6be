// SPDX-License-Identifier: LGPL-2.1-or-later
// Writing snapshots, and snapshots as files. Reading the text: snapshot_read.cpp.
#include "host/snapshot.h"

#include "ap/error.h"
#include "file/descriptor.h"
#include "host/snapshot_limits.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <istream>
#include <memory>
#include <ostream>
#include <streambuf>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace vfioap {
namespace {

// Keeps the members in the order in which they are added: the order that people read.
using Json = nlohmann::ordered_json;

/// Text that read_snapshot() takes again, whatever sysfs had: without control characters (C1 included, which
/// terminals obey), not too long. What is not UTF-8 is replaced when it is dumped.
std::string plain(std::string_view text, std::size_t limit = max_text) {
    std::string result{text.substr(0, limit)};
    for (std::size_t i = 0; i < result.size(); ++i) {
        const auto byte = static_cast<unsigned char>(result[i]);
        const bool c1 = byte == 0xc2 && i + 1 < result.size() &&
                        (static_cast<unsigned char>(result[i + 1]) & 0xe0U) == 0x80U;
        if (byte < 0x20 || byte == 0x7f || c1) result[i] = '?';
        if (c1) result[++i] = '?';
    }
    return result;
}

/// The same for what may become part of a path.
std::string word(std::string_view text) {
    std::string result{text.substr(0, max_word)};
    for (char& c : result) {
        const bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                          c == '_' || c == '.' || c == '-';
        if (!fits) c = '_';
    }
    return result == "." || result == ".." ? std::string(result.size(), '_') : result;
}

std::string dump(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

template <typename Value>
void put(Json& object, const char* name, const std::optional<Value>& value) {
    if (value) object[name] = *value;
}

void put_text(Json& object, const char* name, const std::optional<std::string>& text) {
    if (text) object[name] = plain(*text);
}

void put_word(Json& object, const char* name, std::string_view text) {
    if (!text.empty()) object[name] = word(text);
}

void put_mask(Json& object, const char* name, const std::optional<Mask>& mask) {
    if (mask) object[name] = mask->to_string();
}

void put_mask(Json& object, const char* name, const HostMask& mask) {
    if (mask.state == HostMask::State::not_supported) object[name] = "not supported";
    if (mask.state == HostMask::State::value) object[name] = mask.mask.to_string();
}

void put_functions(Json& object, const std::optional<std::uint32_t>& functions) {
    if (functions) object["ap_functions"] = fmt::format("0x{:08X}", *functions);
}

void put_features(Json& object, const std::optional<std::vector<std::string>>& features) {
    if (!features) return;
    auto& array = object["features"] = Json::array();
    for (const auto& feature : *features) {
        if (!feature.empty() && array.size() < max_words) array.push_back(word(feature));
    }
}

Json json_of(const ApBus& bus) {
    Json json = Json::object();
    put_mask(json, "apmask", bus.apmask);
    put_mask(json, "aqmask", bus.aqmask);
    put_mask(json, "ap_adapter_mask", bus.ap_adapter_mask);
    put_mask(json, "ap_usage_domain_mask", bus.ap_usage_domain_mask);
    put_mask(json, "ap_control_domain_mask", bus.ap_control_domain_mask);
    put(json, "ap_max_adapter_id", bus.ap_max_adapter_id);
    put(json, "ap_max_domain_id", bus.ap_max_domain_id);
    put_text(json, "bindings", bus.bindings);
    put_features(json, bus.features);
    put(json, "scans", bus.scans);
    return json;
}

Json json_of(const VfioAp& driver) {
    Json json = Json::object();
    put_features(json, driver.features);
    put(json, "available_instances", driver.available_instances);
    return json;
}

Json json_of(const Qemu& qemu) {
    Json json = Json::object();
    put_text(json, "version", qemu.version);
    put(json, "vfio_ap_migration", qemu.vfio_ap_migration);
    put(json, "cpr_transfer", qemu.cpr_transfer);
    put(json, "vfio_ap_iommufd", qemu.vfio_ap_iommufd);
    return json;
}

Json json_of(const Iommufd& iommufd) {
    Json json = Json::object();
    json["present"] = iommufd.present;
    put(json, "map_file", iommufd.map_file);
    put(json, "change_process", iommufd.change_process);
    return json;
}

Json json_of(const Card& card) {
    Json json = Json::object();
    json["adapter"] = adapter_text(card.apid);
    put(json, "hwtype", card.hwtype);
    put(json, "raw_hwtype", card.raw_hwtype);
    put_functions(json, card.ap_functions);
    put(json, "depth", card.depth);
    put(json, "max_msg_size", card.max_msg_size);
    put(json, "config", card.config);
    put(json, "chkstop", card.chkstop);
    put(json, "online", card.online);
    if (card.type) put_word(json, "type", *card.type);
    put_text(json, "serialnr", card.serialnr);
    put_word(json, "driver", card.driver);
    return json;
}

Json json_of(const Queue& queue) {
    Json json = Json::object();
    json["apqn"] = queue.apqn.to_string();
    put_word(json, "driver", queue.driver);
    put(json, "config", queue.config);
    put(json, "chkstop", queue.chkstop);
    put(json, "online", queue.online);
    if (queue.status != QueueStatus::absent) json["status"] = to_text(queue.status);
    put_functions(json, queue.ap_functions);
    if (queue.has_driver_override) {
        auto& value = json["driver_override"] = nullptr;
        if (!queue.driver_override().empty()) value = word(queue.driver_override());
    }
    if (queue.se_bind != SeBind::absent) json["se_bind"] = to_text(queue.se_bind);
    switch (queue.se_associate) {
        case SeAssociate::absent:
            break;
        case SeAssociate::none:
            json["se_associate"] = "-";
            break;
        case SeAssociate::unassociated:
            json["se_associate"] = "unassociated";
            break;
        case SeAssociate::pending:
            json["se_associate"] = "association pending";
            break;
        case SeAssociate::associated:
            json["se_associate"] = fmt::format("associated {}", queue.association);
            break;
    }
    if (const auto* const keys = queue.mkvps()) json["mkvps"] = keys->lines();
    if (queue.detail) put_text(json, "op_modes", queue.detail->op_modes);
    return json;
}

template <typename Text>
Json numbers(const Mask& mask, Text text) {
    Json json = Json::array();
    for (const auto bit : mask.bits())
        json.push_back(text(bit));
    return json;
}

Json json_of(const Mdev& mdev) {
    Json json = Json::object();
    json["uuid"] = mdev.uuid.to_string();
    if (mdev.type) put_word(json, "type", *mdev.type);
    if (mdev.device_api) put_word(json, "device_api", *mdev.device_api);
    json["adapters"] = numbers(mdev.adapters, adapter_text);
    json["domains"] = numbers(mdev.domains, domain_text);
    if (mdev.control_domains) json["control_domains"] = numbers(*mdev.control_domains, domain_text);
    if (mdev.guest_matrix) {
        auto& array = json["guest_matrix"] = Json::array();
        // No kernel prints more, and as many as this count as cut (Mdev::guest_matrix_truncated).
        const auto size = std::min(mdev.guest_matrix->size(), max_guest_matrix);
        for (std::size_t i = 0; i < size; ++i)
            array.push_back((*mdev.guest_matrix)[i].to_string());
    }
    json["ap_config"] = mdev.ap_config;
    put(json, "migratable", mdev.migratable);
    if (mdev.matrix_truncated) json["matrix_truncated"] = true;
    return json;
}

Json json_of(const Unreadable& item) {
    Json json = Json::object();
    // A directory that cannot be listed ends in a slash.
    auto path = plain(item.path, 1024);
    path.erase(path.find_last_not_of('/') + 1);
    json["path"] = path;
    json["error"] = nullptr;
    if (item.error != 0) json["error"] = errno_name(item.error);
    if (!item.detail.empty()) json["detail"] = plain(item.detail);
    return json;
}

/// One element a line, each forgotten before the next is made.
template <typename Items>
void write_array(std::ostream& out, const char* name, const Items& items) {
    out << ",\n  \"" << name << "\": [";
    const char* separator = "\n    ";
    for (const auto& item : items) {
        out << separator << dump(json_of(item));
        separator = ",\n    ";
    }
    out << (items.empty() ? "]" : "\n  ]");
}

void write_member(std::ostream& out, const char* name, const Json& value) {
    out << ",\n  \"" << name << "\": " << dump(value);
}

/// A stream buffer over a file descriptor that throws SystemError instead of hiding errno.
class FdBuffer : public std::streambuf {
  public:
    FdBuffer(int fd, const std::string& path) : fd_{fd}, path_{path}, buffer_(std::size_t{64} * 1024) {
        setp(buffer_.data(), buffer_.data() + buffer_.size());
    }

  protected:
    int_type underflow() override {
        for (;;) {
            const auto count = ::read(fd_, buffer_.data(), buffer_.size());
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) throw SystemError{"read", path_, errno};
            if (count == 0) return traits_type::eof();
            setg(buffer_.data(), buffer_.data(), buffer_.data() + count);
            return traits_type::to_int_type(buffer_.front());
        }
    }
    int_type overflow(int_type c) override {
        sync();
        if (!traits_type::eq_int_type(c, traits_type::eof())) sputc(traits_type::to_char_type(c));
        return traits_type::not_eof(c);
    }
    int sync() override {
        const char* next = pbase();
        while (next < pptr()) {
            const auto count = ::write(fd_, next, static_cast<std::size_t>(pptr() - next));
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) throw SystemError{"write", path_, errno};
            next += count;
        }
        setp(buffer_.data(), buffer_.data() + buffer_.size());
        return 0;
    }

  private:
    int fd_;
    const std::string& path_;
    std::vector<char> buffer_;
};

/// A new file beside the one that it is to replace; gone again unless it became that one.
class TemporaryFile {
  public:
    TemporaryFile(int directory, std::string_view base, const std::string& path, mode_t mode)
        : directory_{directory} {
        // openat() instead of mkostemp(): the kernel applies the umask, which nobody else can read without
        // changing it for every thread.
        for (int tries = 0;; ++tries) {
            std::uint64_t random = 0;
            if (::getrandom(&random, sizeof random, 0) != static_cast<ssize_t>(sizeof random))
                throw SystemError{"name a temporary file for", path, errno};
            // The base is cut, for it may itself be as long as a name can be.
            name_ = fmt::format(".{}.{:016x}", base.substr(0, 200), random);
            fd_ = ::openat(directory, name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                           mode);
            if (fd_ >= 0) return;
            if (errno != EEXIST || tries == 100) throw SystemError{"create", path, errno};
        }
    }
    ~TemporaryFile() {
        if (fd_ >= 0) ::close(fd_);
        if (!name_.empty()) ::unlinkat(directory_, name_.c_str(), 0);
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    TemporaryFile(TemporaryFile&&) = delete;
    TemporaryFile& operator=(TemporaryFile&&) = delete;

    [[nodiscard]] int fd() const { return fd_; }
    void become(const std::string& base, const std::string& path) {
        if (::fsync(fd_) != 0 || ::close(std::exchange(fd_, -1)) != 0)
            throw SystemError{"write", path, errno};
        if (::renameat(directory_, name_.c_str(), directory_, base.c_str()) != 0)
            throw SystemError{"replace", path, errno};
        name_.clear();
    }

  private:
    int directory_;
    std::string name_;
    int fd_ = -1;
};

struct Free {
    void operator()(char* pointer) const { std::free(pointer); }  // NOLINT: realpath(3) allocates so
};

}  // namespace

void write_snapshot(std::ostream& out, const Inventory& inventory, std::string_view taken) {
    out << "{\n  \"schema\": " << dump(snapshot_schema);
    write_member(out, "name", plain(inventory.name));
    if (!taken.empty()) write_member(out, "taken", plain(taken));
    if (!inventory.complete) write_member(out, "complete", false);
    if (inventory.ap) write_member(out, "ap", json_of(*inventory.ap));
    if (inventory.vfio_ap) write_member(out, "vfio_ap", json_of(*inventory.vfio_ap));
    if (inventory.prot_virt_guest) write_member(out, "prot_virt_guest", *inventory.prot_virt_guest);
    if (inventory.prot_virt_host) write_member(out, "prot_virt_host", *inventory.prot_virt_host);
    if (inventory.qemu) write_member(out, "qemu", json_of(*inventory.qemu));
    if (inventory.iommufd) write_member(out, "iommufd", json_of(*inventory.iommufd));
    write_array(out, "cards", inventory.cards);
    write_array(out, "queues", inventory.queues);
    write_array(out, "mdevs", inventory.mdevs);
    write_array(out, "unreadable", inventory.unreadable);
    out << "\n}\n";
}

void save_snapshot(const std::string& path, const Inventory& inventory, std::string_view taken) {
    const auto slash = path.rfind('/');
    const std::string base = slash == std::string::npos ? path : path.substr(slash + 1);
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    if (base.empty() || base == "." || base == "..") throw SystemError{"write", path, EISDIR};

    const Descriptor directory{::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!directory.valid()) throw SystemError{"write", path, errno};

    mode_t mode = 0644;
    struct stat old {};
    const bool replaces = ::fstatat(directory.get(), base.c_str(), &old, AT_SYMLINK_NOFOLLOW) == 0;
    if (replaces) {
        if (S_ISDIR(old.st_mode)) throw SystemError{"write", path, EISDIR};
        // A rename would put a file in the place of /dev/stdout, or of somebody's link. Following a link
        // would let whoever can put one there choose the file that root overwrites.
        if (!S_ISREG(old.st_mode))
            throw InputError{path, "is a symbolic link, a device or a pipe; a snapshot replaces only files"};
        mode = old.st_mode & 0777U;
    } else if (errno != ENOENT) {
        throw SystemError{"write", path, errno};
    }

    TemporaryFile file{directory.get(), base, path, mode};
    if (replaces && ::fchmod(file.fd(), mode) != 0) throw SystemError{"set the mode of", path, errno};
    {
        FdBuffer buffer{file.fd(), path};
        std::ostream out{&buffer};
        out.exceptions(std::ios::badbit | std::ios::failbit);
        write_snapshot(out, inventory, taken);
        out.flush();
    }
    file.become(base, path);
    // The file is whole and in its place; only a crash of the machine could still lose it.
    if (::fsync(directory.get()) != 0 && errno != EINVAL) throw SystemError{"flush", path, errno};
}

Inventory load_snapshot(const std::string& path) {
    // Non-blocking, for opening a pipe waits for a writer.
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
    if (!file.valid()) throw SystemError{"open", path, errno};
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) throw SystemError{"read", path, errno};
    if (S_ISDIR(status.st_mode)) throw InputError{path, "is a directory; expected a snapshot file"};
    if (!S_ISREG(status.st_mode)) throw InputError{path, "is not a regular file; expected a snapshot file"};
    if (static_cast<std::uint64_t>(status.st_size) > snapshot_max_bytes)
        throw InputError{
            path, fmt::format("has {} bytes; a snapshot has at most {}", status.st_size, snapshot_max_bytes)};

    FdBuffer buffer{file.get(), path};
    std::istream in{&buffer};
    auto inventory = read_snapshot(in, path);
    const std::unique_ptr<char, Free> canonical{::realpath(path.c_str(), nullptr)};
    inventory.location = "snapshot:" + (canonical ? std::string{canonical.get()} : path);
    return inventory;
}

}  // namespace vfioap
