// Matrices that a product takes, given by their rows.
#pragma once

#include "numbers.hpp"

namespace gatewise {

// Rows of numbers that lie side by side: either `stride` apart from `base` on, or each where `at` says.
template <class T>
struct Rows {
    T* base = nullptr;
    Index stride = 0;
    T* const* at = nullptr;

    T* operator[](Index row) const { return at ? at[row] : base + row * stride; }
};

// C = A B, A of M × K, B of K × N. C overlaps neither A, nor B, nor the bias.
template <class T>
struct Product {
    Index M, N, K;
    Rows<const T> A;
    bool a_rows_are_rows;  // A[m][k] is element (m, k); else A[k][m] is
    Rows<const T> B;
    bool b_columns_are_rows;  // B[n][k] is element (k, n); else B[k][n] is
    Rows<T> C;
    bool accumulate = false;  // C += A B
    const T* bias = nullptr;  // (N), added to each row; not together with accumulate
};

}  // namespace gatewise
