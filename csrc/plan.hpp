// The order in which a pass processes its rows, computed from their lengths: see Steps in passes.hpp. Uses the standard
// library, so not for code that is compiled per instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "passes.hpp"

namespace gatewise {

// The number of groups into which to divide the rows of a pass: groups of up to 16 rows (the height of a tile) if W_hh
// is small enough (1 MB in bfloat16) for each member to read all of it in each step; a power of two, so that common
// numbers of threads get equally many. Measured with two threads, 20 to 64 rows, 20 to 100 steps: layers of 200 and 256
// units are 1.03 to 1.4 times as fast in bf16, 1.0 to 1.13 times in fp32; a GRU of 650 units (2.5 MB) is slower. The
// order of sums depends on the groups, so they do not depend on the number of threads.
inline Index groups_for(Index B, Index G, Index H) {
    constexpr Index kRows = 16, kNumbers = Index{1} << 19;
    Index groups = 1;
    while (G * H * H <= kNumbers && B > kRows * groups) groups *= 2;
    return groups;
}

// Owns the memory that its `steps` point to. `given`: the lengths (B), each 0 to T, which the caller checks; null: all
// are T. `reverse`: a reverse pass. The groups take the rows in turn, the longest first, to balance the work.
struct Plan {
    std::vector<Index> offset, place, order, lengths;
    std::vector<Group> group;
    Steps steps;
    Plan(const Plan&) = delete;  // the steps of a copy would point into this object
    Plan& operator=(const Plan&) = delete;

    Plan(CellKind cell, Index T, Index B, Index H, const std::int64_t* given, bool reverse)
        : group(groups_for(B, gates_of(cell), H)) {
        const Index groups = static_cast<Index>(group.size());
        auto length = [&](Index row) { return given ? static_cast<Index>(given[row]) : T; };
        std::vector<Index> sorted(B);
        std::iota(sorted.begin(), sorted.end(), Index{0});
        auto longer = [&](Index a, Index b) { return length(a) > length(b); };
        if (given) std::stable_sort(sorted.begin(), sorted.end(), longer);
        offset.reserve(groups * (T + 1));  // an upper bound; the groups point into it
        for (Index g = 0; g < groups; ++g) {
            const Index first = static_cast<Index>(order.size());
            for (Index r = g; r < B; r += groups) order.push_back(sorted[r]), lengths.push_back(length(sorted[r]));
            const Index rows = static_cast<Index>(order.size()) - first, count = rows ? lengths[first] : 0;
            group[g] = {first, rows, count, offset.data() + offset.size()};
            offset.push_back(static_cast<Index>(place.size()));
            for (Index s = 0, active = rows; s < count; ++s) {
                while (lengths[first + active - 1] <= s) --active;
                for (Index r = first; r < first + active; ++r) {
                    place.push_back((reverse ? lengths[r] - 1 - s : s) * B + order[r]);
                }
                offset.push_back(static_cast<Index>(place.size()));
            }
        }
        steps = {group[0].count, B, static_cast<Index>(place.size()), groups, group.data(), place.data(), order.data(),
                 lengths.data()};
    }
};

}  // namespace gatewise
