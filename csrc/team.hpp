// Threads: a team runs one function on each of its members, who meet at barriers. And the scratch that they share.
//
// Workers are those of the OpenMP runtime that the process has already, or else our own, which are started once and
// wait, spinning some 50 µs and then asleep, for the next run. One run at a time has the workers; a call that comes
// meanwhile, or from a child process after fork, runs correctly too: alone, on the calling thread, or with workers started
// anew. What is computed must not depend on the number of members.
#pragma once

#include <new>

#include "numbers.hpp"

namespace gatewise {

class Team;

// What Python makes a MemoryError of, in words.
struct NoMemory : std::bad_alloc {
    const char* what() const noexcept override;
};

// A place in the scratch, to go back to.
struct Mark {
    std::size_t piece, used, held;
};

// One thread's part in a run.
struct Member {
    Team* team;
    int index;  // 0 is the calling thread
    int size;

    // Wait until all members have come here; what they wrote before, all may read after.
    void barrier() const;

    // Scratch until the end of the run, not initialised, aligned to 64 bytes: the same memory for all members, who must
    // all ask, in the same order. A barrier lies within. Where there is no memory for it, std::bad_alloc is thrown in all members
    // at once, so that none waits for another; `run` throws it on. It is kept for later runs: as much as any run held at a time.
    template <class T>
    GATEWISE_INLINE T* shared(Index count) const {
        return static_cast<T*>(scratch(count * static_cast<Index>(sizeof(T))));
    }

    // The same, but other memory for each member.
    template <class T>
    GATEWISE_INLINE T* own(Index count) const {
        Index bytes = (count * static_cast<Index>(sizeof(T)) + 63) / 64 * 64;
        return reinterpret_cast<T*>(static_cast<char*>(scratch(bytes * size)) + bytes * index);
    }

    // Where the scratch stands; and give back what was taken since. Asked of all members; a barrier lies within each.
    Mark mark() const;
    void release(Mark mark) const;

    // This member's part of `count` like things: first up to last.
    GATEWISE_INLINE Index first(Index count) const { return count * index / size; }
    GATEWISE_INLINE Index last(Index count) const { return count * (index + 1) / size; }

  private:
    void* scratch(Index bytes) const;
};

// Run `work(argument, member)` on up to `threads` members (Member::size says how many; fewer where threads cannot be started) and
// return when all are done. It must not throw, but what the scratch throws, nor call run; all members must come to the same
// barriers. Denormal numbers are what each thread's processor makes of them.
// Throws std::bad_alloc where there is no memory for the scratch: what was to be written is then not to be used, and the next
// run is as good as any.
void run(int threads, void (*work)(const void* argument, Member member), const void* argument);

// The same of any `work(member)`, for callers outside the rungs.
template <class F>
void run(int threads, const F& work) {
    run(threads, [](const void* argument, Member me) { (*static_cast<const F*>(argument))(me); }, &work);
}

}  // namespace gatewise
