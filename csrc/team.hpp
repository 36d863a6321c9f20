// Threads: a team runs one function on each of its members, which synchronize at barriers and share scratch memory.
//
// The workers are those of the OpenMP runtime that the process has already loaded, or else our own, which are started once and
// wait for the next run, spinning for about 50 µs and then sleeping. Only one run at a time has the workers; a concurrent call
// runs alone on the calling thread, and a child process after fork starts new workers. Both are correct: results must not
// depend on the number of members.
#pragma once

#include <new>

#include "numbers.hpp"

namespace gatewise {

class Team;

// Becomes a MemoryError in Python, with this message.
struct NoMemory : std::bad_alloc {
    const char* what() const noexcept override;
};

// A position in the scratch to return to.
struct Mark {
    std::size_t piece, used, held;
};

// One thread of a run.
struct Member {
    Team* team;
    int index;  // 0 is the calling thread
    int size;

    // Wait until all members have arrived; what they wrote before is visible to all after.
    void barrier() const;

    // Uninitialized scratch until the end of the run, aligned to 64 bytes: the same memory for all members, which must all
    // call this, in the same order. Contains a barrier. If out of memory, std::bad_alloc is thrown in all members at once, so
    // that none waits for another; `run` rethrows it. The memory is kept for later runs, up to the most that any run held.
    template <class T>
    GATEWISE_INLINE T* shared(Index count) const {
        return static_cast<T*>(scratch(count * static_cast<Index>(sizeof(T))));
    }

    // The same, with separate memory for each member.
    template <class T>
    GATEWISE_INLINE T* own(Index count) const {
        Index bytes = (count * static_cast<Index>(sizeof(T)) + 63) / 64 * 64;
        return reinterpret_cast<T*>(static_cast<char*>(scratch(bytes * size)) + bytes * index);
    }

    // Mark the position of the scratch; release what was taken since. All members must call these; each contains a barrier.
    Mark mark() const;
    void release(Mark mark) const;

    // This member's share of `count` equal items: from first up to, but excluding, last.
    GATEWISE_INLINE Index first(Index count) const { return count * index / size; }
    GATEWISE_INLINE Index last(Index count) const { return count * (index + 1) / size; }

  private:
    void* scratch(Index bytes) const;
};

// Run `work(argument, member)` on up to `threads` members (Member::size is their number; fewer if threads cannot be started),
// and return when all are done. `work` must not throw, except what the scratch throws, and must not call run; all members must
// reach the same barriers. The handling of denormal numbers is that of each thread.
// Throws std::bad_alloc if out of memory for the scratch: the outputs must not be used then; later runs are not affected.
void run(int threads, void (*work)(const void* argument, Member member), const void* argument);

// The same for any `work(member)`, for callers in code that is not compiled per instruction set.
template <class F>
void run(int threads, const F& work) {
    run(threads, [](const void* argument, Member me) { (*static_cast<const F*>(argument))(me); }, &work);
}

}  // namespace gatewise
