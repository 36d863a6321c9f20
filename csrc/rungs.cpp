#include "rungs.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(GATEWISE_AMX) && !defined(GATEWISE_EMULATE)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace gatewise {

extern const Rung rung_portable, rung_avx2, rung_avx512, rung_amx;

namespace {

#ifdef GATEWISE_EMULATE  // emulated by the compiler and tiles.hpp, on any processor, for tests
bool has_avx512() { return true; }
bool has_tiles() { return true; }
#elif defined(GATEWISE_AVX512)
bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}
#ifdef GATEWISE_AMX
// Whether the processor has tiles and Linux permits this process to use them; the process must request permission.
bool has_tiles() {
    unsigned a, b, c, d;
    const unsigned tiles = 1u << 24 | 1u << 22, conversions = 1u << 5;  // AMX-TILE and AMX-BF16, AVX512-BF16
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & tiles) != tiles) return false;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & conversions)) return false;
    const long ask_for_state = 0x1023, of_tiles = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, ask_for_state, of_tiles) == 0;
}
#endif
#endif

}  // namespace

std::vector<const Rung*> available_rungs() {
    std::vector<const Rung*> rungs = {&rung_portable};
#ifdef GATEWISE_AVX2
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) rungs.push_back(&rung_avx2);
#endif
#ifdef GATEWISE_AVX512
    if (has_avx512()) rungs.push_back(&rung_avx512);
#endif
#ifdef GATEWISE_AMX
    if (has_avx512() && has_tiles()) rungs.push_back(&rung_amx);
#endif
    return rungs;
}

namespace {

const Rung& choose() {
    const char* wanted = std::getenv("GATEWISE_INSTRUCTIONS");
    std::vector<const Rung*> rungs = available_rungs();
    if (!wanted || !*wanted) return *rungs.back();
    std::string names;
    for (const Rung* rung : rungs) {
        if (std::string(wanted) == rung->name) return *rung;
        names += (names.empty() ? "" : ", ") + std::string(rung->name);
    }
    throw std::runtime_error("GATEWISE_INSTRUCTIONS is '" + std::string(wanted) +
                             "', which this processor or this build does not have; expected one of " + names);
}

}  // namespace

const Rung& rung() {
    static const Rung& chosen = choose();
    return chosen;
}

}  // namespace gatewise
