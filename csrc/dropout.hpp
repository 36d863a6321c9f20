// Dropout masks (DropoutMask). Word k of SplitMix64 (Steele, Lea and Flood 2014) depends on k and the seed only, so
// that each member computes its own words, without a barrier. Uses no scratch.
#pragma once

#include "team.hpp"
#include "training.hpp"
#include "vector.hpp"

namespace gatewise::GATEWISE_TARGET {

inline void dropout_mask(const DropoutMask& d, Member me) {
    uint32_t scale;
    __builtin_memcpy(&scale, &d.scale, sizeof scale);
    const auto drawn = [&](uint64_t number) {  // branch-free, because a branch would be unpredictable
        return scale & -static_cast<uint32_t>(static_cast<int32_t>(number) < d.kept);
    };
    const auto word = [&](Index k) {
        uint64_t z = d.seed + static_cast<uint64_t>(k + 1) * 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        z ^= z >> 31;
        return drawn(z) | static_cast<uint64_t>(drawn(z >> 32)) << 32;
    };
    const Index pairs = d.count / 2;
    for (Index k = me.first(pairs); k < me.last(pairs); ++k) {
        const uint64_t two = word(k);
        __builtin_memcpy(d.mask + 2 * k, &two, sizeof two);
    }
    if (d.count % 2 > 0 && me.index == 0) {
        const uint32_t last = static_cast<uint32_t>(word(pairs));
        __builtin_memcpy(d.mask + 2 * pairs, &last, sizeof last);
    }
}

}  // namespace gatewise::GATEWISE_TARGET
