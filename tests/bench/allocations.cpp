// SPDX-License-Identifier: LGPL-2.1-or-later
#include "bench/allocations.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>

#include <fmt/format.h>
#include <malloc.h>

namespace {

std::size_t allocated = 0;
std::size_t most = 0;

/// `memory` is there from now on.
void* counted(void* memory) {
    if (memory == nullptr) return nullptr;
    allocated += ::malloc_usable_size(memory);
    most = std::max(most, allocated);
    return memory;
}

}  // namespace

// StreamBytes has its memory from here. Counted as if old and new were there at once, which is the worst
// case.
extern "C" void* __libc_realloc(void* memory, std::size_t size);  // NOLINT
extern "C" void* realloc(void* memory, std::size_t size) {
    const auto before = ::malloc_usable_size(memory);
    most = std::max(most, allocated + size);
    void* const now = __libc_realloc(memory, size);
    if (now != nullptr) allocated -= before;
    return counted(now);
}

void* operator new(std::size_t size) {
    void* const memory = counted(std::malloc(size));
    if (memory == nullptr) throw std::bad_alloc{};
    return memory;
}

void operator delete(void* memory) noexcept {
    allocated -= ::malloc_usable_size(memory);
    std::free(memory);
}

void operator delete(void* memory, std::size_t /*size*/) noexcept {
    ::operator delete(memory);
}

namespace vfioap::bench {

std::size_t most_allocated(const std::function<void()>& work) {
    const auto before = allocated;
    most = allocated;
    work();
    return most - before;
}

std::optional<long> peak_of_run(const std::string& option, const std::string& argument) {
    const auto program = std::filesystem::read_symlink("/proc/self/exe").string();
    std::FILE* const run = ::popen(fmt::format("'{}' {} '{}'", program, option, argument).c_str(), "re");
    if (run == nullptr) return {};
    long peak = 0;
    const bool told = std::fscanf(run, "%ld", &peak) == 1;  // NOLINT(cert-err34-c): written by tell_peak()
    if (::pclose(run) != 0 || !told) return {};
    return peak;
}

void tell_peak() {
    std::ifstream status{"/proc/self/status"};
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("VmHWM:")) fmt::print("{}\n", std::stol(line.substr(6)));
    }
}

}  // namespace vfioap::bench
