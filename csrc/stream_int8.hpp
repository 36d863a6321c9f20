// Products of a step with int8 weights; stream_kernel.hpp has those with float and bfloat16 ones.
//
// A row of weights is q·s, with s = max|w| / 127 and q the nearest integers to w / s, the even one of two; a vector is
// p·t, with t = max|x| / 32767 and p likewise. W x = (Σ q p) · t · s. Sums of integers are exact: all instruction sets
// agree in every bit of a product. A vector that is not finite has t = NaN, and so all of its products are NaN.
#pragma once

#include "product.hpp"
#include "stream_step.hpp"

namespace gatewise::GATEWISE_TARGET {

constexpr int kLargestWeight = 127, kLargestTerm = 32767;

// Terms whose products are summed in 32 bits before the sum is added to others in float: of the largest products, 516
// fit. (With fewer, steps of several rows are slower.)
constexpr Index kTermsExact = 512;
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

// Vectors as a product reads them. Each member quantizes them for itself, which needs no barrier.
struct Quantized {
    const int16_t* x;  // (B, stride)
    Index stride;
    const float* scale;  // (B)

    static constexpr Index padded(Index K) { return (K + kLanes<float> - 1) / kLanes<float> * kLanes<float>; }

    // Scratch for B vectors of K, in bytes.
    static constexpr Index size(Index B, Index K) { return B * (padded(K) * Index(sizeof *x) + Index(sizeof *scale)); }

    Quantized(Index B, Index K, const float* from, char* scratch) : stride(padded(K)) {
        float* scales = reinterpret_cast<float*>(scratch);
        int16_t* to = reinterpret_cast<int16_t*>(scales + B);
        x = to, scale = scales;
        for (Index r = 0; r < B; ++r, from += K) {
            scales[r] = scale_of(from, K, kLargestTerm);
            for (Index k = 0; k < K; k += kLanes<float>, to += kLanes<float>) {
                const auto p =
                    __builtin_convertvector(to_integer(load(from + k, K - k) / scales[r]), HalfVector<int16_t>);
                __builtin_memcpy(to, &p, sizeof p);
            }
        }
    }
};

// Pack column number `column` of the `columns` columns of a block: K terms, or zeros if `row` is null. The scales of all
// columns come first; then, per pair of terms and column, two bytes.
inline void pack_column(int8_t* packed, Index columns, Index column, const float* row, Index K) {
    if (K == 0) return;
    const float scale = row ? scale_of(row, K, kLargestWeight) : 0;
    __builtin_memcpy(packed + column * Index(sizeof scale), &scale, sizeof scale);
    int8_t* pair = packed + columns * Index(sizeof scale) + 2 * column;
    for (Index k = 0; row && k < K; k += kLanes<float>) {
        const Vector<int32_t> q = to_integer(load(row + k, K - k) / scale);
        for (Index j = 0; j < kLanes<float> && k + j < K; ++j) {
            pair[(k + j) / 2 * 2 * columns + j % 2] = static_cast<int8_t>(q[j]);
        }
    }
}

// widened: the bytes of a vector of columns, as integers of 16 bits (compilers widen vector types in twice as many
// instructions). add_pairs: sum + w₀ x₀ + w₁ x₁ for each pair of terms in w; x holds one pair for all.
#if GATEWISE_VECTOR_BYTES == 64 && defined(__AVX512BW__)
inline __m512i widened(const int8_t* w) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)w)); }
inline Vector<int32_t> add_pairs(Vector<int32_t> sum, __m512i w, int32_t x) {
#if defined(__AVX512VNNI__)
    return (Vector<int32_t>)_mm512_dpwssd_epi32((__m512i)sum, w, _mm512_set1_epi32(x));
#else
    return sum + (Vector<int32_t>)_mm512_madd_epi16(w, _mm512_set1_epi32(x));
#endif
}
#elif GATEWISE_VECTOR_BYTES == 32 && defined(__AVX2__)
inline __m256i widened(const int8_t* w) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)w)); }
inline Vector<int32_t> add_pairs(Vector<int32_t> sum, __m256i w, int32_t x) {
    return sum + (Vector<int32_t>)_mm256_madd_epi16(w, _mm256_set1_epi32(x));
}
#elif GATEWISE_VECTOR_BYTES == 16 && defined(__SSE2__)
inline __m128i widened(const int8_t* w) {
    const __m128i bytes = _mm_loadl_epi64((const __m128i*)w);
    return _mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
}
inline Vector<int32_t> add_pairs(Vector<int32_t> sum, __m128i w, int32_t x) {
    return sum + (Vector<int32_t>)_mm_madd_epi16(w, _mm_set1_epi32(x));
}
#elif GATEWISE_VECTOR_BYTES == 16 && defined(__wasm_simd128__)
inline v128_t widened(const int8_t* w) { return wasm_i16x8_load8x8(w); }
inline Vector<int32_t> add_pairs(Vector<int32_t> sum, v128_t w, int32_t x) {
    return sum + (Vector<int32_t>)wasm_i32x4_dot_i16x8(w, wasm_i32x4_splat(x));
}
#else
inline Vector<int32_t> widened(const int8_t* w) {
    HalfVector<int8_t> bytes;
    __builtin_memcpy(&bytes, w, sizeof bytes);
    return (Vector<int32_t>)__builtin_convertvector(bytes, Vector<int16_t>);
}
inline Vector<int32_t> add_pairs(Vector<int32_t> sum, Vector<int32_t> w, int32_t x) {
    const Vector<int32_t> pair = Vector<int32_t>{} + x;
    return sum + (w << 16 >> 16) * (pair << 16 >> 16) + (w >> 16) * (pair >> 16);
}
#endif

// sums[r·N + n] += Σ w x over K terms, for R rows of x and C vectors, from `first`, of the N of a term.
template <int N, int R, int C>
inline void multiply_terms(Index K, Index first, const int16_t* x, Index stride, const int8_t* packed,
                           Vector<float>* sums) {
    constexpr Index bytes = 2 * kLanes<float>;
    packed += first * bytes, sums += first;
    Vector<int32_t> s[R][C] = {};
    for (Index k = 0; k < K; k += 2) {
        const int8_t* at = packed + k / 2 * N * bytes;
        int32_t pair[R];
        for (int r = 0; r < R; ++r) __builtin_memcpy(pair + r, x + r * stride + k, sizeof *pair);
#pragma GCC unroll 8
        for (int n = 0; n < C; ++n, at += bytes) {
            if (R > 1) __builtin_prefetch(at + kTermsExact / 2 * N * bytes);  // later terms, as for other weights
            const auto w = widened(at);
#pragma GCC unroll 12
            for (int r = 0; r < R; ++r) s[r][n] = add_pairs(s[r][n], w, pair[r]);
        }
    }
    for (int r = 0; r < R; ++r) {
        for (int n = 0; n < C; ++n) sums[r * N + n] += __builtin_convertvector(s[r][n], Vector<float>);
    }
}

}  // namespace gatewise::GATEWISE_TARGET
