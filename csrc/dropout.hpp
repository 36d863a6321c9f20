// Dropout (DropoutMask). Word k of SplitMix64 (Steele, Lea and Flood 2014) depends on k and the seed only, so
// that each member computes its own words, without a barrier. Uses no scratch.
#pragma once

#include "team.hpp"
#include "training.hpp"
#include "vector.hpp"

namespace gatewise::GATEWISE_TARGET {

inline void dropout_mask(const DropoutMask& d, Member me) {
    typedef uint64_t Words __attribute__((vector_size(GATEWISE_VECTOR_BYTES)));
    typedef int32_t Integers __attribute__((vector_size(GATEWISE_VECTOR_BYTES)));
    constexpr Index L = kLanes<float>;
    Words step{};
    for (Index k = 0; k < L / 2; ++k) step[k] = static_cast<uint64_t>(k + 1) * 0x9E3779B97F4A7C15u;
    int32_t scale;
    __builtin_memcpy(&scale, &d.scale, sizeof scale);
    const Index vectors = (d.count + L - 1) / L;
    for (Index k = me.first(vectors); k < me.last(vectors); ++k) {
        Words z = step + (d.seed + static_cast<uint64_t>(k * L / 2) * 0x9E3779B97F4A7C15u);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        z ^= z >> 31;
        const Vector<float> mask = (Vector<float>)(((Integers)z < d.kept) & scale);
        const Index at = k * L, count = d.count - at;
        store(d.out + at, d.x ? load(d.x + at, count) * mask : mask, count);
    }
}

}  // namespace gatewise::GATEWISE_TARGET
