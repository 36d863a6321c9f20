// The inputs and outputs of a layer pass: the contract of gatewise.engines.contract, in pointers.
//
// The caller owns all memory. Nothing overlaps, and everything is contiguous in the given shape, in row-major order. T
// steps, B rows, I inputs, H units, G gates (LSTM i f g o: 4; GRU r z n: 3; RNN: 1). Real is float or double.
//
// *Packed rows*. A pass processes its rows in its own order (`order`): group by group, the longest row of each first,
// and in each step only the rows that reach it, so that no work is spent on padding. Rows are independent of each
// other, so that each member may process its own groups. Packed row offset[s] + r is step s of row r of a group;
// `place` is its position in x, y and the traces: place = t·B + b. A reverse pass differs only in `place`.
#pragma once

#include "cell_list.hpp"
#include "matrix.hpp"
#include "numbers.hpp"

namespace gatewise {

// A group of rows, and the number of them in each step; see above.
struct Group {
    Index first, rows;    // the rows of `order` from `first`
    Index count;          // steps of the longest row
    const Index* offset;  // (count + 1), among all packed rows

    // The first packed row of step s; past the last step, the end of the group's packed rows.
    GATEWISE_INLINE Index packed(Index s) const { return offset[s < count ? s : count]; }

    // The number of active rows in step s; in step −1, before the first, all are.
    GATEWISE_INLINE Index active(Index s) const { return s < 0 ? rows : packed(s + 1) - packed(s); }
};

// All rows, in the order of the pass.
struct Steps {
    Index count;  // steps of the longest row
    Index rows;   // B
    Index total;  // packed rows
    Index groups;
    const Group* group;    // (groups)
    const Index* place;    // (total)
    const Index* order;    // (B)
    const Index* lengths;  // (B), of row order[r]
};

template <class Real>
struct LayerWeights {
    const Real* w_ih;  // (G·H, I)
    const Real* w_hh;  // (G·H, H)
    const Real* b_ih;  // (G·H), or null: both or neither
    const Real* b_hh;  // (G·H)
};

// What both directions read.
template <class Real>
struct LayerInputs {
    Index T, I, H;
    Steps steps;
    LayerWeights<Real> weights;
    const Real* x;       // (T, B, I)
    const Real* h_0;     // (B, H)
    const Real* c_0;     // (B, H) for an LSTM; null for other cells
    const Real* h_mask;  // (B, H), or null: multiplies h' in the recurrent product
};

template <class Real>
struct LayerForward : LayerInputs<Real> {
    // Outputs, fully written:
    Real* y;    // (T, B, H), zero past the length of a row
    Real* h_n;  // (B, H)
    Real* c_n;  // (B, H) for an LSTM; null for other cells
    // Written if not null, in packed rows; null for an RNN, whose backward pass needs neither:
    Real* gates;  // (total, G·H), after activation; before that, a = W_ih x + b
    Real* extra;  // (total, H): c of an LSTM, W_hn h' + b_hn of a GRU
    // Written if not null, like y:
    Real* traced_gates;  // (T, B, G·H), after activation; null for an RNN
    Real* traced_cells;  // (T, B, H): c of an LSTM; null for other cells
};

template <class Real>
struct LayerBackward : LayerInputs<Real> {
    const Real *y, *gates, *extra;  // as the forward pass wrote them; gates and extra null for an RNN, else required
    const Real* dy;                 // (T, B, H); like x, not read past the length of a row
    const Real *dh_n, *dc_n;        // (B, H); dc_n null for cells other than the LSTM
    // Outputs, fully written:
    Real* dx;             // (T, B, I), or null if not needed
    Real *dh_0, *dc_0;    // (B, H); dc_0 null for cells other than the LSTM
    Real *dw_ih, *dw_hh;  // (G·H, I), (G·H, H)
    Real *db_ih, *db_hh;  // (G·H); both null without biases
};

}  // namespace gatewise
