// SPDX-License-Identifier: LGPL-2.1-or-later
// What is allowed and what follows is that of kernel drivers/s390/crypto/ap_bus.c (apmask_store,
// ap_bus_revise_bindings), vfio_ap_ops.c (assign_*_store, ap_config_store) and the driver core.
#include "support/fake_kernel.h"

#include "ap/error.h"
#include "host/guest_matrix.h"
#include "host/materialize.h"
#include "host/sysfs.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vfioap::test {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view host_driver = "cex4queue";
constexpr std::size_t guest_matrix_page = 512;

/// What a directory holds: a file's text, `-> TARGET` of a link, `/` for a directory.
using Tree = std::map<std::string, std::string>;

std::string text_of(const fs::path& file) {
    std::ifstream in{file, std::ios::binary};
    return {std::istreambuf_iterator<char>{in}, {}};
}

void write_file(const fs::path& file, std::string_view text) {
    std::ofstream out{file, std::ios::binary | std::ios::trunc};
    out << text;
    if (!out.flush()) throw std::runtime_error{"cannot write " + file.string()};
}

/// Everything below `root`, with paths from there.
Tree tree_of(const fs::path& root) {
    Tree tree;
    for (const auto& item : fs::recursive_directory_iterator{root}) {
        auto& entry = tree[item.path().lexically_relative(root).string()];
        if (item.is_symlink()) {
            entry = "-> " + fs::read_symlink(item.path()).string();
        } else if (item.is_directory()) {
            entry = "/";
        } else {
            // Attributes for writing only; who is not root could not look into them.
            if (::access(item.path().c_str(), R_OK) != 0)
                fs::permissions(item.path(), fs::perms::owner_read, fs::perm_options::add);
            entry = text_of(item.path());
        }
    }
    return tree;
}

/// The host's own attributes, its mdevs, and of its cards and queues those that are named.
Tree tree_of_part(Inventory host, const std::set<Apqn>& queues, const std::set<std::uint8_t>& cards) {
    std::erase_if(host.queues, [&](const Queue& queue) { return !queues.contains(queue.apqn); });
    std::erase_if(host.cards, [&](const Card& card) { return !cards.contains(card.apid); });
    const TemporaryDirectory directory;
    materialize(host, directory.path());
    return tree_of(directory.path());
}

/// Brings a root from one state to another, and touches nothing else. What could not be read in it is in no
/// inventory, so it stays.
void change(const fs::path& root, const Inventory& from, const Inventory& to) {
    std::set<Apqn> queues;
    std::set<std::uint8_t> cards;
    for (std::size_t i = 0; i < from.queues.size(); ++i) {
        if (!(from.queues[i] == to.queues[i])) queues.insert(from.queues[i].apqn);
    }
    for (std::size_t i = 0; i < from.cards.size(); ++i) {
        if (!(from.cards[i] == to.cards[i])) cards.insert(from.cards[i].apid);
    }
    const auto before = tree_of_part(from, queues, cards);
    const auto after = tree_of_part(to, queues, cards);
    for (auto entry = before.rbegin(); entry != before.rend(); ++entry) {
        const auto found = after.find(entry->first);
        if (found != after.end() && (found->second == entry->second || !entry->second.starts_with("-> ")))
            continue;
        // A driver stays when its last queue goes.
        std::error_code not_empty;
        if (!entry->first.starts_with("bus/ap/drivers/") || entry->second != "/")
            fs::remove(root / entry->first, not_empty);
    }
    for (const auto& [path, entry] : after) {
        if (const auto found = before.find(path); found != before.end() && found->second == entry) continue;
        if (entry == "/") {
            fs::create_directory(root / path);
        } else if (entry.starts_with("-> ")) {
            fs::create_symlink(entry.substr(3), root / path);
        } else {
            write_file(root / path, entry);
        }
    }
}

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

/// Refuses what was written.
struct Refusal {
    int error;
};

std::optional<unsigned> number_of(std::string_view text) {
    int base = 10;
    if (text.starts_with("0x")) {
        base = 16;
        text.remove_prefix(2);
    }
    unsigned value = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc{} || rest != text.data() + text.size()) return {};
    return value;
}

/// The store functions of the attributes: what is written changes the inventory, or is refused.
class Stores {
  public:
    Stores(Inventory& host, std::vector<Uuid>& in_use) : host_{host}, in_use_{in_use} {
        for (const auto& mdev : host.mdevs) {
            const bool used = std::any_of(host.queues.begin(), host.queues.end(), [&](const Queue& queue) {
                return queue.status == QueueStatus::in_use && mdev.assigned(queue.apqn);
            });
            if (used && !is_in_use(mdev.uuid)) in_use.push_back(mdev.uuid);
        }
    }

    void write(const std::string& path, std::string_view text) {
        while (!text.empty() && text.back() == '\n')
            text.remove_suffix(1);
        const auto slash = path.rfind('/');
        const auto leaf = std::string_view{path}.substr(slash == std::string::npos ? 0 : slash + 1);
        if (path == "bus/ap/apmask" || path == "bus/ap/aqmask") return write_mask(leaf == "apmask", text);
        if (path == "bus/ap/drivers_probe") return probe(text);
        if (path.starts_with("bus/ap/drivers/") && leaf == "unbind") return unbind(path, text);
        if (path == "devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create")
            return create(text);
        const auto parent = fs::path{path}.parent_path().filename().string();
        for (auto& mdev : host_.mdevs) {
            if (mdev.uuid.to_string() == parent) return write_mdev(mdev, leaf, text);
        }
        if (leaf == "config" && parent.starts_with("card")) return configure(parent.substr(4), text);
        if (leaf == "driver_override") {
            if (const auto apqn = Apqn::parse(parent)) return override_driver(queue(*apqn), text);
        }
        throw Refusal{EACCES};
    }

    void load_vfio_ap() {
        if (!host_.ap) throw Refusal{ENODEV};
        if (host_.vfio_ap) return;
        VfioAp driver;
        driver.available_instances = 65536;
        // A kernel that knows `config` of queues is not much older than these features.
        if (host_.ap->bindings) driver.features = {"guest_matrix", "hotplug", "ap_config"};
        host_.vfio_ap = std::move(driver);
        for (auto& queue : host_.queues) {
            if (queue.driver.empty()) bind(queue);
        }
    }

    /// What follows: the status of queues, and what guests get.
    void settle() {
        for (auto& queue : host_.queues)
            queue.status = queue.bound_to_vfio_ap() ? QueueStatus::unassigned : QueueStatus::absent;
        for (auto& mdev : host_.mdevs) {
            const bool shown = mdev.guest_matrix.has_value();
            mdev.guest_matrix.reset();
            auto passed = guest_matrix_of(host_, mdev).queues;
            for (auto& queue : host_.queues) {
                if (!queue.bound_to_vfio_ap() || !mdev.assigned(queue.apqn)) continue;
                const bool used =
                    is_in_use(mdev.uuid) && std::binary_search(passed.begin(), passed.end(), queue.apqn);
                queue.status = used ? QueueStatus::in_use : QueueStatus::assigned;
            }
            if (passed.size() > guest_matrix_page) passed.resize(guest_matrix_page);
            if (shown) mdev.guest_matrix = std::move(passed);
        }
        if (!host_.ap || !host_.ap->bindings) return;
        const auto bound = std::count_if(host_.queues.begin(), host_.queues.end(),
                                         [](const Queue& queue) { return !queue.driver.empty(); });
        const bool all = static_cast<std::size_t>(bound) == host_.queues.size();
        host_.ap->bindings = fmt::format("{}/{}{}", bound, host_.queues.size(), all ? " (complete)" : "");
    }

  private:
    [[nodiscard]] bool is_in_use(const Uuid& uuid) const {
        return std::find(in_use_.begin(), in_use_.end(), uuid) != in_use_.end();
    }

    [[nodiscard]] Queue& queue(Apqn apqn) {
        for (auto& candidate : host_.queues) {
            if (candidate.apqn == apqn) return candidate;
        }
        throw Refusal{ENODEV};
    }

    [[nodiscard]] bool reserved(Apqn apqn) const {
        return host_.ap->apmask->test(apqn.apid()) && host_.ap->aqmask->test(apqn.apqi());
    }

    static void set_driver(Queue& queue, std::string_view driver) {
        queue.driver = driver;
        queue.online.reset();
        if (driver == host_driver) queue.online = queue.config.value_or(true);
        if (!queue.detail || !queue.detail->op_modes || driver == host_driver) return;
        auto detail = *queue.detail;
        detail.op_modes.reset();
        queue.detail = std::make_shared<const QueueDetail>(std::move(detail));
    }

    void bind(Queue& queue) const {
        const auto driver = !queue.driver_override().empty() ? queue.driver_override()
                            : reserved(queue.apqn)           ? host_driver
                                                             : vfio_ap_driver_name;
        const bool loaded = driver == host_driver || (driver == vfio_ap_driver_name && host_.vfio_ap);
        set_driver(queue, loaded ? driver : "");
    }

    void write_mask(bool adapters, std::string_view text) {
        auto& mask = adapters ? *host_.ap->apmask : *host_.ap->aqmask;
        const auto updated = mask.updated(text);
        if (!updated) throw Refusal{EINVAL};
        for (const auto& candidate : host_.queues) {
            if (!candidate.driver_override().empty()) throw Refusal{EINVAL};
        }
        const auto before = mask;
        std::vector<bool> was;
        for (const auto& candidate : host_.queues)
            was.push_back(reserved(candidate.apqn));
        for (const auto& mdev : host_.mdevs) {
            const auto taken = (*updated - before) & (adapters ? mdev.adapters : mdev.domains);
            const auto others =
                adapters ? *host_.ap->aqmask & mdev.domains : *host_.ap->apmask & mdev.adapters;
            if (!taken.none() && !others.none()) throw Refusal{EBUSY};
        }
        mask = *updated;
        for (std::size_t i = 0; i < host_.queues.size(); ++i) {
            if (was[i] != reserved(host_.queues[i].apqn)) bind(host_.queues[i]);
        }
    }

    void probe(std::string_view text) {
        const auto apqn = Apqn::parse(text);
        if (!apqn) throw Refusal{ENODEV};
        if (auto& found = queue(*apqn); found.driver.empty()) bind(found);
    }

    void unbind(const std::string& path, std::string_view text) {
        const auto driver = fs::path{path}.parent_path().filename().string();
        const auto apqn = Apqn::parse(text);
        if (!apqn || queue(*apqn).driver != driver) throw Refusal{ENODEV};
        set_driver(queue(*apqn), "");
    }

    void override_driver(Queue& queue, std::string_view driver) {
        if (!queue.has_driver_override) throw Refusal{EACCES};
        if (host_.ap->apmask != Mask::all() || host_.ap->aqmask != Mask::all()) throw Refusal{EINVAL};
        QueueDetail detail = queue.detail ? *queue.detail : QueueDetail{};
        detail.driver_override = driver;
        queue.detail = std::make_shared<const QueueDetail>(std::move(detail));
    }

    void configure(std::string_view name, std::string_view text) {
        const auto apid = parse_adapter(name);
        const auto value = number_of(text);
        if (!value || *value > 1) throw Refusal{EINVAL};
        for (auto& card : host_.cards) {
            if (card.apid == apid) card.config = *value == 1;
        }
        for (auto& candidate : host_.queues) {
            if (candidate.apqn.apid() == apid) candidate.config = *value == 1;
        }
    }

    void create(std::string_view text) {
        auto uuid = Uuid::parse(text);
        if (!uuid) throw Refusal{EINVAL};
        if (host_.find_mdev(*uuid) != nullptr) throw Refusal{EEXIST};
        Mdev mdev{*std::move(uuid)};
        mdev.type = "vfio_ap-passthrough";
        mdev.device_api = "vfio-ap";
        mdev.control_domains = Mask{};
        mdev.ap_config = host_.has_feature("ap_config");
        if (host_.has_feature("guest_matrix")) mdev.guest_matrix.emplace();
        const bool v1 = std::any_of(host_.mdevs.begin(), host_.mdevs.end(),
                                    [](const Mdev& other) { return other.migratable.has_value(); });
        if (v1) mdev.migratable = false;
        host_.mdevs.push_back(std::move(mdev));
        count_mdevs(-1);
    }

    void count_mdevs(int more) {
        auto& instances = host_.vfio_ap->available_instances;
        if (instances) instances = static_cast<unsigned>(static_cast<int>(*instances) + more);
        host_.sort();
    }

    void write_mdev(Mdev& mdev, std::string_view leaf, std::string_view text) {
        if (leaf == "remove") {
            if (text != "1") throw Refusal{EINVAL};
            if (is_in_use(mdev.uuid)) throw Refusal{EBUSY};
            std::erase_if(host_.mdevs, [uuid = mdev.uuid](const Mdev& other) { return other.uuid == uuid; });
            return count_mdevs(1);
        }
        if (leaf == "migratable") {
            if (text != "0" && text != "1") throw Refusal{EINVAL};
            mdev.migratable = text == "1";
            return;
        }
        Mdev changed = mdev;
        if (leaf == "ap_config") {
            set_config(changed, text);
        } else {
            const bool add = leaf.starts_with("assign_");
            if (!add && !leaf.starts_with("unassign_")) throw Refusal{EACCES};
            const auto number = number_of(text);
            if (!number) throw Refusal{EINVAL};
            const auto what = leaf.substr(leaf.find('_') + 1);
            const auto most = what == "adapter" ? host_.ap->ap_max_adapter_id : host_.ap->ap_max_domain_id;
            if (*number > most.value_or(255)) throw Refusal{ENODEV};
            (what == "adapter"  ? changed.adapters
             : what == "domain" ? changed.domains
                                : *changed.control_domains)
                .set(*number, add);
        }
        check_assigned(changed);
        mdev = std::move(changed);
    }

    void set_config(Mdev& mdev, std::string_view text) const {
        std::array<Mask, 3> masks;
        for (auto& mask : masks) {
            const auto comma = text.find(',');
            const auto parsed = Mask::parse(text.substr(0, comma));
            if (!parsed) throw Refusal{EINVAL};
            mask = *parsed;
            text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
            const auto most =
                &mask == masks.data() ? host_.ap->ap_max_adapter_id : host_.ap->ap_max_domain_id;
            const auto bits = mask.bits();
            if (!bits.empty() && bits.back() > most.value_or(255)) throw Refusal{ENODEV};
        }
        mdev.adapters = masks[0];
        mdev.domains = masks[1];
        mdev.control_domains = masks[2];
    }

    /// No queue that the host's own drivers have or should have, none of another mdev.
    void check_assigned(const Mdev& mdev) const {
        for (const auto apqn : mdev.matrix()) {
            const auto* const queue = host_.find_queue(apqn);
            const bool overridden = queue != nullptr && !queue->driver_override().empty();
            if (overridden ? queue->driver == host_driver : reserved(apqn)) throw Refusal{EADDRNOTAVAIL};
        }
        for (const auto& other : host_.mdevs) {
            if (other.uuid == mdev.uuid) continue;
            if (!(other.adapters & mdev.adapters).none() && !(other.domains & mdev.domains).none())
                throw Refusal{EADDRINUSE};
        }
    }

    Inventory& host_;
    std::vector<Uuid>& in_use_;
};

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
    Stores kernel{host, in_use_};
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
    change(root_, host_, host);
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
