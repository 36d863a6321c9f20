// Matrices that a product takes, given by their rows.
#pragma once

#include "numbers.hpp"

namespace gatewise {

// Rows; the numbers of a row lie side by side. Either `stride` numbers apart from `base` on, or each where `at` says.
template <class T>
struct Rows {
    T* base = nullptr;
    Index stride = 0;
    T* const* at = nullptr;

    GATEWISE_INLINE T* operator[](Index row) const { return at ? at[row] : base + row * stride; }
};

// C = A B, A of M × K, B of K × N. C overlaps neither A, nor B, nor the bias, nor one of its rows another; A and B may
// overlap. Where K is 0, C is set to zero, or to the bias, or left as it is where it accumulates.
//
// A *term* is one of the K products that a number of C sums.
template <class T>
struct Product {
    Index M, N, K;
    Rows<const T> A;
    bool a_terms_together;  // those of a row of A lie side by side: element (m, k) is A[m][k]; else A[k][m]
    Rows<const T> B;
    bool b_terms_together;  // those of a column of B: element (k, n) is B[n][k]; else B[k][n]
    Rows<T> C;
    bool accumulate = false;  // C += A B
    const T* bias = nullptr;  // (N), added to each row; not together with accumulate
};

}  // namespace gatewise
