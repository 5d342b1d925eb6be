// SPDX-License-Identifier: LGPL-2.1-or-later
#include "bench/allocations.h"

#include <algorithm>
#include <cstdlib>
#include <new>

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

}  // namespace vfioap::bench
