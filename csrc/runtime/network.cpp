// What a model computes.
#include "network.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

namespace gatewise {
namespace {

constexpr Index kHeads = 128;  // steps whose outputs are computed together; results do not depend on it

Problem not_finite(const char* what) {
    return {GW_NOT_FINITE, std::string(what) +
                               " are not finite: the weights or the input are too large; scale the "
                               "input as in training"};
}

bool all_finite(const std::vector<float>& numbers) {
    float sum = 0;  // of zeros, or NaN
    for (float x : numbers) sum += x * 0.0f;
    return sum == 0;
}

// A state with a number that is not finite, which outputs need not show, is not kept: nothing could be made of it.
Problem check_state(const std::vector<float>& h, const std::vector<float>& c, const std::vector<float>& pooled) {
    return all_finite(h) && all_finite(c) && all_finite(pooled) ? Problem() : not_finite("the states of the model");
}

}  // namespace

// Collects what the head reads, and hands on its outputs, kHeads at a time.
class Network::Heads {
  public:
    // take(slot, outputs): what the head made of the vector that was added with this slot.
    Heads(const Network& network, std::function<void(Index slot, const float* outputs)> take)
        : network_(network), take_(std::move(take)) {}

    void add(const float* from, Index slot) {
        seen_.insert(seen_.end(), from, from + network_.about_.D * network_.about_.H), slots_.push_back(slot);
        if (static_cast<Index>(slots_.size()) == kHeads) flush();
    }

    void flush() {
        const Index outputs = network_.about_.outputs, count = static_cast<Index>(slots_.size());
        if (!count) return;
        answers_.resize(static_cast<std::size_t>(count * outputs));
        network_.linear(*network_.head_, count, seen_.data(), answers_.data());
        for (Index k = 0; k < count; ++k) take_(slots_[static_cast<std::size_t>(k)], answers_.data() + k * outputs);
        slots_.clear(), seen_.clear();
    }

  private:
    const Network& network_;
    const std::function<void(Index, const float*)> take_;
    std::vector<float> seen_, answers_;
    std::vector<Index> slots_;
};

Memory Network::fresh() const {
    const std::size_t LH = static_cast<std::size_t>(about_.L * about_.H);
    const bool pools = about_.pooling != Description::Pooling::last;
    return {std::vector<float>(LH), std::vector<float>(about_.is_lstm() ? LH : 0),
            std::vector<float>(pools ? static_cast<std::size_t>(about_.H) : 0), 0};
}

void Network::linear(const Stream& stream, Index rows, const float* x, float* y) const {
    stream.step(stream.useful_threads(threads_), rows, x, nullptr, nullptr, nullptr, nullptr, y);
}

Ends Network::zeros(Index layers, Index rows) const {
    const std::size_t size = static_cast<std::size_t>(layers * rows * about_.H);
    return {std::vector<float>(size), std::vector<float>(about_.is_lstm() ? size : 0)};
}

Ends Network::gathered(const std::vector<Memory*>& memories) const {
    const Index L = about_.L, H = about_.H, rows = static_cast<Index>(memories.size());
    Ends ends = zeros(L, rows);
    for (Index r = 0; r < rows; ++r) {
        const Memory& memory = *memories[static_cast<std::size_t>(r)];
        for (Index layer = 0; layer < L; ++layer) {
            std::copy_n(memory.h.begin() + layer * H, H, ends.h.begin() + (layer * rows + r) * H);
            if (!ends.c.empty()) std::copy_n(memory.c.begin() + layer * H, H, ends.c.begin() + (layer * rows + r) * H);
        }
    }
    return ends;
}

void Network::scatter(const Ends& ends, const std::vector<Memory*>& memories) const {
    const Index L = about_.L, H = about_.H, rows = static_cast<Index>(memories.size());
    for (Index r = 0; r < rows; ++r) {
        Memory& memory = *memories[static_cast<std::size_t>(r)];
        for (Index layer = 0; layer < L; ++layer) {
            std::copy_n(ends.h.begin() + (layer * rows + r) * H, H, memory.h.begin() + layer * H);
            if (!ends.c.empty()) std::copy_n(ends.c.begin() + (layer * rows + r) * H, H, memory.c.begin() + layer * H);
        }
    }
}

// Add an output y (H) of the last layer to what a row has pooled before, put what the head sees in its place, and count
// the step. Nothing is pooled where the head reads y itself.
void Network::pool(Memory& memory, float* y) const {
    const bool mean = about_.pooling == Description::Pooling::mean;
    const std::int64_t before = memory.count++;
    for (std::size_t k = 0; k < memory.pooled.size(); ++k) {
        float& sum = memory.pooled[k];
        sum = mean ? sum + y[k] : before && !(y[k] > sum) ? sum : y[k];
    }
    pooled(memory, y);
}

// Put what the head sees of pooled outputs in the place of y (H).
void Network::pooled(const Memory& memory, float* y) const {
    const bool mean = about_.pooling == Description::Pooling::mean;
    for (std::size_t k = 0; k < memory.pooled.size(); ++k) {
        y[k] = mean ? memory.pooled[k] / static_cast<float>(memory.count) : memory.pooled[k];
    }
}

Problem Network::step(Index rows, const void* inputs, Memory* const* memories, float* trace, void* outputs) const {
    const Description& d = about_;
    const Index H = d.H, L = d.L, G = d.gates();
    const bool ids = d.task == GW_LANGUAGE_MODEL, has_c = d.is_lstm();
    const std::vector<std::int64_t> ones(static_cast<std::size_t>(rows), 1);
    const Sequences in{rows, ones.data(), inputs};
    std::vector<float> x;
    if (Problem p = ids ? check_ids(static_cast<const std::int64_t*>(inputs), rows) : vectors(in, x)) return p;
    const std::vector<Memory*> before(memories, memories + rows);
    const Ends from = gathered(before);
    Ends to = zeros(L, rows);
    std::vector<float> gates(trace && G > 1 ? static_cast<std::size_t>(L * G * H) : 0);  // a trace has one row
    passes_[0]->step(passes_[0]->useful_threads(threads_), rows, ids ? inputs : x.data(), from.h.data(),
                     has_c ? from.c.data() : nullptr, to.h.data(), has_c ? to.c.data() : nullptr, nullptr,
                     gates.empty() ? nullptr : gates.data());
    std::vector<float> seen(to.h.end() - rows * H, to.h.end()), z(static_cast<std::size_t>(rows * d.outputs));
    std::vector<Memory> after;
    for (Index r = 0; r < rows; ++r) {
        after.push_back({{}, {}, memories[r]->pooled, memories[r]->count});
        pool(after.back(), seen.data() + r * H);
    }
    linear(*head_, rows, seen.data(), z.data());
    if (Problem p = finish(in, true, z, outputs)) return p;
    if (Problem p = check_state(to.h, to.c, {})) return p;
    for (const Memory& own : after) {
        if (Problem p = check_state({}, {}, own.pooled)) return p;
    }
    scatter(to, before);
    for (Index r = 0; r < rows; ++r) {
        Memory& own = after[static_cast<std::size_t>(r)];
        memories[r]->pooled.swap(own.pooled), memories[r]->count = own.count;
    }
    for (Index layer = 0; trace && layer < L; ++layer) {
        float* at = trace + layer * d.traced() * H;
        if (G > 1) at = std::copy_n(gates.begin() + layer * G * H, G * H, at);
        if (has_c) at = std::copy_n(to.c.begin() + layer * H, H, at);
        std::copy_n(to.h.begin() + layer * H, H, at);
    }
    return {};
}

Problem Network::outputs(Index rows, const Memory* const* memories, void* outputs) const {
    const Index H = about_.H, top = (about_.L - 1) * H;
    std::vector<float> seen(static_cast<std::size_t>(rows * H)), z(static_cast<std::size_t>(rows * about_.outputs));
    for (Index r = 0; r < rows; ++r) {
        const Memory& memory = *memories[r];
        if (!memory.pooled.empty() && !memory.count) {
            return {GW_DATA,
                    "state " + std::to_string(r) + " has read nothing to answer from; expected one input or more"};
        }
        std::copy_n(memory.h.begin() + top, H, seen.begin() + r * H);
        pooled(memory, seen.data() + r * H);
    }
    linear(*head_, rows, seen.data(), z.data());
    const std::vector<std::int64_t> ones(static_cast<std::size_t>(rows), 1);
    return finish({rows, ones.data(), nullptr}, true, z, outputs);
}

// Write logits or, of a regressor, numbers in the units of the training data. z: (items or rows, outputs).
Problem Network::finish(const Sequences& in, bool each, const std::vector<float>& z, void* outputs) const {
    const Description& d = about_;
    if (!all_finite(z)) return not_finite("the outputs of the model");
    if (!outputs) return {};
    if (d.task != GW_REGRESSOR) {
        std::copy(z.begin(), z.end(), static_cast<float*>(outputs));
        return {};
    }
    const double* x = static_cast<const double*>(in.inputs);
    double* to = static_cast<double*>(outputs);
    const float* from = z.data();
    Index end = 0;
    for (Index row = 0; row < in.rows; ++row) {
        const Index steps = static_cast<Index>(in.lengths[row]);
        end += steps;
        const double shift = d.y_mean + (d.relative ? x[(end - 1) * d.I + d.target] : 0);
        for (Index k = 0; k < (each ? steps : 1) * d.outputs; ++k)
            *to++ = static_cast<double>(*from++) * d.y_std + shift;
    }
    return {};
}

Problem Network::run(const Sequences& in, Memory* const* memories, bool over_time, void* outputs) const {
    const Description& d = about_;
    const bool each = over_time || d.task == GW_TAGGER;
    if (over_time && d.relative) {
        return {GW_USAGE, "this model reads the whole window before it answers; leave over_time at 0"};
    }
    std::vector<float> z(outputs ? static_cast<std::size_t>((each ? in.total() : in.rows) * d.outputs) : 0);
    std::vector<Memory> after;
    for (Index r = 0; memories && r < in.rows; ++r) after.push_back(*memories[r]);
    const bool prefixes = over_time && d.D == 2 && d.task != GW_TAGGER;
    float* to = outputs ? z.data() : nullptr;
    if (Problem p = prefixes ? run_prefixes(in, to) : run_rows(in, memories ? &after : nullptr, each, to)) return p;
    if (Problem p = finish(in, each, z, outputs)) return p;
    for (const Memory& own : after) {
        if (Problem p = check_state(own.h, own.c, own.pooled)) return p;
    }
    for (std::size_t r = 0; r < after.size(); ++r) std::swap(*memories[r], after[r]);
    return {};
}

// In two directions, an answer after each step reads that many steps from both ends.
Problem Network::run_prefixes(const Sequences& in, float* z) const {
    const Description& d = about_;
    const std::size_t width = d.reads_words() ? sizeof(gw_text) : sizeof(double) * static_cast<std::size_t>(d.I);
    const char* at = static_cast<const char*>(in.inputs);
    for (Index row = 0; row < in.rows; ++row) {
        for (std::int64_t t = 1; t <= in.lengths[row]; ++t, z += d.outputs) {
            if (Problem p = run_rows({1, &t, at}, nullptr, false, z)) return p;
        }
        at += width * static_cast<std::size_t>(in.lengths[row]);
    }
    return {};
}

// Write the head's outputs to z, of each item or of each row; z may be null. memories: before, and then after.
Problem Network::run_rows(const Sequences& in, std::vector<Memory>* memories, bool each, float* z) const {
    const Description& d = about_;
    const Index total = in.total();
    const bool ids = d.task == GW_LANGUAGE_MODEL;
    std::vector<float> x;
    if (Problem p = ids ? check_ids(static_cast<const std::int64_t*>(in.inputs), total) : vectors(in, x)) return p;
    const Index I = ids ? 0 : static_cast<Index>(x.size()) / total;
    const void* items = ids ? in.inputs : x.data();
    Heads heads(*this,
                [&](Index slot, const float* outputs) { std::copy_n(outputs, d.outputs, z + slot * d.outputs); });
    Batch::each(in, [&](const Batch& batch) {
        d.D == 1 ? run_forward(batch, items, I, memories, each, z ? &heads : nullptr)
                 : run_both_ways(batch, x.data(), I, total, each, heads);
    });
    heads.flush();
    return {};
}

// One direction; heads: null if no outputs are wanted.
void Network::run_forward(const Batch& batch, const void* items, Index I, std::vector<Memory>* memories, bool each,
                          Heads* heads) const {
    std::vector<Memory> fresh_ones(memories ? 0 : static_cast<std::size_t>(batch.rows), fresh());
    std::vector<Memory*> own;
    for (Index r = 0; r < batch.rows; ++r) {
        const std::size_t at = static_cast<std::size_t>(r);
        own.push_back(memories ? &(*memories)[static_cast<std::size_t>(batch.order[at])] : &fresh_ones[at]);
    }
    Ends ends = gathered(own);
    std::vector<float> seen(static_cast<std::size_t>(about_.H));
    sweep(*passes_[0], threads_, about_.L, about_.H, I, false, batch, items, ends,
          [&](Index t, Index n, const float* y) {
              for (Index r = 0; r < n; ++r) {
                  const std::size_t at = static_cast<std::size_t>(r);
                  std::copy_n(y + r * about_.H, about_.H, seen.begin());
                  pool(*own[at], seen.data());
                  if (!heads || (!each && t + 1 < batch.lengths[at])) continue;
                  heads->add(seen.data(), each ? batch.starts[at] + t : batch.order[at]);
              }
          });
    scatter(ends, own);
}

// Both directions, layer by layer. total: the items of the call.
void Network::run_both_ways(const Batch& batch, const float* x, Index I, Index total, bool each, Heads& heads) const {
    const Index H = about_.H, K = 2 * H;
    std::vector<float> y(static_cast<std::size_t>(total * K)), below, last(static_cast<std::size_t>(batch.rows * K));
    for (Index layer = 0; layer < about_.L; ++layer) {
        for (Index direction = 0; direction < 2; ++direction) {
            const Stream& stream = *passes_[static_cast<std::size_t>(2 * layer + direction)];
            Ends ends = zeros(1, batch.rows);
            const auto after = [&](Index t, Index n, const float* h) {
                for (Index r = 0; r < n; ++r) {
                    const Index item =
                        batch.item(r, direction ? batch.lengths[static_cast<std::size_t>(r)] - 1 - t : t);
                    std::copy_n(h + r * H, H, y.begin() + item * K + direction * H);
                }
            };
            sweep(stream, threads_, 1, H, layer ? K : I, direction == 1, batch, layer ? below.data() : x, ends, after);
            for (Index r = 0; r < batch.rows; ++r) {
                std::copy_n(ends.h.begin() + r * H, H, last.begin() + r * K + direction * H);
            }
        }
        if (layer + 1 < about_.L) below = y;
    }
    for (Index r = 0; r < batch.rows; ++r) {
        const std::size_t at = static_cast<std::size_t>(r);
        const float* steps = y.data() + batch.starts[at] * K;
        for (Index t = 0; each && t < batch.lengths[at]; ++t) heads.add(steps + t * K, batch.starts[at] + t);
        if (each) continue;
        float* seen = last.data() + r * K;
        if (about_.pooling != Description::Pooling::last) {
            Memory sums{{}, {}, std::vector<float>(static_cast<std::size_t>(K)), 0};
            for (Index t = 0; t < batch.lengths[at]; ++t) {
                std::copy_n(steps + t * K, K, seen);
                pool(sums, seen);
            }
        }
        heads.add(seen, batch.order[at]);
    }
}

Problem Network::score(const Sequences& in, Memory* const* memories, double* nll) const {
    const auto* ids = static_cast<const std::int64_t*>(in.inputs);
    if (Problem p = check_ids(ids, in.total())) return p;
    std::vector<Memory> after;
    for (Index r = 0; r < in.rows; ++r) after.push_back(memories ? *memories[r] : fresh());
    // The last id of a row is not read: it stays the next one.
    std::vector<std::int64_t> lengths, read;
    std::vector<Index> rows, next;  // of each sequence that is read, its row; of each item, the place of the next id
    Index place = 0;
    for (Index r = 0; r < in.rows; place += static_cast<Index>(in.lengths[r]), ++r) {
        if (in.lengths[r] < 2) continue;
        lengths.push_back(in.lengths[r] - 1), rows.push_back(r);
        for (Index t = 0; t < lengths.back(); ++t) read.push_back(ids[place + t]), next.push_back(place + t + 1);
    }
    std::vector<double> costs(read.size()), found(static_cast<std::size_t>(in.rows));
    const Target& target = active_target();
    Heads heads(*this, [&](Index item, const float* logits) {
        const std::int64_t id = ids[next[static_cast<std::size_t>(item)]];
        costs[static_cast<std::size_t>(item)] =
            target.log_sum_exp(logits, about_.outputs) - static_cast<double>(logits[id]);
    });
    std::vector<Memory> own;
    for (Index r : rows) own.push_back(std::move(after[static_cast<std::size_t>(r)]));
    const Sequences reading{static_cast<Index>(rows.size()), lengths.data(), read.data()};
    Batch::each(reading, [&](const Batch& batch) { run_forward(batch, read.data(), 0, &own, true, &heads); });
    heads.flush();
    std::size_t item = 0;
    for (std::size_t k = 0; k < rows.size(); ++k) {
        double& sum = found[static_cast<std::size_t>(rows[k])];
        for (std::int64_t t = 0; t < lengths[k]; ++t) sum += costs[item++];
        if (!std::isfinite(sum)) return not_finite("the probabilities of these ids");
    }
    for (std::size_t k = 0; memories && k < own.size(); ++k) {
        if (Problem p = check_state(own[k].h, own[k].c, own[k].pooled)) return p;
    }
    std::copy(found.begin(), found.end(), nll);
    for (std::size_t k = 0; memories && k < rows.size(); ++k) std::swap(*memories[rows[k]], own[k]);
    return {};
}

}  // namespace gatewise
