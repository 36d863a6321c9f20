// The sequences of a call, in batches, and running a stream over a batch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "../stream.hpp"
#include "problem.hpp"

namespace gatewise {

constexpr Index kRows = 64;  // sequences that are read together; results do not depend on it

// The sequences of a call: `lengths` of `rows`, their inputs one after the other.
struct Sequences {
    Index rows;
    const std::int64_t* lengths;
    const void* inputs;  // see gw_step

    Index total() const { return static_cast<Index>(std::accumulate(lengths, lengths + rows, std::int64_t{0})); }
};

// Rows of a call in the order of falling length, so that those within a step are the first n.
struct Batch {
    Index rows, longest;
    std::vector<Index> order, lengths, starts;  // the row; its steps and the place of its first input, by position

    // Rows from `first` up to `last` of the given order.
    Batch(const Sequences& in, const std::vector<Index>& sorted, const std::vector<Index>& places, Index first,
          Index last)
        : rows(last - first), longest(static_cast<Index>(in.lengths[sorted[static_cast<std::size_t>(first)]])) {
        for (Index k = first; k < last; ++k) {
            const Index row = sorted[static_cast<std::size_t>(k)];
            order.push_back(row), lengths.push_back(static_cast<Index>(in.lengths[row]));
            starts.push_back(places[static_cast<std::size_t>(row)]);
        }
    }

    Index within(Index t) const {  // how many rows have a step t
        Index n = rows;
        while (lengths[static_cast<std::size_t>(n - 1)] <= t) --n;
        return n;
    }

    // The place of step t of a row, by position.
    Index item(Index row, Index t) const { return starts[static_cast<std::size_t>(row)] + t; }

    // Call f with batches of up to kRows rows.
    template <class F>
    static void each(const Sequences& in, F f) {
        std::vector<Index> sorted(static_cast<std::size_t>(in.rows)), places(sorted.size());
        std::iota(sorted.begin(), sorted.end(), 0);
        Index place = 0;
        for (Index row = 0; row < in.rows; place += static_cast<Index>(in.lengths[row++])) {
            places[static_cast<std::size_t>(row)] = place;
        }
        std::stable_sort(sorted.begin(), sorted.end(), [&](Index a, Index b) { return in.lengths[a] > in.lengths[b]; });
        for (Index first = 0; first < in.rows; first += kRows) {
            f(Batch(in, sorted, places, first, std::min(first + kRows, in.rows)));
        }
    }
};

// The states of a batch before and after, each (L, rows, H) by position; c is empty but for an LSTM.
struct Ends {
    std::vector<float> h, c;
};

// Run a stream over a batch. x: items of I floats, or ids. after(t, n, y, trace): step t of the first n rows gave the last
// layer's h, (n, H).
template <class After>
void sweep(const Stream& stream, int threads, Index L, Index H, Index I, bool reverse, const Batch& batch,
           const void* x, Ends& ends, After after) {
    const bool has_c = !ends.c.empty();
    const std::size_t most = static_cast<std::size_t>(L * batch.rows * H);
    std::vector<float> h = ends.h, c = ends.c, h_n(most), c_n(has_c ? most : 0), vectors;
    std::vector<std::int64_t> ids;
    const auto* numbers = static_cast<const float*>(x);
    const auto* given = static_cast<const std::int64_t*>(x);
    Index before = batch.rows;
    for (Index t = 0; t < batch.longest; ++t) {
        const Index n = batch.within(t);
        for (Index layer = 1; n < before && layer < L; ++layer) {  // rows that ended leave their place
            std::copy_n(h.begin() + layer * before * H, n * H, h.begin() + layer * n * H);
            if (has_c) std::copy_n(c.begin() + layer * before * H, n * H, c.begin() + layer * n * H);
        }
        ids.resize(I ? 0 : static_cast<std::size_t>(n)), vectors.resize(static_cast<std::size_t>(n * I));
        for (Index r = 0; r < n; ++r) {
            const std::size_t at = static_cast<std::size_t>(r);
            const Index item = batch.item(r, reverse ? batch.lengths[at] - 1 - t : t);
            if (I) {
                std::copy_n(numbers + item * I, I, vectors.begin() + r * I);
            } else {
                ids[at] = given[item];
            }
        }
        const void* from = I ? static_cast<const void*>(vectors.data()) : ids.data();
        stream.step(stream.useful_threads(threads), n, from, h.data(), has_c ? c.data() : nullptr, h_n.data(),
                    has_c ? c_n.data() : nullptr, nullptr);
        h.swap(h_n), c.swap(c_n);
        for (Index r = n; r-- > 0 && batch.lengths[static_cast<std::size_t>(r)] == t + 1;) {  // rows that end here
            for (Index layer = 0; layer < L; ++layer) {
                std::copy_n(h.begin() + (layer * n + r) * H, H, ends.h.begin() + (layer * batch.rows + r) * H);
                if (has_c)
                    std::copy_n(c.begin() + (layer * n + r) * H, H, ends.c.begin() + (layer * batch.rows + r) * H);
            }
        }
        after(t, n, h.data() + (L - 1) * n * H);
        before = n;
    }
}

}  // namespace gatewise
