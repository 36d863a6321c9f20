// Products of packed pairs on vectors, with vdpbf16ps (pairs.hpp): each of 16 sums adds the products of a pair of terms.
// Sums of a tile of up to kTileRows rows and two vectors stay in registers over a block of terms; blocks are added in
// order.
#pragma once

#include "pairs.hpp"

namespace gatewise::GATEWISE_TARGET {

#ifndef GATEWISE_EMULATE
// sums + the products of a pair of A, in each 32 bits of a, with 16 pairs of B.
inline Vector<float> add_pairs(Vector<float> sums, Pairs a, Pairs b) {
    return (Vector<float>)_mm512_dpbf16_ps((__m512)sums, (__m512bh)a, (__m512bh)b);
}
#endif

constexpr Index kPairsUnrolled = 4;

// Pass the sums of R rows and the first N × 16 columns of a panel, over `terms` terms, to finish(r, n, sums). row, step: the
// distances in a between rows and between chunks. `ahead()`, called once per kPairsUnrolled pairs, prefetches data of
// later tiles.
template <int R, int N, class A, class F>
GATEWISE_INLINE void multiply_pairs(Index terms, const uint16_t* a, Index row, Index step, const uint16_t* b, A ahead,
                                    F finish) {
    Vector<float> s[R][N] = {};
    const auto add_pair = [&](Index k) __attribute__((always_inline)) {  // terms k and k + 1 of a chunk
        Pairs column[N];
        for (int n = 0; n < N; ++n) __builtin_memcpy(&column[n], b + n * kTileSize + k * 16, sizeof column[n]);
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            uint32_t pair;
            __builtin_memcpy(&pair, a + r * row + k, sizeof pair);
            for (int n = 0; n < N; ++n) s[r][n] = add_pairs(s[r][n], Pairs{} + pair, column[n]);
        }
    };
    for (; terms >= kChunk; terms -= kChunk, a += step, b += kPackedChunk<1>) {
        for (Index first = 0; first < kChunk; first += 2 * kPairsUnrolled) {
            ahead();
#pragma GCC unroll 4
            for (Index k = 0; k < 2 * kPairsUnrolled; k += 2) add_pair(first + k);
        }
    }
    for (Index k = 0; k < terms; k += 2) add_pair(k);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        for (int n = 0; n < N; ++n) finish(r, n, s[r][n]);
    }
}

// The kernel, see OnPairs.
struct OnDots {
    using Session = NoSession;
    using Factor = uint16_t;
    static constexpr int kParts = 1;
    static constexpr Index kChunksAtOnce = 12, kChunksHeld = 24;  // of a panel: 24 KB, in the L1 cache

    static void multiply_rows(Index rows, Index K, const Factor* a, Index row, const Factor* panel, Index first,
                              Index last, float* c, Index c_stride, const Factor* next_panel) {
        const auto multiply = [&](auto R, auto N, Index terms, const Factor* a, const Factor* b, auto& ahead,
                                  auto finish) __attribute__((always_inline)) {
            multiply_pairs<R.value, N.value>(terms, a, row, kChunk, b, ahead, finish);
        };
        // A row of 16 pairs takes 32 elements; first is 0, or 16: the second tile.
        multiply_by_tiles<2 * kPairsUnrolled, kWidth>(rows, Blocks(K, kChunksAtOnce * kChunk, kChunk), a, row,
                                                      panel + first * 32, last - first, c + first, c_stride, next_panel,
                                                      multiply);
    }

    // A strip times a panel: the 32 × 32 block of C at (m, n), or the part of it that exists.
    __attribute__((noinline)) static void multiply_block(const Product<float>& p, Index m, Index n, bool accumulate,
                                                         Index K, const Factor* a, const Factor* b) {
        const Index rows = p.M - m < kStrip ? p.M - m : kStrip, columns = p.N - n;
        const Index tiles = (rows + kTileRows - 1) / kTileRows;
        for (Index tile = 0; tile < tiles; ++tile) {
            const Index r0 = rows * tile / tiles, r1 = rows * (tile + 1) / tiles;
            for (Index r = r0; r < r1; ++r) fetch_row(p.C[m + r] + n);
            with_tile<float>(r1 - r0, columns, [&](auto R, auto N) {
                multiply_pairs<R.value, N.value>(
                    K, a + r0 * kChunk, kChunk, kPackedChunk<1>, b, [] {},
                    [&](Index r, Index k, Vector<float> sums) {
                        write_sums(p, m + r0 + r, n + k * 16, accumulate, sums);
                    });
            });
        }
    }
};

}  // namespace gatewise::GATEWISE_TARGET
