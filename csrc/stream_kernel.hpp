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

// Packed elements: float, or two bfloat16 in 32 bits, with that of the even vector of columns in the lower half.
template <class Packed>
constexpr Index kPair = std::is_same<Packed, float>::value ? 2 * kLanes<float> : kLanes<float>;

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

// Pack a matrix; each member packs its own blocks. Readers must synchronize with all members.
template <class Packed>
void pack_stream(const StreamMatrix& m, Member me) {
    constexpr Index lanes = kLanes<float>;
    const Index vectors = unit_vectors(static_cast<int>(m.gates)), width = m.gates * vectors;
    const Index term = width / 2 * kPair<Packed>, blocks = (m.units + vectors * lanes - 1) / (vectors * lanes);
    for (Index block = me.first(blocks); block < me.last(blocks); ++block) {
        Packed* to = static_cast<Packed*>(m.packed) + block * term * (m.terms[0] + m.terms[1]);
        for (int part = 0; part < 2; ++part) {
            const Index K = m.terms[part];
            for (Index v = 0; v < width; ++v) {
                for (Index lane = 0; lane < lanes; ++lane) {
                    const Index gate = v / vectors, unit = (block * vectors + v % vectors) * lanes + lane;
                    const float* row = unit < m.units ? m.from[part] + (gate * m.units + unit) * K : nullptr;
                    Packed* pair = to + v / 2 * kPair<Packed>;
                    for (Index k = 0; k < K; ++k) write_column(pair + k * term, v % 2, lane, row ? row[k] : 0.0f);
                }
            }
            to += term * K;
        }
    }
}

// sums[r·width + n] += Σₖ x[r·stride + k] packed[k, n], for R rows and N vectors of a term. For one row nothing is
// prefetched: on huge pages the hardware prefetcher alone is faster (20.5 GB/s; with software prefetches, 15.5).
template <int R, int N, class Packed>
inline void multiply_terms(Index K, const float* x, Index stride, const Packed* packed, Index term, Vector<float>* sums,
                           Index width) {
    Vector<float> s[R][N];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) s[r][n] = sums[r * width + n];
    }
    for (Index k = 0; k < K; ++k) {
        const Packed* at = packed + k * term;
#pragma GCC unroll 4
        for (int n = 0; n < N; n += 2) {
            Vector<float> even, odd;
            if (R > 1) {  // these columns of later terms: a pass over some columns reads memory with gaps
                for (Index line = 0; line < kPair<Packed> * Index(sizeof(Packed)); line += 64) {
                    __builtin_prefetch(reinterpret_cast<const char*>(at + kStreamTerms * term + n / 2 * kPair<Packed>) +
                                       line);
                }
            }
            read_pair(at + n / 2 * kPair<Packed>, even, odd);
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
        for (int n = 0; n < N; ++n) sums[r * width + n] = s[r][n];
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

template <class Packed>
constexpr Stored kStored = std::is_same<Packed, float>::value    ? Stored::fp32
                           : std::is_same<Packed, int8_t>::value ? Stored::int8
                                                                 : Stored::bf16;

// sums[r·N + n] = Σₖ x[first + r, k] packed[k, n]: one matrix of a block, for up to kStreamRows rows.
template <int N, class Packed>
void multiply_panel(Index first, Index rows, Index K, const Unchanged& vectors, const Packed* packed,
                    Vector<float>* sums) {
    constexpr Index term = N / 2 * kPair<Packed>;
    const Index stride = vectors.stride;
    const float* x = vectors.x + first * stride;
    for (Index k = 0; k < rows * N; ++k) sums[k] = Vector<float>{};
    const Index tiles = (rows + kTileRows - 1) / kTileRows, at_once = rows == 1 ? K : kStreamTerms;
    for (Index k0 = 0; k0 < K; k0 += at_once) {
        const Index terms = K - k0 < at_once ? K - k0 : at_once;
        for (Index tile = 0; tile < tiles; ++tile) {
            const Index r0 = rows * tile / tiles, r1 = rows * (tile + 1) / tiles;
            with_rows(r1 - r0, [&](auto constant) {
                constexpr int R = decltype(constant)::value, columns = columns_at_once(R, N);
                for (int n = 0; n < N; n += columns) {
                    multiply_terms<R, columns>(terms, x + r0 * stride + k0, stride,
                                               packed + k0 * term + n / 2 * kPair<Packed>, term, sums + r0 * N + n, N);
                }
            });
        }
    }
}

template <int N>
void multiply_panel(Index first, Index rows, Index K, const Quantized& vectors, const int8_t* packed,
                    Vector<float>* sums) {
    constexpr Index lanes = kLanes<float>;
    const Index stride = vectors.stride, tiles = (rows + kTileRows - 1) / kTileRows;
    const int16_t* x = vectors.x + first * stride;
    const int8_t* weights = packed + N * lanes * Index(sizeof(float));
    for (Index k = 0; k < rows * N; ++k) sums[k] = Vector<float>{};
    for (Index k0 = 0; k0 < K; k0 += kTermsExact) {
        const Index pairs = ((K - k0 < kTermsExact ? K - k0 : kTermsExact) + 1) / 2;
        for (Index tile = 0; tile < tiles; ++tile) {
            const Index r0 = rows * tile / tiles, r1 = rows * (tile + 1) / tiles;
            with_rows(r1 - r0, [&](auto constant) {
                constexpr int R = decltype(constant)::value, columns = columns_at_once(R, N);
                for (int n = 0; n < N; n += columns) {
                    multiply_pairs<R, columns>(pairs, x + r0 * stride + k0, stride, weights + (k0 * N + 2 * n) * lanes,
                                               sums + r0 * N + n, N);
                }
            });
        }
    }
    for (Index n = 0; K && n < N; ++n) {
        const Vector<float> scale = load(reinterpret_cast<const float*>(packed) + n * lanes);
        for (Index r = 0; r < rows; ++r) sums[r * N + n] = sums[r * N + n] * vectors.scale[first + r] * scale;
    }
}

template <class Packed, class Cell>
void stream_layer(const StreamStep& s, Index layer, char* scratch, Member me) {
    using V = Vector<float>;
    constexpr Index G = Cell::kGates, U = unit_vectors(G), N = G * U, lanes = kLanes<float>;
    const StreamMatrix& m = s.layers[layer];
    const Index H = s.H, I = m.terms[0], blocks = (H + U * lanes - 1) / (U * lanes), from = layer * s.B * H;
    const Index first_bytes = packed_bytes(kStored<Packed>, N * lanes, I);
    const Index bytes = first_bytes + packed_bytes(kStored<Packed>, N * lanes, H);
    const Operand<Packed> x(s.B, I, layer ? s.h_n + from - s.B * H : s.x, scratch);
    const Operand<Packed> h(s.B, H, s.h + from, scratch + Operand<Packed>::size(s.B, I));
    const float* product = layer ? nullptr : s.product;
    V sums[2][kStreamRows * N];
    for (Index block = me.first(blocks); block < me.last(blocks); ++block) {
        const char* packed = static_cast<const char*>(m.packed) + block * bytes;
        for (Index r0 = 0; r0 < s.B; r0 += kStreamRows) {
            const Index rows = s.B - r0 < kStreamRows ? s.B - r0 : kStreamRows;
            multiply_panel<N>(r0, rows, I, x, reinterpret_cast<const Packed*>(packed), sums[0]);
            multiply_panel<N>(r0, rows, H, h, reinterpret_cast<const Packed*>(packed + first_bytes), sums[1]);
            for (Index v = 0; v < U; ++v) {
                const Index unit = (block * U + v) * lanes, count = H - unit;
                if (count <= 0) break;
                for (Index r = 0; r < rows; ++r) {
                    const Index at = from + (r0 + r) * H + unit;
                    V a[G], u[G], gates[G], extra, carried{};
                    for (Index g = 0; g < G; ++g) {
                        a[g] = sums[0][r * N + g * U + v], u[g] = sums[1][r * N + g * U + v];
                        if (product) a[g] += load(product + ((r0 + r) * G + g) * H + unit, count);
                        if (m.bias[0]) a[g] += load(m.bias[0] + g * H + unit, count);
                        if (m.bias[1]) u[g] += load(m.bias[1] + g * H + unit, count);
                    }
                    if (Cell::kCarries) carried = load((s.c ? s.c : s.h) + at, count);
                    store(s.h_n + at, Cell::forward(a, u, gates, carried, extra), count);
                    if (s.c) store(s.c_n + at, carried, count);
                }
            }
        }
    }
    me.barrier();
}

// logits = W h + b.
template <class Packed>
void stream_decoder(const StreamStep& s, char* scratch, Member me) {
    constexpr Index N = unit_vectors(1), lanes = kLanes<float>;
    const StreamMatrix& m = *s.decoder;
    const Index V = m.units, K = m.terms[0], blocks = (V + N * lanes - 1) / (N * lanes);
    const Operand<Packed> h(s.B, K, s.h_n + (s.L - 1) * s.B * K, scratch);
    Vector<float> sums[kStreamRows * N];
    for (Index block = me.first(blocks); block < me.last(blocks); ++block) {
        const char* packed = static_cast<const char*>(m.packed) + block * packed_bytes(kStored<Packed>, N * lanes, K);
        for (Index r0 = 0; r0 < s.B; r0 += kStreamRows) {
            const Index rows = s.B - r0 < kStreamRows ? s.B - r0 : kStreamRows;
            multiply_panel<N>(r0, rows, K, h, reinterpret_cast<const Packed*>(packed), sums);
            for (Index n = 0; n < N; ++n) {
                const Index unit = (block * N + n) * lanes, count = V - unit;
                if (count <= 0) break;
                Vector<float> bias = m.bias[0] ? load(m.bias[0] + unit, count) : Vector<float>{};
                for (Index r = 0; r < rows; ++r) store(s.logits + (r0 + r) * V + unit, sums[r * N + n] + bias, count);
            }
        }
    }
}

template <class Packed, class Cell>
void stream_layers(const StreamStep& s, Member me) {
    using Vectors = Operand<Packed>;
    const Index I = s.layers[0].terms[0], widest = I > s.H ? I : s.H;
    char* scratch = Vectors::size(1, 1) ? me.own<char>(Vectors::size(s.B, widest) + Vectors::size(s.B, s.H)) : nullptr;
    for (Index layer = 0; layer < s.L; ++layer) stream_layer<Packed, Cell>(s, layer, scratch, me);
    if (s.decoder) stream_decoder<Packed>(s, scratch, me);
}

template <class Packed>
void stream_of(const StreamStep& s, Member me) {
    with_cell(s.cell, [&](auto kind) { stream_layers<Packed, decltype(kind)>(s, me); });
}

}  // namespace gatewise::GATEWISE_TARGET
