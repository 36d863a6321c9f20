// Memory directly from the operating system, on huge pages if available: memory that each step reads from end to end
// would otherwise cause too many TLB misses. Freed memory returns to the system at once.
#pragma once

#include <sys/mman.h>
#ifdef GATEWISE_CHECKED
#include <sanitizer/asan_interface.h>
#endif

#include <cstddef>
#include <cstdint>
#include <memory>

namespace gatewise {

class Pages {
  public:
    Pages() = default;

    // At least `bytes` bytes of zeros, aligned to the size of a huge page; empty if the system is out of memory.
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

    // Null if empty.
    char* begin() const { return begin_; }

  private:
    struct Unmap {
        std::size_t bytes;
        void operator()(void* base) const {
#ifdef GATEWISE_CHECKED  // the next mapping here must not look poisoned: see team.cpp
            ASAN_UNPOISON_MEMORY_REGION(base, bytes);
#endif
            munmap(base, bytes);
        }
    };
    static constexpr std::size_t kLarge = 1 << 21;
    std::unique_ptr<void, Unmap> mapped_;
    char* begin_ = nullptr;
};

}  // namespace gatewise
