// Products of a step with int8 weights; stream_kernel.hpp has those with float and bfloat16 ones.
//
// A row of weights is q·s, with s = max|w| / 127 and q the nearest integers to w / s, the even one of two; a vector is
// p·t, with t = max|x| / 32767 and p likewise. W x = (Σ q p) · t · s. Sums of integers are exact: all instruction sets
// agree in every bit of a product. A vector that is not finite has t = NaN, and so all of its products are NaN.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "product.hpp"
#include "stream_step.hpp"

namespace gatewise::GATEWISE_TARGET {

constexpr int kLargestWeight = 127, kLargestTerm = 32767;

// Terms whose products are summed in 32 bits before they are added to sums in float: at most 516 of the largest
// products fit. Of 256, a block (of 16-byte panels at most 32 KB) is in the L1 cache for the second tile of rows.
constexpr Index kTermsExact = 256;
static_assert(kTermsExact % 2 == 0 && kTermsExact * kLargestWeight * (kLargestTerm + 1) <= INT32_MAX, "sums overflow");

// Round to the nearest integer, the even one of two. |x| < 2²².
inline Vector<int32_t> to_integer(Vector<float> x) {
    return (Vector<int32_t>)(x + 12582912.0f) - 0x4B400000;  // 1.5 · 2²³, as in exp
}

// The scale of K numbers: see scale_for.
inline float scale_of(const float* x, Index K, int most) {
    Vector<int32_t> largest{};  // as bits, which are in the order of the sizes, infinity and NaN above all
    for (Index k = 0; k < K; k += kLanes<float>) {
        const Vector<int32_t> bits = (Vector<int32_t>)load(x + k, K - k) & INT32_MAX;
        largest = bits > largest ? bits : largest;
    }
    int32_t found = 0;
    for (Index k = 0; k < kLanes<float>; ++k) found = largest[k] > found ? largest[k] : found;
    return scale_for(found, most);
}

// Vectors as a product reads them: quantized by each member for itself, which is faster than a barrier.
struct Quantized {
    const int16_t* x;  // (B, stride)
    Index stride;
    const float* scale;  // (B)

    static constexpr Index padded(Index K) { return (K + kLanes<float> - 1) / kLanes<float> * kLanes<float>; }

    // Scratch for B vectors of K, in bytes.
    static constexpr Index size(Index B, Index K) { return B * (padded(K) * Index(sizeof *x) + Index(sizeof *scale)); }

    Quantized(Index B, Index K, const float* from, char* scratch) : stride(padded(K)) {
        typedef int16_t Half __attribute__((vector_size(GATEWISE_VECTOR_BYTES / 2)));
        float* scales = reinterpret_cast<float*>(scratch);
        int16_t* to = reinterpret_cast<int16_t*>(scales + B);
        x = to, scale = scales;
        for (Index r = 0; r < B; ++r, from += K) {
            scales[r] = scale_of(from, K, kLargestTerm);
            for (Index k = 0; k < K; k += kLanes<float>, to += kLanes<float>) {
                const Half p = __builtin_convertvector(to_integer(load(from + k, K - k) / scales[r]), Half);
                __builtin_memcpy(to, &p, sizeof p);
            }
        }
    }
};

// Pack a matrix; each member packs its own blocks. A part of a block begins with the scales of its columns; then, per
// pair of terms and column, two bytes. Readers must synchronize with all members.
inline void pack_stream_int8(const StreamMatrix& m, Index vectors, Member me) {
    constexpr Index lanes = kLanes<float>;
    const Index columns = m.gates * vectors * lanes, units = vectors * lanes, blocks = (m.units + units - 1) / units;
    const Index size[] = {packed_bytes(Stored::int8, columns, m.terms[0]),
                          packed_bytes(Stored::int8, columns, m.terms[1])};
    for (Index block = me.first(blocks); block < me.last(blocks); ++block) {
        char* to = static_cast<char*>(m.packed) + block * (size[0] + size[1]);
        for (int part = 0; part < 2; to += size[part++]) {
            const Index K = m.terms[part];
            for (Index column = 0; K && column < columns; ++column) {
                const Index gate = column / units, unit = block * units + column % units;
                const float* row = unit < m.units ? m.from[part] + (gate * m.units + unit) * K : nullptr;
                const float scale = row ? scale_of(row, K, kLargestWeight) : 0;
                __builtin_memcpy(to + column * Index(sizeof scale), &scale, sizeof scale);
                int8_t* pair = reinterpret_cast<int8_t*>(to) + columns * Index(sizeof scale) + 2 * column;
                for (Index k = 0; row && k < K; k += lanes) {
                    const Vector<int32_t> q = to_integer(load(row + k, K - k) / scale);
                    for (Index j = 0; j < lanes && k + j < K; ++j) {
                        pair[(k + j) / 2 * 2 * columns + j % 2] = static_cast<int8_t>(q[j]);
                    }
                }
            }
        }
    }
}

// sum + w₀ x₀ + w₁ x₁ for each pair of terms in w; x holds one pair for all.
inline Vector<int32_t> add_pairs(Vector<int32_t> sum, Vector<int16_t> w, int32_t x) {
#if GATEWISE_VECTOR_BYTES == 64 && defined(__AVX512VNNI__)
    return (Vector<int32_t>)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)w, _mm512_set1_epi32(x));
#elif GATEWISE_VECTOR_BYTES == 64 && defined(__AVX512BW__)
    return sum + (Vector<int32_t>)_mm512_madd_epi16((__m512i)w, _mm512_set1_epi32(x));
#elif GATEWISE_VECTOR_BYTES == 32 && defined(__AVX2__)
    return sum + (Vector<int32_t>)_mm256_madd_epi16((__m256i)w, _mm256_set1_epi32(x));
#elif GATEWISE_VECTOR_BYTES == 16 && defined(__SSE2__)
    return sum + (Vector<int32_t>)_mm_madd_epi16((__m128i)w, _mm_set1_epi32(x));
#else
    const auto lower = [](auto v) { return (decltype(v))(v << 16) >> 16; };
    const Vector<int32_t> both = (Vector<int32_t>)w, pair = Vector<int32_t>{} + x;
    return sum + lower(both) * lower(pair) + (both >> 16) * (pair >> 16);
#endif
}

// sums[r·width + n] += Σ w x over `pairs` pairs of terms, for R rows and N vectors of columns.
template <int R, int N>
inline void multiply_pairs(Index pairs, const int16_t* x, Index stride, const int8_t* packed, Vector<float>* sums,
                           Index width) {
    typedef int8_t Half __attribute__((vector_size(GATEWISE_VECTOR_BYTES / 2)));
    Vector<int32_t> s[R][N] = {};
    for (Index k = 0; k < pairs; ++k) {
        const int8_t* at = packed + k * width * Index(sizeof(Half));
        int32_t pair[R];
        for (int r = 0; r < R; ++r) __builtin_memcpy(pair + r, x + r * stride + 2 * k, sizeof *pair);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n, at += sizeof(Half)) {
            // These columns of later terms, as in multiply_terms.
            if (R > 1) __builtin_prefetch(at + kTermsExact / 2 * width * Index(sizeof(Half)));
            Half bytes;
            __builtin_memcpy(&bytes, at, sizeof bytes);
            const Vector<int16_t> w = __builtin_convertvector(bytes, Vector<int16_t>);
#pragma GCC unroll 12
            for (int r = 0; r < R; ++r) s[r][n] = add_pairs(s[r][n], w, pair[r]);
        }
    }
    for (int r = 0; r < R; ++r) {
        for (int n = 0; n < N; ++n) sums[r * width + n] += __builtin_convertvector(s[r][n], Vector<float>);
    }
}

}  // namespace gatewise::GATEWISE_TARGET
