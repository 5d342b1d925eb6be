// SPDX-License-Identifier: LGPL-2.1-or-later
// The libvirt hook of all guests, most of which have no crypto device: this looks for the two words without
// which a domain has nothing to do with vfio-ap, and ends. Only where one is there, vfioap-hook-judge takes
// over, with the same arguments and standard input. Linked statically, without the C++ library: libvirtd
// waits for each call, and a dynamic linker would be most of it. man 8 vfioap-hook.
#include <cerrno>
#include <cstddef>
#include <cstring>

#include <sys/mman.h>
#include <syslog.h>
#include <unistd.h>

namespace {

/// A byte more than the judge reads at all (domain_xml_max_bytes): so it sees that there is too much. Pages
/// that are not written to cost nothing.
constexpr std::size_t most = std::size_t{8} * 1024 * 1024 + 1;
char domain[most];

/// `vfio-ap`, the model of the device, or `vfioap`, as in the namespace of a guest's state. A title or a
/// comment may say so, too; the judge knows the difference. memchr() takes many bytes at a time, and few
/// letters are an f.
bool has_word(const char* text, std::size_t size) {
    const char* const end = text + size;
    for (const char* at = text; at < end;) {
        at = static_cast<const char*>(std::memchr(at, 'f', static_cast<std::size_t>(end - at)));
        if (at == nullptr) return false;
        if (at > text && at[-1] == 'v') {
            const auto left = static_cast<std::size_t>(end - at);
            if ((left >= 6 && std::memcmp(at, "fio-ap", 6) == 0) ||
                (left >= 5 && std::memcmp(at, "fioap", 5) == 0))
                return true;
        }
        ++at;
    }
    return false;
}

std::size_t read_domain() {
    std::size_t size = 0;
    while (size < most) {
        const ssize_t count = ::read(STDIN_FILENO, domain + size, most - size);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) break;
        size += static_cast<std::size_t>(count);
    }
    return size;
}

/// Standard input anew, with what was read.
bool put_back(std::size_t size) {
    const int fd = ::memfd_create("domain", 0);
    if (fd < 0) return false;
    for (std::size_t done = 0; done < size;) {
        const ssize_t count = ::write(fd, domain + done, size - done);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        done += static_cast<std::size_t>(count);
    }
    if (::lseek(fd, 0, SEEK_SET) != 0 || ::dup2(fd, STDIN_FILENO) < 0) return false;
    return fd == STDIN_FILENO || ::close(fd) == 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::size_t size = read_domain();
    // Whatever happens, a guest that runs goes on: libvirtd is only looking at it again.
    if (argc > 2 && std::strcmp(argv[argc - 3], "reconnect") == 0) return 0;
    if (!has_word(domain, size)) return 0;
    // Beside this program, which libvirt calls by a link.
    constexpr char suffix[] = "-judge";
    char judge[4096];
    const ssize_t length = ::readlink("/proc/self/exe", judge, sizeof judge - sizeof suffix);
    if (length > 0 && put_back(size)) {
        std::memcpy(judge + length, suffix, sizeof suffix);
        ::execv(judge, argv);
    }
    const int error = errno;
    ::openlog("vfioap-hook", LOG_PID, LOG_DAEMON);
    ::syslog(LOG_ERR, "guest %s: %s: not checked: vfioap-hook-judge cannot be run: %s",
             argc > 4 ? argv[argc - 4] : "?", argc > 3 ? argv[argc - 3] : "?", std::strerror(error));
    return 0;
}
