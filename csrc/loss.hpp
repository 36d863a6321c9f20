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

// exp(x), and exactly 0 for −inf.
template <class V>
inline V exp_or_zero(V x) {
    V e = exp(x);
    return x < -87 ? V{} : e;
}

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
            V e = exp_or_zero(load(z + k + j * L) - largest);
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

// The rows of a call from `start`, whose losses are written to nll. later: gradients of earlier rows are written, add.
struct LossRows {
    Index start, rows;
    bool later;
    double* nll;
};

// By the logits, for any policy.
template <class P>
void loss_by_logits(const LinearLoss<typename P::Real>& p, const LossRows& part, Member me) {
    using Real = typename P::Real;
    const Index H = p.H, V = p.V, rows = part.rows;
    constexpr Index kStep = kSideBySide * kLanes<Real>;
    const Index width = (V + kStep - 1) / kStep * kStep;
    // An odd number of cache lines, so that a column spreads over all sets of the cache.
    const Index stride = ((width + kLine<Real> - 1) / kLine<Real> | 1) * kLine<Real>;
    const Index blocks = (rows + kRowsTogether - 1) / kRowsTogether;
    const Mark before = me.mark();
    Real* z = me.shared<Real>(rows * stride);
    Real* sums = p.dbias ? me.shared<Real>(blocks * width) : nullptr;
    const Index left = p.dx || p.dweight ? P::left_size(rows, V) : 0;
    typename P::Factor* packed = left ? me.shared<typename P::Factor>(left) : nullptr;
    const Rows<const Real> x{p.x + part.start * H, H, nullptr}, weight{p.weight, H, nullptr}, dz{z, stride, nullptr};
    P::multiply({rows, V, H, x, true, weight, true, {z, stride, nullptr}, false, p.bias}, me);
    const auto softmax_of = [&](Index r, Real* sum, bool first) {
        for (Index v = V; v < width; ++v) z[r * stride + v] = -static_cast<Real>(__builtin_inf());
        part.nll[part.start + r] = row_loss(z + r * stride, width, static_cast<Index>(p.targets[part.start + r]),
                                            static_cast<Real>(p.scale), p.dx || p.dweight || p.dbias, sum, first);
    };
    const bool by_blocks = blocks >= 2 * me.size;  // else there are too few; the sums have the same order
    for (Index r = me.first(rows); !by_blocks && r < me.last(rows); ++r) softmax_of(r, nullptr, false);
    if (!by_blocks) me.barrier();
    for (Index block = me.first(blocks); block < me.last(blocks); ++block) {
        const Index from = block * kRowsTogether, to = from + kRowsTogether < rows ? from + kRowsTogether : rows;
        for (Index r = from; by_blocks && r < to; ++r) softmax_of(r, sums ? sums + block * width : nullptr, r == from);
        if (packed) P::pack_left(packed, from, dz, to - from, V);
    }
    me.barrier();
    // db, in the same order either way: the rows of a block, then the blocks. Columns in whole vectors.
    const Index vectors = (V + kLanes<Real> - 1) / kLanes<Real>;
    for (Index k = me.first(vectors); p.dbias && k < me.last(vectors); ++k) {
        const Index v = k * kLanes<Real>;
        Vector<Real> total = load(p.dbias + v, V - v);
        for (Index block = 0; block < blocks; ++block) {
            Vector<Real> sum;
            if (by_blocks) {
                sum = load(sums + block * width + v);
            } else {
                sum = load(z + block * kRowsTogether * stride + v);
                const Index end = (block + 1) * kRowsTogether < rows ? (block + 1) * kRowsTogether : rows;
                for (Index r = block * kRowsTogether + 1; r < end; ++r) sum = sum + load(z + r * stride + v);
            }
            total = total + sum;
        }
        store(p.dbias + v, total, V - v);
    }
    if (p.dx) P::multiply({rows, H, V, dz, true, weight, false, {p.dx + part.start * H, H, nullptr}}, me, packed);
    if (p.dweight) P::multiply({V, H, rows, dz, false, x, false, {p.dweight, H, nullptr}, part.later}, me, packed);
    me.release(before);
}

// By exponentials that are packed at once: loss_in_pairs.hpp.
template <class P>
bool loss_by_exponentials(const LinearLoss<float>& p, const LossRows& part, Member me);

template <class P>
void linear_loss(const LinearLoss<typename P::Real>& p, Member me) {
    // Exponentials take a third of the memory of logits and what is packed of them.
    const Index most = P::kInPairs ? 3 * p.chunk : p.chunk, chunks = (p.N + most - 1) / most;
    double* nll = me.shared<double>(p.N);
    if (p.dbias) {
        for (Index v = me.first(p.V); v < me.last(p.V); ++v) p.dbias[v] = 0;
    }
    if (p.dweight && !chunks) {
        for (Index k = me.first(p.V * p.H); k < me.last(p.V * p.H); ++k) p.dweight[k] = 0;
    }
    for (Index chunk = 0; chunk < chunks; ++chunk) {
        const Index start = p.N * chunk / chunks, rows = p.N * (chunk + 1) / chunks - start;
        if constexpr (P::kInPairs) {
            if (loss_by_exponentials<P>(p, {start, rows, chunk > 0, nll}, me)) continue;
        }
        const Index pieces = (rows + p.chunk - 1) / p.chunk;
        for (Index piece = 0; piece < pieces; ++piece) {
            const Index from = rows * piece / pieces, some = rows * (piece + 1) / pieces - from;
            loss_by_logits<P>(p, {start + from, some, chunk > 0 || piece > 0, nll}, me);
        }
    }
    if (me.index == 0) {
        double total = 0;
        for (Index n = 0; n < p.N; ++n) total += nll[n];
        *p.nll = total * p.scale;
    }
}

}  // namespace gatewise::GATEWISE_TARGET
