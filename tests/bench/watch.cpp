// SPDX-License-Identifier: LGPL-2.1-or-later
// What watching a host costs while nothing happens, beside one plain read of the driver's directory.
#include "bench/watch.h"

#include "host/materialize.h"
#include "service/host_watch.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <tuple>

#include <benchmark/benchmark.h>
#include <dirent.h>
#include <unistd.h>

#include "bench/allocations.h"
#include "support/host_builder.h"

namespace vfioap {
namespace {

namespace fs = std::filesystem;
using Events = HostWatch::Options::Events;
using Numbers = test::HostBuilder::Numbers;

Numbers first(std::int64_t count) {
    Numbers numbers;
    for (std::int64_t i = 0; i < count; ++i)
        numbers.push_back(static_cast<std::uint8_t>(i));
    return numbers;
}

/// Sysfs roots in memory, all queues bound to vfio_ap, with a guest of 44 queues at most, or of all.
class Roots {
  public:
    Roots() {
        std::string name = "/dev/shm/vfioap-bench-XXXXXX";
        top_ = ::mkdtemp(name.data()) != nullptr ? name
                                                 : fs::temp_directory_path().string() + "/vfioap-bench-watch";
        fs::create_directories(top_);
    }
    ~Roots() {
        std::error_code ignored;
        fs::remove_all(top_, ignored);
    }
    Roots(const Roots&) = delete;
    Roots& operator=(const Roots&) = delete;

    const std::string& get(const benchmark::State& state, bool all_assigned = false) {
        const auto adapters = state.range(0);
        const auto domains = state.range(1);
        auto& path = paths_[{adapters, domains, all_assigned}];
        if (!path.empty()) return path;
        path = top_ + '/' + std::to_string(paths_.size());
        const auto host = test::HostBuilder("lpar1")
                              .z16()
                              .cards(first(adapters), "CEX8C")
                              .domains(first(domains))
                              .free_adapters(first(adapters))
                              .mdev("62177883-f1bb-47f0-914d-32a22e3a8804")
                              .assign(first(all_assigned ? adapters : std::min<std::int64_t>(adapters, 4)),
                                      first(all_assigned ? domains : std::min<std::int64_t>(domains, 11)));
        materialize(host.build(), path);
        return path;
    }

  private:
    std::string top_;
    std::map<std::tuple<std::int64_t, std::int64_t, bool>, std::string> paths_;
};

Roots& roots() {
    static Roots all;
    return all;
}

void watch_floor(benchmark::State& state) {
    const auto path = roots().get(state) + "/bus/ap/drivers/vfio_ap";
    for (auto _ : state) {
        DIR* const directory = ::opendir(path.c_str());
        std::size_t count = 0;
        while (::readdir(directory) != nullptr)
            ++count;
        ::closedir(directory);
        benchmark::DoNotOptimize(count);
    }
}

/// One iteration is what is done in `interval_with_events`, without an event; counter `seconds`.
void measure(benchmark::State& state, const std::string& path, HostWatch::Options options) {
    HostWatch::Time now{std::chrono::hours{1}};
    HostWatch watch{path, now, options};
    const auto pass = [&](HostWatch::Clock::duration time) {
        for (const auto end = now + time; now < end;) {
            now = watch.next();
            if (!watch.update(now).empty()) state.SkipWithError("something changed");
        }
    };
    pass(HostWatch::settling + HostWatch::interval_locked);
    for (auto _ : state)
        pass(HostWatch::interval_with_events);
    state.counters["seconds"] = std::chrono::duration<double>(HostWatch::interval_with_events).count();
    state.counters["allocated"] =
        static_cast<double>(bench::most_allocated([&] { pass(HostWatch::interval_with_events); }));
}

void watch_idle(benchmark::State& state) {
    measure(state, roots().get(state), {.events = Events::none});
}

void watch_idle_assigned(benchmark::State& state) {
    measure(state, roots().get(state, true), {.events = Events::none});
}

void watch_idle_events(benchmark::State& state) {
    measure(state, roots().get(state), {.events = Events::given, .spare_locks = true});
}

/// From one queue that is bound to another driver to what that means.
void watch_change(benchmark::State& state) {
    const auto& path = roots().get(state);
    HostWatch::Time now{std::chrono::hours{1}};
    HostWatch watch{path, now};
    const fs::path link = path + "/bus/ap/drivers/vfio_ap/00.0000";
    const fs::path away = path + "/00.0000";
    bool is_there = true;
    for (auto _ : state) {
        fs::rename(is_there ? link : away, is_there ? away : link);
        is_there = !is_there;
        now = watch.next();
        if (watch.update(now).empty()) state.SkipWithError("nothing changed");
    }
    if (!is_there) fs::rename(away, link);
}

void watch_memory(benchmark::State& state) {
    const auto& path = roots().get(state);
    for (auto _ : state) {
        const auto peak = bench::peak_of_run(bench::watch_option, path);
        if (!peak) state.SkipWithError("the child failed");
        state.counters["peak_KiB"] = static_cast<double>(peak.value_or(0));
    }
}

void sizes(benchmark::internal::Benchmark* run) {
    run->Args({4, 6})->Args({60, 85})->Args({256, 256})->Unit(benchmark::kMicrosecond);
}

BENCHMARK(watch_floor)->Apply(sizes);
BENCHMARK(watch_idle)->Apply(sizes);
BENCHMARK(watch_idle_assigned)->Apply(sizes);
BENCHMARK(watch_idle_events)->Apply(sizes);
BENCHMARK(watch_change)->Apply(sizes);
BENCHMARK(watch_memory)->Args({60, 85})->Args({256, 256})->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace

int bench::watch(const char* path) {
    HostWatch::Time now{std::chrono::hours{1}};
    HostWatch watch{path, now};
    watch.events_lost();
    now = watch.next();
    // As a service may keep one while it answers a question.
    const auto before = watch.inventory();
    return watch.update(now).empty() && watch.inventory() == before ? 0 : 1;
}

}  // namespace vfioap
