// Vectors of one instruction set, each the size of a register, and the functions on them that the cells need.
//
// The translation unit of an instruction set defines GATEWISE_TARGET (the namespace) and GATEWISE_VECTOR_BYTES (16, 32,
// 64) before it includes this file. The vector extensions of GCC and Clang serve SSE2, NEON, AVX2 and AVX-512 from one
// source; `a * b + c` becomes a fused multiply-add if the instruction set has one. Bits of floats are unsigned, because
// signed sums must not overflow (and no sanitizer checks those of vectors).
//
// Code that is compiled per instruction set must not use inline functions outside its own namespace: none of the
// standard library, and of ours only those marked GATEWISE_INLINE. The linker keeps one copy of an inline function,
// possibly the one with instructions that the processor lacks. Functions of the C library are not inline.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "numbers.hpp"
#ifdef __SSE2__
#include <immintrin.h>
#endif
#ifdef __wasm_simd128__
#include <wasm_simd128.h>
#endif

namespace gatewise::GATEWISE_TARGET {

template <class T, int Bytes>
struct VectorOf {
    typedef T type __attribute__((vector_size(Bytes)));
};
template <class T>
using Vector = typename VectorOf<T, GATEWISE_VECTOR_BYTES>::type;
template <class T>
using HalfVector = typename VectorOf<T, GATEWISE_VECTOR_BYTES / 2>::type;

// The number of elements in a vector.
template <class T>
constexpr Index kLanes = GATEWISE_VECTOR_BYTES / sizeof(T);

template <class T>
inline Vector<T> load(const T* p) {
    Vector<T> v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

template <class T>
inline void store(T* p, Vector<T> v) {
    __builtin_memcpy(p, &v, sizeof v);
}

// Load the first `count` elements; the others are zero. `count` may exceed the number of lanes, or be negative. What an
// instruction set does not do by a mask is not inlined, which would double the size of the module.
template <class T>
__attribute__((noinline)) Vector<T> load_part(const T* p, Index count) {
    Vector<T> v{};
    for (Index k = 0; k < count; ++k) v[k] = p[k];
    return v;
}

template <class T>
__attribute__((noinline)) void store_part(T* p, Vector<T> v, Index count) {
    for (Index k = 0; k < count; ++k) p[k] = v[k];
}

#if GATEWISE_VECTOR_BYTES == 64 && defined(__AVX512F__)
inline unsigned first_lanes(Index count) { return count > 0 ? (1u << count) - 1 : 0; }  // count is less than 32
template <>
inline Vector<float> load_part(const float* p, Index count) {
    return (Vector<float>)_mm512_maskz_loadu_ps(static_cast<__mmask16>(first_lanes(count)), p);
}
template <>
inline void store_part(float* p, Vector<float> v, Index count) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>(first_lanes(count)), (__m512)v);
}
#endif

template <class T>
inline Vector<T> load(const T* p, Index count) {
    return __builtin_expect(count >= kLanes<T>, 1) ? load(p) : load_part(p, count);
}

template <class T>
inline void store(T* p, Vector<T> v, Index count) {
    __builtin_expect(count >= kLanes<T>, 1) ? store(p, v) : store_part(p, v, count);
}

// {a₀, b₀, a₁, b₁, …} from the lower or the upper halves of a and b.
#if defined(__clang__)
template <class V, std::size_t... k>
inline V interleaved(V a, V b, std::index_sequence<k...>, bool upper) {
    constexpr int n = sizeof...(k);
    return upper ? __builtin_shufflevector(a, b, (n / 2 + k / 2 + k % 2 * n)...)
                 : __builtin_shufflevector(a, b, (k / 2 + k % 2 * n)...);
}
template <class T>
inline Vector<T> interleaved(Vector<T> a, Vector<T> b, bool upper) {
    return interleaved(a, b, std::make_index_sequence<kLanes<T>>{}, upper);
}
#else
template <class T>
inline Vector<T> interleaved(Vector<T> a, Vector<T> b, bool upper) {
    decltype(a == b) which;  // integers of the same size
    for (Index k = 0; k < kLanes<T>; ++k) which[k] = (upper ? kLanes<T> / 2 : 0) + k / 2 + k % 2 * kLanes<T>;
    return __builtin_shuffle(a, b, which);
}
#endif

// Transpose a square matrix, one vector per row: each round interleaves the rows of the two halves.
template <class T>
inline void transpose_square(Vector<T>* rows) {
    constexpr Index n = kLanes<T>;
#pragma GCC unroll 4
    for (Index round = 1; round < n; round *= 2) {
        Vector<T> dealt[n];
#pragma GCC unroll 16
        for (Index k = 0; k < n / 2; ++k) {
            dealt[2 * k] = interleaved<T>(rows[k], rows[k + n / 2], false);
            dealt[2 * k + 1] = interleaved<T>(rows[k], rows[k + n / 2], true);
        }
#pragma GCC unroll 16
        for (Index k = 0; k < n; ++k) rows[k] = dealt[k];
    }
}

// exp(x) for any x, including NaN; relative error below 2e-7 from -87 to 88. x = n ln 2 + r, with a polynomial for exp
// r (Cephes, expf). Infinite from 88.4, where 2ⁿ overflows, so that σ(−∞) is 0. Never below 1.6e-38.
inline Vector<float> exp(Vector<float> x) {
    x = x > 89.0f ? Vector<float>{} + 89.0f : x;  // a NaN compares false and is kept
    x = x < -87.0f ? Vector<float>{} - 87.0f : x;
    const float round = 12582912.0f;  // 1.5 · 2²³: adding it rounds to an integer in the low bits
    Vector<float> shifted = x * 1.44269504088896341f + round;
    Vector<float> n = shifted - round;
    Vector<float> r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    Vector<float> p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    Vector<uint32_t> power = ((Vector<uint32_t>)shifted + 127) << 23;  // 2ⁿ: the high bits of 1.5 · 2²³ are shifted out
    return p * (Vector<float>)power;
}

// tanh x; relative error below 3e-7. Near 0 an odd polynomial (Cephes, tanhf), elsewhere 1 − 2 / (exp 2|x| + 1).
inline Vector<float> tanh(Vector<float> x) {
    using Bits = Vector<uint32_t>;
    Bits sign = (Bits)x & 0x80000000u;
    Vector<float> size = (Vector<float>)((Bits)x & 0x7FFFFFFFu);
    Vector<float> far = 1.0f - 2.0f / (exp(size + size) + 1.0f);
    far = (Vector<float>)((Bits)far | sign);
    Vector<float> z = x * x;
    Vector<float> p = z * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    return size < 0.625f ? p * z * x + x : far;  // a NaN takes the far branch and stays NaN
}

// In double, used for verification: the functions of the C library.
inline Vector<double> exp(Vector<double> x) {
    for (Index k = 0; k < kLanes<double>; ++k) x[k] = std::exp(x[k]);
    return x;
}
inline Vector<double> tanh(Vector<double> x) {
    for (Index k = 0; k < kLanes<double>; ++k) x[k] = std::tanh(x[k]);
    return x;
}

template <class V>
inline V sigmoid(V x) {
    return 1 / (1 + exp(-x));
}

// max(x, 0); propagates NaN.
template <class V>
inline V relu(V x) {
    return x <= V{} ? V{} : x;
}

// Round to bfloat16 (8 bits of precision), to nearest even; a float whose low 16 bits are zero. Propagates NaN.
inline Vector<float> to_bfloat16(Vector<float> x) {
    using Bits = Vector<uint32_t>;
    Bits bits = (Bits)x;
    Bits rounded = bits + 0x7FFF + ((bits >> 16) & 1);
    return (Vector<float>)((x == x ? rounded : bits | 0x400000) & 0xFFFF0000u);
}

}  // namespace gatewise::GATEWISE_TARGET
