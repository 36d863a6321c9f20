// One step of a stack of recurrent layers with a linear layer on top, in pointers.
//
// A step of few rows uses each weight for a handful of products, so memory bandwidth bounds it. Weights are therefore
// packed once, in the order in which they are read; gates and states are float.
//
// The caller owns all memory, and nothing overlaps: a new state does not overwrite the old. B rows, L layers, I inputs
// of the first layer, H units, V outputs of the decoder. Results depend neither on the number of threads nor on other
// rows.
#pragma once

#include "passes.hpp"

namespace gatewise {

// How weights are stored. bf16: rounded to nearest even; products and sums are float. int8: integers with a scale for
// each row of a matrix, which multiply integers of 16 bits (stream_int8.hpp).
enum class Stored : int { fp32, bf16, int8 };

// The size of K terms of `columns` packed columns; with int8, a float for each column and pairs of terms.
constexpr GATEWISE_INLINE Index packed_bytes(Stored stored, Index columns, Index K) {
    return columns * (stored == Stored::fp32 ? 4 * K : stored == Stored::bf16 ? 2 * K : K ? 4 + (K + 1) / 2 * 2 : 0);
}

// The unit of which numbers up to a largest size, given by its bits, are integers from −most to most; NaN if they are
// not all finite. Sizes below 2⁻¹⁰⁰ count as that, so that x / scale is finite, and zeros are zero.
GATEWISE_INLINE float scale_for(std::int32_t bits, int most) {
    float size;
    __builtin_memcpy(&size, &bits, sizeof size);
    if (size < 0x1p-100f) size = 0x1p-100f;
    return (bits < 0x7F800000 ? size : __builtin_nanf("")) / static_cast<float>(most);
}

// The matrices that a block of units reads: W_ih and W_hh of a layer, or the weight of the decoder as the first one.
// Packed by block of units; per block, all terms of the first matrix, then of the second; per term, the columns of all
// gates, gate by gate. Missing units are zeros. `packed` holds, for each block of Target::stream_units units, the
// packed_bytes of their columns and the terms of both matrices.
struct StreamMatrix {
    Index gates, units;
    Index terms[2];        // the size of the vector that each matrix multiplies; 0 if it is absent
    const float* from[2];  // (gates·units, terms), read during packing
    const float* bias[2];  // (gates·units), or null
    void* packed;
};

struct StreamStep {
    CellKind cell;
    Stored stored;
    Index B, L, H;                // L may be 0: the decoder reads x
    const StreamMatrix* layers;   // (L)
    const StreamMatrix* decoder;  // or null
    const float* x;               // (B, I), I the first layer's terms[0]; or null where `product` is given
    const float* product;         // (B, G·H), or null: W_ih x of the first layer, whose terms[0] is 0
    const float *h, *c;           // (L, B, H); c null for cells other than the LSTM
    // Outputs, fully written:
    float *h_n, *c_n;  // (L, B, H); c_n null if c is
    float* logits;     // (B, V), V the units of the decoder; null without one, or to leave them out
    float* gates;      // (L, B, G, H), or null; not written where a cell has only one gate
};

}  // namespace gatewise
