#include "team.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "scratch.hpp"

namespace gatewise {
namespace {

constexpr int kFan = 8;       // arrivals counted in a cache line: more wait longer for it than for another level
constexpr int kSpins = 1000;  // of about 50 ns each, before a waiting thread yields

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// The floating-point control of the calling thread: the direction of rounding, and whether denormals are zero.
#if defined(__SSE__)
inline unsigned float_control() { return __builtin_ia32_stmxcsr() & ~0x3Fu; }  // without the exceptions that occurred
inline void set_float_control(unsigned word) { __builtin_ia32_ldmxcsr(word); }
#elif defined(__aarch64__)
inline std::uint64_t float_control() {
    std::uint64_t word;
    asm volatile("mrs %0, fpcr" : "=r"(word));
    return word;
}
inline void set_float_control(std::uint64_t word) { asm volatile("msr fpcr, %0" : : "r"(word) : "memory"); }
#else
inline int float_control() { return 0; }
inline void set_float_control(int) {}
#endif

template <class Done>
void spin_until(Done done) {
    for (int k = 0; !done(); ++k) {
        if (k < kSpins) {
            pause();
        } else {
            sched_yield();
        }
    }
}

}  // namespace

// The members of one run: their barrier and their scratch.
class Team {
  public:
    // Up to kFan members count their arrivals in one cache line. More do so in groups of kFan, the last of which goes on
    // to the next level. A counter is back at zero before the release, so that runs of other sizes can follow.
    void barrier(const Member& member) noexcept {
        if (member.size == 1) return;
        const unsigned turn = turn_.load(std::memory_order_acquire);
        int place = member.index, count = member.size;
        bool last = true;
        for (Counter* level = groups_; last && count > kFan;) {
            const int group = place / kFan, groups = (count + kFan - 1) / kFan;
            last = arrive(level[group].arrived, group + 1 < groups ? kFan : count - group * kFan);
            level += groups, place = group, count = groups;
        }
        if (last && arrive(arrived_, count)) {
            turn_.store(turn + 1, std::memory_order_release);
        } else {
            spin_until([&] { return turn_.load(std::memory_order_acquire) != turn; });
        }
    }

    void* scratch(std::size_t bytes, const Member& member) {
        if (member.index == 0) taken_ = scratch_.take(bytes);
        void* taken = shared(taken_, member);
        if (!taken) throw NoMemory();  // in all members: none waits for another
        return taken;
    }

    Mark mark(const Member& member) {
        if (member.index == 0) mark_ = scratch_.mark();
        return shared(mark_, member);
    }

    void release(Mark mark, const Member& member) {
        barrier(member);
        if (member.index == 0) scratch_.release(mark);
    }

    // Run the part of one member. Running out of memory happens in all members alike; no other exceptions are thrown.
    void part(void (*work)(const void*, Member), const void* argument, int index, int size) noexcept {
        const auto own = float_control();
        if (own != control_) set_float_control(control_);  // slow
        try {
            work(argument, Member{this, index, size});
        } catch (const std::bad_alloc&) {
            failed_.store(true, std::memory_order_relaxed);
        }
        if (own != control_) set_float_control(own);
    }

    // Prepare for `size` members; return their number.
    int begin(int size) noexcept {
        scratch_.reset();
        const auto own = float_control();
        if (own != control_) control_ = own;  // a write would cost each member a cache miss
        return std::min(size, kMost);
    }

    // After the parts of all members. If a run was out of memory, free what is held, since others may need it.
    void end() {
        if (!failed_.load(std::memory_order_relaxed)) return;
        failed_.store(false, std::memory_order_relaxed);
        scratch_ = Scratch();
        throw NoMemory();
    }

  private:
    static constexpr int kMost = 4096;  // members: more than processors have cores
    struct alignas(64) Counter {
        std::atomic<int> arrived{0};
    };

    // What member 0 has written, for all members.
    template <class T>
    T shared(const T& written, const Member& member) {
        barrier(member);
        T found = written;
        barrier(member);  // before it is written again
        return found;
    }

    // Count an arrival; true for the last of those expected.
    static bool arrive(std::atomic<int>& arrived, int expected) noexcept {
        if (arrived.fetch_add(1, std::memory_order_acq_rel) != expected - 1) return false;
        arrived.store(0, std::memory_order_relaxed);
        return true;
    }

    std::atomic<bool> failed_{false};
    decltype(float_control()) control_ = float_control();  // of the calling thread, for the parts of the others
    Counter groups_[kMost / (kFan - 1)];                   // of more than kFan members, level by level
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<unsigned> turn_{0};
    void* taken_ = nullptr;
    Mark mark_{};
    Scratch scratch_;
};

void Member::barrier() const { team->barrier(*this); }
void* Member::scratch(Index bytes) const { return team->scratch(static_cast<std::size_t>(bytes), *this); }

Mark Member::mark() const { return team->mark(*this); }
void Member::release(Mark mark) const { team->release(mark, *this); }

namespace {

// The OpenMP runtime that the process has loaded, such as PyTorch's. Its idle workers spin for milliseconds after each
// parallel operation; separate workers compete with them for the cores (on two, a small layer took twice as long).
struct OpenMP {
    void (*parallel)(void (*)(void*), void*, unsigned threads, unsigned flags);
    int (*thread)();
    int (*threads)();
    int (*nested)();

    bool found() const { return parallel && thread && threads && nested; }
};

// A function of the process by its name, null if there is none.
struct Symbol {
    const char* name;

    template <class F>
    operator F*() const {
        return reinterpret_cast<F*>(dlsym(RTLD_DEFAULT, name));
    }
};

const OpenMP& openmp() {
    static const OpenMP found{Symbol{"GOMP_parallel"}, Symbol{"omp_get_thread_num"}, Symbol{"omp_get_num_threads"},
                              Symbol{"omp_in_parallel"}};
    return found;
}

// Start threads that run body(k) until there are `count`, or until one cannot be started; return how many there are.
template <class F>
int start(std::vector<std::thread>& threads, int count, F body) noexcept {
    try {
        threads.reserve(static_cast<std::size_t>(count));
        while (static_cast<int>(threads.size()) < count) threads.emplace_back(body(static_cast<int>(threads.size())));
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) {
    }
    return static_cast<int>(threads.size());
}

// The number of members that can be started, up to `threads`. GNU's OpenMP aborts the process if it cannot start a
// thread. So whenever the calling thread (each has its own OpenMP workers) requests more than before, we first start as
// many threads, all at once. They end immediately, and the C library keeps their stacks for the threads that follow.
int startable(int threads) noexcept {
    static thread_local int had = 1;
    if (threads <= had) return threads;
    std::atomic<bool> all{false};
    std::vector<std::thread> tried;
    const auto wait = [&] {
        while (!all.load(std::memory_order_acquire)) sched_yield();
    };
    had += start(tried, threads - had, [&](int) { return wait; });
    all.store(true, std::memory_order_release);
    for (std::thread& thread : tried) thread.join();
    return had;
}

// The team that has workers.
class Pool {
  public:
    std::mutex taken;  // held by the run in progress

    void run(int threads, void (*work)(const void*, Member), const void* argument) {
        work_ = work, argument_ = argument;
        const bool borrows = openmp().found() && !forked_;
        size_ = team_.begin(threads == 1 ? 1 : borrows ? startable(threads) : started(threads));
        if (size_ == 1) {
            team_.part(work, argument, 0, 1);
        } else if (borrows) {
            openmp().parallel(
                [](void* pool) {
                    auto& p = *static_cast<Pool*>(pool);
                    p.team_.part(p.work_, p.argument_, openmp().thread(), openmp().threads());
                },
                this, static_cast<unsigned>(size_), 0);
        } else {
            run_on_workers();
        }
        team_.end();
    }

    explicit Pool(bool forked) : forked_(forked) {}

  private:
    // Start workers for `threads` members; return the number of members that are possible.
    int started(int threads) noexcept {
        // Read the generation here: the worker may start after the run is announced.
        const unsigned seen = generation_.load(std::memory_order_relaxed);
        return std::min(threads, 1 + start(workers_, threads - 1,
                                           [this, seen](int index) { return [=] { serve(index + 1, seen); }; }));
    }

    void run_on_workers() noexcept {
        busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
        {
            std::lock_guard<std::mutex> lock(sleep_);
            generation_.fetch_add(1, std::memory_order_release);
        }
        if (asleep_.load(std::memory_order_acquire) > 0) wake_.notify_all();
        team_.part(work_, argument_, 0, size_);
        spin_until([&] { return busy_.load(std::memory_order_acquire) == 0; });
    }

    void serve(int index, unsigned seen) noexcept {
        for (;;) {
            auto called = [&] { return generation_.load(std::memory_order_acquire) != seen; };
            for (int k = 0; k < kSpins && !called(); ++k) pause();
            if (!called()) {
                std::unique_lock<std::mutex> lock(sleep_);
                asleep_.fetch_add(1);
                wake_.wait(lock, called);
                asleep_.fetch_sub(1);
            }
            ++seen;
            if (index < size_) team_.part(work_, argument_, index, size_);
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    const bool forked_;
    Team team_;
    std::vector<std::thread> workers_;
    void (*work_)(const void*, Member) = nullptr;
    const void* argument_ = nullptr;
    int size_ = 1;
    alignas(64) std::atomic<unsigned> generation_{0};
    alignas(64) std::atomic<int> busy_{0};
    std::atomic<int> asleep_{0};
    std::mutex sleep_;
    std::condition_variable wake_;
};

// Never destroyed: its workers wait until the process ends. A child process after fork has no workers, and locks may be
// held by threads that do not exist there: it gets a new pool, without OpenMP, because GNU's hangs after fork.
std::atomic<Pool*> pool{nullptr};
std::atomic<bool> forked{false};
// Registered when the module is loaded, because PyTorch's threads may be lost in a fork before our first run.
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] {
    pool.store(nullptr);
    forked.store(true);
});

Pool& the_pool() {
    Pool* found = pool.load(std::memory_order_acquire);
    if (found == nullptr) {
        Pool* made = new Pool(forked.load());
        if (pool.compare_exchange_strong(found, made)) return *made;
        delete made;
    }
    return *found;
}

}  // namespace

int threads_for(const Work& work, int most) {
    // Two LSTM layers with a softmax, one step on one and two threads of PyTorch's OpenMP, in microseconds: 192 KiB of
    // weights 10.7 and 14.0; 512 KiB 17.3 and 17.4; 960 KiB 25.1 and 19.5; 4 MiB 90 and 62. So waking one takes 8 µs.
    // A barrier of 64 took 5 µs when all counted in one cache line: 80 ns each.
    constexpr double kWake = 8e-6, kWakeEach = 0.4e-6, kArrival = 80e-9;
    int best = 1;
    double least = work.seconds + work.step_seconds;
    for (int n = 2; n <= most && kWake + kWakeEach * n < least; ++n) {
        const bool apart = work.groups % n == 0;
        if (!apart && n > work.blocks) continue;
        const double blocks = static_cast<double>(work.blocks), own = static_cast<double>((work.blocks + n - 1) / n);
        const double barriers = work.barriers + (apart ? 0 : static_cast<double>(work.steps));
        int arrivals = 0;  // one after the other, on all levels
        for (int count = n; count > 1; count = (count + kFan - 1) / kFan) arrivals += std::min(count, kFan);
        const double found = kWake + kWakeEach * n + work.seconds / n +
                             work.step_seconds * (apart ? 1.0 / n : own / blocks) + barriers * arrivals * kArrival;
        if (found < least) best = n, least = found;
    }
    return best;
}

void run(int threads, void (*work)(const void*, Member), const void* argument) {
    Pool& shared = the_pool();
    std::unique_lock<std::mutex> lock(shared.taken, std::try_to_lock);
    if (lock.owns_lock() && !(openmp().found() && openmp().nested())) {
        shared.run(threads < 1 ? 1 : threads, work, argument);
    } else {
        Team alone;
        alone.part(work, argument, 0, 1);
        alone.end();
    }
}

}  // namespace gatewise
