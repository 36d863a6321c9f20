// Products of bfloat16 operands, two terms at a time: the policy whose operands are packed as pairs, one number per operand
// (Numbers::bfloat16) or two (Numbers::high: x = hi + lo, and a product is hi·hi + hi·lo + lo·hi; lo·lo is negligible).
// A kernel multiplies what is packed: tiles.hpp on AMX tiles, dot.hpp on vectors with the instruction vdpbf16ps.
//
// A packed tile is 16 lines (rows of A, columns of B) of 32 terms. In A, the terms of a line are contiguous; in B, a row
// holds two terms of each line (a pair). A chunk of 32 terms of a panel (32 columns) is two tiles of 16 columns; with
// two parts, two tiles of hi and then two of lo. A strip of 32 rows is packed likewise. Terms are padded with zeros to
// whole chunks. Denormal operands and sums are flushed to zero; NaN propagates; in `high` an operand that rounds to
// infinity (from 3.39e38) may become NaN. Only `multiply` uses scratch.
#pragma once

#include "product.hpp"
#ifdef GATEWISE_EMULATE
#include "tests/emulated_instructions.hpp"
#endif

namespace gatewise::GATEWISE_TARGET {

static_assert(GATEWISE_VECTOR_BYTES == 64, "a row of a tile is a vector");

constexpr Index kTileHeight = 16, kChunk = 32, kTileSize = kTileHeight * kChunk;  // lines, terms, elements

// 32 operands, or 16 pairs of them.
using Pairs = Vector<uint32_t>;
using Factors = Vector<uint16_t>;

#ifndef GATEWISE_EMULATE
// Two vectors rounded to bfloat16, concatenated.
inline Pairs narrow(Vector<float> low, Vector<float> high) {
    return (Pairs)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}
#endif

// Pair k holds element k of both vectors.
inline Pairs interleave(Vector<float> even, Vector<float> odd) {
    return (Pairs)interleaved<uint16_t>((Factors)narrow(even, even), (Factors)narrow(odd, odd), false);
}

// The part of x to be rounded to bfloat16: 0 is hi, x itself; 1 is lo, the rounding error of hi.
template <int Part>
inline Vector<float> part_of(Vector<float> x) {
    if (Part == 0) return x;
    Vector<float> rest = x - to_bfloat16(x);
    return rest - rest == Vector<float>{} ? rest : Vector<float>{};  // zero if hi is not finite
}

// The elements of a chunk of a panel or a strip, with `Parts` parts.
template <int Parts>
constexpr Index kPackedChunk = Parts * 2 * kTileSize;

constexpr Index kStrip = 2 * kTileHeight, kWidth = kTileColumns<float>;  // rows of a strip, columns of a panel
static_assert(kWidth == 2 * kTileHeight && kStrip == kLeftRows);

constexpr Index chunks_of(Index K) { return (K + kChunk - 1) / kChunk; }

inline Vector<float> widen(const uint16_t* from) {
    HalfVector<uint16_t> half;
    __builtin_memcpy(&half, from, sizeof half);
    return (Vector<float>)(__builtin_convertvector(half, Pairs) << 16);
}

inline void put_pairs(uint16_t* to, Vector<float> x, Index count) {
    const Pairs rounded = narrow(x, x);
    if (__builtin_expect(count >= kLanes<float>, 1)) {
        __builtin_memcpy(to, &rounded, sizeof(uint16_t) * kLanes<float>);
    } else {
        for (Index k = 0; k < count; ++k) to[k] = ((Factors)rounded)[k];
    }
}

template <class Kernel>
struct OnPairs {
    using Real = float;
    using Factor = uint16_t;
    using Session = typename Kernel::Session;
    static constexpr bool kInPairs = true;
    static constexpr Index kFewRows = 768;  // see product.hpp
    static constexpr int kParts = Kernel::kParts;
    static constexpr Index kStep = kPackedChunk<kParts>;  // elements of a chunk of a panel

    static constexpr Index panel_size(Index K) { return chunks_of(K) * kStep; }
    // The hi parts of a row, then its lo parts; an odd number of chunks each, to spread rows over all sets of the
    // cache.
    static constexpr Index row_size(Index K) { return (chunks_of(K) | 1) * kChunk * kParts; }

    static void put(Factor* to, Index row, Vector<float> x, Index count) {
        put_pairs(to, part_of<0>(x), count);
        if (kParts == 2) put_pairs(to + row / 2, part_of<1>(x), count);
    }

    static void pack_panel(Factor* packed, Rows<const float> m, bool terms_together, Index first, Index count,
                           Index K) {
        pack(packed, false, m, terms_together, first, count, 0, K);
    }

    // Pack two tiles of each part for each chunk of K terms: `count` lines (rows of A, columns of B), the others zero.
    // `by_line`: the layout of A, with the terms of a line contiguous; else the layout of B, by pairs of terms.
    static void pack(Factor* to, bool by_line, Rows<const float> m, bool terms_together, Index first, Index count,
                     Index k0, Index K) {
        for (Index k = 0; k < K; k += kChunk, to += kStep) {
            for (Index tile = 0; tile < 2; ++tile) {
                pack_tile(to + tile * kTileSize, by_line, m, terms_together, first + tile * kTileHeight,
                          count - tile * kTileHeight, k0 + k, K - k);
            }
        }
    }

    // See product.hpp.
    static void multiply_rows(Index rows, Index K, const Factor* a, const Factor* panel, Index first, Index last,
                              float* c, Index c_stride, const Factor* next_panel) {
        if (rows > 0) Kernel::multiply_rows(rows, K, a, row_size(K), panel, first, last, c, c_stride, next_panel);
    }

    // See product.hpp: strip s, rows 32·s to 32·s + 31, is at s·panel_size(K); in it, one line of a chunk after another.
    static constexpr Index left_size(Index rows, Index K) { return (rows + kStrip - 1) / kStrip * panel_size(K); }
    static void pack_left(Factor* to, Index row, Rows<const float> m, Index count, Index K) {
        pack(to + row / kStrip * panel_size(K), true, m, true, row, count, 0, K);
    }
    static Factor* left_line(Factor* left, Index row, Index chunk, Index K) {
        return left + row / kStrip * panel_size(K) + chunk * kStep + row % kStrip * kChunk;
    }

    // Write the columns from `column` of a row of packed rows; and set the rest of its last chunk and strip to zero.
    static void put_left(Factor* left, Index row, Index column, Index K, Vector<float> x, Index count) {
        const Index within = column % kChunk, first = kChunk - within;
        Factor *to = left_line(left, row, column / kChunk, K) + within, *next = to - within + kStep;
        for (int part = 0; part < kParts; ++part, to += 2 * kTileSize, next += 2 * kTileSize) {
            const Vector<float> given = part ? part_of<1>(x) : x;
            if (count <= first || first >= kLanes<float>) {
                put_pairs(to, given, count);
            } else {  // the columns lie in two chunks
                const Pairs rounded = narrow(given, given);
                const Index all = count < kLanes<float> ? count : kLanes<float>;
                for (Index k = 0; k < all; ++k) (k < first ? to[k] : next[k - first]) = ((Factors)rounded)[k];
            }
        }
    }
    static void clear_rest(Factor* left, Index rows, Index K, Member me) {
        const Index strips = (rows + kStrip - 1) / kStrip, size = panel_size(K);
        for (Index strip = me.first(strips); strip < me.last(strips); ++strip) {
            Factor* to = left + strip * size;
            const Index from = (strip + 1) * kStrip > rows ? 0 : size - kStep;
            if (size > 0) __builtin_memset(to + from, 0, static_cast<std::size_t>(size - from) * sizeof(Factor));
        }
    }

    // Pack the transpose of packed rows: their `columns` columns become rows.
    static void transpose_left(Factor* to, const Factor* left, Index rows, Index columns, Member me) {
        const Index strips = (columns + kStrip - 1) / kStrip;
        for (Index strip = me.first(strips); strip < me.last(strips); ++strip) {
            transpose_packed(to + strip * panel_size(rows), left, panel_size(columns), strip, 0, rows);
        }
    }

    // Write and read a line of a chunk: its terms, in two vectors.
    static void put_line(Factor* to, Vector<float> low, Vector<float> high) {
        const Pairs hi = narrow(low, high);
        __builtin_memcpy(to, &hi, sizeof hi);
        if (kParts == 1) return;
        const Pairs lo = narrow(part_of<1>(low), part_of<1>(high));
        __builtin_memcpy(to + 2 * kTileSize, &lo, sizeof lo);
    }
    static void read_line(const Factor* from, Vector<float>& low, Vector<float>& high) {
        low = high = Vector<float>{};
        for (int part = 0; part < kParts; ++part, from += 2 * kTileSize) {
            low += widen(from), high += widen(from + kLanes<float>);
        }
    }

    // Multiply the strips from `first` up to `last` of packed rows with one panel, K terms; pass the 32 × 32 sums of each
    // to finish(strip, sums). `sums` holds those of all strips. Of the last strip only the rows up to `rows` are written.
    template <class F>
    static void multiply_strips(const Factor* left, Index first, Index last, Index rows, const Factor* panel, Index K,
                                float* sums, F finish) {
        const Blocks pieces(K, Kernel::kChunksAtOnce * kChunk, kChunk);
        for (Index piece = 0; piece < pieces.count; ++piece) {
            const Index from = panel_size(pieces.first(piece));
            for (Index strip = first; strip < last; ++strip) {
                float* block = sums + (strip - first) * kStrip * kWidth;
                const Index count = rows - strip * kStrip < kStrip ? rows - strip * kStrip : kStrip;
                const Product<float> part{count, kWidth, K, {}, true, {}, true, {block, kWidth, nullptr}};
                Kernel::multiply_block(part, 0, 0, piece > 0, pieces.of(piece), left + strip * panel_size(K) + from,
                                       panel + from);
                if (piece + 1 == pieces.count) finish(strip, block);
            }
        }
    }

    // See product.hpp.
    static void multiply(const Product<float>& p, Member me, const Factor* left = nullptr) {
        [[maybe_unused]] Session session;
        const Index panels = (p.N + kWidth - 1) / kWidth;
        const bool wide = p.M > 0 && p.M <= kFewRows && panels >= kManyPanels && p.b_terms_together && !left;
        wide ? multiply_wide<OnPairs>(p, me) : multiply_tall<OnPairs>(p, left, me);
    }

    // What multiply_wide and multiply_tall need, see product.hpp: of A, at most 1 MB in the L2 cache.
    static constexpr Index kRows = kStrip, kColumns = kWidth, kUnit = kChunk, kTermsAtOnce = kChunk,
                           kTermsInL1 = Kernel::kChunksAtOnce * kChunk, kTermsInBlock = Kernel::kChunksHeld * kChunk,
                           kGroupsHeld = 12 / kParts, kPanelsTogether = 1;
    static constexpr Index group_size(bool /*left*/, Index K) { return panel_size(K); }
    static Index terms_held(Index K, Index groups) {
        constexpr Index kFactorsHeld = 1 << 19;
        return Blocks(K, kFactorsHeld / (groups * kStep) * kChunk, kChunk).terms;
    }
    static void pack_transposed(Factor* to, const Factor* left, Index rows, Index group, Index count, Index k0,
                                Index K) {
        for (Index k = 0; k < count; ++k) {
            transpose_packed(to + k * panel_size(K), left, panel_size(rows), group + k, k0, K);
        }
    }
    template <class A>
    static void multiply_block(const Product<float>& p, Index m, Index n, bool accumulate, Index K, const Factor* a,
                               const Factor* b, const A& /*ahead*/) {
        Kernel::multiply_block(p, m, n, accumulate, K, a, b);
    }

  private:
    static constexpr Index kManyPanels = 32;  // of a product whose columns are divided over the members
    static constexpr Index kAhead = 128;      // prefetch distance of packing, in elements of a row

    // Pack one tile of each part; lines and terms that do not exist are zero.
    __attribute__((noinline)) static void pack_tile(Factor* to, bool by_line, Rows<const float> m, bool terms_together,
                                                    Index first, Index count, Index k0, Index K) {
        Vector<float> found[kParts][16];  // 16 pairs each
        for (Index j = 0; j < 16; ++j) {
            Vector<float> x{}, y{};
            if (terms_together) {  // j is a line
                if (j < count) {
                    const float* terms = m[first + j] + k0;
                    if (K > kAhead) __builtin_prefetch(terms + kAhead), __builtin_prefetch(terms + kAhead + 16);
                    x = load(terms, K), y = load(terms + kLanes<float>, K - kLanes<float>);
                }
                found[0][j] = (Vector<float>)narrow(part_of<0>(x), part_of<0>(y));
                if (kParts == 2) found[kParts - 1][j] = (Vector<float>)narrow(part_of<1>(x), part_of<1>(y));
            } else {  // j is a pair of terms
                if (2 * j < K) x = load(m[k0 + 2 * j] + first, count);
                if (2 * j + 1 < K) y = load(m[k0 + 2 * j + 1] + first, count);
                found[0][j] = (Vector<float>)interleave(part_of<0>(x), part_of<0>(y));
                if (kParts == 2) found[kParts - 1][j] = (Vector<float>)interleave(part_of<1>(x), part_of<1>(y));
            }
        }
        for (int part = 0; part < kParts; ++part) {
            if (terms_together != by_line) transpose_square<float>(found[part]);
            __builtin_memcpy(to + part * 2 * kTileSize, found[part], sizeof found[part]);
        }
    }

    // Pack the transpose of a matrix whose strips are packed by line, `size` apart: the columns 32·group to 32·group +
    // 31 become lines, whose terms are the K rows from k0. k0 is a multiple of 32.
    static void transpose_packed(Factor* to, const Factor* strips, Index size, Index group, Index k0, Index K) {
        static_assert(kStrip == kChunk);
        for (Index k = 0; k < K; k += kChunk) {
            const Factor* square = strips + (k0 + k) / kStrip * size + group * kStep;  // 32 × 32, for each part
            for (Index part = 0; part < kParts; ++part, square += 2 * kTileSize) {
                for (Index half = 0; half < 2; ++half, to += kTileSize) {  // of the columns
                    Vector<float> found[kTileHeight];                      // 16 pairs each
                    for (Index j = 0; j < kTileHeight; ++j) {
                        const Factor* pair = square + 2 * j * kChunk;
                        found[j] = (Vector<float>)interleaved<Factor>(load(pair), load(pair + kChunk), half > 0);
                    }
                    transpose_square<float>(found);
                    __builtin_memcpy(to, found, sizeof found);
                }
            }
        }
    }
};

}  // namespace gatewise::GATEWISE_TARGET
