// One step of a stack of recurrent layers with a linear layer on top: the contract of gatewise.engines.native.stream.
//
// A step of few rows reads every weight for a handful of products, so memory is what it waits for. Weights are therefore
// packed once, in the order in which they are read, as float or as bfloat16; products, sums and states are float.
//
// Memory is the caller's; nothing overlaps, so that a state is a value: the new one is written beside the old. B rows, L
// layers, I inputs of the first, H units, V outputs of the decoder. Results do not depend on the number of threads, nor
// those of a row on the other rows.
#pragma once

#include "passes.hpp"

namespace gatewise {

// The matrices that a block of units reads: W_ih and W_hh of a layer, or the decoder's weight as the first of them.
// Packed by blocks of units; of each block all terms of the first matrix, then of the second; of each term the columns
// of all gates, gate by gate. Missing units are zeros. `packed` has, for each block, as many numbers as a StreamPanel's
// columns times the terms of both, of 4 bytes or, narrow, of 2.
struct StreamMatrix {
    Index gates, units;
    Index terms[2];        // the numbers that each matrix multiplies; 0 where it is not there
    const float* from[2];  // (gates·units, terms), read when packed
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
    const float *h, *c;           // (L, B, H); c null of other cells than the LSTM
    // Written, whole:
    float *h_n, *c_n;  // (L, B, H); c_n null where c is
    float* logits;     // (B, V), V the decoder's units; null where there is none
};

// How a rung packs: the units of a block, and the columns of a term.
struct StreamPanel {
    Index units, columns;
};

}  // namespace gatewise
