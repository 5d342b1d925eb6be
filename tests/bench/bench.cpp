// SPDX-License-Identifier: LGPL-2.1-or-later
// What reading and judging cost, each beside the least that could do it. tools/bench prints the ratios.
#include "compat/check.h"
#include "explain/explain.h"
#include "explain/pattern.h"
#include "host/materialize.h"
#include "host/snapshot.h"
#include "host/sysfs.h"
#include "stream/reader.h"
#include "stream/writer.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <sstream>
#include <string>

#include <benchmark/benchmark.h>
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "bench/allocations.h"
#include "bench/watch.h"
#include "support/host_builder.h"

namespace vfioap {
namespace {

namespace fs = std::filesystem;
using test::HostBuilder;

constexpr const char* mdev_name = "62177883-f1bb-47f0-914d-32a22e3a8804";
const Uuid mdev = test::uuid(mdev_name);

HostBuilder::Numbers first(unsigned count) {
    HostBuilder::Numbers numbers;
    for (unsigned i = 0; i < count; ++i)
        numbers.push_back(static_cast<std::uint8_t>(i));
    return numbers;
}

/// All queues bound to vfio_ap; a guest with as many of them as are asked for.
Inventory host(unsigned adapters, unsigned domains, unsigned guest_adapters, unsigned guest_domains) {
    return HostBuilder("lpar1")
        .z16()
        .cards(first(adapters), "CEX8C")
        .domains(first(domains))
        .free_adapters(first(adapters))
        .mdev(mdev_name)
        .assign(first(guest_adapters), first(guest_domains), first(guest_domains))
        .build();
}

/// The sysfs roots, made once, in memory.
class Roots {
  public:
    Roots() {
        std::string name = "/dev/shm/vfioap-bench-XXXXXX";
        top_ =
            ::mkdtemp(name.data()) != nullptr ? name : fs::temp_directory_path().string() + "/vfioap-bench";
        fs::create_directories(top_);
    }
    ~Roots() {
        std::error_code ignored;
        fs::remove_all(top_, ignored);
    }
    Roots(const Roots&) = delete;
    Roots& operator=(const Roots&) = delete;

    const std::string& get(unsigned adapters, unsigned domains) {
        auto& path = paths_[{adapters, domains}];
        if (path.empty()) {
            path = top_ + '/' + std::to_string(adapters) + 'x' + std::to_string(domains);
            // The guest of the medium host has 44 queues.
            materialize(host(adapters, domains, std::min(adapters, 4U), std::min(domains, 11U)), path);
        }
        return path;
    }

  private:
    std::string top_;
    std::map<std::pair<unsigned, unsigned>, std::string> paths_;
};

Roots& roots() {
    static Roots all;
    return all;
}

// The floor: plain C that reads the same attributes and keeps nothing.

std::size_t floor_read(int directory, const char* path) {
    std::array<char, 4096> buffer;
    const int fd = ::openat(directory, path, O_RDONLY);
    if (fd < 0) return 0;
    const ssize_t size = ::read(fd, buffer.data(), buffer.size());
    ::close(fd);
    return size > 0 ? static_cast<std::size_t>(size) : 0;
}

std::size_t floor_queue(int card, const char* name, bool for_guest) {
    std::array<char, 64> path;
    std::array<char, 256> target;
    std::size_t sum = 0;
    const auto attribute = [&](const char* what) {
        std::snprintf(path.data(), path.size(), "%s/%s", name, what);
        return floor_read(card, path.data());
    };
    sum += attribute("config");
    sum += attribute("chkstop");
    std::snprintf(path.data(), path.size(), "%s/driver", name);
    sum += static_cast<std::size_t>(::readlinkat(card, path.data(), target.data(), target.size()));
    if (for_guest) {
        sum += attribute("ap_functions");
        sum += attribute("mkvps");
    } else {
        sum += attribute("driver_override");
    }
    return sum;
}

std::size_t floor_card(int card, bool whole) {
    std::size_t sum = 0;
    for (const char* const name : {"hwtype", "raw_hwtype", "ap_functions", "config", "chkstop"})
        sum += floor_read(card, name);
    if (whole) {
        for (const char* const name : {"depth", "max_msg_size", "type", "online"})
            sum += floor_read(card, name);
    }
    return sum;
}

std::size_t floor_bus(int root) {
    std::size_t sum = 0;
    for (const char* const name :
         {"bus/ap/apmask", "bus/ap/aqmask", "bus/ap/ap_adapter_mask", "bus/ap/ap_usage_domain_mask",
          "bus/ap/ap_control_domain_mask", "bus/ap/ap_max_adapter_id", "bus/ap/ap_max_domain_id",
          "bus/ap/bindings", "bus/ap/features", "bus/ap/scans", "devices/vfio_ap/matrix/features",
          "firmware/uv/prot_virt_guest", "firmware/uv/prot_virt_host"}) {
        sum += floor_read(root, name);
    }
    for (const char* const name :
         {"matrix", "guest_matrix", "control_domains", "ap_config", "ap_config", "migratable"}) {
        sum += floor_read(root, (std::string{"devices/vfio_ap/matrix/"} + mdev_name + '/' + name).c_str());
    }
    return sum;
}

std::size_t floor_inventory(const std::string& path) {
    const int root = ::open(path.c_str(), O_RDONLY | O_DIRECTORY);
    std::size_t sum = floor_bus(root);
    const int devices = ::openat(root, "devices/ap", O_RDONLY | O_DIRECTORY);
    DIR* const cards = ::fdopendir(devices);
    while (const dirent* const card = ::readdir(cards)) {
        if (std::string_view{card->d_name}.substr(0, 4) != "card") continue;
        const int fd = ::openat(devices, card->d_name, O_RDONLY | O_DIRECTORY);
        sum += floor_card(fd, true);
        DIR* const queues = ::fdopendir(::dup(fd));
        while (const dirent* const queue = ::readdir(queues)) {
            if (queue->d_name[0] != '.' && queue->d_name[2] == '.')
                sum += floor_queue(fd, queue->d_name, false);
        }
        ::closedir(queues);
        ::close(fd);
    }
    ::closedir(cards);
    ::close(root);
    return sum;
}

std::size_t floor_guest(const std::string& path, const std::vector<Apqn>& queues) {
    const int root = ::open(path.c_str(), O_RDONLY | O_DIRECTORY);
    std::size_t sum = floor_bus(root);
    int card = -1;
    int open_card = -1;
    for (const auto apqn : queues) {
        if (apqn.apid() != open_card) {
            if (card >= 0) ::close(card);
            open_card = apqn.apid();
            card = ::openat(root, card_path(apqn.apid()).c_str(), O_RDONLY | O_DIRECTORY);
            sum += floor_card(card, false);
        }
        sum += floor_queue(card, apqn.to_string().c_str(), true);
    }
    ::close(card);
    ::close(root);
    return sum;
}

void inventory_floor(benchmark::State& state) {
    const auto& path =
        roots().get(static_cast<unsigned>(state.range(0)), static_cast<unsigned>(state.range(1)));
    for (auto _ : state)
        benchmark::DoNotOptimize(floor_inventory(path));
}

void inventory(benchmark::State& state) {
    const SysfsRoot root{
        roots().get(static_cast<unsigned>(state.range(0)), static_cast<unsigned>(state.range(1)))};
    for (auto _ : state)
        benchmark::DoNotOptimize(root.read_all(Depth::state));
}

void guest_floor(benchmark::State& state) {
    const auto& path =
        roots().get(static_cast<unsigned>(state.range(0)), static_cast<unsigned>(state.range(1)));
    const auto queues = host(static_cast<unsigned>(state.range(0)), static_cast<unsigned>(state.range(1)), 4,
                             std::min<unsigned>(static_cast<unsigned>(state.range(1)), 11))
                            .mdevs[0]
                            .matrix();
    for (auto _ : state)
        benchmark::DoNotOptimize(floor_guest(path, queues));
}

void guest(benchmark::State& state) {
    const SysfsRoot root{
        roots().get(static_cast<unsigned>(state.range(0)), static_cast<unsigned>(state.range(1)))};
    for (auto _ : state)
        benchmark::DoNotOptimize(root.read_for(mdev, {}));
}

/// 100 MB of a log in which nothing is of interest, in memory.
const std::string& unrelated_log() {
    static const std::string path = [] {
        static constexpr std::array<const char*, 16> words{
            "session", "opened",   "migration", "failed", "error", "queue", "source", "device",
            "kernel",  "facility", "installed", "driver", "guest", "state", "qemu",   "operation"};
        auto name = (fs::path{"/dev/shm"} / "vfioap-bench-log-XXXXXX").string();
        const int fd = ::mkstemp(name.data());
        std::mt19937 random{1};
        std::string text;
        while (text.size() < std::size_t{1'000'000}) {
            text += "Nov 21 03:12:45 lpar-b systemd[1]: ";
            for (auto i = 4 + random() % 10; i > 0; --i)
                text += std::string{words.at(random() % words.size())} + ' ';
            text += '\n';
        }
        for (unsigned i = 0; i < 100; ++i)
            if (::write(fd, text.data(), text.size()) < 0) break;
        ::close(fd);
        static const struct Remover {
            std::string file;
            ~Remover() { fs::remove(file); }
        } remover{name};
        return name;
    }();
    return path;
}

std::size_t explain_file(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    Explainer explainer;
    explainer.read(path, [fd](char* into, std::size_t size) {
        return static_cast<std::size_t>(std::max<ssize_t>(::read(fd, into, size), 0));
    });
    ::close(fd);
    return explainer.finish({}).migrations.size();
}

void explain(benchmark::State& state) {
    const auto& path = unrelated_log();
    for (auto _ : state)
        if (explain_file(path) != 0) state.SkipWithError("there is something in it");
}

/// What anybody can do without us: the same alternatives, as far as they are literal.
void explain_grep(benchmark::State& state) {
    std::string pattern;
    for (const auto& record : messages()) {
        const auto literal = Pattern{record}.anchor();
        if (!pattern.empty()) pattern += '|';
        for (const char c : literal) {
            if (std::strchr("().[]{}*+?|^$\\'", c) != nullptr) pattern += c == '\'' ? "." : "\\";
            if (c != '\'') pattern += c;
        }
    }
    const auto command = "grep -cE -e '" + pattern + "' " + unrelated_log() + " | cat >/dev/null";
    for (auto _ : state)
        benchmark::DoNotOptimize(std::system(command.c_str()));
}

void explain_memory(benchmark::State& state) {
    const auto& path = unrelated_log();
    for (auto _ : state) {
        const auto peak = bench::peak_of_run("--explain", path);
        if (!peak) state.SkipWithError("the child failed");
        state.counters["peak_KiB"] = static_cast<double>(peak.value_or(0));
    }
}

void peak_memory(benchmark::State& state) {
    const auto& path = roots().get(256, 256);
    for (auto _ : state) {
        const auto peak = bench::peak_of_run("--read-all", path);
        if (!peak) state.SkipWithError("the child failed");
        state.counters["peak_KiB"] = static_cast<double>(peak.value_or(0));
    }
}

Guest the_guest() {
    return Guest{"guest1", {}, {mdev}};
}

std::pair<Inventory, Inventory> two_hosts() {
    auto here = host(256, 256, 256, 256);
    auto there = here;
    here.location = "a";
    there.location = "b";
    return {std::move(here), std::move(there)};
}

void measure_check(benchmark::State& state, const Inventory& here, const Inventory& there) {
    const auto source = describe_source(the_guest(), here);
    const CheckOptions options{static_cast<Mode>(state.range(0)), Profile::restore};
    std::size_t findings = 0;
    for (auto _ : state) {
        const auto report = check(the_guest(), source, there, options);
        findings = report.findings.size();
        benchmark::DoNotOptimize(findings);
    }
    state.counters["findings"] = static_cast<double>(findings);
}

/// 65,536 queues against 65,536, all equal.
void check_equal(benchmark::State& state) {
    const auto [here, there] = two_hosts();
    measure_check(state, here, there);
}

/// Every queue differs in everything; `range(1)`: the values, too, differ from queue to queue.
void check_worst(benchmark::State& state) {
    auto [here, there] = two_hosts();
    std::mt19937 random{1};
    for (auto& card : here.cards)
        card.raw_hwtype = 14;
    for (auto& card : there.cards)
        card.raw_hwtype = 10;
    for (auto& queue : here.queues) {
        queue.ap_functions = state.range(1) == 0 ? 0xf280'4000U : 0xf200'4000U | (random() & 0x00ff'0000U);
        queue.detail = std::make_shared<QueueDetail>(
            QueueDetail{{}, test::cca_keys(state.range(1) == 0 ? 1 : random() % 256), {}});
    }
    for (auto& queue : there.queues) {
        queue.ap_functions = state.range(1) == 0 ? 0x0d40'8000U : 0x0d00'8000U | (random() & 0x00ff'0000U);
        queue.detail = std::make_shared<QueueDetail>(QueueDetail{{}, test::cca_keys(2), {}});
        queue.driver = "cex4queue";
        queue.config = false;
        queue.chkstop = true;
    }
    measure_check(state, here, there);
}

void snapshot_write(benchmark::State& state) {
    const auto big = host(256, 256, 4, 11);
    for (auto _ : state) {
        std::ostringstream out;
        write_snapshot(out, big, "");
        benchmark::DoNotOptimize(out);
    }
}

void snapshot_read(benchmark::State& state) {
    std::ostringstream out;
    write_snapshot(out, host(256, 256, 4, 11), "");
    const auto text = out.str();
    for (auto _ : state) {
        std::istringstream in{text};
        benchmark::DoNotOptimize(read_snapshot(in, "bench"));
    }
}

/// The stream of 65,536 queues in the newest layout.
struct LargestStream {
    GuestConfiguration configuration;
    std::vector<std::uint8_t> bytes;
    LargestStream() {
        for (unsigned number = 0; number < ap_queues; ++number) {
            configuration.queues.push_back({Apqn::from_number(static_cast<std::uint16_t>(number)),
                                            Hwinfo::from_sysfs(test::cca_functions, 14), nullptr});
        }
        configuration.control_domains = Mask::all();
        bytes = write_stream(configuration, Layout::l3);
    }
};

const LargestStream& largest_stream() {
    static const LargestStream stream;
    return stream;
}

/// What all others are compared with: the same bytes, copied into memory that is there already.
void stream_floor(benchmark::State& state) {
    const auto& bytes = largest_stream().bytes;
    std::vector<std::uint8_t> out(bytes.size());
    for (auto _ : state) {
        std::memcpy(out.data(), bytes.data(), bytes.size());
        benchmark::DoNotOptimize(out.data());
        benchmark::ClobberMemory();
    }
}

void stream_encode(benchmark::State& state) {
    const auto& configuration = largest_stream().configuration;
    for (auto _ : state)
        benchmark::DoNotOptimize(write_stream(configuration, Layout::l3));
}

/// In pieces of range(0) bytes; 0: at once. range(1): whether the layout has to be found out.
void stream_decode(benchmark::State& state) {
    const std::span<const std::uint8_t> bytes{largest_stream().bytes};
    const auto piece = state.range(0) == 0 ? bytes.size() : static_cast<std::size_t>(state.range(0));
    std::size_t memory = 0;
    for (auto _ : state) {
        StreamReader reader{state.range(1) == 0 ? std::optional{Layout::l3} : std::nullopt};
        for (std::size_t at = 0; at < bytes.size(); at += piece)
            reader.feed(bytes.subspan(at, std::min(piece, bytes.size() - at)));
        if (!reader.finish() || reader.queue_count() != ap_queues) state.SkipWithError("not read");
        memory = reader.memory();
    }
    state.counters["memory"] = static_cast<double>(memory) / static_cast<double>(bytes.size());
}

/// The most memory that a decoder, and an encoder, have at once, in lengths of the stream.
void stream_memory(benchmark::State& state) {
    const auto& stream = largest_stream();
    const auto length = static_cast<double>(stream.bytes.size());
    for (auto _ : state) {
        state.counters["decode"] = static_cast<double>(bench::most_allocated([&] {
                                       StreamReader reader;
                                       for (const auto& byte : stream.bytes)
                                           reader.feed({&byte, 1});
                                       reader.finish();
                                   })) /
                                   length;
        state.counters["encode"] =
            static_cast<double>(bench::most_allocated(
                [&] { benchmark::DoNotOptimize(write_stream(stream.configuration, Layout::l3)); })) /
            length;
    }
}

constexpr auto native = static_cast<long>(Mode::native);
constexpr auto detached = static_cast<long>(Mode::detached);

BENCHMARK(inventory_floor)->Args({4, 6})->Args({60, 85})->Args({256, 256})->Unit(benchmark::kMicrosecond);
BENCHMARK(inventory)->Args({4, 6})->Args({60, 85})->Args({256, 256})->Unit(benchmark::kMicrosecond);
BENCHMARK(guest_floor)->Args({4, 6})->Args({60, 85})->Args({256, 256})->Unit(benchmark::kMicrosecond);
BENCHMARK(guest)->Args({4, 6})->Args({60, 85})->Args({256, 256})->Unit(benchmark::kMicrosecond);
BENCHMARK(peak_memory)->Iterations(1)->Unit(benchmark::kMillisecond);
BENCHMARK(check_equal)->Arg(native)->Arg(detached)->Unit(benchmark::kMillisecond);
BENCHMARK(check_worst)
    ->Args({native, 0})
    ->Args({native, 1})
    ->Args({detached, 0})
    ->Unit(benchmark::kMillisecond);
BENCHMARK(snapshot_write)->Unit(benchmark::kMillisecond);
BENCHMARK(snapshot_read)->Unit(benchmark::kMillisecond);
BENCHMARK(stream_floor)->Unit(benchmark::kMicrosecond);
BENCHMARK(stream_encode)->Unit(benchmark::kMicrosecond);
BENCHMARK(stream_decode)
    ->Args({0, 0})
    ->Args({4096, 0})
    ->Args({4096, 1})
    ->Args({1, 0})
    ->Args({1, 1})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(explain)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(explain_grep)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(explain_memory)->Iterations(1)->Unit(benchmark::kMillisecond);
BENCHMARK(stream_memory)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace vfioap

int main(int argc, char** argv) {
    if (argc == 3 && std::string_view{argv[1]} == "--read-all") {
        const auto inventory = vfioap::SysfsRoot{argv[2]}.read_all(vfioap::Depth::full);
        vfioap::bench::tell_peak();
        return inventory.queues.size() == vfioap::ap_queues ? 0 : 1;
    }
    if (argc == 3 && std::string_view{argv[1]} == "--explain") {
        const auto found = vfioap::explain_file(argv[2]);
        vfioap::bench::tell_peak();
        return found == 0 ? 0 : 1;
    }
    if (argc == 3 && std::string_view{argv[1]} == vfioap::bench::watch_option) {
        const int status = vfioap::bench::watch(argv[2]);
        vfioap::bench::tell_peak();
        return status;
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
