// The order in which a pass reads its rows, made from their lengths: see Steps in passes.hpp. Of the standard library,
// so not for the code of a rung.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "passes.hpp"

namespace gatewise {

// Owns what its `steps` point to. `given`: the lengths (B), each 0 to T, which the caller sees to; null: all are T. Rows of
// equal length keep their order. `reverse`: a pass from the end.
struct Plan {
    std::vector<Index> offset, place, order, lengths;
    Steps steps;
    Plan(const Plan&) = delete;  // a copy's steps would point into this one
    Plan& operator=(const Plan&) = delete;

    Plan(Index T, Index B, const std::int64_t* given, bool reverse) : order(B), lengths(B) {
        auto length = [&](Index row) { return given ? static_cast<Index>(given[row]) : T; };
        std::iota(order.begin(), order.end(), Index{0});
        auto longer = [&](Index a, Index b) { return length(a) > length(b); };
        if (given) std::stable_sort(order.begin(), order.end(), longer);
        for (Index r = 0; r < B; ++r) lengths[r] = length(order[r]);
        Index count = B ? lengths[0] : 0, active = B;
        offset.push_back(0);
        for (Index s = 0; s < count; ++s) {
            while (lengths[active - 1] <= s) --active;
            for (Index r = 0; r < active; ++r) place.push_back((reverse ? lengths[r] - 1 - s : s) * B + order[r]);
            offset.push_back(static_cast<Index>(place.size()));
        }
        steps = {count, B, offset.back(), offset.data(), place.data(), order.data(), lengths.data()};
    }
};

}  // namespace gatewise
