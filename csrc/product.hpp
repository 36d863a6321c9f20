// Matrix products: the tile kernel, the packing of its operands, the product of few rows, and the large product.
//
// The algorithm and the blocks of terms depend only on the product (its shape, the layout of its operands, whether the
// left one comes packed). One member computes each element of C: it sums the terms of a block and adds block after
// block. So results do not depend on the number of threads. Scratch: the packed operands.
#pragma once

#include <type_traits>

#include "matrix.hpp"
#include "team.hpp"
#include "vector.hpp"

namespace gatewise::GATEWISE_TARGET {

// A tile of the result is up to kTileRows × two vectors: as many sums as fit into registers with their operands.
// kTermsUnrolled: the unroll factor of the tile loop over terms; the loop must fit into the processor's instruction caches.
#if GATEWISE_VECTOR_BYTES == 64
constexpr int kTileRows = 12, kTermsUnrolled = 48 / kTileRows;
#elif defined(__aarch64__)  // 32 registers; with 12 rows, or with more terms, GCC 12 or Clang 14 spill sums
constexpr int kTileRows = 8, kTermsUnrolled = 2;
#else
constexpr int kTileRows = 6, kTermsUnrolled = 48 / kTileRows;
#endif
template <class T>
constexpr Index kTileColumns = 2 * kLanes<T>;

// Pseudorandom numbers from −1 to 1, for measurements: a processor multiplies zeros faster.
inline Vector<float> some_numbers(Index seed) {
    Vector<float> found{};
    uint32_t state = static_cast<uint32_t>(seed) * 2654435761u + 1;
    for (Index k = 0; k < kLanes<float>; ++k) {
        state = state * 1664525u + 1013904223u;
        found[k] = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
    }
    return found;
}

// The number of elements in a cache line.
template <class Real>
constexpr Index kLine = 64 / sizeof(Real);

// Prefetch a row of a tile to the L2 cache; not to the L1, because rows that are 4096 bytes apart share one set of it. One
// cache line more than a row fills, because it may start within a line.
template <class Real>
inline void fetch_row(const Real* c) {
    for (Index k = 0; k < kTileColumns<Real>; k += kLine<Real>) __builtin_prefetch(c + k, 0, 2);
    __builtin_prefetch(c + kTileColumns<Real> - 1, 0, 2);
}

// Compute Σₖ a[r·row + k·step] b[k] for R rows and the first N vectors of b, which holds kTileColumns contiguous elements
// for each k, and pass the sums to finish(r, n, sums). `ahead()`, called once per kTermsUnrolled terms, prefetches data of
// later tiles, a little at a time to not delay the loads of this one. Always inlined: if row and step are constants,
// the loop computes no addresses (1.15 to 1.25 times as fast with vectors of 64 bytes).
template <int R, int N, class T, class A, class F>
GATEWISE_INLINE void multiply_tile(Index K, const T* a, Index row, Index step, const T* b, A&& ahead, F finish) {
    Vector<T> s[R][N];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        for (int n = 0; n < N; ++n) s[r][n] = Vector<T>{};
    }
    const auto term = [&]() __attribute__((always_inline)) {
        Vector<T> columns[N];
        for (int n = 0; n < N; ++n) columns[n] = load(b + n * kLanes<T>);
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            T x = a[r * row];
            for (int n = 0; n < N; ++n) s[r][n] += x * columns[n];
        }
        a += step;
        b += kTileColumns<T>;
    };
    Index k = 0;
    for (; k + kTermsUnrolled <= K; k += kTermsUnrolled) {
        ahead();
#pragma GCC unroll 8
        for (Index u = 0; u < kTermsUnrolled; ++u) term();
    }
    for (; k < K; ++k) term();
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        for (int n = 0; n < N; ++n) finish(r, n, s[r][n]);
    }
}

// Call f with the number of rows, 1 to kTileRows, as a constant.
template <int R = kTileRows, class F>
inline void with_rows(Index rows, F f) {
    if (rows == R) return f(std::integral_constant<int, R>{});
    if constexpr (R > 1) with_rows<R - 1>(rows, f);
}

// The maximum length of a block of terms. A block of a panel is 24 KB (48 KB with vectors of 64 bytes), in the L1
// cache.
constexpr Index kTermsHeld = 384;

// K terms in blocks of at most `most`, a multiple of `unit`, as equal as possible: each but the last has `terms` terms,
// also a multiple of `unit`. If K is 0, there is one empty block.
struct Blocks {
    Index K, count, terms;
    explicit Blocks(Index K, Index most = kTermsHeld, Index unit = 1)
        : K(K), count(K > most ? (K + most - 1) / most : 1), terms((K + count * unit - 1) / (count * unit) * unit) {}
    Index first(Index block) const { return block * terms; }
    Index of(Index block) const { return K - first(block) < terms ? K - first(block) : terms; }
};

// Call f with the number of rows, and of the vectors that `columns` columns fill, as constants.
template <class T, class F>
inline void with_tile(Index rows, Index columns, F f) {
    with_rows(rows, [&](auto R) {
        if (columns <= kLanes<T>) return f(R, std::integral_constant<int, 1>{});
        f(R, std::integral_constant<int, 2>{});
    });
}

// Compute the tile of C at row m and column n from its packed operands. rows: how many of its rows exist; the others
// are discarded. first: this is the first block of terms, C is not yet written. ahead: see multiply_tile.
template <class Real, class A>
inline void multiply_packed(const Product<Real>& p, Index K, const Real* a, const Real* b, Index m, Index rows, Index n,
                            bool first, A& ahead) {
    constexpr Index N = kLanes<Real>, MR = kTileRows;
    if (rows > MR) rows = MR;
    for (Index r = 0; r < rows; ++r) fetch_row(p.C[m + r] + n);
    const auto finish = [&](Index r, Index k, Vector<Real> sums) {
        if (r >= rows) return;
        const Index at = n + k * N;
        Real* c = p.C[m + r] + at;
        const Real* add = !first || p.accumulate ? c : p.bias ? p.bias + at : nullptr;
        store(c, add ? sums + load(add, p.N - at) : sums, p.N - at);
    };
    if (p.N - n <= N) return multiply_tile<MR, 1, Real>(K, a, 1, MR, b, ahead, finish);
    multiply_tile<MR, 2, Real>(K, a, 1, MR, b, ahead, finish);
}

// Prefetches the source of the next panel, one cache line per call: `lines` lines of each of `rows` rows of m.
template <class Real>
struct LinesAhead {
    Rows<const Real> m;
    Index first_row, rows, first, lines;
    Index row = 0, line = 0;  // the next one

    void operator()() {
        if (row == rows) return;
        __builtin_prefetch(m[first_row + row] + first + line * kLine<Real>, 0, 2);
        if (++line == lines) line = 0, ++row;
    }
};

// How members divide a result of some rows and columns (of blocks): in a grid whose largest part is smallest, but in rows
// alone, or else in columns alone, unless that part is a tenth larger: members whose parts share rows pack them each.
struct Grid {
    Member of_rows, of_columns;

    Grid(Index rows, Index columns, bool by_rows, Member me) {
        const auto largest = [&](int parts) {  // of rows
            return ((rows + parts - 1) / parts) * ((columns + me.size / parts - 1) / (me.size / parts));
        };
        int parts = by_rows ? me.size : 1;
        Index best = largest(parts) * 10 / 11;
        for (int found = 1; found <= me.size; ++found) {
            if (me.size % found == 0 && largest(found) < best) best = largest(found), parts = found;
        }
        of_rows = {me.team, me.index / (me.size / parts), parts};
        of_columns = {me.team, me.index % (me.size / parts), me.size / parts};
    }
};

// A matrix that is the left operand of two products is packed once for both, in strips of kLeftRows rows.
constexpr Index kLeftRows = 32;

struct NoSession {};

// A policy: how numbers enter a product. This one uses vectors; pairs.hpp has another with the same members. Real: the
// type of inputs and sums. Factor: the type of packed operands. Call multiply_rows during the lifetime of a Session.
template <class T, bool Rounded>
struct OnVectors {
    using Real = T;
    using Factor = T;
    using Session = NoSession;
    static constexpr bool kInPairs = false;  // see OnPairs, in pairs.hpp
    // The most rows of a product whose algorithm, and therefore rounding, may differ from that of more rows.
    static constexpr Index kFewRows = 1024;

    // Write the first `count` elements of x as operands to `to`, in a row of `row` elements.
    static void put(T* to, Index /*row*/, Vector<T> x, Index count) {
        if constexpr (Rounded) x = to_bfloat16(x);
        store(to, x, count);
    }

    // Pack a panel of kTileColumns columns of B; see pack.
    static void pack_panel(T* packed, Rows<const T> m, bool terms_together, Index first, Index count, Index K) {
        pack<kTileColumns<T>>(packed, m, terms_together, first, count, 0, K);
    }

    // The number of elements in a packed panel of K terms, and in a row of K terms that multiply_rows reads.
    static constexpr Index panel_size(Index K) { return K * kTileColumns<T>; }
    static constexpr Index row_size(Index K) { return K; }

    // c[r·c_stride + j] = Σₖ a[r·row_size + k] b[k, j] for `rows` rows and one packed panel of kTileColumns columns:
    // the product of a time step, few rows and many terms. c has room for the whole panel (c_stride is at least
    // kTileColumns) and must not overlap a or b; the stride of the rows of a is row_size, and their elements past K
    // must be zero (tiles read them, `put` does not write them). first, last: which of the panel's columns count, from
    // one vector up to another; the others may be left out. next_panel, if not null: the panel of the next call, to
    // prefetch. Uses no scratch and no barrier.
    static void multiply_rows(Index rows, Index K, const T* a, const T* panel, Index first, Index last, T* c,
                              Index c_stride, const T* next_panel) {
        constexpr Index NR = kTileColumns<T>;
        const Index a_stride = row_size(K), tiles = (rows + kTileRows - 1) / kTileRows;
        const Blocks blocks(K);
        panel += first, c += first;
        for (Index block = 0; block < blocks.count; ++block) {
            const Index k0 = blocks.first(block), terms = blocks.of(block);
            const T* following = block + 1 < blocks.count && next_panel ? panel + (k0 + terms) * NR : next_panel;
            for (Index tile = 0; tile < tiles; ++tile) {
                const Index r0 = rows * tile / tiles, r1 = rows * (tile + 1) / tiles;
                // Each tile prefetches its share of what follows; two terms at a time if there are few tiles.
                const T* next = following + terms * tile / tiles * NR;
                const Index second = tiles < kTermsUnrolled ? NR : 0;
                const auto ahead = [&] {
                    if (!following) return;
                    for (Index j = 0; j < NR; j += kLine<T>) {
                        __builtin_prefetch(next + j, 0, 2);
                        __builtin_prefetch(next + second + j, 0, 2);
                    }
                    next += NR + second;
                };
                with_tile<T>(r1 - r0, last - first, [&](auto R, auto N) {
                    T* to = c + r0 * c_stride;
                    multiply_tile<R.value, N.value, T>(terms, a + r0 * a_stride + k0, a_stride, 1, panel + k0 * NR,
                                                       ahead, [&](Index r, Index n, Vector<T> sums) {
                                                           T* c = to + r * c_stride + n * kLanes<T>;
                                                           store(c, k0 > 0 ? load(c) + sums : sums);
                                                       });
                });
            }
        }
    }

    // left_size: the number of elements for `rows` rows of K columns, or 0 if the policy does not support this.
    // pack_left: pack `count` rows of m as the rows from `row`, a multiple of kLeftRows; `count` is kLeftRows, except
    // at the end. No barrier: the caller needs one before `multiply`.
    static constexpr Index left_size(Index /*rows*/, Index /*K*/) { return 0; }
    static void pack_left(T* /*to*/, Index /*row*/, Rows<const T> /*m*/, Index /*count*/, Index /*K*/) {}

    // C = A B (+ C, or + a bias), by all members; see Product. Starts and ends with a barrier, and releases its
    // scratch. left, if not null: the result of pack_left for A (M rows, K columns) if a_terms_together, else for its
    // transpose (K rows, M columns); it replaces A. With vectors it is ignored.
    static void multiply(const Product<T>& p, Member me, const T* /*left*/ = nullptr) {
        constexpr Index kManyPanels = 16;  // like kFewRows, must not depend on the number of members: sums would
        const bool wide = p.M > 0 && p.M <= kFewRows && p.N >= kManyPanels * kTileColumns<T>;
        wide ? multiply_wide(p, me) : multiply_tall(p, me);
    }

  private:
    // Pack K terms, starting at k0, of W columns (rows for A), starting at `first`; if `count` is less than W, the rest
    // are zeros: packed[k·W + j] = m[first + j][k0 + k] if terms_together, else m[k0 + k][first + j].
    template <Index W>
    static void pack(T* packed, Rows<const T> m, bool terms_together, Index first, Index count, Index k0, Index K) {
        constexpr Index N = kLanes<T>;
        // If W is less than a vector, a whole vector is written, and the next term overwrites the excess.
        const auto write = [&](Index k, Index j, Vector<T> x) {
            put(packed + k * W + j, 0, x, W < N && k + 1 < K ? N : W - j);
        };
        if (!terms_together) {
            for (Index k = 0; k < K; ++k) {
                const T* terms = m[k0 + k] + first;
                for (Index j = 0; j < W; j += N) write(k, j, load(terms + j, count - j));
            }
            return;
        }
        for (Index k = 0; k < K; k += N) {
            for (Index j = 0; j < W; j += N) {
                Vector<T> block[N];
                for (Index r = 0; r < N; ++r) {
                    block[r] = j + r < count && j + r < W ? load(m[first + j + r] + k0 + k, K - k) : Vector<T>{};
                }
                transpose_square<T>(block);
                for (Index r = 0; r < N && k + r < K; ++r) write(k + r, j, block[r]);
            }
        }
    }

    // C with few rows: all members together pack all of A (up to kTermsPacked terms), and all read it; the columns (in a
    // large team also the rows) are divided over the members, which pack a panel when they need it and prefetch the source of the next one meanwhile.
    static void multiply_wide(const Product<T>& p, Member me) {
        constexpr Index NR = kTileColumns<T>, MR = kTileRows;
        constexpr Index kTermsPacked = 4 * kTermsHeld;
        constexpr Index kPanelsTogether = 8;  // so that their part of C stays in the L2 cache
        const Index tiles = (p.M + MR - 1) / MR, panels = (p.N + NR - 1) / NR;
        const Mark before = me.mark();
        T* a = me.shared<T>(tiles * MR * (p.K < kTermsPacked ? p.K : kTermsPacked));
        T* b = me.own<T>(NR * kTermsHeld);
        const Grid grid(tiles, panels, false, me);
        const Index first_row = grid.of_rows.first(tiles) * MR, last_tile = grid.of_rows.last(tiles),
                    last_row = last_tile * MR < p.M ? last_tile * MR : p.M;
        const Index first_panel = grid.of_columns.first(panels), last_panel = grid.of_columns.last(panels);
        for (Index k0 = 0; k0 < p.K || k0 == 0; k0 += kTermsPacked) {
            const Index packed = p.K - k0 < kTermsPacked ? p.K - k0 : kTermsPacked;
            const Blocks blocks(packed);
            for (Index block = 0; block < blocks.count; ++block) {
                const Index from = blocks.first(block), K = blocks.of(block);
                for (Index m = me.first(tiles) * MR; m < me.last(tiles) * MR; m += MR) {
                    pack<MR>(a + tiles * MR * from + m * K, p.A, p.a_terms_together, m, p.M - m, k0 + from, K);
                }
            }
            me.barrier();
            for (Index group = first_panel; group < last_panel; group += kPanelsTogether) {
                const Index end = group + kPanelsTogether < last_panel ? group + kPanelsTogether : last_panel;
                for (Index block = 0; block < blocks.count; ++block) {
                    const Index from = blocks.first(block), K = blocks.of(block);
                    for (Index n = group * NR; n < end * NR; n += NR) {
                        pack<NR>(b, p.B, p.b_terms_together, n, p.N - n, k0 + from, K);
                        const Index left = p.N - n - NR, columns = left < 0 ? 0 : left < NR ? left : NR;
                        auto next =
                            p.b_terms_together
                                ? LinesAhead<T>{p.B, n + NR, columns, k0 + from, K / kLine<T> + 1}
                                : LinesAhead<T>{p.B, k0 + from, left > 0 ? K : 0, n + NR, (NR - 1) / kLine<T> + 1};
                        for (Index m = first_row; m < last_row; m += MR) {
                            multiply_packed(p, K, a + tiles * MR * from + m * K, b, m, p.M - m, n, k0 + from == 0,
                                            next);
                        }
                    }
                }
            }
            me.barrier();  // before the packed A is overwritten
        }
        me.release(before);
    }

    // C with many rows: for each block of terms, all members together pack up to kColumnsHeld columns of B, and all
    // read them; the rows (in a large team also the columns) are divided over the members, which pack their rows of A in pieces that stay in the L2 cache.
    static void multiply_tall(const Product<T>& p, Member me) {
        constexpr Index NR = kTileColumns<T>, MR = kTileRows;
        constexpr Index kRowsHeld = 192, kColumnsHeld = 4096;  // 288 KB of A, 6 MB of B
        const Blocks blocks(p.K);
        const Index tiles = (p.M + MR - 1) / MR;
        const Grid grid(tiles, ((p.N < kColumnsHeld ? p.N : kColumnsHeld) + NR - 1) / NR, true, me);
        const Index first_row = grid.of_rows.first(tiles) * MR, last_tile = grid.of_rows.last(tiles),
                    last_row = last_tile * MR < p.M ? last_tile * MR : p.M;
        const Mark before = me.mark();
        T* b = me.shared<T>((p.N < kColumnsHeld ? (p.N + NR - 1) / NR * NR : kColumnsHeld) * blocks.terms);
        T* a = me.own<T>(kRowsHeld * blocks.terms);
        for (Index n0 = 0; n0 < p.N; n0 += kColumnsHeld) {
            const Index columns = p.N - n0 < kColumnsHeld ? p.N - n0 : kColumnsHeld, panels = (columns + NR - 1) / NR;
            for (Index block = 0; block < blocks.count; ++block) {
                const Index k0 = blocks.first(block), K = blocks.of(block);
                for (Index n = me.first(panels) * NR; n < me.last(panels) * NR; n += NR) {
                    pack<NR>(b + n * K, p.B, p.b_terms_together, n0 + n, p.N - n0 - n, k0, K);
                }
                me.barrier();
                const Index first_column = grid.of_columns.first(panels) * NR,
                            last_panel = grid.of_columns.last(panels),
                            last_column = last_panel * NR < columns ? last_panel * NR : columns;
                for (Index m0 = first_row; first_column < last_column && m0 < last_row; m0 += kRowsHeld) {
                    const Index rows = last_row - m0 < kRowsHeld ? last_row - m0 : kRowsHeld;
                    const Index together =
                        p.a_terms_together ? K : 16;  // terms, so that all tiles read a line while it is cached
                    for (Index k = 0; k < K; k += together) {
                        const Index some = K - k < together ? K - k : together;
                        for (Index m = 0; m < rows; m += MR) {
                            pack<MR>(a + m * K + k * MR, p.A, p.a_terms_together, m0 + m, p.M - m0 - m, k0 + k, some);
                        }
                    }
                    for (Index n = first_column; n < last_column; n += NR) {
                        const T* next = b + (n + NR < last_column ? n + NR : first_column) * K;
                        const T* end = next + NR * K;
                        auto ahead = [&] {
                            if (next < end) __builtin_prefetch(next, 0, 2), next += kLine<T>;
                        };
                        for (Index m = 0; m < rows; m += MR) {
                            multiply_packed(p, K, a + m * K, b + n * K, m0 + m, rows - m, n0 + n, block == 0, ahead);
                        }
                    }
                }
                me.barrier();  // before the packed B is overwritten
            }
        }
        me.release(before);
    }
};

template <class T>
using Plain = OnVectors<T, false>;
using RoundedToBfloat16 = OnVectors<float, true>;

}  // namespace gatewise::GATEWISE_TARGET
