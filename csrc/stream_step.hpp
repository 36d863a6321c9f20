// One step of a stack of recurrent layers with a linear layer on top, in pointers.
//
// A step of few rows uses each weight for a handful of products, so memory bandwidth bounds it. Weights are therefore
// packed once, in the order in which they are read, as float or as bfloat16; products, sums and states are float.
//
// The caller owns all memory, and nothing overlaps: a new state does not overwrite the old. B rows, L layers, I inputs
// of the first layer, H units, V outputs of the decoder. Results depend neither on the number of threads nor on other
// rows.
#pragma once

#include "passes.hpp"

namespace gatewise {

// The matrices that a block of units reads: W_ih and W_hh of a layer, or the weight of the decoder as the first one.
// Packed by block of units; per block, all terms of the first matrix, then of the second; per term, the columns of all
// gates, gate by gate. Missing units are zeros. `packed` holds, for each block, the columns of a StreamPanel times the
// terms of both matrices, in elements of 4 bytes, or 2 if narrow.
struct StreamMatrix {
    Index gates, units;
    Index terms[2];        // the size of the vector that each matrix multiplies; 0 if it is absent
    const float* from[2];  // (gates·units, terms), read during packing
    const float* bias[2];  // (gates·units), or null
    void* packed;
};

struct StreamStep {
    CellKind cell;
    bool narrow;  // weights are packed as bfloat16
    Index B, L, H;
    const StreamMatrix* layers;   // (L)
    const StreamMatrix* decoder;  // or null
    const float* x;               // (B, I), I the first layer's terms[0]; or null where `product` is given
    const float* product;         // (B, G·H), or null: W_ih x of the first layer, whose terms[0] is 0
    const float *h, *c;           // (L, B, H); c null for cells other than the LSTM
    // Outputs, fully written:
    float *h_n, *c_n;  // (L, B, H); c_n null if c is
    float* logits;     // (B, V), V the units of the decoder; null without one
};

// The packed layout of an instruction set: the units of a block, and the columns of a term.
struct StreamPanel {
    Index units, columns;
};

}  // namespace gatewise
