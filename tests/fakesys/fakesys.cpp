// SPDX-License-Identifier: LGPL-2.1-or-later
// fakesys: a file system that behaves like the AP bus and the vfio_ap driver of the host in a snapshot.
//
//     fakesys [-f] [--allow-other] SNAPSHOT MOUNTPOINT
//
// MOUNTPOINT becomes a sysfs root that can be read and written as the kernel's: create and remove mdevs,
// assign_*, unassign_* and ap_config, apmask and aqmask, driver_override, bind, unbind, drivers_probe, config
// and online. What follows (driver links, attributes that come and go, guest_matrix, status, bindings) is
// there when the write returns, and what a kernel refuses fails with its errno. The program goes into the
// background once it is mounted
// (-f: not); `fusermount3 -u MOUNTPOINT` or `umount MOUNTPOINT` ends it. Nothing is kept.
//
// What no attribute does is written to MOUNTPOINT/.fakesys/control, one command a line:
//
//     in-use UUID              a guest starts to run with the mdev: removing it is EBUSY
//     free UUID                … and stops
//     vanish CARD|QUEUE        card05 leaves the LPAR with its queues, or queue 05.0004 its card
//     return CARD|QUEUE        and comes back
//     check-stop CARD          the card breaks
//     check-start CARD         and is repaired
//     load vfio_ap             as modprobe does
//     delay PATH MILLISECONDS [read|write] [skip=N] [times=N]
//     fail PATH ERRNO [read|write] [skip=N] [times=N]
//                              every access to PATH (relative to the root, with * and ? as in file names,
//                              which also stand for a /) takes longer, or fails with ERRNO (a name or a
//                              number), without having done anything; `skip` lets that many pass first, and
//                              after `times` it is over. Reading a directory, or looking for what is in it,
//                              is no access.
//     clear                    no more delays and failures; who waits goes on
//     clear-log
//
// A line that makes no sense is EINVAL, one of what is not there ENODEV. Reading the file gives the delays
// and failures in force. MOUNTPOINT/.fakesys/log has a line for each write to an attribute, in their order:
// `bus/ap/apmask: -0x05: ok` or `…: EBUSY`. The directory .fakesys is not listed, so that whoever walks
// through the root does not meet it.
//
// Not played: uevents, the cost of reading, attributes that tools read and nobody here writes (poll_timeout
// …).
#define FUSE_USE_VERSION 31

#include "ap/error.h"
#include "host/materialize.h"
#include "host/snapshot.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <dirent.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <fuse.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/kernel_model.h"
#include "support/temporary_directory.h"

namespace vfioap::test {
namespace {

namespace fs = std::filesystem;

constexpr off_t page = 4096;
constexpr std::string_view control_file = ".fakesys/control";
constexpr std::string_view log_file = ".fakesys/log";

enum class Access : std::uint8_t { read, write };

/// A delay or a failure that was asked for.
struct Trouble {
    std::string pattern;
    std::optional<Access> access;  ///< empty: both
    int error = 0;
    std::chrono::milliseconds delay{0};
    unsigned skip = 0;
    std::optional<unsigned> times;
    std::string line;  ///< as it was asked for
};

std::string one_line(std::string_view text) {
    std::string line;
    for (const char c : text)
        line += c == '\n' ? ' ' : c;
    while (!line.empty() && line.back() == ' ')
        line.pop_back();
    return line;
}

unsigned number_of(std::string_view text) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) throw Refusal{EINVAL};
    return value;
}

/// The host behind the mount point: the model, and a directory that holds what it looks like.
class FakeSys {
  public:
    explicit FakeSys(Inventory host) : host_{std::move(host)} {
        KernelModel model{host_, hidden_};
        model.hide_keys();
        model.settle();
        materialize(host_, backing_.path());
        add_driver_files();
    }

    [[nodiscard]] std::mutex& mutex() { return mutex_; }
    [[nodiscard]] fs::path backing(std::string_view path) const { return fs::path{backing_.path()} / path; }

    /// Waits and fails as was asked for; 0: go on.
    int trouble(std::string_view path, Access access) {
        std::unique_lock lock{mutex_};
        int error = 0;
        std::chrono::milliseconds delay{0};
        for (auto& trouble : troubles_) {
            if (trouble.access && *trouble.access != access) continue;
            if (::fnmatch(trouble.pattern.c_str(), std::string{path}.c_str(), 0) != 0) continue;
            if (trouble.skip > 0) {
                --trouble.skip;
                continue;
            }
            if (trouble.times && *trouble.times == 0) continue;
            if (trouble.times) --*trouble.times;
            delay += trouble.delay;
            if (error == 0) error = trouble.error;
        }
        if (delay.count() > 0) {
            const auto cleared = cleared_;
            condition_.wait_for(lock, delay, [&] { return cleared_ != cleared; });
        }
        return error;
    }

    /// A write to an attribute; 0 or the errno.
    int write(const std::string& path, std::string_view text) {
        int error = trouble(path, Access::write);
        const std::lock_guard lock{mutex_};
        if (error == 0) error = change([&](KernelModel& model) { model.write(path, text); });
        log_ += fmt::format("{}: {}: {}\n", path, one_line(text), error == 0 ? "ok" : errno_name(error));
        return error;
    }

    /// Lines for `.fakesys/control`.
    int control(std::string_view text) {
        const std::lock_guard lock{mutex_};
        std::istringstream in{std::string{text}};
        for (std::string line; std::getline(in, line);) {
            std::istringstream words_in{line};
            std::vector<std::string> words;
            for (std::string word; words_in >> word;)
                words.push_back(word);
            if (words.empty()) continue;
            try {
                if (const int error = obey(words, line); error != 0) return error;
            } catch (const Refusal& refusal) {
                return refusal.error;
            }
        }
        return 0;
    }

    /// What reading a file below `.fakesys` gives.
    std::string special(std::string_view path) {
        const std::lock_guard lock{mutex_};
        if (path == log_file) return log_;
        std::string text;
        for (const auto& trouble : troubles_)
            text += trouble.line + '\n';
        return text;
    }

  private:
    template <typename Do>
    int change(Do what) {
        auto host = host_;
        auto hidden = hidden_;
        try {
            KernelModel model{host, hidden};
            what(model);
            model.settle();
        } catch (const Refusal& refusal) {
            return refusal.error;
        }
        update_root(backing_.path(), host_, host);
        host_ = std::move(host);
        hidden_ = std::move(hidden);
        add_driver_files();
        return 0;
    }

    int obey(const std::vector<std::string>& words, const std::string& line) {
        const auto& verb = words[0];
        if (verb == "clear" && words.size() == 1) {
            troubles_.clear();
            ++cleared_;
            condition_.notify_all();
            return 0;
        }
        if (verb == "clear-log" && words.size() == 1) {
            log_.clear();
            return 0;
        }
        if ((verb == "delay" || verb == "fail") && words.size() >= 3) {
            troubles_.push_back(trouble_from(words, line));
            return 0;
        }
        if (words.size() != 2) return EINVAL;
        const auto& name = words[1];
        if (verb == "in-use" || verb == "free") {
            const auto uuid = Uuid::parse(name);
            if (!uuid) return EINVAL;
            return change([&](KernelModel& model) { model.use(*uuid, verb == "in-use"); });
        }
        if (verb == "load") {
            if (name != vfio_ap_driver_name) return ENOENT;
            return change([](KernelModel& model) { model.load_vfio_ap(); });
        }
        const auto apqn = Apqn::parse(name);
        const auto apid =
            name.starts_with("card") ? parse_adapter(std::string_view{name}.substr(4)) : std::nullopt;
        if (apqn) {
            if (verb == "vanish") return change([&](KernelModel& model) { model.take_queue(*apqn); });
            if (verb == "return") return change([&](KernelModel& model) { model.return_queue(*apqn); });
        } else if (apid) {
            if (verb == "vanish") return change([&](KernelModel& model) { model.take_card(*apid); });
            if (verb == "return") return change([&](KernelModel& model) { model.return_card(*apid); });
            if (verb == "check-stop" || verb == "check-start")
                return change([&](KernelModel& model) { model.check_stop(*apid, verb == "check-stop"); });
        }
        return EINVAL;
    }

    static Trouble trouble_from(const std::vector<std::string>& words, const std::string& line) {
        Trouble trouble;
        trouble.pattern = words[1];
        trouble.line = line;
        if (words[0] == "delay") {
            trouble.delay = std::chrono::milliseconds{number_of(words[2])};
        } else {
            trouble.error = errno_number(words[2]);
            if (trouble.error == 0) trouble.error = static_cast<int>(number_of(words[2]));
        }
        for (std::size_t i = 3; i < words.size(); ++i) {
            const std::string_view word = words[i];
            if (word == "read") {
                trouble.access = Access::read;
            } else if (word == "write") {
                trouble.access = Access::write;
            } else if (word.starts_with("skip=")) {
                trouble.skip = number_of(word.substr(5));
            } else if (word.starts_with("times=")) {
                trouble.times = number_of(word.substr(6));
            } else {
                throw Refusal{EINVAL};
            }
        }
        return trouble;
    }

    /// The attributes of the driver core that no inventory holds.
    void add_driver_files() const {
        const auto add = [](const fs::path& file) {
            if (fs::exists(file)) return;
            write_file(file, "");
            fs::permissions(file, fs::perms::owner_write);
        };
        if (!fs::is_directory(backing("bus/ap"))) return;
        // There before the first mdev is.
        if (fs::is_directory(backing("bus/mdev"))) fs::create_directories(backing("kernel/iommu_groups"));
        add(backing("bus/ap/drivers_probe"));
        if (!fs::is_directory(backing("bus/ap/drivers"))) return;
        for (const auto& driver : fs::directory_iterator{backing("bus/ap/drivers")}) {
            add(driver.path() / "bind");
            add(driver.path() / "unbind");
        }
    }

    std::mutex mutex_;
    std::condition_variable condition_;
    TemporaryDirectory backing_;
    Inventory host_;
    Hidden hidden_;
    std::list<Trouble> troubles_;
    unsigned cleared_ = 0;
    std::string log_;
};

// ---------------------------------------------------------------- what FUSE calls

FakeSys& sys() {
    return *static_cast<FakeSys*>(fuse_get_context()->private_data);
}

/// FUSE's paths start with a slash.
std::string relative(const char* path) {
    return path + 1;
}

bool is_special(std::string_view path) {
    return path == control_file || path == log_file;
}

/// What is read of an open file: it is as it was when its beginning was read.
struct OpenFile {
    std::mutex mutex;
    std::optional<std::string> text;
};

OpenFile& file_of(fuse_file_info* info) {
    return *reinterpret_cast<OpenFile*>(info->fh);  // NOLINT: that is what FUSE keeps it as
}

/// No exception may leave for FUSE, which is C.
template <typename Do>
int answer(Do what) noexcept {
    try {
        return what();
    } catch (const Refusal& refusal) {
        return -refusal.error;
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    } catch (const std::exception&) {
        return -EIO;
    }
}

int get_attributes(const char* name, struct stat* status, fuse_file_info* /*info*/) {
    return answer([&] {
        const auto path = relative(name);
        *status = {};
        if (path == ".fakesys" || is_special(path)) {
            status->st_mode = path == ".fakesys" ? S_IFDIR | 0755U
                              : path == log_file ? S_IFREG | 0444U
                                                 : S_IFREG | 0644U;
            status->st_nlink = 1;
            return 0;
        }
        const std::lock_guard lock{sys().mutex()};
        if (::lstat(sys().backing(path).c_str(), status) != 0) return -errno;
        // As sysfs has it; what is read is mostly shorter.
        if (S_ISREG(status->st_mode)) status->st_size = page;
        return 0;
    });
}

int read_link(const char* name, char* buffer, std::size_t size) {
    return answer([&] {
        const std::lock_guard lock{sys().mutex()};
        const auto length = ::readlink(sys().backing(relative(name)).c_str(), buffer, size - 1);
        if (length < 0) return -errno;
        buffer[length] = '\0';
        return 0;
    });
}

int read_directory(const char* name, void* buffer, fuse_fill_dir_t fill, off_t /*offset*/,
                   fuse_file_info* /*info*/, fuse_readdir_flags /*flags*/) {
    return answer([&] {
        const auto path = relative(name);
        std::vector<std::string> names{".", ".."};
        if (path == ".fakesys") {
            names.insert(names.end(), {"control", "log"});
        } else {
            const std::lock_guard lock{sys().mutex()};
            std::error_code error;
            for (fs::directory_iterator item{sys().backing(path), error}, end; !error && item != end;
                 item.increment(error))
                names.push_back(item->path().filename().string());
            if (error) return -error.value();
        }
        for (const auto& entry : names)
            fill(buffer, entry.c_str(), nullptr, 0, fuse_fill_dir_flags{});
        return 0;
    });
}

int open_file(const char* name, fuse_file_info* info) {
    return answer([&] {
        const auto path = relative(name);
        if (!is_special(path)) {
            const std::lock_guard lock{sys().mutex()};
            struct stat status {};
            if (::lstat(sys().backing(path).c_str(), &status) != 0) return -errno;
            const bool reads = (static_cast<unsigned>(info->flags) & O_ACCMODE) != O_WRONLY;
            if (reads && (status.st_mode & 0444U) == 0) return -EACCES;
        }
        // A file's size says nothing of what is in it, and that changes without a write to it.
        info->direct_io = 1;
        info->fh = reinterpret_cast<std::uint64_t>(new OpenFile);  // NOLINT: given back in close_file
        return 0;
    });
}

int close_file(const char* /*name*/, fuse_file_info* info) {
    delete &file_of(info);  // NOLINT(cppcoreguidelines-owning-memory)
    return 0;
}

int read_file(const char* name, char* buffer, std::size_t size, off_t offset, fuse_file_info* info) {
    return answer([&] {
        const auto path = relative(name);
        auto& file = file_of(info);
        const std::lock_guard one_reader{file.mutex};
        if (offset == 0 || !file.text) {
            if (is_special(path)) {
                file.text = sys().special(path);
            } else {
                if (const int error = sys().trouble(path, Access::read); error != 0) return -error;
                const std::lock_guard lock{sys().mutex()};
                // The device went away while its file was open.
                if (!fs::exists(sys().backing(path))) return -ENODEV;
                file.text = text_of(sys().backing(path));
            }
        }
        const auto& text = *file.text;
        const auto start = std::min(static_cast<std::size_t>(offset), text.size());
        const auto length = std::min(size, text.size() - start);
        std::memcpy(buffer, text.data() + start, length);
        return static_cast<int>(length);
    });
}

int write_file_at(const char* name, const char* text, std::size_t size, off_t /*offset*/,
                  fuse_file_info* /*info*/) {
    return answer([&] {
        const auto path = relative(name);
        int error = EACCES;
        if (path == control_file) {
            error = sys().control({text, size});
        } else if (path != log_file) {
            error = sys().write(path, {text, size});
        }
        return error == 0 ? static_cast<int>(size) : -error;
    });
}

/// `>` does it before it writes; attributes take no notice.
int truncate_file(const char* /*name*/, off_t /*size*/, fuse_file_info* /*info*/) {
    return 0;
}

int create_file(const char* /*name*/, mode_t /*mode*/, fuse_file_info* /*info*/) {
    return -EACCES;
}

void* start(fuse_conn_info* /*connection*/, fuse_config* config) {
    // What is there and what is not changes by itself.
    config->entry_timeout = 0;
    config->negative_timeout = 0;
    config->attr_timeout = 0;
    config->direct_io = 1;
    config->nullpath_ok = 0;
    return fuse_get_context()->private_data;
}

constexpr const char* usage = "usage: fakesys [-f] [--allow-other] SNAPSHOT MOUNTPOINT\n";

int run(int argc, char** argv) {
    bool foreground = false;
    std::vector<std::string> arguments{"fakesys", "-osubtype=fakesys,fsname=fakesys"};
    std::vector<std::string> names;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "-f") {
            foreground = true;
        } else if (word == "--allow-other") {
            arguments.emplace_back("-oallow_other");
        } else if (word.starts_with("-")) {
            std::fputs(usage, stderr);
            return 2;
        } else {
            names.emplace_back(word);
        }
    }
    if (names.size() != 2) {
        std::fputs(usage, stderr);
        return 2;
    }
    FakeSys host{load_snapshot(names[0])};

    fuse_operations operations{};
    operations.init = start;
    operations.getattr = get_attributes;
    operations.readlink = read_link;
    operations.readdir = read_directory;
    operations.open = open_file;
    operations.release = close_file;
    operations.read = read_file;
    operations.write = write_file_at;
    operations.truncate = truncate_file;
    operations.create = create_file;

    std::vector<char*> words;
    for (auto& argument : arguments)
        words.push_back(argument.data());
    fuse_args args = FUSE_ARGS_INIT(static_cast<int>(words.size()), words.data());
    fuse* const file_system = fuse_new(&args, &operations, sizeof operations, &host);
    if (file_system == nullptr) return 1;
    int status = 1;
    if (fuse_mount(file_system, names[1].c_str()) == 0) {
        auto* const session = fuse_get_session(file_system);
        if (fuse_daemonize(foreground ? 1 : 0) == 0 && fuse_set_signal_handlers(session) == 0) {
            // A delay at one file must not hold up the others.
            status = fuse_loop_mt(file_system, 0) == 0 ? 0 : 1;
            fuse_remove_signal_handlers(session);
        }
        fuse_unmount(file_system);
    }
    fuse_destroy(file_system);
    fuse_opt_free_args(&args);
    return status;
}

}  // namespace
}  // namespace vfioap::test

int main(int argc, char** argv) {
    try {
        return vfioap::test::run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "fakesys: %s\n", error.what());
        return 1;
    }
}
