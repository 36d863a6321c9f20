// Buffers that detect writes out of bounds.
#pragma once

#include <sanitizer/asan_interface.h>  // does nothing without AddressSanitizer

#include <cstddef>
#include <vector>

#include "../numbers.hpp"

namespace gatewise {

// `count` elements, initially NaN, unaligned, with guards on both sides.
template <class Real>
class Buffer {
  public:
    explicit Buffer(Index count, const char* name = "input")
        : name(name), count_(count), memory_(kGuard + bytes() + kGuard, 0xFF) {
        ASAN_POISON_MEMORY_REGION(memory_.data(), kGuard);
        ASAN_POISON_MEMORY_REGION(memory_.data() + kGuard + bytes(), kGuard);
    }
    Buffer(const Buffer&) = delete;
    Buffer(Buffer&& other) = default;

    const char* name;

    Real* data() { return reinterpret_cast<Real*>(memory_.data() + kGuard); }
    std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(Real); }
    Index count() const { return count_; }

    bool untouched_around() {
        if (memory_.empty()) return true;
        ASAN_UNPOISON_MEMORY_REGION(memory_.data(), kGuard);
        ASAN_UNPOISON_MEMORY_REGION(memory_.data() + kGuard + bytes(), kGuard);
        bool untouched = true;
        for (std::size_t k = 0; k < kGuard; ++k) {
            untouched = untouched && memory_[k] == 0xFF && memory_[kGuard + bytes() + k] == 0xFF;
        }
        return untouched;
    }

  private:
    static constexpr std::size_t kGuard = 136;  // 8 more than two of the widest vectors
    Index count_;
    std::vector<unsigned char> memory_;
};

}  // namespace gatewise
