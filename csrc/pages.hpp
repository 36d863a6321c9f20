// Memory directly from the operating system, on huge pages if available: memory that each step reads from end to end
// would otherwise cause too many TLB misses. Freed memory returns to the system at once.
#pragma once

#ifndef __wasm__
#include <sys/mman.h>
#endif
#ifdef GATEWISE_CHECKED
#include <sanitizer/asan_interface.h>
#endif

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace gatewise {

class Pages {
  public:
    Pages() = default;

    // At least `bytes` bytes of zeros, aligned to the size of a huge page, or to 64 bytes where there are no pages; empty
    // if the system is out of memory.
#ifdef __wasm__
    explicit Pages(std::size_t bytes) : mapped_(std::calloc(bytes + 64, 1)) {
        const auto base = reinterpret_cast<std::uintptr_t>(mapped_.get());
        if (base) begin_ = reinterpret_cast<char*>((base + 63) / 64 * 64);
    }
#else
    explicit Pages(std::size_t bytes) {
        const std::size_t mapped = (bytes + kLarge - 1) / kLarge * kLarge + kLarge;
        void* base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) return;
        mapped_ = {base, {mapped}};
        begin_ = reinterpret_cast<char*>((reinterpret_cast<std::uintptr_t>(base) + kLarge - 1) / kLarge * kLarge);
#ifdef GATEWISE_CHECKED  // csrc/tests only: what surrounds the memory must not be accessed
        ASAN_POISON_MEMORY_REGION(base, mapped);
        ASAN_UNPOISON_MEMORY_REGION(begin_, bytes);
#endif
#ifdef MADV_HUGEPAGE
        if (bytes >= kLarge) madvise(begin_, mapped - kLarge, MADV_HUGEPAGE);  // advice only: it may fail
#endif
    }
#endif

    // Null if empty.
    char* begin() const { return begin_; }

  private:
#ifdef __wasm__
    struct Free {
        void operator()(void* base) const { std::free(base); }
    };
    std::unique_ptr<void, Free> mapped_;
#else
    struct Unmap {
        std::size_t bytes;
        void operator()(void* base) const {
#ifdef GATEWISE_CHECKED  // the next mapping here must not look poisoned: see scratch.cpp
            ASAN_UNPOISON_MEMORY_REGION(base, bytes);
#endif
            munmap(base, bytes);
        }
    };
    static constexpr std::size_t kLarge = 1 << 21;
    std::unique_ptr<void, Unmap> mapped_;
#endif
    char* begin_ = nullptr;
};

}  // namespace gatewise
