#include "scratch.hpp"

#include <utility>

#include "throwing.hpp"

namespace gatewise {

const char* NoMemory::what() const noexcept {
    return "the native engine is out of memory; use a smaller batch or fewer steps";
}

void* Scratch::take(const std::size_t asked) {
    const std::size_t bytes = (asked + 63) / 64 * 64 + 64;  // 64 more: neighbours do not share a cache line
    const bool fits = used_ + bytes <= capacity_;
    if (!fits && !(bytes < 2 * capacity_ && hold(2 * capacity_)) && !hold(bytes)) return nullptr;
    char* taken = pieces_.back().begin() + used_;
    used_ += bytes;
    held_ += bytes;
    most_ = held_ > most_ ? held_ : most_;
#ifdef GATEWISE_CHECKED  // csrc/tests only: memory read before it is written is NaN, and memory behind it is poisoned
    ASAN_UNPOISON_MEMORY_REGION(taken, bytes);
    __builtin_memset(taken, 0xFF, bytes);
    ASAN_POISON_MEMORY_REGION(taken + asked, bytes - asked);
#endif
    return taken;
}

void Scratch::release(Mark mark) {
    used_ = mark.piece == pieces_.size() ? mark.used : 0;  // release all of a piece that was started since
    held_ = mark.held;
}

void Scratch::reset() noexcept {
    constexpr std::size_t kAlwaysHeld = 1 << 22;
    bool replace = pieces_.size() > 1;
    if (!replace && capacity_ > kAlwaysHeld) {
        const auto now = std::chrono::steady_clock::now();
        // A page fault costs about 0.3 ns per byte: at most 3% of the time.
        if (now - since_ > std::chrono::nanoseconds(1'000'000'000 + 10 * static_cast<Index>(capacity_))) {
            replace = 2 * most_ < capacity_;
            since_ = now;
            if (!replace) most_ = 0;
        }
    }
    if (replace) {
        pieces_.clear();
        capacity_ = 0;
        hold(most_);  // if out of memory for that much, this run takes it piece by piece
    }
    used_ = held_ = 0;
}

// Start a piece; false if out of memory.
bool Scratch::hold(std::size_t bytes) noexcept {
    Pages piece(bytes);
    if (!piece.begin()) return false;
    GATEWISE_TRY { pieces_.push_back(std::move(piece)); }
    GATEWISE_CATCH(const std::bad_alloc&) { return false; }
    capacity_ = bytes, used_ = 0;
    return true;
}

}  // namespace gatewise
