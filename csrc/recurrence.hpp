// A layer pass over all steps, forward and backward, for any cell: how members divide the work, and in which order.
//
// The large products (W_ih x of all steps, dx, dW) use `multiply`. The steps in between are computed in blocks of
// kTileColumns units: a member multiplies h' by the columns of W_hh for these units, one packed panel per gate, applies
// the cell, and writes their h. Either each member has its own blocks, and a barrier ends each step, because the next
// one needs all of h; or each member has its own rows, without barriers (Share). The backward pass has panels of W_hhᵀ.
//
// Scratch: the packed W_hh, two copies of the operand of a step, the carried values, the addresses of packed rows;
// forward: a of a block of steps, if the gates are not kept, and the sum of the biases; backward: da of all steps, its
// sums, the masked h'; and the scratch of `multiply`. All members call these functions with the same arguments, during
// the lifetime of a Session of the policy (product.hpp). Both contain barriers, and end with one.
#pragma once

#include "cells.hpp"
#include "passes.hpp"
#include "product.hpp"

namespace gatewise::GATEWISE_TARGET {

constexpr Index kNearBytes = 3 << 18;  // 768 KB, most of the smallest L2 cache of processors with AVX-512
// About how much of a is held at a time, if the gates are not kept: 16 MB; in the tests of the kernels, the least.
#ifdef GATEWISE_CHECKED
constexpr Index kHeldBytes = 0;
#else
constexpr Index kHeldBytes = 1 << 24;
#endif
constexpr Index kRowsAtOnce = 48;  // rows of a step at a time, so that their products stay in the L1 cache

// The share of a member in each step: either its own units, in half blocks, of all groups, with a barrier after each step;
// or (apart) all units of its own groups, if the groups divide evenly: then it waits for no other. See groups_for.
template <class Real>
class Share {
  public:
    static constexpr Index kHalf = kLanes<Real>;

    Share(const Steps& steps, Index H, Member me)
        : steps_(steps),
          me_(me),
          apart_(me.size > 1 && steps.groups % me.size == 0),
          first_group_(apart_ ? me.first(steps.groups) : 0),
          last_group_(apart_ ? me.last(steps.groups) : steps.groups) {
        const Index halves = (H + kHalf - 1) / kHalf;
        first_ = (apart_ ? 0 : me.first(halves)) * kHalf;
        last_ = (apart_ ? halves : me.last(halves)) * kHalf;
        if (last_ > H) last_ = H;
    }

    // Call f(block, next, first, last, group, r0, rows) for the units from `first` up to `last` of its blocks and, in
    // pieces, its rows of step s: `rows` rows of `order` from r0; `next` is the block that follows. Odd steps take the
    // blocks backwards: what the step before read last may still be in the cache.
    template <class F>
    void step(Index s, F f) const {
        const Index begin = first_ / (2 * kHalf), end = (last_ + 2 * kHalf - 1) / (2 * kHalf);
        for (Index k = begin; first_ < last_ && k < end; ++k) {
            const bool back = s % 2 != 0;
            const Index block = back ? begin + end - 1 - k : k, next = k + 1 == end ? block
                                                                       : back       ? block - 1
                                                                                    : block + 1;
            const Index first = block * 2 * kHalf, last = first + 2 * kHalf;
            for (const Group* group = steps_.group + first_group_; group != steps_.group + last_group_; ++group) {
                const Index rows = group->first + group->active(s);
                for (Index r0 = group->first; r0 < rows; r0 += kRowsAtOnce) {
                    f(block, next, first < first_ ? first_ : first, last < last_ ? last : last_, *group, r0,
                      rows - r0 < kRowsAtOnce ? rows - r0 : kRowsAtOnce);
                }
            }
        }
        if (!apart_) me_.barrier();
    }

    // Whether the part of `bytes` bytes of packed weights that this member reads in each step exceeds its L2 cache.
    bool far(Index bytes) const { return (apart_ ? bytes : bytes / me_.size) > kNearBytes; }

    // Wait until all members have finished all steps.
    void end() const {
        if (apart_) me_.barrier();
    }

  private:
    const Steps& steps_;
    Member me_;
    bool apart_;
    Index first_group_, last_group_, first_, last_;  // groups; units
};

// Set (T, B, width) to zero past the length of each row; contains no barrier.
template <class Real>
void clear_padding(Real* m, Index T, Index width, const Steps& steps, Member me) {
    if (steps.total == T * steps.rows) return;
    for (Index r = me.first(steps.rows); r < me.last(steps.rows); ++r) {
        for (Index t = steps.lengths[r]; t < T; ++t) {
            __builtin_memset(m + (t * steps.rows + steps.order[r]) * width, 0,
                             static_cast<std::size_t>(width) * sizeof(Real));
        }
    }
}

// The address of each packed row in (T, B, width), computed by all members into scratch. Ends with a barrier.
template <class Real>
Rows<Real> packed_rows(Real* m, Index width, const Steps& steps, Member me) {
    Real** at = me.shared<Real*>(steps.total);
    for (Index k = me.first(steps.total); k < me.last(steps.total); ++k) at[k] = m + steps.place[k] * width;
    me.barrier();
    return {nullptr, 0, at};
}

// The end of a block of steps, from `first`, whose a is held at a time: `most` rows, rounded up to whole steps. left:
// the number of rows from `first`, then of those after the block. A block that would leave `few` rows or less takes
// them, too: either all blocks have more than `few` rows, or there is one, so that each product is computed as that of
// all steps.
inline Index block_end(const Steps& steps, Index first, Index& left, Index most, Index few) {
    Index s = first, rows = 0;
    for (; s < steps.count && rows < most; ++s) {
        for (Index g = 0; g < steps.groups; ++g) rows += steps.group[g].active(s);
    }
    left = left - rows > few ? left - rows : 0;
    return left ? s : steps.count;
}

template <class P, class Cell>
void forward(const LayerForward<typename P::Real>& p, Member me) {
    using Real = typename P::Real;
    using V = Vector<Real>;
    using Factor = typename P::Factor;
    constexpr Index G = Cell::kGates, NR = kTileColumns<Real>;
    const Steps& steps = p.steps;
    const Index H = p.H, B = steps.rows, blocks = (H + NR - 1) / NR;

    // W_hh in panels, one per block of units and gate; with vectors, panel[k·NR + j] = W_hh[gate·H + block·NR + j][k].
    const Index panel = P::panel_size(H), row = P::row_size(H);
    Factor* w_hh = me.shared<Factor>(blocks * G * panel);
    for (Index k = me.first(blocks * G); k < me.last(blocks * G); ++k) {
        Index unit = k / G * NR, gate = k % G, count = H - unit < NR ? H - unit : NR;
        P::pack_panel(w_hh + k * panel, {p.weights.w_hh, H, nullptr}, true, gate * H + unit, count, H);
    }

    // Two buffers, used in turn, for h' of a step as an operand; and the carried values. Both in the order of `order`.
    Factor* operand[2] = {me.shared<Factor>(B * row), me.shared<Factor>(B * row)};
    Real* carried = me.shared<Real>(B * H);
    for (Index r = me.first(B); r < me.last(B); ++r) {
        Index from = steps.order[r] * H;
        // Also past H: tiles read it.
        for (Index k = 0; k < row; ++k) operand[0][r * row + k] = operand[1][r * row + k] = 0;
        for (Index unit = 0; unit < H; unit += kLanes<Real>) {
            V h = load(p.h_0 + from + unit, H - unit);
            if (steps.lengths[r] == 0) store(p.h_n + from + unit, h, H - unit);
            if (Cell::kCarries) {
                V c = p.c_0 ? load(p.c_0 + from + unit, H - unit) : h;
                store(carried + r * H + unit, c, H - unit);
                if (p.c_0 && steps.lengths[r] == 0) store(p.c_n + from + unit, c, H - unit);
            }
            if (p.h_mask) h = h * load(p.h_mask + from + unit, H - unit);
            P::put(operand[0] + r * row + unit, row, h, H - unit);
        }
    }
    clear_padding(p.y, p.T, H, steps, me);
    if (p.traced_gates) clear_padding(p.traced_gates, p.T, G * H, steps, me);
    if (p.traced_cells) clear_padding(p.traced_cells, p.T, H, steps, me);

    // a = W_ih x + b, of all steps if the gates are kept, else of a block of steps at a time, group by group: packed
    // row k is row shift[group] + k of a.
    const Index fitting = kHeldBytes / (1 + G * H * static_cast<Index>(sizeof(Real)));  // H may be 0
    const Index most = p.gates ? steps.total : fitting > P::kFewRows ? fitting : P::kFewRows + 1;
    const Index bound = most + B + P::kFewRows, held = bound < steps.total ? bound : steps.total;  // rows
    Real* a = p.gates ? p.gates : me.shared<Real>(held * G * H);
    const Real** x = me.shared<const Real*>(held);
    Index* shift = me.own<Index>(steps.groups);
    Real* bias = p.weights.b_ih ? me.shared<Real>(G * H) : nullptr;
    if (bias) {
        for (Index k = me.first(G * H); k < me.last(G * H); ++k) {
            bias[k] = p.weights.b_ih[k] + (Cell::kProductApart ? 0 : p.weights.b_hh[k]);
        }
    }
    const auto begin_block = [&](Index first, Index last) {
        Index rows = 0;
        for (Index g = 0; g < steps.groups; ++g) {
            const Index from = steps.group[g].packed(first), count = steps.group[g].packed(last) - from;
            for (Index k = me.first(count); k < me.last(count); ++k) x[rows + k] = p.x + steps.place[from + k] * p.I;
            shift[g] = rows - from;
            rows += count;
        }
        const Rows<const Real> w_ih{p.weights.w_ih, p.I, nullptr};
        // Starts with a barrier: members may still be reading the a of the previous block.
        P::multiply({rows, G * H, p.I, {nullptr, 0, x}, true, w_ih, true, {a, G * H, nullptr}, false, bias}, me);
    };

    alignas(64) Real products[kRowsAtOnce * G * NR];
    const Share<Real> share(steps, H, me);
    const bool far = share.far(blocks * G * panel * static_cast<Index>(sizeof(Factor)));
    for (Index s = 0, end = 0, left = steps.total; s < steps.count; ++s) {
        if (s == end) {
            end = block_end(steps, s, left, most, P::kFewRows);
            begin_block(s, end);
        }
        const Factor* h_before = operand[s % 2];
        Factor* h_after = operand[(s + 1) % 2];
        share.step(s, [&](Index block, Index next, Index first, Index last, const Group& group, Index r0, Index rows) {
            const Index packed = group.offset[s] - group.first;  // row r of `order` is packed row `packed` + r
            Real* of_step = a + (shift[&group - steps.group] + packed) * G * H;
            for (Index r = r0; r < r0 + rows; ++r) {
                for (Index g = 0; g < G; ++g) fetch_row(of_step + (r * G + g) * H + first);
            }
            // (1); for the GRU, (2)
            for (Index gate = 0; gate < G; ++gate) {
                const Index after = gate + 1 < G ? block * G + gate + 1 : next * G;
                P::multiply_rows(rows, H, h_before + r0 * row, w_hh + (block * G + gate) * panel, first - block * NR,
                                 last - block * NR, products + gate * NR, G * NR, far ? w_hh + after * panel : nullptr);
            }
            for (Index unit = first; unit < last; unit += kLanes<Real>) {
                const Index count = H - unit, lane = unit - block * NR;
                V b_hh[G] = {};
                if (Cell::kProductApart && bias) {
                    for (Index g = 0; g < G; ++g) b_hh[g] = load(p.weights.b_hh + g * H + unit, count);
                }
                for (Index r = r0; r < r0 + rows; ++r) {
                    Real* gates = of_step + r * G * H + unit;
                    V in[G], u[G], out[G] = {}, extra{}, kept{};
                    for (Index g = 0; g < G; ++g) {
                        in[g] = load(gates + g * H, count);
                        u[g] = load(products + ((r - r0) * G + g) * NR + lane) + b_hh[g];
                    }
                    if (Cell::kCarries) kept = load(carried + r * H + unit, count);
                    V h = Cell::forward(in, u, out, kept, extra);
                    const Index place = steps.place[packed + r], state = steps.order[r] * H + unit;  // in y, in h_n
                    store(p.y + place * H + unit, h, count);
                    if (p.gates) {
                        for (Index g = 0; g < G; ++g) store(gates + g * H, out[g], count);
                    }
                    if (p.extra) store(p.extra + (packed + r) * H + unit, extra, count);
                    if (p.traced_gates) {
                        for (Index g = 0; g < G; ++g) store(p.traced_gates + (place * G + g) * H + unit, out[g], count);
                    }
                    if (p.traced_cells) store(p.traced_cells + place * H + unit, extra, count);
                    if (Cell::kCarries) store(carried + r * H + unit, kept, count);
                    if (steps.lengths[r] == s + 1) {
                        store(p.h_n + state, h, count);
                        if (p.c_0) store(p.c_n + state, kept, count);
                    }
                    if (p.h_mask) h = h * load(p.h_mask + state, count);
                    P::put(h_after + r * row + unit, row, h, count);
                }
            }
        });
    }
    share.end();
}

// Prefetch what a step of `backward` reads of packed row k, at `place`, of the units from `first`.
template <class Cell, class Real>
void fetch_inputs(const LayerBackward<Real>& p, Index k, Index place, Index first) {
    constexpr Index G = Cell::kGates;
    for (Index g = 0; Cell::kHasExtra && g < G; ++g) fetch_row(p.gates + (k * G + g) * p.H + first);
    if (Cell::kHasExtra) fetch_row(p.extra + k * p.H + first);
    fetch_row(p.dy + place * p.H + first);
}

template <class P, class Cell>
void backward(const LayerBackward<typename P::Real>& p, Member me) {
    using Real = typename P::Real;
    using V = Vector<Real>;
    using Factor = typename P::Factor;
    constexpr Index G = Cell::kGates, NR = kTileColumns<Real>;
    constexpr Index kSums = Cell::kProductApart ? G + 1 : G;  // for a GRU, du of gate n follows da
    const Steps& steps = p.steps;
    const Index H = p.H, B = steps.rows, blocks = (H + NR - 1) / NR, width = kSums * H;

    // da of all steps, packed at once where the policy has pairs, then without the last gate's du if it differs, which
    // is packed apart; its sums. What follows is released after the steps.
    Real* da = P::kInPairs ? nullptr : me.shared<Real>(steps.total * width);
    Factor* packed_da[2] = {};
    if constexpr (P::kInPairs) {
        packed_da[0] = me.shared<Factor>(P::left_size(steps.total, G * H));
        P::clear_rest(packed_da[0], steps.total, G * H, me);
        if (kSums > G) {
            packed_da[1] = me.shared<Factor>(P::left_size(steps.total, H));
            P::clear_rest(packed_da[1], steps.total, H, me);
        }
    }
    Real* db = me.shared<Real>(steps.groups * width);
    const Mark of_steps = me.mark();

    // W_hhᵀ in panels, one per block of units; with vectors, panel[k·NR + j] = W_hh[k][block·NR + j].
    const Index panel = P::panel_size(G * H), row = P::row_size(G * H);
    Factor* w_hh = me.shared<Factor>(blocks * panel);
    for (Index block = me.first(blocks); block < me.last(blocks); ++block) {
        Index unit = block * NR, count = H - unit < NR ? H - unit : NR;
        P::pack_panel(w_hh + block * panel, {p.weights.w_hh, H, nullptr}, false, unit, count, G * H);
    }

    // Two buffers, used in turn, for du of a step as an operand; and the carried values.
    Factor* operand[2] = {me.shared<Factor>(B * row), me.shared<Factor>(B * row)};
    Real* carried = me.shared<Real>(B * H);
    for (Index r = me.first(B); r < me.last(B); ++r) {
        for (Index k = 0; k < row; ++k) operand[0][r * row + k] = operand[1][r * row + k] = 0;
        for (Index unit = 0; unit < H; unit += kLanes<Real>) {
            V dc = p.dc_n ? load(p.dc_n + steps.order[r] * H + unit, H - unit) : V{};
            store(carried + r * H + unit, dc, H - unit);
        }
    }
    for (Index k = me.first(steps.groups * width); k < me.last(steps.groups * width); ++k) db[k] = 0;
    me.barrier();

    alignas(64) Real products[kRowsAtOnce * NR];
    const Share<Real> share(steps, H, me);
    const bool far = share.far(blocks * panel * static_cast<Index>(sizeof(Factor)));
    for (Index s = steps.count - 1; s >= -1; --s) {  // -1: before the first step, for dh_0 and dc_0
        const Factor* du_after = operand[(s + 1) % 2];
        Factor* du = operand[(s + 2) % 2];  // s % 2, also for s = -1
        share.step(s, [&](Index block, Index next, Index first, Index last, const Group& group, Index r0, Index rows) {
            // Row r of `order` is packed row `packed` + r; one step earlier, `packed_before` + r.
            const Index packed = s >= 0 ? group.offset[s] - group.first : 0;
            const Index packed_before = s > 0 ? group.offset[s - 1] - group.first : 0;
            const Index later = group.first + group.active(s + 1) - r0;  // rows that also have the next step
            const Index multiplied = later < rows ? later : rows;
            for (Index r = r0; s >= 0 && r < r0 + rows; ++r) {
                fetch_inputs<Cell>(p, packed + r, steps.place[packed + r], first);
            }
            if (multiplied > 0) {
                P::multiply_rows(multiplied, G * H, du_after + r0 * row, w_hh + block * panel, first - block * NR,
                                 last - block * NR, products, NR, far ? w_hh + next * panel : nullptr);
            }
            for (Index unit = first; unit < last; unit += kLanes<Real>) {
                const Index count = H - unit, lane = unit - block * NR;
                V sums[kSums] = {};
                for (Index r = r0; r < r0 + rows; ++r) {
                    const Index state = steps.order[r] * H + unit;
                    V d, kept = load(carried + r * H + unit, count);
                    if (r - r0 < multiplied) {
                        d = load(products + (r - r0) * NR + lane);
                        if (p.h_mask) d = d * load(p.h_mask + state, count);
                    } else {  // the last step of the row, or a row without steps
                        d = load(p.dh_n + state, count);
                    }
                    if (s < 0) {
                        store(p.dh_0 + state, Cell::kCarriesH ? d + kept : d, count);
                        if (p.dc_0) store(p.dc_0 + state, kept, count);
                        continue;
                    }
                    const Index k = packed + r, place = steps.place[k], earlier = packed_before + r;
                    V gates[G] = {}, extra{}, before{}, h{}, da_t[kSums];
                    if (Cell::kHasExtra) {
                        for (Index g = 0; g < G; ++g) gates[g] = load(p.gates + (k * G + g) * H + unit, count);
                        extra = load(p.extra + k * H + unit, count);
                        const Real* from = Cell::kCarriesH
                                               ? (s > 0 ? p.y + steps.place[earlier] * H + unit : p.h_0 + state)
                                               : (s > 0 ? p.extra + earlier * H + unit : p.c_0 + state);
                        before = load(from, count);
                    } else {
                        h = load(p.y + place * H + unit, count);
                    }
                    Cell::backward(gates, extra, before, h, d + load(p.dy + place * H + unit, count), da_t,
                                   da_t[kSums - 1], kept);
                    for (Index g = 0; g < kSums; ++g) {
                        if constexpr (P::kInPairs) {
                            P::put_left(packed_da[g / G], k, g % G * H + unit, g < G ? G * H : H, da_t[g], count);
                        } else {
                            store(da + k * width + g * H + unit, da_t[g], count);
                        }
                        sums[g] = sums[g] + da_t[g];
                    }
                    for (Index g = 0; g < G; ++g) {
                        P::put(du + r * row + g * H + unit, row, da_t[g + 1 == G ? kSums - 1 : g], count);
                    }
                    if (Cell::kCarries) store(carried + r * H + unit, kept, count);
                }
                if (s >= 0) {
                    for (Index g = 0; g < kSums; ++g) {
                        Real* sum = db + (&group - steps.group) * width + g * H + unit;
                        store(sum, load(sum, count) + sums[g], count);
                    }
                }
            }
        });
    }
    share.end();
    me.release(of_steps);

    if (p.db_ih) {
        const auto sum = [&](Index k) {
            Real found = 0;
            for (Index group = 0; group < steps.groups; ++group) found += db[group * width + k];
            return found;
        };
        for (Index k = me.first(G * H); k < me.last(G * H); ++k) {
            p.db_ih[k] = sum(k);
            p.db_hh[k] = k < (G - 1) * H ? p.db_ih[k] : sum(k + (kSums - G) * H);
        }
    }

    // h' of each packed row, as it entered the product.
    const Real** h_before = me.shared<const Real*>(steps.total);
    Real* masked = p.h_mask ? me.shared<Real>(steps.total * H) : nullptr;
    for (const Group* group = steps.group; group != steps.group + steps.groups; ++group) {
        for (Index s = me.first(group->count); s < me.last(group->count); ++s) {
            for (Index r = 0; r < group->active(s); ++r) {
                const Index k = group->offset[s] + r, state = steps.order[group->first + r] * H;
                h_before[k] = s > 0 ? p.y + steps.place[group->offset[s - 1] + r] * H : p.h_0 + state;
                if (masked) {
                    Real* to = masked + k * H;
                    for (Index unit = 0; unit < H; ++unit) to[unit] = h_before[k][unit] * p.h_mask[state + unit];
                    h_before[k] = to;
                }
            }
        }
    }
    Rows<const Real> h{nullptr, 0, h_before}, x = packed_rows(p.x, p.I, steps, me);  // contains a barrier
    // For each part of da, its transpose, packed once for all products.
    const Factor* columns[2] = {};
    if constexpr (P::kInPairs) {
        for (int part = 0; part < (kSums > G ? 2 : 1); ++part) {
            const Index width = part ? H : G * H;
            Factor* to = me.shared<Factor>(P::left_size(width, steps.total));
            P::transpose_left(to, packed_da[part], steps.total, width, me);
            columns[part] = to;
        }
        me.barrier();
    }
    const Rows<const Real> all{da, width, nullptr}, apart{da + G * H, width, nullptr};
    P::multiply({G * H, p.I, steps.total, all, P::kInPairs, x, false, {p.dw_ih, p.I, nullptr}}, me, columns[0]);
    const Index same = kSums == G ? G * H : (G - 1) * H;  // rows in which du equals da
    P::multiply({same, H, steps.total, all, P::kInPairs, h, false, {p.dw_hh, H, nullptr}}, me, columns[0]);
    if (same < G * H) {
        Real* dw_hn = p.dw_hh + same * H;
        P::multiply({H, H, steps.total, apart, P::kInPairs, h, false, {dw_hn, H, nullptr}}, me, columns[1]);
    }
    if (p.dx) {
        clear_padding(p.dx, p.T, p.I, steps, me);
        Rows<Real> dx = packed_rows(p.dx, p.I, steps, me);
        P::multiply({steps.total, p.I, G * H, all, true, {p.weights.w_ih, p.I, nullptr}, false, dx}, me, packed_da[0]);
    }
}

}  // namespace gatewise::GATEWISE_TARGET
