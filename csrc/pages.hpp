// Memory directly from the operating system, on huge pages if available: memory that each step reads from end to end
// would otherwise cause too many TLB misses. Freed memory returns to the system at once.
#pragma once

#include <sys/mman.h>
#ifdef GATEWISE_CHECKED
#include <sanitizer/asan_interface.h>
#endif

#include <cstddef>
#include <cstdint>
#include <utility>

namespace gatewise {

class Pages {
  public:
    Pages() = default;

    // At least `bytes` bytes of zeros, aligned to the size of a huge page; empty if the system is out of memory.
    explicit Pages(std::size_t bytes) : mapped_((bytes + kLarge - 1) / kLarge * kLarge + kLarge) {
        base_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base_ == MAP_FAILED) {
            base_ = nullptr;
            return;
        }
        begin_ = reinterpret_cast<char*>((reinterpret_cast<std::uintptr_t>(base_) + kLarge - 1) / kLarge * kLarge);
#ifdef GATEWISE_CHECKED  // csrc/tests only: what surrounds the memory must not be accessed
        ASAN_POISON_MEMORY_REGION(base_, mapped_);
        ASAN_UNPOISON_MEMORY_REGION(begin_, bytes);
#endif
#ifdef MADV_HUGEPAGE
        if (bytes >= kLarge) madvise(begin_, mapped_ - kLarge, MADV_HUGEPAGE);  // advice only: it may fail
#endif
    }

    Pages(Pages&& other) noexcept { *this = std::move(other); }
    Pages& operator=(Pages&& other) noexcept {
        std::swap(base_, other.base_), std::swap(begin_, other.begin_), std::swap(mapped_, other.mapped_);
        return *this;
    }
    ~Pages() {
        if (!base_) return;
#ifdef GATEWISE_CHECKED  // the next mapping here must not look poisoned: see team.cpp
        ASAN_UNPOISON_MEMORY_REGION(base_, mapped_);
#endif
        munmap(base_, mapped_);
    }

    // Null if empty.
    char* begin() const { return begin_; }

  private:
    static constexpr std::size_t kLarge = 1 << 21;
    void* base_ = nullptr;
    char* begin_ = nullptr;
    std::size_t mapped_ = 0;
};

}  // namespace gatewise
