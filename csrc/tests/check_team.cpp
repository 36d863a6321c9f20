// Tests of the team itself: barriers, the floating-point control of its members; see check.cpp.
#include <unistd.h>

#include <chrono>
#include <thread>

#include "check.hpp"

namespace gatewise {
namespace {

// Each member writes a number that all read after the barrier: one that is released too early reads an old one, and
// ThreadSanitizer reports what the barrier does not order. `late`: this member arrives last.
void check_barriers(int threads, int late) {
    std::vector<int> written(static_cast<std::size_t>(threads)), wrong(written.size());
    const int rounds = 20;
    run(threads, [&](Member me) {
        for (int round = 1; round <= rounds; ++round) {
            if (me.index == late && round % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
            written[static_cast<std::size_t>(me.index)] = round;
            me.barrier();
            for (int k = 0; k < me.size; ++k) {
                wrong[static_cast<std::size_t>(me.index)] += written[static_cast<std::size_t>(k)] != round;
            }
            me.barrier();
        }
        if (me.size != threads) wrong[static_cast<std::size_t>(me.index)] = -1;
    });
    for (int found : wrong) {
        if (found) fail("team", std::to_string(threads) + " members are not together after a barrier");
    }
}

#if defined(__SSE__)
// Change the bits that make denormals zero.
void flush(bool on) { __builtin_ia32_ldmxcsr((__builtin_ia32_stmxcsr() & ~0x8040u) | (on ? 0x8040u : 0)); }
#elif defined(__aarch64__)
void flush(bool on) {
    std::uint64_t word;
    asm volatile("mrs %0, fpcr" : "=r"(word));
    word = (word & ~(std::uint64_t{1} << 24)) | (std::uint64_t{on} << 24);
    asm volatile("msr fpcr, %0" : : "r"(word));
}
#endif

// All members treat denormals as the calling thread does.
void check_float_control() {
#if defined(__SSE__) || defined(__aarch64__)
    for (bool on : {false, true, false}) {
        volatile float denormal = 1e-40f;
        float found[4];
        flush(on);
        run(4, [&](Member me) { found[me.index] = denormal * 0.5f; });
        flush(false);
        for (float half : found) {
            if ((half == 0) != on) fail("team", on ? "a member keeps denormals" : "a member flushes denormals");
        }
    }
#endif
}

// The number of threads of calls whose best one is known.
void check_threads_for() {
    const auto bytes = [](double kib) { return Work{kib * 1024 * kSecondsPerByte, 2}; };
    const struct {
        Work work;
        int most, expected;
    } cases[] = {
        {{0}, 64, 1},
        {{10e-6}, 64, 1},  // less than waking another takes
        {{100e-6}, 2, 2},
        {{10}, 1, 1},
        {{10}, 64, 64},
        {bytes(192), 2, 1},  // as measured: see threads_for
        {bytes(960), 2, 2},
        {{1e-3, 2500}, 64, 2},               // each barrier costs more than it saves
        {{0, 0, 1e-3, 1000, 64, 1}, 64, 4},  // and so does that of each step
        {{0, 0, 1, 20, 7, 1}, 64, 7},        // one block each
        {{0, 0, 1, 20, 7, 1}, 6, 4},         // 4, 5 and 6 members have up to two
        {{1, 0, 1, 20, 1, 1}, 64, 1},
        {{1, 0, 1, 20, 1, 4}, 64, 4},  // groups of rows
        {{1, 0, 1, 20, 1, 4}, 3, 2},   // that divide evenly
        {{1, 0, 1, 20, 21, 4}, 64, 21},
    };
    for (const auto& [work, most, expected] : cases) {
        const int found = threads_for(work, most);
        if (found == expected) continue;
        fail("threads_for",
             std::to_string(found) + " of " + std::to_string(most) + ", expected " + std::to_string(expected));
    }
}

}  // namespace

void check_team() {
    check_threads_for();
    alarm(300);  // members that wait for ever fail too
    for (int threads = 1; threads <= 64; ++threads) check_barriers(threads, threads * 5 / 7);
    // Runs of other sizes one after another, the last member of each late.
    for (int threads : {64, 1, 9, 8, 63, 2, 17, 64, 3, 65}) check_barriers(threads, threads - 1);
    check_float_control();
    alarm(0);
}

}  // namespace gatewise
