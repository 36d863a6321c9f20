// One step of a cell, forward and backward, for a vector of units of one row: the equations of gatewise.reference, with
// the same symbols. recurrence.hpp combines steps, rows and products.
//
// a: W_ih x + b_ih. u: W_hh h' + b_hh. One per gate, in the order of gatewise.spec.CELLS. b_hh is in u for cells with
// kProductApart; the others use only a + u.
// carried (kCarries): what a unit passes to its next step besides the product: c of an LSTM, h of a GRU (kCarriesH); in
// the backward pass, its gradient. extra (kHasExtra): what backward needs besides the gates.
// kProductApart: in the last gate, u is not just added to a, so its gradient du_n differs from da. For other cells du_n
// refers to da[kGates − 1], and they do not write it.
#pragma once

#include "cell_list.hpp"
#include "vector.hpp"

namespace gatewise::GATEWISE_TARGET {

struct Lstm {
    static constexpr int kGates = 4;
    static constexpr bool kCarries = true, kCarriesH = false, kHasExtra = true, kProductApart = false;

    template <class V>
    static V forward(const V* a, const V* u, V* gates, V& carried, V& extra) {
        V i = sigmoid(a[0] + u[0]);             // (2)
        V f = sigmoid(a[1] + u[1]);             // (3)
        V g = tanh(a[2] + u[2]);                // (4)
        V o = sigmoid(a[3] + u[3]);             // (5)
        extra = carried = f * carried + i * g;  // (6)
        gates[0] = i, gates[1] = f, gates[2] = g, gates[3] = o;
        return o * tanh(carried);  // (7)
    }

    // before: c'. carried: dc in, dc' out.
    template <class V>
    static void backward(const V* gates, V extra, V before, V, V dh, V* da, V&, V& carried) {
        V i = gates[0], f = gates[1], g = gates[2], o = gates[3], tanh_c = tanh(extra);
        V dc = carried + dh * o * (1 - tanh_c * tanh_c);  // (7)
        da[0] = dc * g * i * (1 - i);                     // (6), (2)
        da[1] = dc * before * f * (1 - f);                // (6), (3)
        da[2] = dc * i * (1 - g * g);                     // (6), (4)
        da[3] = dh * tanh_c * o * (1 - o);                // (7), (5)
        carried = dc * f;                                 // (6)
    }
};

struct Gru {
    static constexpr int kGates = 3;
    static constexpr bool kCarries = true, kCarriesH = true, kHasExtra = true, kProductApart = true;

    template <class V>
    static V forward(const V* a, const V* u, V* gates, V& carried, V& extra) {
        V r = sigmoid(a[0] + u[0]);   // (3)
        V z = sigmoid(a[1] + u[1]);   // (4)
        V n = tanh(a[2] + r * u[2]);  // (5)
        gates[0] = r, gates[1] = z, gates[2] = n, extra = u[2];
        carried = (1 - z) * n + z * carried;  // (6)
        return carried;
    }

    // before: h'. carried: in, the part of dh that does not come through the product; out, that of dh'.
    template <class V>
    static void backward(const V* gates, V extra, V before, V, V dh, V* da, V& du_n, V& carried) {
        V r = gates[0], z = gates[1], n = gates[2];
        dh = dh + carried;
        da[2] = dh * (1 - z) * (1 - n * n);       // (6), (5)
        da[1] = dh * (before - n) * z * (1 - z);  // (6), (4)
        da[0] = da[2] * extra * r * (1 - r);      // (5), (3)
        du_n = da[2] * r;                         // (5)
        carried = dh * z;                         // (6)
    }
};

struct RnnTanh {
    static constexpr int kGates = 1;
    static constexpr bool kCarries = false, kCarriesH = false, kHasExtra = false, kProductApart = false;

    template <class V>
    static V forward(const V* a, const V* u, V*, V&, V&) {
        return tanh(a[0] + u[0]);  // (2)
    }

    template <class V>
    static void backward(const V*, V, V, V h, V dh, V* da, V&, V&) {
        da[0] = dh * (1 - h * h);  // (2)
    }
};

struct RnnRelu : RnnTanh {
    template <class V>
    static V forward(const V* a, const V* u, V*, V&, V&) {
        return relu(a[0] + u[0]);  // (2)
    }

    template <class V>
    static void backward(const V*, V, V, V h, V dh, V* da, V&, V&) {
        da[0] = dh * (h <= V{} ? V{} : V{} + 1);  // (2); a product, so that a NaN in dh propagates even if h is 0
    }
};

#define GATEWISE_CELL(name, Struct, gates) static_assert(Struct::kGates == gates, "cell_list.hpp says otherwise");
GATEWISE_CELLS(GATEWISE_CELL)
#undef GATEWISE_CELL

// Call f with an object of the struct of the cell.
template <class F>
void with_cell(CellKind cell, F f) {
    switch (cell) {
#define GATEWISE_CELL(name, Struct, gates) \
    case CellKind::name: return f(Struct{});
        GATEWISE_CELLS(GATEWISE_CELL)
#undef GATEWISE_CELL
    }
}

}  // namespace gatewise::GATEWISE_TARGET
