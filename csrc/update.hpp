// The norm of all gradients, and the step of an optimizer with clipped gradients (GradientNorm, Update): each reads and
// writes memory once. The members divide the elements in pieces; sums are added piece by piece, in order. Scratch: one
// number per piece, for the norm only. An update needs no barrier. The compiler vectorizes the inner loops.
#pragma once

#include "team.hpp"
#include "training.hpp"
#include "vector.hpp"

namespace gatewise::GATEWISE_TARGET {

constexpr Index kPiece = 1 << 14;

// Call f(parameter k, index of the piece among all pieces, first, last) for the pieces of this member; `size` returns
// the number of items of a parameter, `piece` the number of items in a piece.
template <class Size, class Piece, class F>
inline void each_piece(Index count, Member me, Size size, Piece piece, F f) {
    auto pieces = [&](Index k) { return (size(k) + piece(k) - 1) / piece(k); };
    Index total = 0, before = 0;
    for (Index k = 0; k < count; ++k) total += pieces(k);
    const Index from = me.first(total), to = me.last(total);
    for (Index k = 0; k < count; ++k) {
        const Index own = pieces(k);
        for (Index i = from > before ? from - before : 0; i < own && before + i < to; ++i) {
            const Index first = i * piece(k), last = first + piece(k);
            f(k, before + i, first, last < size(k) ? last : size(k));
        }
        before += own;
    }
}

// Σ g², in double.
inline double sum_of_squares(const float* g, Index count) {
    typedef float Half __attribute__((vector_size(GATEWISE_VECTOR_BYTES / 2)));
    constexpr Index L = kLanes<double>;
    constexpr int kSums = 8;  // independent sums hide the latency of additions
    Vector<double> sums[kSums] = {};
    double total = 0;
    Index k = 0;
    for (; k + kSums * L <= count; k += kSums * L) {
        for (int j = 0; j < kSums; ++j) {
            Half half;
            __builtin_memcpy(&half, g + k + j * L, sizeof half);
            const Vector<double> x = __builtin_convertvector(half, Vector<double>);
            sums[j] += x * x;
        }
    }
    for (; k < count; ++k) total += static_cast<double>(g[k]) * static_cast<double>(g[k]);
    for (int j = 0; j < kSums; ++j) {
        for (Index lane = 0; lane < L; ++lane) total += sums[j][lane];
    }
    return total;
}

inline void gradient_norm(const GradientNorm& n, Member me) {
    auto size = [&](Index k) { return n.parameters[k].gradient_count(); };
    auto piece = [](Index) { return kPiece; };
    Index pieces = 0;
    for (Index k = 0; k < n.count; ++k) pieces += (size(k) + kPiece - 1) / kPiece;
    double* sums = me.shared<double>(pieces);
    each_piece(n.count, me, size, piece, [&](Index k, Index place, Index first, Index last) {
        sums[place] = sum_of_squares(n.parameters[k].g + first, last - first);
    });
    me.barrier();
    if (me.index == 0) {
        double total = 0;
        for (Index i = 0; i < pieces; ++i) total += sums[i];
        *n.norm = std::sqrt(total);
    }
}

// The constants of an update for one parameter.
struct UpdateNumbers {
    float clip, decay, lr, beta1, rest1, beta2, rest2, step, root, epsilon;

    // Computed in double: 1 − β₂ with β₂ rounded to float would have an error of 1e-5.
    UpdateNumbers(const Update& u, const Parameter& p)
        : clip(static_cast<float>(u.clip)),
          decay(static_cast<float>(u.weight_decay)),
          lr(static_cast<float>(u.lr)),
          beta1(static_cast<float>(u.beta1)),
          rest1(static_cast<float>(1 - u.beta1)),
          beta2(static_cast<float>(u.beta2)),
          rest2(static_cast<float>(1 - u.beta2)),
          step(static_cast<float>(u.lr / p.correction_m)),
          root(static_cast<float>(1 / std::sqrt(p.correction_v))),
          epsilon(static_cast<float>(u.epsilon)) {}
};

inline void sgd(const UpdateNumbers& n, float* __restrict p, const float* __restrict g, Index count) {
    for (Index k = 0; k < count; ++k) p[k] -= n.lr * (n.clip * (g ? g[k] : 0.0f) + n.decay * p[k]);
}

// decoupled: AdamW, whose weight decay applies to p directly.
template <bool decoupled>
inline void adam(const UpdateNumbers& n, float* __restrict p, const float* __restrict g, float* __restrict m,
                 float* __restrict v, Index count) {
    for (Index k = 0; k < count; ++k) {
        float x = p[k], d = n.clip * (g ? g[k] : 0.0f);
        if (decoupled) {
            x -= n.lr * n.decay * x;
        } else {
            d += n.decay * x;
        }
        const float mean = n.beta1 * m[k] + n.rest1 * d, square = n.beta2 * v[k] + n.rest2 * d * d;
        m[k] = mean, v[k] = square;
        p[k] = x - n.step * mean / (__builtin_sqrtf(square) * n.root + n.epsilon);
    }
}

inline void update(const Update& u, Member me) {
    auto rows_alone = [&](const Parameter& p) { return p.width && u.rule == UpdateRule::sgd && u.weight_decay == 0; };
    // A parameter with a sparse gradient is distributed by rows, the others by elements.
    auto size = [&](Index k) {
        const Parameter& p = u.parameters[k];
        return rows_alone(p) ? p.row_count : p.width ? p.count / p.width : p.count;
    };
    auto piece = [&](Index k) {
        const Parameter& p = u.parameters[k];
        return p.width == 0 ? kPiece : p.width < kPiece ? kPiece / p.width : 1;
    };
    each_piece(u.count, me, size, piece, [&](Index k, Index, Index first, Index last) {
        const Parameter& p = u.parameters[k];
        const UpdateNumbers numbers(u, p);
        auto numbers_from = [&](Index at, const float* g, Index count) {
            switch (u.rule) {
                case UpdateRule::sgd: return sgd(numbers, p.p + at, g, count);
                case UpdateRule::adam: return adam<false>(numbers, p.p + at, g, p.m + at, p.v + at, count);
                case UpdateRule::adamw: return adam<true>(numbers, p.p + at, g, p.m + at, p.v + at, count);
            }
        };
        if (p.width == 0) return numbers_from(first, p.g + first, last - first);
        if (rows_alone(p)) {
            for (Index i = first; i < last; ++i) numbers_from(p.rows[i] * p.width, p.g + i * p.width, p.width);
            return;
        }
        Index i = 0;  // the first gradient row at or after `first`
        for (Index end = p.row_count; i < end;) {
            const Index middle = i + (end - i) / 2;
            if (p.rows[middle] < first) {
                i = middle + 1;
            } else {
                end = middle;
            }
        }
        for (Index row = first; row < last; ++row) {
            const bool has = i < p.row_count && p.rows[i] == row;
            numbers_from(row * p.width, has ? p.g + i++ * p.width : nullptr, p.width);
        }
    });
}

}  // namespace gatewise::GATEWISE_TARGET
