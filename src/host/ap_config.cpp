// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/ap_config.h"

#include "file/descriptor.h"
#include "host/sysfs.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <optional>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace vfioap {
namespace {

/// An open attribute.
class Attribute {
  public:
    Attribute(const std::string& path, int flags)
        : path_{path}, file_{::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)} {
        if (!file_.valid()) throw SystemError{"open", path, errno};
    }

    [[nodiscard]] std::string read() const {
        std::array<char, 1024> buffer{};
        std::size_t size = 0;
        while (size < buffer.size()) {
            const auto got =
                ::pread(file_.get(), &buffer[size], buffer.size() - size, static_cast<off_t>(size));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) throw SystemError{"read", path_, errno};
            if (got == 0) break;
            size += static_cast<std::size_t>(got);
        }
        return {buffer.data(), size};
    }
    /// 0 or an errno. One write: an attribute takes no half of a value.
    [[nodiscard]] int write(const std::string& text) const {
        while (true) {
            const auto written = ::pwrite(file_.get(), text.data(), text.size(), 0);
            if (written == static_cast<ssize_t>(text.size())) return 0;
            if (written >= 0) return EIO;
            if (errno != EINTR) return errno;
        }
    }

  private:
    std::string path_;
    Descriptor file_;
};

class ApConfig {
  public:
    explicit ApConfig(std::string path) : path_{std::move(path)} {}

    /// The kernel prints it without a lock: what it is once it reads the same twice.
    [[nodiscard]] MdevContents read() const {
        auto text = Attribute{path_, O_RDONLY}.read();
        for (int attempt = 0; attempt < 5; ++attempt) {
            auto again = Attribute{path_, O_RDONLY}.read();
            if (again == text) {
                if (text.ends_with('\n')) text.pop_back();
                if (const auto contents = MdevContents::parse(text)) return *contents;
                throw InputError{path_, "expected three masks apm,aqm,adm"};
            }
            text = std::move(again);
        }
        throw SystemError{"read", path_, EAGAIN};
    }
    [[nodiscard]] int write(const MdevContents& contents) const {
        return Attribute{path_, O_WRONLY}.write(contents.to_string() + '\n');
    }
    /// Whether `contents` are there again.
    [[nodiscard]] bool put_back(const MdevContents& contents) const noexcept {
        try {
            return read() == contents || (write(contents) == 0 && read() == contents);
        } catch (const std::exception&) {
            return false;
        }
    }

  private:
    std::string path_;
};

/// Whether the guest gets `queues`. Nothing is said where nobody acts on what is written, as in a directory
/// that only looks like sysfs: there `matrix` stays as it was.
bool passes_on(const std::string& root, const Uuid& uuid, const MdevContents& contents,
               const std::vector<Apqn>& queues) {
    const auto inventory = SysfsRoot{root}.read_for(uuid, queues);
    const auto* const mdev = inventory.find_mdev(uuid);
    if (mdev == nullptr) return false;
    if (mdev->contents() != contents || !mdev->guest_matrix || mdev->guest_matrix_truncated()) return true;
    return *mdev->guest_matrix == queues;
}

}  // namespace

ApConfigError::ApConfigError(const std::string& object, int number, bool undone)
    : SystemError{"write (what it held before " +
                      std::string{undone ? "is there again)" : "could not be written again)"},
                  object, number},
      undone_{undone} {}

void write_ap_config(const std::string& root, const Uuid& uuid, const MdevContents& contents,
                     const std::vector<Apqn>& queues) {
    const auto path = root + '/' + mdev_path(uuid) + "/ap_config";
    const ApConfig attribute{path};
    const auto before = attribute.read();
    if (before == contents) return;
    int error = attribute.write(contents);
    try {
        if (error == 0 && attribute.read() != contents) error = EIO;
        if (error == 0 && !passes_on(root, uuid, contents, queues)) error = ENODEV;
    } catch (const SystemError& unread) {
        error = unread.number();
    } catch (const InputError&) {
        error = EIO;
    }
    if (error != 0) throw ApConfigError{path, error, attribute.put_back(before)};
}

}  // namespace vfioap
