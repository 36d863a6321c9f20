// The matrices of a product, given by their rows.
#pragma once

#include "numbers.hpp"

namespace gatewise {

// The rows of a matrix, each contiguous: either at `base`, `stride` elements apart, or at the addresses in `at`.
template <class T>
struct Rows {
    T* base = nullptr;
    Index stride = 0;
    T* const* at = nullptr;

    GATEWISE_INLINE T* operator[](Index row) const { return at ? at[row] : base + row * stride; }
};

// C = A B, A of M × K, B of K × N. C must not overlap A, B or the bias, and its rows must not overlap each other; A and
// B may overlap. If K is 0, C is set to zero or to the bias, or is left unchanged if it accumulates.
//
// A *term* is one of the K products whose sum is an element of C.
template <class T>
struct Product {
    Index M, N, K;
    Rows<const T> A;
    bool a_terms_together;  // the terms of a row of A are contiguous: element (m, k) is A[m][k]; else A[k][m]
    Rows<const T> B;
    bool b_terms_together;  // the same for a column of B: element (k, n) is B[n][k]; else B[k][n]
    Rows<T> C;
    bool accumulate = false;  // C += A B
    const T* bias = nullptr;  // (N), added to each row; cannot be combined with accumulate
};

}  // namespace gatewise
