// One step of a stack, batch 1 to a few: see stream_step.hpp.
//
// Members divide the blocks of units of a layer. A member reads its blocks from end to end, once per kStreamRows rows,
// and keeps enough vectors of sums to hide the latency of additions. One barrier ends each layer: the next needs all of
// h.
#pragma once

#include "cells.hpp"
#include "product.hpp"
#include "stream_int8.hpp"
#include "stream_step.hpp"

namespace gatewise::GATEWISE_TARGET {

constexpr Index kStreamRows = 16;   // per pass over the weights; more rows read the weights again
constexpr Index kStreamTerms = 32;  // with several rows: twice as many terms of a block fit into the L1 cache

// Vectors of units in a block: with all gates, eight vectors of columns, or six for a GRU.
constexpr int unit_vectors(int gates) { return gates == 1 ? 8 : 2; }

// Packed elements: float; or two bfloat16 in 32 bits, with that of the even vector of columns in the lower half; or
// int8_t (stream_int8.hpp). kPair: the elements of a term in two vectors of columns.
template <class Packed>
constexpr Index kPair = std::is_same<Packed, uint32_t>::value ? kLanes<float> : 2 * kLanes<float>;

template <class Packed>
constexpr Stored kStored = std::is_same<Packed, float>::value    ? Stored::fp32
                           : std::is_same<Packed, int8_t>::value ? Stored::int8
                                                                 : Stored::bf16;

inline void read_pair(const float* packed, Vector<float>& even, Vector<float>& odd) {
    even = load(packed), odd = load(packed + kLanes<float>);
}

inline void read_pair(const uint32_t* packed, Vector<float>& even, Vector<float>& odd) {
    Vector<uint32_t> both = load(packed);
    even = (Vector<float>)(both << 16), odd = (Vector<float>)(both & 0xFFFF0000u);
}

inline void write_column(float* pair, bool odd, Index lane, float x) { pair[odd * kLanes<float> + lane] = x; }

inline void write_column(uint32_t* pair, bool odd, Index lane, float x) {
    const float rounded = to_bfloat16(Vector<float>{x})[0];
    uint32_t bits;
    __builtin_memcpy(&bits, &rounded, sizeof bits);
    pair[lane] = odd ? (pair[lane] & 0xFFFFu) | bits : bits >> 16;  // the even one is written first
}

// Pack column number `column` of the `columns` columns of a block: K terms, or zeros if `row` is null.
template <class Packed>
void pack_column(Packed* packed, Index columns, Index column, const float* row, Index K) {
    const Index v = column / kLanes<float>, term = columns / (2 * kLanes<float>)*kPair<Packed>;
    Packed* pair = packed + v / 2 * kPair<Packed>;
    for (Index k = 0; k < K; ++k) write_column(pair + k * term, v % 2, column % kLanes<float>, row ? row[k] : 0.0f);
}

// Pack a matrix; each member packs its own blocks. Readers must synchronize with all members.
template <class Packed>
void pack_stream(const StreamMatrix& m, Member me) {
    const Index units = unit_vectors(static_cast<int>(m.gates)) * kLanes<float>, columns = m.gates * units;
    const Index size[] = {packed_bytes(kStored<Packed>, columns, m.terms[0]),
                          packed_bytes(kStored<Packed>, columns, m.terms[1])};
    const Index blocks = (m.units + units - 1) / units;
    for (Index block = me.first(blocks); block < me.last(blocks); ++block) {
        char* to = static_cast<char*>(m.packed) + block * (size[0] + size[1]);
        for (int part = 0; part < 2; to += size[part++]) {
            const Index K = m.terms[part];
            for (Index column = 0; column < columns; ++column) {
                const Index gate = column / units, unit = block * units + column % units;
                const float* row = unit < m.units ? m.from[part] + (gate * m.units + unit) * K : nullptr;
                pack_column(reinterpret_cast<Packed*>(to), columns, column, row, K);
            }
        }
    }
}

// sums[r·N + n] += Σₖ x[r·stride + k] packed[k, n], for R rows and C vectors, from `first`, of the N of a term. For one
// row nothing is prefetched: on huge pages the hardware prefetcher alone is faster (20.5 GB/s; with software prefetches,
// 15.5).
template <int N, int R, int C, class Packed>
inline void multiply_terms(Index K, Index first, const float* x, Index stride, const Packed* packed,
                           Vector<float>* sums) {
    constexpr Index term = N / 2 * kPair<Packed>;
    packed += first / 2 * kPair<Packed>, sums += first;
    Vector<float> s[R][C];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int n = 0; n < C; ++n) s[r][n] = sums[r * N + n];
    }
    for (Index k = 0; k < K; ++k) {
        const Packed* at = packed + k * term;
#pragma GCC unroll 4
        for (int n = 0; n < C; n += 2, at += kPair<Packed>) {
            Vector<float> even, odd;
            if (R > 1) {  // these columns of later terms: a pass over some columns reads memory with gaps
                const char* later = reinterpret_cast<const char*>(at + kStreamTerms * term);
                for (Index line = 0; line < kPair<Packed> * Index(sizeof(Packed)); line += 64) {
                    __builtin_prefetch(later + line);
                }
            }
            read_pair(at, even, odd);
#pragma GCC unroll 12
            for (int r = 0; r < R; ++r) {
                s[r][n] += x[r * stride + k] * even;
                s[r][n + 1] += x[r * stride + k] * odd;
            }
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int n = 0; n < C; ++n) sums[r * N + n] = s[r][n];
    }
}

// The largest even divisor of `width` such that the sums of `rows` rows and that many vectors fit into registers.
constexpr int columns_at_once(int rows, int width) {
    int n = width;
    while (n > 2 && (rows * n > 2 * kTileRows || n % 2 || width % n)) --n;
    return n;
}

// B vectors of K, as a product reads them.
struct Unchanged {
    const float* x;
    Index stride;

    static constexpr Index size(Index /*B*/, Index /*K*/) { return 0; }
    Unchanged(Index /*B*/, Index K, const float* x, char* /*scratch*/) : x(x), stride(K) {}
};

template <class Packed>
using Operand = typename std::conditional<std::is_same<Packed, int8_t>::value, Quantized, Unchanged>::type;

// sums[r·N + n] = Σₖ x[first + r, k] packed[k, n]: one matrix of a block, for up to kStreamRows rows.
template <int N, class Packed>
void multiply_panel(Index first, Index rows, Index K, const Operand<Packed>& vectors, const Packed* packed,
                    Vector<float>* sums) {
    constexpr bool kInt8 = std::is_same<Packed, int8_t>::value;
    constexpr Index lanes = kLanes<float>, term = N / 2 * kPair<Packed>;
    const Index stride = vectors.stride, tiles = (rows + kTileRows - 1) / kTileRows;
    const Index at_once = kInt8 ? kTermsExact : rows == 1 ? K : kStreamTerms;
    const auto* x = vectors.x + first * stride;
    const Packed* weights = kInt8 ? packed + N * lanes * Index(sizeof(float)) : packed;  // after the scales
    for (Index k = 0; k < rows * N; ++k) sums[k] = Vector<float>{};
    for (Index k0 = 0; k0 < K; k0 += at_once) {
        const Index terms = K - k0 < at_once ? K - k0 : at_once;
        for (Index tile = 0; tile < tiles; ++tile) {
            const Index r0 = rows * tile / tiles, r1 = rows * (tile + 1) / tiles;
            with_rows(r1 - r0, [&](auto constant) {
                constexpr int R = decltype(constant)::value, columns = columns_at_once(R, N);
                for (int n = 0; n < N; n += columns) {
                    multiply_terms<N, R, columns>(terms, n, x + r0 * stride + k0, stride, weights + k0 * term,
                                                  sums + r0 * N);
                }
            });
        }
    }
    if constexpr (kInt8) {
        for (Index n = 0; K && n < N; ++n) {
            const Vector<float> scale = load(reinterpret_cast<const float*>(packed) + n * lanes);
            for (Index r = 0; r < rows; ++r) sums[r * N + n] = sums[r * N + n] * vectors.scale[first + r] * scale;
        }
    }
}

// The decoder as a cell, W x + b, without states.
struct Linear {
    static constexpr int kGates = 1;
    static constexpr bool kCarries = false;

    template <class V>
    static V forward(const V* a, const V*, V*, V&, V&) {
        return a[0];
    }
};

// A layer, or the decoder, of a step whose x, product, h, c, h_n and c_n are its own.
template <class Packed, class Cell>
void stream_layer(const StreamMatrix& m, const StreamStep& s, char* scratch, Member me) {
    using V = Vector<float>;
    constexpr Index G = Cell::kGates, U = unit_vectors(G), N = G * U, lanes = kLanes<float>;
    const Index B = s.B, H = m.units, I = m.terms[0], K = m.terms[1], blocks = (H + U * lanes - 1) / (U * lanes);
    const Index first_bytes = packed_bytes(kStored<Packed>, N * lanes, I);
    const Index bytes = first_bytes + packed_bytes(kStored<Packed>, N * lanes, K);
    const Operand<Packed> x(B, I, s.x, scratch), h(B, K, s.h, scratch + Operand<Packed>::size(B, I));
    V sums[2][kStreamRows * N];
    for (Index block = me.first(blocks); block < me.last(blocks); ++block) {
        const char* packed = static_cast<const char*>(m.packed) + block * bytes;
        for (Index r0 = 0; r0 < B; r0 += kStreamRows) {
            const Index rows = B - r0 < kStreamRows ? B - r0 : kStreamRows;
            multiply_panel<N, Packed>(r0, rows, I, x, reinterpret_cast<const Packed*>(packed), sums[0]);
            multiply_panel<N, Packed>(r0, rows, K, h, reinterpret_cast<const Packed*>(packed + first_bytes), sums[1]);
            for (Index v = 0; v < U; ++v) {
                const Index unit = (block * U + v) * lanes, count = H - unit;
                if (count <= 0) break;
                for (Index r = 0; r < rows; ++r) {
                    const Index at = (r0 + r) * H + unit;
                    V a[G], u[G], gates[G], extra, carried{};
                    for (Index g = 0; g < G; ++g) {
                        a[g] = sums[0][r * N + g * U + v], u[g] = sums[1][r * N + g * U + v];
                        if (s.product) a[g] += load(s.product + ((r0 + r) * G + g) * H + unit, count);
                        if (m.bias[0]) a[g] += load(m.bias[0] + g * H + unit, count);
                        if (m.bias[1]) u[g] += load(m.bias[1] + g * H + unit, count);
                    }
                    if (Cell::kCarries) carried = load((s.c ? s.c : s.h) + at, count);
                    store(s.h_n + at, Cell::forward(a, u, gates, carried, extra), count);
                    if (s.c) store(s.c_n + at, carried, count);
                    for (Index g = 0; s.gates && Cell::kCarries && g < G; ++g) {
                        store(s.gates + ((r0 + r) * G + g) * H + unit, gates[g], count);
                    }
                }
            }
        }
    }
    me.barrier();
}

// log Σ exp xₖ of `count` numbers; NaN if one is.
inline double log_sum_exp(const float* x, Index count) {
    using V = Vector<float>;
    constexpr Index lanes = kLanes<float>, piece = 64 * lanes;  // of which the exponentials are summed in float
    V largest = V{} + x[0];
    for (Index k = 0; k < count; k += lanes) {
        const V v = count - k < lanes ? V{} + x[0] : load(x + k);
        largest = v > largest || v != v ? v : largest;
    }
    float most = x[0];
    for (Index k = 0; k < lanes; ++k) most = largest[k] > most || largest[k] != largest[k] ? largest[k] : most;
    for (Index k = count - count % lanes; k < count; ++k) most = x[k] > most || x[k] != x[k] ? x[k] : most;
    double sum = 0;
    for (Index first = 0; first < count; first += piece) {
        const Index last = count - first < piece ? count : first + piece;
        V sums{};
        for (Index k = first; k < last; k += lanes) {
            const V e = exp(load(x + k, last - k) - most);
            for (Index j = 0; last - k < lanes && j < last - k; ++j) sums[j] += e[j];
            if (last - k >= lanes) sums += e;
        }
        for (Index k = 0; k < lanes; ++k) sum += static_cast<double>(sums[k]);
    }
    return static_cast<double>(most) + __builtin_log(sum);
}

template <class Packed>
void stream_of(const StreamStep& s, Member me) {
    using Vectors = Operand<Packed>;
    const Index I = s.L ? s.layers[0].terms[0] : 0, widest = I > s.H ? I : s.H, BH = s.B * s.H;
    char* scratch = Vectors::size(1, 1) ? me.own<char>(Vectors::size(s.B, widest) + Vectors::size(s.B, s.H)) : nullptr;
    StreamStep of_layer = s;
    for (Index layer = 0; layer < s.L; ++layer) {
        with_cell(s.cell,
                  [&](auto cell) { stream_layer<Packed, decltype(cell)>(s.layers[layer], of_layer, scratch, me); });
        of_layer.x = of_layer.h_n, of_layer.product = nullptr;
        of_layer.h += BH, of_layer.h_n += BH;
        if (s.c) of_layer.c += BH, of_layer.c_n += BH;
        if (s.gates) of_layer.gates += s.layers[layer].gates * BH;
    }
    of_layer.h_n = s.logits, of_layer.c = nullptr, of_layer.gates = nullptr;
    if (s.decoder && s.logits) stream_layer<Packed, Linear>(*s.decoder, of_layer, scratch, me);
}

}  // namespace gatewise::GATEWISE_TARGET
