// Runs where there are no threads, such as in WebAssembly, in place of team.cpp: each has one member, the caller.
#include "scratch.hpp"
#include "team.hpp"
#include "throwing.hpp"

#ifdef __wasm__
// What the compiler calls to destroy thread_local objects at the end of a thread; there is none but the program's.
extern "C" int __cxa_thread_atexit(void (*)(void*), void*, void*) { return 0; }
#endif

namespace gatewise {

class Team {
  public:
    Scratch scratch;
};

void Member::barrier() const {}

void* Member::scratch(Index bytes) const {
    void* taken = team->scratch.take(static_cast<std::size_t>(bytes));
    if (!taken) GATEWISE_THROW(NoMemory());
    return taken;
}

Mark Member::mark() const { return team->scratch.mark(); }
void Member::release(Mark mark) const { team->scratch.release(mark); }

int threads_for(const Work&, int) { return 1; }

void run(int, void (*work)(const void*, Member), const void* argument) {
    thread_local Team team;
    team.scratch.reset();
    work(argument, {&team, 0, 1});
}

}  // namespace gatewise
