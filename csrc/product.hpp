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

// Write sums to C at (m, n), or the part of it that exists, plus what C holds (`accumulate`) or the bias.
template <class T>
GATEWISE_INLINE void write_sums(const Product<T>& p, Index m, Index n, bool accumulate, Vector<T> sums) {
    T* c = p.C[m] + n;
    const T* add = accumulate ? c : p.bias ? p.bias + n : nullptr;
    store(c, add ? sums + load(add, p.N - n) : sums, p.N - n);
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

// The products of some rows with a panel, block by block and tile by tile; see OnVectors::multiply_rows. A term of the panel
// takes Term elements. multiply(R, N, terms, a, panel, ahead, finish): see multiply_tile; it calls ahead() once per Unrolled
// terms. The tiles of a block together prefetch what follows it.
template <int Unrolled, Index Term, class T, class Factor, class F>
GATEWISE_INLINE void multiply_by_tiles(Index rows, const Blocks& blocks, const Factor* a, Index a_stride,
                                       const Factor* panel, Index columns, T* c, Index c_stride,
                                       const Factor* next_panel, F multiply) {
    constexpr Index kLines = Unrolled * Term / kLine<Factor>;
    const Index tiles = (rows + kTileRows - 1) / kTileRows, lines = tiles ? (kLines + tiles - 1) / tiles : 0;
    for (Index block = 0; block < blocks.count; ++block) {
        const Index k0 = blocks.first(block), terms = blocks.of(block);
        const Factor* packed = panel + k0 * Term;
        const Factor* following = block + 1 < blocks.count && next_panel ? packed + terms * Term : next_panel;
        for (Index tile = 0; tile < tiles; ++tile) {
            const Index r0 = rows * tile / tiles, r1 = rows * (tile + 1) / tiles;
            const Factor* next = following + terms * tile / tiles * Term;
            const auto ahead = [&] {
                if (!following) return;
                for (Index line = 0; line < lines; ++line, next += kLine<Factor>) __builtin_prefetch(next, 0, 2);
            };
            with_tile<T>(r1 - r0, columns, [&](auto R, auto N) {
                T* to = c + r0 * c_stride;
                multiply(R, N, terms, a + r0 * a_stride + k0, packed, ahead, [&](Index r, Index n, Vector<T> sums) {
                    T* at = to + r * c_stride + n * kLanes<T>;
                    store(at, k0 > 0 ? load(at) + sums : sums);
                });
            });
        }
    }
}

// The large products of a policy P, whose members are documented in OnVectors. A *group* is P::kRows rows of A, a panel
// P::kColumns columns of B.

// Pack `count` groups of A (`left`) or panels of B, from number `first`, `size` elements apart. If the terms of a row or
// column are apart, memory is read in its order: some terms of all groups at a time.
template <class P>
void pack_groups(typename P::Factor* to, Index size, bool left, const Product<typename P::Real>& p, Index first,
                 Index count, Index k0, Index K) {
    const Rows<const typename P::Real> m = left ? p.A : p.B;
    const bool together = left ? p.a_terms_together : p.b_terms_together;
    const Index width = left ? P::kRows : P::kColumns, lines = left ? p.M : p.N,
                at_once = together || count == 1 ? K : P::kTermsAtOnce;
    for (Index k = 0; k < K; k += at_once) {
        const Index some = K - k < at_once ? K - k : at_once;
        for (Index group = 0; group < count; ++group) {
            const Index line = (first + group) * width;
            P::pack(to + group * size + P::group_size(left, k), left, m, together, line, lines - line, k0 + k, some);
        }
    }
}

// C with few rows: for each block of terms, all members together pack all of A, which stays in the L2 cache, and all
// read it; the columns (in a large team also the rows) are divided over the members, which pack a panel of B when they
// need it and prefetch the source of the next one meanwhile. A block is packed and multiplied in pieces, so that a
// group of A and a panel fit into the L1 cache.
template <class P>
void multiply_wide(const Product<typename P::Real>& p, Member me) {
    using Real = typename P::Real;
    using Factor = typename P::Factor;
    constexpr Index MR = P::kRows, NR = P::kColumns;
    const Index groups = (p.M + MR - 1) / MR, panels = (p.N + NR - 1) / NR, held = P::terms_held(p.K, groups);
    const Mark before = me.mark();
    Factor* a = me.shared<Factor>(groups * P::group_size(true, held < p.K ? held : p.K));
    constexpr bool whole = P::kPanelsTogether == 1;  // then a panel is packed at once, for all pieces
    Factor* packed_b = me.own<Factor>(P::group_size(false, whole ? held : P::kTermsInL1));
    const Grid grid(groups, panels, false, me);
    const Index first_panel = grid.of_columns.first(panels), last_panel = grid.of_columns.last(panels);
    Index k0 = 0;
    do {
        const Blocks pieces(p.K - k0 < held ? p.K - k0 : held, P::kTermsInL1, P::kUnit);
        const auto packed = [&](Index piece, Index group) {
            return a + groups * P::group_size(true, pieces.first(piece)) +
                   group * P::group_size(true, pieces.of(piece));
        };
        for (Index piece = 0; piece < pieces.count; ++piece) {
            const Index first = me.first(groups), K = pieces.of(piece);
            pack_groups<P>(packed(piece, first), P::group_size(true, K), true, p, first, me.last(groups) - first,
                           k0 + pieces.first(piece), K);
        }
        me.barrier();
        for (Index first = first_panel; first < last_panel; first += P::kPanelsTogether) {
            const Index end = first + P::kPanelsTogether < last_panel ? first + P::kPanelsTogether : last_panel;
            for (Index piece = 0; piece < pieces.count; ++piece) {
                const Index from = k0 + pieces.first(piece), K = pieces.of(piece);
                for (Index panel = first; panel < end; ++panel) {
                    if (!whole || piece == 0) {
                        pack_groups<P>(packed_b, 0, false, p, panel, 1, from, whole ? pieces.K : K);
                    }
                    const Factor* b = packed_b + (whole ? P::group_size(false, pieces.first(piece)) : 0);
                    const Index n = panel * NR, left = p.N - n - NR, columns = left < 0 ? 0 : left < NR ? left : NR;
                    auto next = p.b_terms_together
                                    ? LinesAhead<Real>{p.B, n + NR, columns, from, K / kLine<Real> + 1}
                                    : LinesAhead<Real>{p.B, from, left > 0 ? K : 0, n + NR, (NR - 1) / kLine<Real> + 1};
                    for (Index group = grid.of_rows.first(groups); group < grid.of_rows.last(groups); ++group) {
                        P::multiply_block(p, group * MR, n, from > 0 || p.accumulate, K, packed(piece, group), b, next);
                    }
                }
            }
        }
        me.barrier();  // before the packed A is overwritten
        k0 += held;
    } while (k0 < p.K);
    me.release(before);
}

// C with many rows: for each block of terms, all members together pack up to kColumnsHeld columns of B (up to 6 MB in
// float, 12 MB in pairs, 24 with two parts), and all read them; the rows (in a large team also the columns) are divided
// over the members, which pack their rows of A, unless A comes packed, in pieces that stay in the L2 cache.
template <class P>
void multiply_tall(const Product<typename P::Real>& p, const typename P::Factor* left, Member me) {
    using Factor = typename P::Factor;
    constexpr Index MR = P::kRows, NR = P::kColumns, kColumnsHeld = 4096;
    const Blocks blocks(p.K, P::kTermsInBlock, P::kUnit);
    const Index groups = (p.M + MR - 1) / MR, held = ((p.N < kColumnsHeld ? p.N : kColumnsHeld) + NR - 1) / NR;
    const Grid grid(groups, held, true, me);
    const Index last_group = grid.of_rows.last(groups);
    const Mark before = me.mark();
    Factor* b = me.shared<Factor>(held * P::group_size(false, blocks.terms));
    const bool in_place = left && p.a_terms_together;
    Factor* own = in_place ? nullptr : me.own<Factor>(P::kGroupsHeld * P::group_size(true, blocks.terms));
    for (Index n0 = 0; n0 < p.N; n0 += kColumnsHeld) {
        const Index columns = p.N - n0 < kColumnsHeld ? p.N - n0 : kColumnsHeld, panels = (columns + NR - 1) / NR;
        const Index first_panel = grid.of_columns.first(panels), last_panel = grid.of_columns.last(panels);
        for (Index block = 0; block < blocks.count; ++block) {
            const Index k0 = blocks.first(block), K = blocks.of(block), size = P::group_size(false, K);
            const Index first = me.first(panels);
            pack_groups<P>(b + first * size, size, false, p, n0 / NR + first, me.last(panels) - first, k0, K);
            me.barrier();
            for (Index piece = grid.of_rows.first(groups); piece < last_group; piece += P::kGroupsHeld) {
                const Index end = last_group < piece + P::kGroupsHeld ? last_group : piece + P::kGroupsHeld;
                const Factor* a = own;
                Index a_size = P::group_size(true, K);
                if (in_place) {
                    a_size = P::group_size(true, p.K);
                    a = left + piece * a_size + P::group_size(true, k0);
                } else if (left) {
                    if constexpr (P::kInPairs) P::pack_transposed(own, left, p.M, piece, end - piece, k0, K);
                } else {
                    pack_groups<P>(own, a_size, true, p, piece, end - piece, k0, K);
                }
                for (Index panel = first_panel; panel < last_panel; ++panel) {
                    const Index following = panel + 1 < last_panel ? panel + 1 : first_panel;
                    LinesAhead<Factor> next{{b + following * size, 0, nullptr}, 0, 1, 0, size / kLine<Factor>};
                    for (Index group = piece; group < end; ++group) {
                        P::multiply_block(p, group * MR, n0 + panel * NR, block > 0 || p.accumulate, K,
                                          a + (group - piece) * a_size, b + panel * size, next);
                    }
                }
            }
            me.barrier();  // before the packed B is overwritten
        }
    }
    me.release(before);
}

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
    using Unrounded = OnVectors<T, false>;   // of the same operands, the same products
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
        pack(packed, false, m, terms_together, first, count, 0, K);
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
        if constexpr (Rounded) return Unrounded::multiply_rows(rows, K, a, panel, first, last, c, c_stride, next_panel);
        const auto multiply = [&](auto R, auto N, Index terms, const T* a, const T* b, auto& ahead, auto finish)
                                  __attribute__((always_inline)) {
                                      multiply_tile<R.value, N.value, T>(terms, a, row_size(K), 1, b, ahead, finish);
                                  };
        multiply_by_tiles<kTermsUnrolled, kTileColumns<T>>(rows, Blocks(K), a, row_size(K), panel + first, last - first,
                                                           c + first, c_stride, next_panel, multiply);
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
        wide ? multiply_wide<OnVectors>(p, me) : multiply_tall<OnVectors>(p, nullptr, me);
    }

    // What multiply_wide and multiply_tall need. kTermsInL1: the most terms of a panel in the L1 cache; kUnit: pieces of
    // so many terms, except the last, are a multiple of it. kTermsAtOnce: of a row of memory, if its terms are apart; the
    // cache holds their lines. kTermsInBlock and kGroupsHeld (288 KB): see multiply_tall. kPanelsTogether: their part of
    // C stays in the L2 cache.
    static constexpr Index kRows = kTileRows, kColumns = kTileColumns<T>, kUnit = 1, kTermsInL1 = kTermsHeld,
                           kTermsAtOnce = 16, kTermsInBlock = kTermsHeld, kGroupsHeld = 192 / kRows,
                           kPanelsTogether = 8;
    static constexpr Index terms_held(Index /*K*/, Index /*groups*/) { return 4 * kTermsHeld; }
    static constexpr Index group_size(bool left, Index K) { return K * (left ? kRows : kColumns); }

    // Pack K terms, starting at k0, of a group of A or of a panel of B; lines past `count` are zeros.
    static void pack(T* to, bool left, Rows<const T> m, bool terms_together, Index first, Index count, Index k0,
                     Index K) {
        left ? pack_lines<kRows>(to, m, terms_together, first, count, k0, K)
             : pack_lines<kColumns>(to, m, terms_together, first, count, k0, K);
    }

    // Compute the tile of C at (m, n), or the part of it that exists, from its packed operands; see multiply_tile.
    template <class A>
    __attribute__((noinline)) static void multiply_block(const Product<T>& p, Index m, Index n, bool accumulate,
                                                         Index K, const T* a, const T* b, A& ahead) {
        if constexpr (Rounded) return Unrounded::multiply_block(p, m, n, accumulate, K, a, b, ahead);
        const Index rows = p.M - m < kRows ? p.M - m : kRows;
        for (Index r = 0; r < rows; ++r) fetch_row(p.C[m + r] + n);
        const auto finish = [&](Index r, Index k, Vector<T> sums) {
            if (r < rows) write_sums(p, m + r, n + k * kLanes<T>, accumulate, sums);
        };
        if (p.N - n <= kLanes<T>) return multiply_tile<kTileRows, 1, T>(K, a, 1, kRows, b, ahead, finish);
        multiply_tile<kTileRows, 2, T>(K, a, 1, kRows, b, ahead, finish);
    }

  private:
    // W lines, from `first`: packed[k·W + j] = m[first + j][k0 + k] if terms_together, else m[k0 + k][first + j].
    template <Index W>
    __attribute__((noinline)) static void pack_lines(T* packed, Rows<const T> m, bool terms_together, Index first,
                                                     Index count, Index k0, Index K) {
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
};

template <class T>
using Plain = OnVectors<T, false>;
using RoundedToBfloat16 = OnVectors<float, true>;

}  // namespace gatewise::GATEWISE_TARGET
