// Checks of arguments, before anything is computed with them. Each throws with a one-line message:
// std::invalid_argument (in Python a ValueError) or std::out_of_range (an IndexError). Not for code of a target.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "throwing.hpp"
#include "training.hpp"

namespace gatewise {

// Check that no count in a call, including the bytes of padded and packed data, overflows an Index: the product of all
// sizes, each plus 64, times 64 bytes must not. Where addresses have 32 bits, 16 bytes, which single steps do not exceed.
inline void check_sizes(std::initializer_list<Index> sizes) {
    constexpr bool kLong = sizeof(std::size_t) >= 8;
    double bytes = kLong ? 64 : 16;
    for (Index size : sizes) bytes = size < 0 ? 1e300 : bytes * (static_cast<double>(size) + 64);
    if (bytes < (kLong ? 4e18 : 4e9)) return;
    std::string found;
    for (Index size : sizes) found += (found.empty() ? "" : ", ") + std::to_string(size);
    GATEWISE_THROW(
        std::invalid_argument("sizes are " + found + "; expected 0 or more, with a product that does not overflow"));
}

// Check that values, if not null, are 0 to `largest`, which is `meaning`.
template <class Error>
void check_values(const char* name, const std::int64_t* values, Index count, Index largest, const char* meaning) {
    for (Index k = 0; values && k < count; ++k) {
        if (values[k] >= 0 && values[k] <= largest) continue;
        GATEWISE_THROW(Error(std::string(name) + " holds " + std::to_string(values[k]) + "; expected 0 to " +
                             std::to_string(largest) + ", " + meaning));
    }
}

// Check the assumptions of an update: the rows of a sparse gradient are strictly increasing rows of the parameter, and
// no memory that is written overlaps any other. `written`: false for the norm alone, which writes none of it.
inline void check_parameters(const Parameter* parameters, Index count, bool written) {
    struct Range {
        const float *begin, *end;
        bool written;
    };
    std::vector<Range> ranges;
    const auto add = [&](const float* begin, Index size, bool is_written) {
        if (begin && size) ranges.push_back({begin, begin + size, is_written});
    };
    for (const Parameter* p = parameters; p != parameters + count; ++p) {
        if (p->width < 0 || (p->width && p->count % p->width)) {
            GATEWISE_THROW(std::invalid_argument("a gradient's rows do not have the size of the parameter's"));
        }
        for (Index k = 0; p->width && k < p->row_count; ++k) {
            const Index rows = p->count / p->width;
            if (p->rows[k] > (k ? p->rows[k - 1] : -1) && p->rows[k] < rows) continue;
            GATEWISE_THROW(std::invalid_argument("a sparse gradient names row " + std::to_string(p->rows[k]) + " of " +
                                                 std::to_string(rows) + "; expected increasing rows, each once"));
        }
        if (written) {
            add(p->p, p->count, true), add(p->m, p->count, true), add(p->v, p->count, true);
            add(p->g, p->gradient_count(), false);
        }
    }
    std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
    const float *end = nullptr, *end_written = nullptr;
    for (const Range& range : ranges) {
        if (range.begin < (range.written ? end : end_written)) {
            GATEWISE_THROW(std::invalid_argument(
                "parameters, their gradients or optimizer states share memory; expected separate memory for "
                "each: clone them"));
        }
        end = std::max(end, range.end);
        if (range.written) end_written = std::max(end_written, range.end);
    }
}

}  // namespace gatewise
