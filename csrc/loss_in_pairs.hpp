// Softmax cross-entropy of packed pairs (pairs.hpp), without logits in memory.
#pragma once

#include "loss.hpp"
#include "pairs.hpp"

namespace gatewise::GATEWISE_TARGET {

// By exponentials that are packed at once, without logits in memory, for policies in pairs: e = exp(z − reference), where
// the reference of a row is the largest of its first logits. Then dz = f e, with f = scale / Σ e, once Σ e is subtracted
// from the e of the target: dx = f (e W), dW = eᵀ (f x), db = Σ f e. Returns false, in all members, if some sum is so
// large that an exponential may have overflowed, or is NaN: then nothing is written that counts.
template <class P>
bool loss_by_exponentials(const LinearLoss<float>& p, const LossRows& part, Member me) {
    using Factor = typename P::Factor;
    using V = Vector<float>;
    constexpr Index L = kLanes<float>, kPanelsTogether = 2;  // whose sums are added in order; then group by group
    constexpr float kLargest = 1e26f;                        // far from overflow, also times a weight
    const Index H = p.H, rows = part.rows, strips = (rows + kStrip - 1) / kStrip, padded = strips * kStrip;
    const Index panels = (p.V + kWidth - 1) / kWidth, groups = (panels + kPanelsTogether - 1) / kPanelsTogether;
    const float infinity = __builtin_inff();
    const Rows<const float> x{p.x + part.start * H, H, nullptr}, weight{p.weight, H, nullptr};
    const std::int64_t* targets = p.targets + part.start;
    const Mark before = me.mark();
    Factor* left = me.shared<Factor>(P::left_size(rows, H));
    Factor* e = p.dx || p.dweight || p.dbias ? me.shared<Factor>(P::left_size(rows, p.V)) : nullptr;
    float* reference = me.shared<float>(padded);
    float* of_target = me.shared<float>(padded);  // the logit of the target
    float* factor = me.shared<float>(padded);
    float* sums = me.shared<float>(groups * padded);
    bool* failed = me.shared<bool>(me.size);
    Factor* panel = me.own<Factor>(P::panel_size(H));
    float* blocks = me.own<float>(strips * kStrip * kWidth);

    for (Index strip = me.first(strips); strip < me.last(strips); ++strip) {
        const Index row = strip * kStrip;
        P::pack_left(left, row, x, rows - row < kStrip ? rows - row : kStrip, H);
    }
    me.barrier();
    // Call f(row, the logits of 32 columns in two vectors, their addresses in `blocks`) for the rows of some strips.
    const auto logits_of = [&](Index which, Index first, Index last, auto finish) {
        const Index n = which * kWidth;
        alignas(64) float bias[kWidth];
        for (Index k = 0; k < kWidth; ++k) bias[k] = n + k >= p.V ? -infinity : p.bias ? p.bias[n + k] : 0.0f;
        P::pack_panel(panel, weight, true, n, p.V - n < kWidth ? p.V - n : kWidth, H);
        P::multiply_strips(left, first, last, rows, panel, H, blocks, [&](Index strip, float* block) {
            for (Index row = strip * kStrip; row < (strip + 1) * kStrip; row += L) {
                finish(row, block + row % kStrip * kWidth, bias);
            }
        });
    };
    logits_of(0, me.first(strips), me.last(strips), [&](Index from, const float* z, const float* bias) {
        for (Index r = 0; r < L; ++r, z += kWidth) {
            float largest = -infinity;
            for (Index k = 0; k < kWidth; ++k) largest = z[k] + bias[k] > largest ? z[k] + bias[k] : largest;
            reference[from + r] = largest;
        }
    });
    me.barrier();
    for (Index group = me.first(groups); group < me.last(groups); ++group) {
        const Index end = (group + 1) * kPanelsTogether < panels ? (group + 1) * kPanelsTogether : panels;
        float* sum = sums + group * padded;
        for (Index which = group * kPanelsTogether; which < end; ++which) {
            const bool first = which == group * kPanelsTogether;
            logits_of(which, 0, strips, [&](Index from, const float* z, const float* bias) {
                V both[L];
                for (Index r = 0; r < L; ++r, z += kWidth) {
                    V low{}, high{};
                    const Index row = from + r;
                    if (row < rows) {
                        const Index target = targets[row] - which * kWidth;
                        if (target >= 0 && target < kWidth) of_target[row] = z[target] + bias[target];
                        low = exp_or_zero(load(z) + load(bias) - reference[row]);
                        high = exp_or_zero(load(z + L) + load(bias + L) - reference[row]);
                    }
                    if (e) P::put_line(P::left_line(e, row, which, p.V), low, high);
                    both[r] = low + high;
                }
                transpose_square<float>(both);
                V total = first ? V{} : load(sum + from);
                for (Index k = 0; k < L; ++k) total += both[k];
                store(sum + from, total);
            });
        }
    }
    me.barrier();
    failed[me.index] = false;
    for (Index row = me.first(padded); row < me.last(padded); ++row) {
        if (row >= rows) {
            factor[row] = 0;
            continue;
        }
        double total = 0;
        for (Index group = 0; group < groups; ++group) total += static_cast<double>(sums[group * padded + row]);
        if (!(total < kLargest)) failed[me.index] = true;
        factor[row] = static_cast<float>(p.scale / total);
        part.nll[part.start + row] =
            std::log(total) + (static_cast<double>(reference[row]) - static_cast<double>(of_target[row]));
        if (!e) continue;
        Factor* line = P::left_line(e, row, targets[row] / kWidth, p.V);
        V of[2];
        P::read_line(line, of[0], of[1]);
        const Index k = targets[row] % kWidth;
        const double own = static_cast<double>(exp_or_zero(V{} + (of_target[row] - reference[row]))[0]);
        of[k / L][k % L] = static_cast<float>(own - total);
        P::put_line(line, of[0], of[1]);
    }
    me.barrier();
    bool any = false;
    for (int k = 0; k < me.size; ++k) any = any || failed[k];
    if (!any && p.dbias) {
        for (Index which = me.first(panels); which < me.last(panels); ++which) {
            V low{}, high{};
            for (Index row = 0; row < rows; ++row) {
                V a, b;
                P::read_line(P::left_line(e, row, which, p.V), a, b);
                low += a * factor[row], high += b * factor[row];
            }
            const Index n = which * kWidth, count = p.V - n;
            store(p.dbias + n, load(p.dbias + n, count) + low, count);
            store(p.dbias + n + L, load(p.dbias + n + L, count - L) + high, count - L);
        }
    }
    if (!any && p.dx) {
        float* dx = p.dx + part.start * H;
        P::multiply({rows, H, p.V, {}, true, weight, false, {dx, H, nullptr}}, me, e);
        for (Index row = me.first(rows); row < me.last(rows); ++row) {
            for (Index k = 0; k < H; ++k) dx[row * H + k] *= factor[row];
        }
    }
    if (!any && p.dweight) {
        float* scaled = me.shared<float>(rows * H);
        for (Index row = me.first(rows); row < me.last(rows); ++row) {
            for (Index k = 0; k < H; ++k) scaled[row * H + k] = x[row][k] * factor[row];
        }
        me.barrier();
        P::multiply({p.V, H, rows, {}, false, {scaled, H, nullptr}, false, {p.dweight, H, nullptr}, part.later}, me, e);
    }
    me.release(before);
    return !any;
}

}  // namespace gatewise::GATEWISE_TARGET
