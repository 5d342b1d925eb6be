// SPDX-License-Identifier: LGPL-2.1-or-later
#include "support/fake_kernel.h"

#include "ap/error.h"
#include "host/sysfs.h"

#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <sys/wait.h>

namespace vfioap::test {
namespace {

namespace fs = std::filesystem;

/// The attributes of a root that a command may write to, and those beside them.
Tree attributes(const fs::path& root, const Inventory& host) {
    Tree tree;
    const auto add = [&](const std::string& path) {
        if (fs::is_regular_file(root / path)) tree[path] = text_of(root / path);
    };
    const auto add_all = [&](const std::string& directory) {
        if (!fs::is_directory(root / directory)) return;
        for (const auto& item : fs::directory_iterator{root / directory}) {
            if (item.is_regular_file()) add(directory + '/' + item.path().filename().string());
        }
    };
    add_all("bus/ap");
    if (fs::is_directory(root / "bus/ap/drivers")) {
        for (const auto& driver : fs::directory_iterator{root / "bus/ap/drivers"}) {
            const auto path = "bus/ap/drivers/" + driver.path().filename().string();
            tree[path] = "/";
            add(path + "/unbind");
        }
    }
    for (const auto& card : host.cards)
        add(card_path(card.apid) + "/config");
    for (const auto& queue : host.queues)
        add(queue_path(queue.apqn) + "/driver_override");
    add_all("devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough");
    for (const auto& mdev : host.mdevs)
        add_all(mdev_path(mdev.uuid));
    return tree;
}

void replace_all(std::string& text, std::string_view what, const std::string& by) {
    for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
        text.replace(at, what.size(), by);
}

/// Programs that remedies call and that must not touch the machine of the tests.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> programs{{
    {"modprobe", R"(test "$1" = vfio_ap && mkdir -p "$ROOT/bus/ap/drivers/vfio_ap")"},
    {"chzdev", R"(test "$1 $2" = "-t ap" || exit 1
shift 2
for setting; do echo "${setting#*=}" > "$ROOT/bus/ap/${setting%%=*}"; done)"},
    {"driverctl", "exit 0"},
    // Defining makes a definition of the mdev as it is, and fails where there is one already.
    {"mdevctl", R"(for uuid; do :; done
case $1 in
define) test -d "$ROOT/bus/mdev/devices/$uuid" && mkdir "$STATE/definition-$uuid" ;;
undefine) rmdir "$STATE/definition-$uuid" 2>/dev/null ;;
esac)"},
}};

}  // namespace

FakeKernel::FakeKernel(std::string root)
    : root_{fs::canonical(root).string()}, host_{SysfsRoot{root_}.read_all(Depth::full)} {
    const fs::path state{state_.path()};
    fs::create_directories(state / "etc/modules-load.d");
    fs::create_directory(state / "bin");
    for (const auto& [name, body] : programs) {
        write_file(state / "bin" / name,
                   fmt::format("#!/bin/sh\nROOT='{}' STATE='{}'\necho \"{} $*\" >> \"$STATE/recorded\"\n{}\n",
                               root_, state_.path(), name, body));
        fs::permissions(state / "bin" / name, fs::perms::owner_all);
    }
}

FakeKernel::Answer FakeKernel::run(std::string_view command) {
    const auto before = attributes(root_, host_);
    std::string line{command};
    replace_all(line, "/etc/", state_.path() + "/etc/");
    replace_all(line, "/sys/", root_ + '/');
    const auto script = fmt::format("PATH='{}/bin':$PATH; export PATH; {}", state_.path(), line);
    const int status = std::system(script.c_str());  // NOLINT(cert-env33-c): that is what it is for

    auto host = host_;
    KernelModel kernel{host, hidden_};
    Answer answer;
    for (const auto& [path, text] : attributes(root_, host_)) {
        const auto found = before.find(path);
        if (found != before.end() && found->second == text) continue;
        const auto untouched = host;
        try {
            if (text == "/") {
                kernel.load_vfio_ap();
            } else if (found != before.end() || path == "bus/ap/drivers_probe" || path.ends_with("/unbind")) {
                kernel.write(path, text);
            } else {
                throw Refusal{EACCES};
            }
        } catch (const Refusal& refusal) {
            host = untouched;
            answer = {1, path + ": " + errno_name(refusal.error)};
        }
        // Reading it gives what the attribute prints, not what was written.
        if (found == before.end()) {
            if (text != "/" || answer.status != 0) fs::remove(fs::path{root_} / path);
        } else {
            write_file(fs::path{root_} / path, found->second);
        }
    }
    kernel.settle();
    update_root(root_, host_, host);
    host_ = std::move(host);
    if (answer.status == 0 && status != 0) {
        answer.status = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        answer.message = fmt::format("{}: exit status {}", command, answer.status);
    }
    return answer;
}

std::vector<std::string> FakeKernel::recorded() const {
    std::ifstream in{fs::path{state_.path()} / "recorded"};
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);)
        lines.push_back(line);
    return lines;
}

}  // namespace vfioap::test
