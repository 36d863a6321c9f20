// Products on AMX tiles: the policies whose operands are bfloat16, one per number (OnTiles<1>, Numbers::bfloat16) or
// two (OnTiles<2>, Numbers::high: x = hi + lo, and a product is hi·hi + hi·lo + lo·hi; lo·lo is negligible).
//
// A tile is 16 rows of 64 bytes. One instruction adds to 16 × 16 float sums the products of 16 rows of A and 16 columns
// of B over 32 terms. The terms of a row of A are contiguous; a row of a tile of B holds two terms of each column (a
// pair). So a chunk of 32 terms of a panel (32 columns) is two tiles of 16 columns; with two parts, two tiles of hi and
// then two of lo. Terms are padded with zeros to whole chunks. Denormal operands and sums are flushed to zero; NaN
// propagates; in `high` an operand that rounds to infinity (from 3.39e38) may become NaN.
//
// Eight tiles: 0 to 3 hold the sums of two tiles of A times two of B, 4 and 5 are for A, 6 and 7 for B. Sums stay in
// them over a block of terms (in multiply_rows, over all terms); blocks are added in order. Only `multiply` uses
// scratch.
#pragma once

#include "product.hpp"
#include "tile_registers.hpp"

namespace gatewise::GATEWISE_TARGET {

// Tiles are per thread, and other libraries use them too (oneDNN does): products on tiles are computed within the
// lifetime of a TileUse, whose destructor releases the tiles. TileUse may be nested.
static thread_local int tile_rows;  // the configured height of the tiles of A and of the sums; 0: unknown

struct TileUse {
    TileUse() { tile_rows = 0; }
    ~TileUse() {
        release_tiles();
        tile_rows = 0;
    }
    TileUse(const TileUse&) = delete;
    TileUse& operator=(const TileUse&) = delete;
};

// Configuring them costs about 40 ns, too much for each product of a time step.
inline void need_rows(int height) {
    if (tile_rows == height) return;
    set_tiles(height);
    tile_rows = height;
}

// 32 operands, or 16 pairs of them.
typedef uint32_t Pairs __attribute__((vector_size(64)));
typedef uint16_t Factors __attribute__((vector_size(64)));

// Two vectors rounded to bfloat16, concatenated.
inline Pairs narrow(Vector<float> low, Vector<float> high) {
#ifdef GATEWISE_EMULATE
    Pairs bits[2];
    Vector<float> rounded[2] = {to_bfloat16(low), to_bfloat16(high)};
    __builtin_memcpy(bits, rounded, sizeof bits);
    Factors all{};
    for (Index k = 0; k < kChunk; ++k) all[k] = static_cast<uint16_t>(bits[k / 16][k % 16] >> 16);
    return (Pairs)all;
#else
    return (Pairs)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
#endif
}

// Pair k holds element k of both vectors.
inline Pairs interleave(Vector<float> even, Vector<float> odd) {
    const Factors all = (Factors)narrow(even, odd);
#ifdef __clang__
    return (Pairs)__builtin_shufflevector(all, all, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9,
                                          25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#else
    return (Pairs)__builtin_shuffle(all, Factors{0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31});
#endif
}

// The part of x to be rounded to bfloat16: 0 is hi, x itself; 1 is lo, the rounding error of hi.
template <int Part>
inline Vector<float> part_of(Vector<float> x) {
    if (Part == 0) return x;
    Vector<float> rest = x - to_bfloat16(x);
    return rest - rest == Vector<float>{} ? rest : Vector<float>{};  // zero if hi is not finite
}

template <int Parts>
struct OnTiles {
    using Real = float;
    using Factor = uint16_t;
    using Session = TileUse;
    static constexpr Index kWidth = kTileColumns<float>;
    static constexpr Index kStep = Parts * 2 * kTileSize;  // elements of a chunk of a panel
    static constexpr Index kStrip = 2 * kTileHeight;       // rows multiplied with a panel at once
    static_assert(kWidth == 2 * kTileHeight && kStrip == kLeftRows && (Parts == 1 || Parts == 2));

    static constexpr Index chunks(Index K) { return (K + kChunk - 1) / kChunk; }
    static constexpr Index panel_size(Index K) { return chunks(K) * kStep; }
    // The hi parts of a row, then its lo parts; an odd number of chunks each, to spread rows over all sets of the
    // cache.
    static constexpr Index row_size(Index K) { return (chunks(K) | 1) * kChunk * Parts; }

    static void put(Factor* to, Index row, Vector<float> x, Index count) {
        put_part(to, part_of<0>(x), count);
        if (Parts == 2) put_part(to + row / 2, part_of<1>(x), count);
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

    // See product.hpp. Rows are divided evenly over tiles of equal height; the last one may overlap the one before.
    static void multiply_rows(Index rows, Index K, const Factor* a, const Factor* panel, float* c, Index c_stride) {
        if (rows <= 0) return;
        const Index row = row_size(K), tiles = (rows + kTileHeight - 1) / kTileHeight,
                    height = (rows + tiles - 1) / tiles;
        need_rows(static_cast<int>(height));
        for (Index tile = 0; tile < tiles; tile += 2) {
            auto start = [&](Index t) { return t * height < rows - height ? t * height : rows - height; };
            const Factor *a0 = a + start(tile) * row, *a1 = a + start(tile + 1) * row;
            float *c0 = c + start(tile) * c_stride, *c1 = c + start(tile + 1) * c_stride;
            zero_tile<0>(), zero_tile<1>();
            if (tile + 1 < tiles) {
                zero_tile<2>(), zero_tile<3>();
                add_chunks<true>(chunks(K), a0, a1, row, kChunk, row / 2, panel);
                store_tile<2>(c1, bytes(c_stride)), store_tile<3>(c1 + 16, bytes(c_stride));
            } else {
                add_chunks<false>(chunks(K), a0, a1, row, kChunk, row / 2, panel);
            }
            store_tile<0>(c0, bytes(c_stride)), store_tile<1>(c0 + 16, bytes(c_stride));
        }
    }

    // See product.hpp: strip s, rows 32·s to 32·s + 31, is at s·panel_size(K).
    static constexpr Index left_size(Index rows, Index K) { return (rows + kStrip - 1) / kStrip * panel_size(K); }
    static void pack_left(Factor* to, Index row, Rows<const float> m, Index count, Index K) {
        pack(to + row / kStrip * panel_size(K), true, m, true, row, count, 0, K);
    }

    // See product.hpp.
    static void multiply(const Product<float>& p, Member me, const Factor* left = nullptr) {
        TileUse use;
        need_rows(kTileHeight);
        const Index strips = (p.M + kStrip - 1) / kStrip, panels = (p.N + kWidth - 1) / kWidth;
        const bool wide = p.M > 0 && p.M <= kFewRows && panels >= kManyPanels && p.b_terms_together && !left;
        wide ? multiply_wide(p, strips, panels, me) : multiply_tall(p, left, me);
    }

    // See Target::spin_tiles.
    static double spin(Index repeats) {
        constexpr Index kSpun = 8 / Parts;  // chunks
        alignas(64) Factor a[kSpun * kStep], b[kSpun * kStep];
        alignas(64) float c[kTileHeight][kTileHeight];
        for (Index k = 0; k < kSpun * kStep; k += kLanes<float>) {
            put_part(a + k, some_numbers(k), kLanes<float>), put_part(b + k, some_numbers(~k), kLanes<float>);
        }
        TileUse use;
        need_rows(kTileHeight);
        zero_tile<0>(), zero_tile<1>(), zero_tile<2>(), zero_tile<3>();
        for (Index repeat = 0; repeat < repeats; ++repeat) {
            __asm__ volatile("" : : "r"(a), "r"(b) : "memory");  // keeps the compiler from merging the repeats
            add_chunks<true>(kSpun, a, a + kTileSize, kChunk, kStep, 2 * kTileSize, b);
        }
        store_tile<0>(c, 64);
        __asm__ volatile("" : : "r"(c) : "memory");
        return 2.0 * kStrip * kWidth * kChunk * kSpun * static_cast<double>(repeats);
    }

  private:
    static constexpr Index kFewRows = 768, kManyPanels = 32;  // of a product whose columns are divided over the members
    static constexpr Index kAhead = 128;                      // prefetch distance of packing, in elements of a row

    // Pack groups of 32 lines, from `group` up to `end`, out of the `lines` lines that start at line `first`. `to`: the
    // address of group 0; the groups are `size` apart. If the terms of a line are apart, memory is read in its order.
    static void pack_groups(Factor* to, Index size, bool by_line, Rows<const float> m, bool terms_together, Index first,
                            Index lines, Index group, Index end, Index k0, Index K) {
        if (terms_together) {
            for (; group < end; ++group) {
                pack(to + group * size, by_line, m, true, first + group * kWidth, lines - group * kWidth, k0, K);
            }
            return;
        }
        for (Index k = 0; k < K; k += kChunk) {
            const Index some = K - k < kChunk ? K - k : kChunk;
            for (Index g = group; g < end; ++g) {
                pack(to + g * size + k / kChunk * kStep, by_line, m, false, first + g * kWidth, lines - g * kWidth,
                     k0 + k, some);
            }
        }
    }

    // C with few rows: for each block of terms, all members together pack all of A, at most 1 MB, which stays in the L2
    // cache; the columns are divided over the members, which pack a panel of B when they need it. Within a block, some
    // chunks are multiplied at a time, so that a strip of A and the panel fit into the L1 cache.
    static void multiply_wide(const Product<float>& p, Index strips, Index panels, Member me) {
        constexpr Index kFactorsHeld = 1 << 19, kChunksHeld = 16 / Parts;
        const Blocks blocks(p.K, kFactorsHeld / (strips * kStep) * kChunk, kChunk);
        const Mark before = me.mark();
        Factor* a = me.shared<Factor>(strips * panel_size(blocks.terms));
        Factor* b = me.own<Factor>(panel_size(blocks.terms));
        for (Index block = 0; block < blocks.count; ++block) {
            const Index k0 = blocks.first(block), K = blocks.of(block), size = panel_size(K);
            pack_groups(a, size, true, p.A, p.a_terms_together, 0, p.M, me.first(strips), me.last(strips), k0, K);
            me.barrier();
            const Blocks pieces(K, kChunksHeld * kChunk, kChunk);
            for (Index n = me.first(panels) * kWidth; n < me.last(panels) * kWidth; n += kWidth) {
                pack(b, false, p.B, p.b_terms_together, n, p.N - n, k0, K);
                for (Index piece = 0; piece < pieces.count; ++piece) {
                    const Index from = panel_size(pieces.first(piece)), some = chunks(pieces.of(piece));
                    for (Index strip = 0; strip < strips; ++strip) {
                        multiply_block(p, strip * kStrip, n, block > 0 || piece > 0 || p.accumulate, some,
                                       a + strip * size + from, b + from);
                    }
                }
            }
            me.barrier();  // before the packed A is overwritten
        }
        me.release(before);
    }

    // C with many rows: for each block of terms, all members together pack up to kColumnsHeld columns of B, and all
    // read them (at most 12 MB; 24 with two parts). The rows of C are divided over the members (or, if there are few,
    // the columns: then each member packs all of A). A member packs its rows of A, unless A comes packed, in pieces of
    // 1 MB that stay in the L2 cache. The sums of a block are added to C.
    static void multiply_tall(const Product<float>& p, const Factor* left, Member me) {
        constexpr Index kStrips = 12 / Parts, kChunksHeld = 48, kColumnsHeld = 4096;
        const Blocks blocks(p.K, kChunksHeld * kChunk, kChunk);
        const bool by_rows = p.M >= 4 * kStrip * me.size;
        const Member all{me.team, 0, 1}, of_rows = by_rows ? me : all, of_columns = by_rows ? all : me;
        const Index strips = (p.M + kStrip - 1) / kStrip, first_strip = of_rows.first(strips),
                    last_strip = of_rows.last(strips);
        const Index held = p.N < kColumnsHeld ? (p.N + kWidth - 1) / kWidth : kColumnsHeld / kWidth;
        const Mark before = me.mark();
        Factor* b = me.shared<Factor>(held * panel_size(blocks.terms));
        Factor* own = left && p.a_terms_together ? nullptr : me.own<Factor>(kStrips * panel_size(blocks.terms));
        for (Index n0 = 0; n0 < p.N; n0 += kColumnsHeld) {
            const Index columns = p.N - n0 < kColumnsHeld ? p.N - n0 : kColumnsHeld,
                        panels = (columns + kWidth - 1) / kWidth;
            for (Index block = 0; block < blocks.count; ++block) {
                const Index k0 = blocks.first(block), K = blocks.of(block), size = panel_size(K);
                if (p.b_terms_together) {
                    pack_groups(b, size, false, p.B, true, n0, p.N - n0, me.first(panels), me.last(panels), k0, K);
                } else {
                    const Index from = me.first(chunks(K)) * kChunk, end = me.last(chunks(K)) * kChunk;
                    pack_groups(b + panel_size(from), size, false, p.B, false, n0, p.N - n0, 0, panels, k0 + from,
                                (end < K ? end : K) - from);
                }
                me.barrier();
                for (Index piece = first_strip; piece < last_strip; piece += kStrips) {
                    const Index end = last_strip < piece + kStrips ? last_strip : piece + kStrips;
                    for (Index strip = piece; own && strip < end; ++strip) {
                        Factor* to = own + (strip - piece) * size;
                        if (left) {
                            transpose_packed(to, left, panel_size(p.M), strip, k0, K);
                        } else {
                            pack(to, true, p.A, p.a_terms_together, strip * kStrip, p.M - strip * kStrip, k0, K);
                        }
                    }
                    const Factor* a = own ? own : left + piece * panel_size(p.K) + panel_size(k0);
                    const Index a_size = own ? size : panel_size(p.K);
                    for (Index panel = of_columns.first(panels); panel < of_columns.last(panels); ++panel) {
                        for (Index strip = piece; strip < end; ++strip) {
                            multiply_block(p, strip * kStrip, n0 + panel * kWidth, block > 0 || p.accumulate, chunks(K),
                                           a + (strip - piece) * a_size, b + panel * size);
                        }
                    }
                }
                me.barrier();  // before the packed B is overwritten
            }
        }
        me.release(before);
    }

    static constexpr Index bytes(Index floats) { return floats * static_cast<Index>(sizeof(float)); }

    static void put_part(Factor* to, Vector<float> x, Index count) {
        const Pairs rounded = narrow(x, x);
        if (__builtin_expect(count >= kLanes<float>, 1)) {
            __builtin_memcpy(to, &rounded, sizeof(Factor) * kLanes<float>);
        } else {
            for (Index k = 0; k < count; ++k) to[k] = ((Factors)rounded)[k];
        }
    }

    // Pack one tile of each part; lines and terms that do not exist are zero.
    __attribute__((noinline)) static void pack_tile(Factor* to, bool by_line, Rows<const float> m, bool terms_together,
                                                    Index first, Index count, Index k0, Index K) {
        Vector<float> found[Parts][16];  // 16 pairs each
        for (Index j = 0; j < 16; ++j) {
            Vector<float> x{}, y{};
            if (terms_together) {  // j is a line
                if (j < count) {
                    const float* terms = m[first + j] + k0;
                    if (K > kAhead) __builtin_prefetch(terms + kAhead), __builtin_prefetch(terms + kAhead + 16);
                    x = load(terms, K), y = load(terms + kLanes<float>, K - kLanes<float>);
                }
                found[0][j] = (Vector<float>)narrow(part_of<0>(x), part_of<0>(y));
                if (Parts == 2) found[Parts - 1][j] = (Vector<float>)narrow(part_of<1>(x), part_of<1>(y));
            } else {  // j is a pair of terms
                if (2 * j < K) x = load(m[k0 + 2 * j] + first, count);
                if (2 * j + 1 < K) y = load(m[k0 + 2 * j + 1] + first, count);
                found[0][j] = (Vector<float>)interleave(part_of<0>(x), part_of<0>(y));
                if (Parts == 2) found[Parts - 1][j] = (Vector<float>)interleave(part_of<1>(x), part_of<1>(y));
            }
        }
        for (int part = 0; part < Parts; ++part) {
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
            for (Index part = 0; part < Parts; ++part, square += 2 * kTileSize) {
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

    // Add to the sums the products of one or two tiles of A with a panel, over `chunks` chunks. row, step, lo: the
    // distances in A between rows, between chunks, and from hi to lo.
    template <bool Two>
    static void add_chunks(Index chunks, const Factor* a0, const Factor* a1, Index row, Index step, Index lo,
                           const Factor* b) {
        const Index stride = row * static_cast<Index>(sizeof(Factor));
        for (; chunks > 0; --chunks, a0 += step, a1 += step, b += kStep) {
            load_tile<kA0>(a0, stride);
            if (Parts == 2) {  // hi·lo
                load_tile<kB0>(b + 2 * kTileSize, 64);
                add<Two, true>(a1, stride, b + 3 * kTileSize);
            }
            load_tile<kB0>(b, 64);  // hi·hi
            add<Two, Parts == 1>(a1, stride, b + kTileSize);
            if (Parts == 2) {  // lo·hi
                load_tile<kA0>(a0 + lo, stride);
                if (Two) load_tile<kA1>(a1 + lo, stride);
                multiply_tiles<0, kA0, kB0>(), multiply_tiles<1, kA0, kB1>();
                if (Two) multiply_tiles<2, kA1, kB0>(), multiply_tiles<3, kA1, kB1>();
            }
        }
    }

    // With the first tiles of A and B loaded: load the others and multiply.
    template <bool Two, bool LoadA>
    static void add(const Factor* a1, Index stride, const Factor* b1) {
        multiply_tiles<0, kA0, kB0>();
        load_tile<kB1>(b1, 64);
        multiply_tiles<1, kA0, kB1>();
        if (Two) {
            if (LoadA) load_tile<kA1>(a1, stride);
            multiply_tiles<2, kA1, kB0>(), multiply_tiles<3, kA1, kB1>();
        }
    }

    // A strip times a panel: the 32 × 32 block of C at (m, n), or the part of it that exists. If part is missing, if
    // the rows of C are not evenly spaced, or if the result is added to C, it goes through `sums`; C is read last.
    static void multiply_block(const Product<float>& p, Index m, Index n, bool accumulate, Index chunks,
                               const Factor* a, const Factor* b) {
        alignas(64) float sums[kStrip][kWidth], bias[kWidth];
        const Index rows = p.M - m < kStrip ? p.M - m : kStrip, columns = p.N - n;
        for (Index r = 0; r < rows; ++r) fetch_row(p.C[m + r] + n);
        float* c = p.C[m] + n;
        Index stride = rows > 1 ? p.C[m + 1] - p.C[m] : kWidth;
        bool direct = !accumulate && rows == kStrip && columns >= kWidth;
        for (Index r = 2; direct && p.C.at && r < rows; ++r) direct = p.C[m + r] - p.C[m] == r * stride;
        if (!direct) c = sums[0], stride = kWidth;
        const bool two = rows > kTileHeight;
        if (!accumulate && p.bias) {
            store(bias, load(p.bias + n, columns)), store(bias + 16, load(p.bias + n + 16, columns - 16));
            load_tile<0>(bias, 0), load_tile<1>(bias + 16, 0);  // stride 0: all rows of the tile are equal
            load_tile<2>(bias, 0), load_tile<3>(bias + 16, 0);
        } else {
            zero_tile<0>(), zero_tile<1>(), zero_tile<2>(), zero_tile<3>();
        }
        if (two) {
            add_chunks<true>(chunks, a, a + kTileSize, kChunk, kStep, 2 * kTileSize, b);
        } else {
            add_chunks<false>(chunks, a, a, kChunk, kStep, 2 * kTileSize, b);
        }
        float* second = c + kTileHeight * stride;
        store_tile<0>(c, bytes(stride)), store_tile<1>(c + 16, bytes(stride));
        if (two) store_tile<2>(second, bytes(stride)), store_tile<3>(second + 16, bytes(stride));
        for (Index r = 0; !direct && r < rows; ++r) {
            float* row = p.C[m + r] + n;
            Vector<float> s0 = load(sums[r]), s1 = load(sums[r] + 16);
            if (accumulate) s0 = load(row, columns) + s0, s1 = load(row + 16, columns - 16) + s1;
            store(row, s0, columns), store(row + 16, s1, columns - 16);
        }
    }
};

}  // namespace gatewise::GATEWISE_TARGET
