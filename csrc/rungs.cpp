#include "rungs.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace gatewise {

extern const Rung rung_portable;
#ifdef GATEWISE_X86
extern const Rung rung_avx2, rung_avx512;
#endif

std::vector<const Rung*> available_rungs() {
    std::vector<const Rung*> rungs = {&rung_portable};
#ifdef GATEWISE_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) rungs.push_back(&rung_avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
        rungs.push_back(&rung_avx512);
    }
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
