// What goes into a layer pass and what comes out: the contract of gatewise.engines.contract, in pointers.
//
// Memory is the caller's. Nothing overlaps, all is without gaps in the shape given, rows first. T steps, B rows, I
// inputs, H units, G gates (LSTM i f g o: 4; GRU r z n: 3; RNN: 1). Real is float or double.
//
// *Packed rows*. A pass reads its rows in its own order (`order`): group by group, in each longest row first, and of each step
// only the rows that reach it, so that no work is done on padding. No row depends on another, so that members may have groups
// of their own. Packed row offset[s] + r is step s of a group's r-th row; `place` says where it stands in x, y
// and the traces: place = t·B + b. A pass from the end differs in `place` alone.
#pragma once

#include "cell_list.hpp"
#include "matrix.hpp"
#include "numbers.hpp"

namespace gatewise {

// Some rows, and which of them each step has; see above.
struct Group {
    Index first, rows;    // those of `order` from `first` on
    Index count;          // steps of the longest
    const Index* offset;  // (count + 1), among all packed rows

    // How many of its rows step s has; step −1, before the first, has all.
    GATEWISE_INLINE Index active(Index s) const { return s < 0 ? rows : s < count ? offset[s + 1] - offset[s] : 0; }
};

// All rows, in their order.
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

template <class Real>
struct LayerForward {
    Index T, I, H;
    Steps steps;
    LayerWeights<Real> weights;
    const Real* x;       // (T, B, I)
    const Real* h_0;     // (B, H)
    const Real* c_0;     // (B, H) of an LSTM; null of other cells
    const Real* h_mask;  // (B, H), or null: multiplies h' in the recurrent product
    // Written, whole:
    Real* y;     // (T, B, H), zero where a row has no such step
    Real* h_n;   // (B, H)
    Real* c_n;   // (B, H) of an LSTM; null of other cells
    // Written where not null, in packed rows; null of an RNN, which needs neither backward:
    Real* gates;  // (total, G·H), after activation; until then a = W_ih x + b stands here
    Real* extra;  // (total, H): c of an LSTM, W_hn h' + b_hn of a GRU
    // Written where not null, like y:
    Real* traced_gates;  // (T, B, G·H), after activation; null of an RNN
    Real* traced_cells;  // (T, B, H): c of an LSTM; null of other cells
};

template <class Real>
struct LayerBackward {
    Index T, I, H;
    Steps steps;
    LayerWeights<Real> weights;
    const Real *x, *h_0, *c_0, *h_mask;  // as given forward
    const Real *y, *gates, *extra;       // as written forward; gates and extra null of an RNN, else needed
    const Real *dy;                      // (T, B, H); as of x, nothing is read past a row's length
    const Real *dh_n, *dc_n;             // (B, H); dc_n null of other cells than the LSTM
    // Written, whole:
    Real* dx;           // (T, B, I), or null: not wanted
    Real *dh_0, *dc_0;  // (B, H); dc_0 null of other cells than the LSTM
    Real *dw_ih, *dw_hh;  // (G·H, I), (G·H, H)
    Real *db_ih, *db_hh;  // (G·H); both null where there are no biases
};

}  // namespace gatewise
