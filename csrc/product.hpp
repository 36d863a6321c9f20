// Matrix products: the tile that computes, the packing of its factors, a product by few rows, and the large product.
//
// What all have in common: sums run over k in one order, never divided among threads, so that results do not depend on
// the number of threads.
#pragma once

#include "matrix.hpp"
#include "team.hpp"
#include <type_traits>

#include "vector.hpp"

namespace gatewise::GATEWISE_RUNG {

// How numbers enter a product. Real: what is given and summed. Factor: what is multiplied. `put` writes the first `count`
// of x as factors, `to` lying in a row of `row` factors. Whoever calls multiply_rows does it while a Session lives. A
// policy with kOwnProducts (tiles.hpp) brings pack, panel_size, row_size, multiply_rows and multiply itself.
struct NoSession {};
template <class P>
using OnVectors = std::enable_if_t<!P::kOwnProducts, int>;
template <class P>
using OnItsOwn = std::enable_if_t<P::kOwnProducts, int>;
template <class T>
struct Plain {
    using Real = T;
    using Factor = T;
    using Session = NoSession;
    static constexpr bool kOwnProducts = false;
    static void put(T* to, Index, Vector<T> x, Index count) { store(to, x, count); }
};
struct RoundedToBfloat16 {
    using Real = float;
    using Factor = float;
    using Session = NoSession;
    static constexpr bool kOwnProducts = false;
    static void put(float* to, Index, Vector<float> x, Index count) { store(to, to_bfloat16(x), count); }
};

// A tile of the result is up to kTileRows × two vectors: as many sums as the registers hold beside their factors.
#if GATEWISE_VECTOR_BYTES == 64
constexpr int kTileRows = 12;
#else
constexpr int kTileRows = 6;
#endif
template <class T>
constexpr Index kTileColumns = 2 * kLanes<T>;

// Σₖ a[r·row + k·step] b[k] for R rows, handed to finish(r, sums of the first vector, of the second); b holds kTileColumns
// numbers for each k, side by side.
template <int R, class T, class F>
inline void multiply_tile(Index K, const T* a, Index row, Index step, const T* b, F finish) {
    Vector<T> s[R][2];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) s[r][0] = s[r][1] = Vector<T>{};
    for (Index k = 0; k < K; ++k) {
        Vector<T> b0 = load(b), b1 = load(b + kLanes<T>);
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            T x = a[r * row];
            s[r][0] += x * b0;
            s[r][1] += x * b1;
        }
        a += step;
        b += kTileColumns<T>;
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) finish(r, s[r][0], s[r][1]);
}

// Call f with the number of rows as a constant.
template <class F>
inline void with_rows(Index rows, F f) {
    switch (rows) {
        case 1: return f(std::integral_constant<int, 1>{});
        case 2: return f(std::integral_constant<int, 2>{});
        case 3: return f(std::integral_constant<int, 3>{});
        case 4: return f(std::integral_constant<int, 4>{});
        case 5: return f(std::integral_constant<int, 5>{});
        case 6: return f(std::integral_constant<int, 6>{});
#if GATEWISE_VECTOR_BYTES == 64
        case 7: return f(std::integral_constant<int, 7>{});
        case 8: return f(std::integral_constant<int, 8>{});
        case 9: return f(std::integral_constant<int, 9>{});
        case 10: return f(std::integral_constant<int, 10>{});
        case 11: return f(std::integral_constant<int, 11>{});
        case 12: return f(std::integral_constant<int, 12>{});
#endif
    }
}

// Pack `count` columns (up to W; the others become zeros) of K terms: packed[k·W + j] is term k of column j. Where the
// terms of a column lie side by side, columns[first + j][k]; else terms[k][first + j]. Up to a vector behind the last term
// may be written too.
template <class P, Index W, OnVectors<P> = 0>
void pack(typename P::Factor* packed, Rows<const typename P::Real> m, bool columns_are_rows, Index first, Index count,
          Index k0, Index K) {
    using Real = typename P::Real;
    constexpr Index N = kLanes<Real>;
    if (!columns_are_rows) {
        for (Index k = 0; k < K; ++k, packed += W) {
            const Real* terms = m[k0 + k] + first;
            for (Index j = 0; j < W; j += N) P::put(packed + j, 0, load(terms + j, count - j), W - j);
        }
        return;
    }
    for (Index k = 0; k < K; k += N) {
        for (Index j = 0; j < W; j += N) {
            Vector<Real> block[N];
            for (Index r = 0; r < N; ++r) {
                block[r] = j + r < count ? load(m[first + j + r] + k0 + k, K - k) : Vector<Real>{};
            }
            transpose_square<Real>(block);
            for (Index r = 0; r < N && k + r < K; ++r) {  // where W is less than a vector, the next term writes over the rest
                P::put(packed + (k + r) * W + j, 0, block[r], W < N ? N : W - j);
            }
        }
    }
}

// Terms that are multiplied between two looks at the sums, so that a panel stays in the first-level cache.
constexpr Index kTerms = 320;

// Factors in a packed panel of K terms, and in a row of K terms that multiply_rows reads.
template <class P, OnVectors<P> = 0>
constexpr Index panel_size(Index K) {
    return K * kTileColumns<typename P::Real>;
}
template <class P, OnVectors<P> = 0>
constexpr Index row_size(Index K) {
    return K;
}

// c[r·c_stride + j] = Σₖ a[r·row_size + k] b[k, j] for `rows` rows and one packed panel of kTileColumns columns: the
// product of a time step, few rows and many terms. c has room for the whole panel and does not overlap a or b.
template <class P, class T = typename P::Real, OnVectors<P> = 0>
void multiply_rows(Index rows, Index K, const typename P::Factor* a, const typename P::Factor* panel, T* c,
                   Index c_stride) {
    const Index a_stride = row_size<P>(K);
    Index tiles = (rows + kTileRows - 1) / kTileRows;
    for (Index k0 = 0; k0 < K || k0 == 0; k0 += kTerms) {
        Index terms = K - k0 < kTerms ? K - k0 : kTerms;
        for (Index tile = 0; tile < tiles; ++tile) {
            Index r0 = rows * tile / tiles, r1 = rows * (tile + 1) / tiles;
            with_rows(r1 - r0, [&](auto constant) {
                constexpr int R = decltype(constant)::value;
                T* to = c + r0 * c_stride;
                multiply_tile<R, T>(terms, a + r0 * a_stride + k0, a_stride, 1, panel + k0 * kTileColumns<T>,
                                    [&](Index r, Vector<T> s0, Vector<T> s1) {
                                        T* c = to + r * c_stride;
                                        store(c, k0 > 0 ? load(c) + s0 : s0);
                                        store(c + kLanes<T>, k0 > 0 ? load(c + kLanes<T>) + s1 : s1);
                                    });
            });
        }
    }
}

// C = A B (+ C, or + a bias), by all members; a barrier lies at the end.
// Blocks: B is packed whole for some terms, by all, and read by all; each member has its own rows (or, where those are
// few, columns) of C, whose A it packs in pieces that stay in the second-level cache.
template <class P, OnVectors<P> = 0>
void multiply(const Product<typename P::Real>& p, Member me) {
    using Real = typename P::Real;
    using Factor = typename P::Factor;
    constexpr Index NR = kTileColumns<Real>, MR = kTileRows, N = kLanes<Real>;
    constexpr Index kRowsHeld = 192, kTermsHeld = 384, kColumnsHeld = 4096;  // of A 288 KB, of B 6 MB
    Index blocks = (p.K + kTermsHeld - 1) / kTermsHeld;
    Index terms = blocks ? (p.K + blocks - 1) / blocks : 0;
    bool by_rows = p.M >= 4 * MR * me.size;
    Member all{me.team, 0, 1};
    Member of_rows = by_rows ? me : all, of_columns = by_rows ? all : me;
    Index row_tiles = (p.M + MR - 1) / MR;
    Index first_row = of_rows.first(row_tiles) * MR, last_row = of_rows.last(row_tiles) * MR;
    if (last_row > p.M) last_row = p.M;
    Index held_columns = p.N < kColumnsHeld ? (p.N + NR - 1) / NR * NR : kColumnsHeld;
    const Mark before = me.mark();
    Factor* b = me.shared<Factor>(held_columns * terms);
    Factor* a = me.own<Factor>(kRowsHeld * terms + kLanes<Real>);
    for (Index n0 = 0; n0 < p.N; n0 += kColumnsHeld) {
        Index columns = p.N - n0 < kColumnsHeld ? p.N - n0 : kColumnsHeld;
        Index panels = (columns + NR - 1) / NR;
        for (Index block = 0; block < blocks || block == 0; ++block) {
            Index k0 = block * terms, K = p.K - k0 < terms ? p.K - k0 : terms;
            for (Index panel = me.first(panels); panel < me.last(panels); ++panel) {
                Index from = panel * NR, count = columns - from < NR ? columns - from : NR;
                pack<P, NR>(b + panel * NR * K, p.B, p.b_columns_are_rows, n0 + from, count, k0, K);
            }
            me.barrier();
            Index pieces = (last_row - first_row + kRowsHeld - 1) / kRowsHeld;
            for (Index piece = 0; piece < pieces; ++piece) {
                Index m0 = first_row + piece * kRowsHeld;
                Index rows = last_row - m0 < kRowsHeld ? last_row - m0 : kRowsHeld;
                for (Index r = 0; r < rows; r += MR) {
                    Index count = rows - r < MR ? rows - r : MR;
                    pack<P, MR>(a + r * K, p.A, p.a_rows_are_rows, m0 + r, count, k0, K);
                }
                for (Index panel = of_columns.first(panels); panel < of_columns.last(panels); ++panel) {
                    Index from = panel * NR, width = columns - from < NR ? columns - from : NR;
                    for (Index r0 = 0; r0 < rows; r0 += MR) {
                        Index count = rows - r0 < MR ? rows - r0 : MR;
                        for (Index r = 0; r < count; ++r) __builtin_prefetch(p.C[m0 + r0 + r] + n0 + from, 1);
                        multiply_tile<MR, Real>(
                            K, a + r0 * K, 1, MR, b + panel * NR * K, [&](Index r, Vector<Real> s0, Vector<Real> s1) {
                                if (r >= count) return;
                                Real* c = p.C[m0 + r0 + r] + n0 + from;
                                const Real* add = block > 0 || p.accumulate ? c : p.bias ? p.bias + n0 + from : nullptr;
                                if (add) s0 += load(add, width), s1 += load(add + N, width - N);
                                store(c, s0, width), store(c + N, s1, width - N);
                            });
                    }
                }
            }
            me.barrier();  // before the packed B is written over
        }
    }
    me.release(before);
}

// The same of a policy that brings its own.
template <class P, Index W, OnItsOwn<P> = 0>
void pack(typename P::Factor* packed, Rows<const typename P::Real> m, bool columns_are_rows, Index first, Index count,
          Index k0, Index K) {
    P::pack(packed, false, m, columns_are_rows, first, count, k0, K);
}
template <class P, OnItsOwn<P> = 0>
constexpr Index panel_size(Index K) {
    return P::panel_size(K);
}
template <class P, OnItsOwn<P> = 0>
constexpr Index row_size(Index K) {
    return P::row_size(K);
}
template <class P, class T = typename P::Real, OnItsOwn<P> = 0>
void multiply_rows(Index rows, Index K, const typename P::Factor* a, const typename P::Factor* panel, T* c,
                   Index c_stride) {
    P::multiply_rows(rows, K, a, panel, c, c_stride);
}
template <class P, OnItsOwn<P> = 0>
void multiply(const Product<typename P::Real>& p, Member me) {
    P::multiply(p, me);
}

}  // namespace gatewise::GATEWISE_RUNG
