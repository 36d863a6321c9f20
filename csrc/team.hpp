// Threads: a team runs one function on each of its members, which synchronize at barriers and share scratch memory.
//
// The workers are those of the OpenMP runtime that the process has loaded, or else our own, which start once and wait
// for the next run: they spin for about 50 µs, then sleep. Only one run at a time has the workers; a concurrent call
// runs alone on its thread, and a child process after fork starts new workers. Results must not depend on their number.
// All members compute with the floating-point control of the calling thread (rounding, denormals as zero).
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

    // Return uninitialized scratch, aligned to 64 bytes and valid until the end of the run: the same memory for all
    // members, which must all call this, in the same order. Contains a barrier. Throws std::bad_alloc if out of memory,
    // in all members at once, so that none waits for another; `run` rethrows it. Later runs reuse the memory; it is
    // returned to the system if runs need less than half of it for a while (a second, and 10 ns per byte).
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

    // Mark the position of the scratch; release what was taken since. Contain barriers: all members must call them.
    Mark mark() const;
    void release(Mark mark) const;

    // This member's share of `count` equal items: from first up to, but excluding, last.
    GATEWISE_INLINE Index first(Index count) const { return count * index / size; }
    GATEWISE_INLINE Index last(Index count) const { return count * (index + 1) / size; }

  private:
    void* scratch(Index bytes) const;
};

// Run `work(argument, member)` on up to `threads` members, at most 4096 (Member::size is their number; fewer if threads
// cannot be started), and return when all are done. `work` must not throw, except what the scratch
// throws (another exception ends the process), and must not call run; all members must reach the same barriers. Throws
// nothing but std::bad_alloc, if out of memory for the scratch: the outputs are then undefined, and later runs are not
// affected; or, in the first run of a process, for the team itself.
void run(int threads, void (*work)(const void* argument, Member member), const void* argument);

// The same for any `work(member)`, for callers in code that is not compiled per instruction set.
template <class F>
void run(int threads, const F& work) {
    run(threads, [](const void* argument, Member me) { (*static_cast<const F*>(argument))(me); }, &work);
}

// The work of a call, in seconds on one thread: what divides evenly among any number of threads, with `barriers` barriers
// in all; and its time steps, which divide by blocks of units with a barrier per step, or else by whole groups of rows
// without (Share in recurrence.hpp). Without steps, blocks and groups are 0.
struct Work {
    double seconds, barriers = 0;
    double step_seconds = 0;
    Index steps = 0, blocks = 0, groups = 0;
};

// The number of threads, from 1 up to `most`, with which a call takes least time: one more pays if what it takes over
// costs more than waking it and waiting for it at the barriers.
int threads_for(const Work& work, int most);

// Work that memory bounds: elements of a mask or an update; bytes of the weights that a step reads.
constexpr double kSecondsPerElement = 0.3e-9, kSecondsPerByte = 1 / 30e9;

}  // namespace gatewise
