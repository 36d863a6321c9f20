// Softmax cross-entropy fused with the preceding linear layer: loss and gradients in one pass (LinearLoss).
//
// Per chunk of rows: the logits, by a matrix product; then, row by row, the softmax and its gradient dz in place,
// packed for both products in which it is the left operand if the policy supports that; then these products, dx and dW.
// Sums over rows (dW, db) have an order that does not depend on the members: db in blocks of kRowsTogether rows.
// Scratch: the logits of a chunk, the packed dz, db of its blocks, N losses, and that of `multiply`.
#pragma once

#include "product.hpp"
#include "training.hpp"

namespace gatewise::GATEWISE_TARGET {

constexpr int kSideBySide = 4;              // independent vectors of sums, to hide the latency of additions
constexpr Index kRowsTogether = kLeftRows;  // rows whose dz are summed for db and packed while they are in the cache

// Overwrite a row of logits z with dz = scale · (softmax z − onehot(target)) if `gradient`, and add it to `sum` if not
// null (`first`: overwrite it); return −log softmax(z)[target]. z has `width` elements, whole vectors; −inf past V.
template <class Real>
double row_loss(Real* z, Index width, Index target, Real scale, bool gradient, Real* sum, bool first) {
    using V = Vector<Real>;
    constexpr Index L = kLanes<Real>;
    V m[kSideBySide], s[kSideBySide] = {};
    for (int j = 0; j < kSideBySide; ++j) m[j] = load(z + j * L);
    for (Index k = kSideBySide * L; k < width; k += kSideBySide * L) {
        for (int j = 0; j < kSideBySide; ++j) {
            V x = load(z + k + j * L);
            m[j] = x > m[j] ? x : m[j];  // may lose a NaN, which the sum below catches
        }
    }
    Real largest = m[0][0];
    for (int j = 0; j < kSideBySide; ++j) {
        for (Index k = 0; k < L; ++k) largest = m[j][k] > largest ? m[j][k] : largest;
    }
    const double distance = static_cast<double>(largest) - static_cast<double>(z[target]);
    for (Index k = 0; k < width; k += kSideBySide * L) {
        for (int j = 0; j < kSideBySide; ++j) {
            V x = load(z + k + j * L) - largest;
            V e = exp(x);
            e = x < Real(-87) ? V{} : e;  // exactly 0 for −inf
            s[j] = s[j] + e;
            if (gradient) store(z + k + j * L, e);
        }
    }
    double total = 0;
    for (int j = 0; j < kSideBySide; ++j) {
        for (Index k = 0; k < L; ++k) total += static_cast<double>(s[j][k]);
    }
    if (gradient) {
        const Real factor = static_cast<Real>(static_cast<double>(scale) / total);
        for (Index k = 0; k < width; k += L) store(z + k, load(z + k) * factor);
        z[target] -= scale;
        if (sum) {
            for (Index k = 0; k < width; k += L) store(sum + k, first ? load(z + k) : load(sum + k) + load(z + k));
        }
    }
    return distance + std::log(total);
}

template <class P>
void linear_loss(const LinearLoss<typename P::Real>& p, Member me) {
    using Real = typename P::Real;
    const Index H = p.H, V = p.V;
    constexpr Index kStep = kSideBySide * kLanes<Real>;
    const Index width = (V + kStep - 1) / kStep * kStep;
    // An odd number of cache lines, so that a column spreads over all sets of the cache.
    const Index stride = ((width + kLine<Real> - 1) / kLine<Real> | 1) * kLine<Real>;
    const Index chunks = (p.N + p.chunk - 1) / p.chunk, held = chunks ? (p.N + chunks - 1) / chunks : 0;
    const bool gradient = p.dx || p.dweight || p.dbias;
    Real* z = me.shared<Real>(held * stride);
    Real* sums = p.dbias ? me.shared<Real>((held + kRowsTogether - 1) / kRowsTogether * width) : nullptr;
    double* nll = me.shared<double>(p.N);
    const Index left = p.dx || p.dweight ? P::left_size(held, V) : 0;
    typename P::Factor* packed = left ? me.shared<typename P::Factor>(left) : nullptr;
    if (p.dbias) {
        for (Index v = me.first(V); v < me.last(V); ++v) p.dbias[v] = 0;
    }
    if (p.dweight && !chunks) {
        for (Index k = me.first(V * H); k < me.last(V * H); ++k) p.dweight[k] = 0;
    }
    for (Index chunk = 0; chunk < chunks; ++chunk) {
        const Index start = p.N * chunk / chunks, rows = p.N * (chunk + 1) / chunks - start;
        const Rows<const Real> x{p.x + start * H, H, nullptr}, weight{p.weight, H, nullptr}, dz{z, stride, nullptr};
        P::multiply({rows, V, H, x, true, weight, true, {z, stride, nullptr}, false, p.bias}, me);
        const Index blocks = (rows + kRowsTogether - 1) / kRowsTogether;
        for (Index block = me.first(blocks); block < me.last(blocks); ++block) {
            const Index from = block * kRowsTogether, to = from + kRowsTogether < rows ? from + kRowsTogether : rows;
            for (Index r = from; r < to; ++r) {
                for (Index v = V; v < width; ++v) z[r * stride + v] = -static_cast<Real>(__builtin_inf());
                nll[start + r] =
                    row_loss(z + r * stride, width, static_cast<Index>(p.targets[start + r]),
                             static_cast<Real>(p.scale), gradient, sums ? sums + block * width : nullptr, r == from);
            }
            if (packed) P::pack_left(packed, from, dz, to - from, V);
        }
        me.barrier();
        if (p.dbias) {
            for (Index v = me.first(V); v < me.last(V); ++v) {
                for (Index block = 0; block < blocks; ++block) p.dbias[v] += sums[block * width + v];
            }
        }
        if (p.dx) P::multiply({rows, H, V, dz, true, weight, false, {p.dx + start * H, H, nullptr}}, me, packed);
        if (p.dweight) P::multiply({V, H, rows, dz, false, x, false, {p.dweight, H, nullptr}, chunk > 0}, me, packed);
    }
    if (me.index == 0) {
        double total = 0;
        for (Index n = 0; n < p.N; ++n) total += nll[n];
        *p.nll = total * p.scale;
    }
}

}  // namespace gatewise::GATEWISE_TARGET
