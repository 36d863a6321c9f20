#include "dispatch.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <string>

#include "throwing.hpp"

#if defined(GATEWISE_AMX) && !defined(GATEWISE_EMULATE)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace gatewise {

namespace {

#ifdef GATEWISE_EMULATE  // on any processor, for tests: tests/emulated_instructions.hpp
bool has_avx512() { return true; }
bool has_bfloat16() { return true; }
bool has_tiles() { return true; }
#elif defined(GATEWISE_AVX512)
bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}
[[maybe_unused]] bool has_bfloat16() {
    return has_avx512() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
}
#ifdef GATEWISE_AMX
// Whether the processor has tiles and Linux permits this process to use them; the process must request permission.
bool has_tiles() {
    unsigned a, b, c, d;
    const unsigned tiles = 1u << 24 | 1u << 22;  // AMX-TILE and AMX-BF16
    if (!has_bfloat16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & tiles) != tiles) return false;
    const long ask_for_state = 0x1023, of_tiles = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, ask_for_state, of_tiles) == 0;
}
#endif
#endif

}  // namespace

std::vector<const Target*> available_targets() {
    std::vector<const Target*> targets = {&target_portable};
#ifdef GATEWISE_AVX2
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) targets.push_back(&target_avx2);
#endif
#ifdef GATEWISE_AVX512
    if (has_avx512()) targets.push_back(&target_avx512);
#endif
#ifdef GATEWISE_AVX512_BF16
    if (has_bfloat16()) targets.push_back(&target_avx512_bf16);
#endif
#ifdef GATEWISE_AMX
    if (has_tiles()) targets.push_back(&target_amx);
#endif
    return targets;
}

namespace {

#ifndef GATEWISE_INFERENCE
double seconds_since(std::chrono::steady_clock::time_point began) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

#ifdef GATEWISE_AVX512_BF16
// Whether vdpbf16ps multiplies faster than float vectors do: twice as fast on AMD's processors, no faster on Intel's so
// far. Measured on others, in about a millisecond, with a bound far from both.
bool has_fast_bfloat16() {
    __builtin_cpu_init();
    if (__builtin_cpu_is("amd")) return true;
    const auto rate = [](const Target& target) {
        double best = 0;
        for (int k = 0; k < 5; ++k) {
            const auto began = std::chrono::steady_clock::now();
            const double operations = target.spin_tiles(Numbers::bfloat16, 50);
            best = std::max(best, operations / seconds_since(began));
        }
        return best;
    };
    return rate(target_avx512_bf16) > 1.4 * rate(target_avx512);
}
#endif
#endif

const Target& choose() {
    const char* wanted = std::getenv("GATEWISE_INSTRUCTIONS");
    std::vector<const Target*> targets = available_targets();
    if (!wanted || !*wanted) {
#if defined(GATEWISE_AVX512_BF16) && !defined(GATEWISE_INFERENCE)
        if (targets.back() == &target_avx512_bf16 && !has_fast_bfloat16()) targets.pop_back();
#endif
        return *targets.back();
    }
    std::string names;
    for (const Target* target : targets) {
        if (std::string(wanted) == target->name) return *target;
        names += (names.empty() ? "" : ", ") + std::string(target->name);
    }
    GATEWISE_THROW(std::runtime_error("GATEWISE_INSTRUCTIONS is '" + std::string(wanted) +
                                      "', which this processor or this build does not support; expected one of " +
                                      names));
}

}  // namespace

const Target& active_target() {
    static const Target& chosen = choose();
    return chosen;
}

#ifndef GATEWISE_INFERENCE
double product_rate(int threads, Numbers numbers) {
    const Target& target = active_target();
    std::vector<double> operations(static_cast<std::size_t>(threads));
    const auto began = std::chrono::steady_clock::now();
    run(threads,
        [&](Member me) { operations[static_cast<std::size_t>(me.index)] = target.spin_tiles(numbers, 20000); });
    return std::accumulate(operations.begin(), operations.end(), 0.0) / seconds_since(began);
}
#endif

}  // namespace gatewise
