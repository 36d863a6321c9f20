// What a cell does to a few units of one row in one step, forward and backward: the equations of gatewise.reference,
// letter by letter. Everything is a vector of units; how steps, rows and products hang together is in recurrence.hpp.
//
// a: W_ih x + b_ih (and b_hh, except of a GRU). u: W_hh h' (and b_hh, of a GRU). Per gate, in the order of
// gatewise.spec.GATES.
// carried: what a unit keeps beside h: c of an LSTM, h itself of a GRU. extra: what backward needs beside the gates.
#pragma once

#include "vector.hpp"

namespace gatewise::GATEWISE_RUNG {

struct Lstm {
    static constexpr int kGates = 4;
    static constexpr bool kCarries = true, kHasExtra = true, kSeparateBias = false;

    template <class V>
    static V forward(const V* a, const V* u, V* gates, V& carried, V& extra) {
        V i = sigmoid(a[0] + u[0]);       // (2)
        V f = sigmoid(a[1] + u[1]);       // (3)
        V g = tanh(a[2] + u[2]);          // (4)
        V o = sigmoid(a[3] + u[3]);       // (5)
        extra = carried = f * carried + i * g;  // (6)
        gates[0] = i, gates[1] = f, gates[2] = g, gates[3] = o;
        return o * tanh(carried);         // (7)
    }

    // before: c'. carried: dc in, dc' out. du = da.
    template <class V>
    static void backward(const V* gates, V extra, V before, V, V dh, V* da, V&, V& carried) {
        V i = gates[0], f = gates[1], g = gates[2], o = gates[3], tanh_c = tanh(extra);
        V dc = carried + dh * o * (1 - tanh_c * tanh_c);  // (7)
        da[0] = dc * g * i * (1 - i);
        da[1] = dc * before * f * (1 - f);
        da[2] = dc * i * (1 - g * g);
        da[3] = dh * tanh_c * o * (1 - o);
        carried = dc * f;  // (6)
    }
};

struct Gru {
    static constexpr int kGates = 3;
    static constexpr bool kCarries = true, kHasExtra = true, kSeparateBias = true;

    template <class V>
    static V forward(const V* a, const V* u, V* gates, V& carried, V& extra) {
        V r = sigmoid(a[0] + u[0]);   // (3)
        V z = sigmoid(a[1] + u[1]);   // (4)
        V n = tanh(a[2] + r * u[2]);  // (5)
        gates[0] = r, gates[1] = z, gates[2] = n, extra = u[2];
        carried = (1 - z) * n + z * carried;  // (6)
        return carried;
    }

    // before: h'. carried: the part of dh' that does not go through the product. du differs from da in the gate n.
    template <class V>
    static void backward(const V* gates, V extra, V before, V, V dh, V* da, V& du_n, V& carried) {
        V r = gates[0], z = gates[1], n = gates[2];
        dh = dh + carried;
        da[2] = dh * (1 - z) * (1 - n * n);
        da[1] = dh * (before - n) * z * (1 - z);
        da[0] = da[2] * extra * r * (1 - r);
        du_n = da[2] * r;
        carried = dh * z;
    }
};

struct RnnTanh {
    static constexpr int kGates = 1;
    static constexpr bool kCarries = false, kHasExtra = false, kSeparateBias = false;

    template <class V>
    static V forward(const V* a, const V* u, V*, V&, V&) {
        return tanh(a[0] + u[0]);  // (2)
    }

    template <class V>
    static void backward(const V*, V, V, V h, V dh, V* da, V&, V&) {
        da[0] = dh * (1 - h * h);
    }
};

struct RnnRelu : RnnTanh {
    template <class V>
    static V forward(const V* a, const V* u, V*, V&, V&) {
        return relu(a[0] + u[0]);  // (2)
    }

    template <class V>
    static void backward(const V*, V, V, V h, V dh, V* da, V&, V&) {
        da[0] = dh * (h <= V{} ? V{} : V{} + 1);  // a product, so that a NaN stays one; of h too
    }
};

}  // namespace gatewise::GATEWISE_RUNG
