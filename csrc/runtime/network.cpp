// What a model computes.
#include "network.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "text.hpp"

namespace gatewise {
namespace {

constexpr Index kRows = 64;    // sequences that are read together; results do not depend on it
constexpr Index kHeads = 128;  // steps whose outputs are computed together; likewise

Problem not_finite(const char* what) {
    return {
        GW_NOT_FINITE,
        std::string(what) + " are not finite: the weights or the input are too large; scale the input as in training"};
}

bool all_finite(const float* x, Index count) {
    float sum = 0;  // of zeros, or NaN
    for (Index k = 0; k < count; ++k) sum += x[k] * 0.0f;
    return sum == 0;
}

Index total_of(const Sequences& in) {
    return static_cast<Index>(std::accumulate(in.lengths, in.lengths + in.rows, std::int64_t{0}));
}

const gw_text* words_of(const Sequences& in) { return static_cast<const gw_text*>(in.inputs); }

}  // namespace

// Rows of a call in the order of falling length, so that those within a step are the first n.
struct Network::Batch {
    Index rows, longest;
    std::vector<Index> order, lengths, starts;  // the row; its steps and the place of its first input, by position

    // Rows from `first` up to `last` of the given order.
    Batch(const Sequences& in, const std::vector<Index>& sorted, const std::vector<Index>& places, Index first,
          Index last)
        : rows(last - first), longest(static_cast<Index>(in.lengths[sorted[static_cast<std::size_t>(first)]])) {
        for (Index k = first; k < last; ++k) {
            const Index row = sorted[static_cast<std::size_t>(k)];
            order.push_back(row), lengths.push_back(static_cast<Index>(in.lengths[row]));
            starts.push_back(places[static_cast<std::size_t>(row)]);
        }
    }

    Index within(Index t) const {  // how many rows have a step t
        Index n = rows;
        while (lengths[static_cast<std::size_t>(n - 1)] <= t) --n;
        return n;
    }

    // Call f with batches of up to kRows rows.
    template <class F>
    static Problem each(const Sequences& in, F f) {
        std::vector<Index> sorted(static_cast<std::size_t>(in.rows)), places(sorted.size());
        std::iota(sorted.begin(), sorted.end(), 0);
        Index place = 0;
        for (Index row = 0; row < in.rows; ++row)
            places[static_cast<std::size_t>(row)] = place, place += static_cast<Index>(in.lengths[row]);
        std::stable_sort(sorted.begin(), sorted.end(), [&](Index a, Index b) { return in.lengths[a] > in.lengths[b]; });
        for (Index first = 0; first < in.rows; first += kRows) {
            if (Problem p = f(Batch(in, sorted, places, first, std::min(first + kRows, in.rows)))) return p;
        }
        return {};
    }
};

// The states of a batch before and after, each (L, rows, H) by position; c is empty but for an LSTM.
struct Network::Ends {
    std::vector<float> h, c;
};

Memory Network::fresh() const {
    const std::size_t LH = static_cast<std::size_t>(about_.L * about_.H);
    const bool pools = about_.pooling != Description::Pooling::last;
    return {std::vector<float>(LH), std::vector<float>(about_.is_lstm() ? LH : 0),
            std::vector<float>(pools ? static_cast<std::size_t>(about_.H) : 0), 0};
}

// Run a stream over a batch. x: items of I floats, or ids. after(t, n, y, trace): step t of the first n rows gave the last
// layer's h, (n, H).
template <class After>
void Network::sweep(const Stream& stream, Index L, Index H, Index I, bool reverse, const Batch& batch, const void* x,
                    Ends& ends, After after) const {
    const bool has_c = !ends.c.empty();
    const std::size_t most = static_cast<std::size_t>(L * batch.rows * H);
    std::vector<float> h = ends.h, c = ends.c, h_n(most), c_n(has_c ? most : 0), vectors;
    std::vector<std::int64_t> ids;
    const auto* numbers = static_cast<const float*>(x);
    const auto* given = static_cast<const std::int64_t*>(x);
    Index before = batch.rows;
    for (Index t = 0; t < batch.longest; ++t) {
        const Index n = batch.within(t);
        for (Index layer = 1; n < before && layer < L; ++layer) {  // rows that ended leave their place
            std::copy_n(h.begin() + layer * before * H, n * H, h.begin() + layer * n * H);
            if (has_c) std::copy_n(c.begin() + layer * before * H, n * H, c.begin() + layer * n * H);
        }
        ids.resize(I ? 0 : static_cast<std::size_t>(n)), vectors.resize(static_cast<std::size_t>(n * I));
        for (Index r = 0; r < n; ++r) {
            const std::size_t at = static_cast<std::size_t>(r);
            const Index item = batch.starts[at] + (reverse ? batch.lengths[at] - 1 - t : t);
            if (I) {
                std::copy_n(numbers + item * I, I, vectors.begin() + r * I);
            } else {
                ids[at] = given[item];
            }
        }
        const void* from = I ? static_cast<const void*>(vectors.data()) : ids.data();
        stream.step(stream.useful_threads(threads_), n, from, h.data(), has_c ? c.data() : nullptr, h_n.data(),
                    has_c ? c_n.data() : nullptr, nullptr);
        h.swap(h_n), c.swap(c_n);
        for (Index r = n; r-- > 0 && batch.lengths[static_cast<std::size_t>(r)] == t + 1;) {  // rows that end here
            for (Index layer = 0; layer < L; ++layer) {
                std::copy_n(h.begin() + (layer * n + r) * H, H, ends.h.begin() + (layer * batch.rows + r) * H);
                if (has_c)
                    std::copy_n(c.begin() + (layer * n + r) * H, H, ends.c.begin() + (layer * batch.rows + r) * H);
            }
        }
        after(t, n, h.data() + (L - 1) * n * H);
        before = n;
    }
}

void Network::linear(const Stream& stream, Index rows, const float* x, float* y) const {
    stream.step(stream.useful_threads(threads_), rows, x, nullptr, nullptr, nullptr, nullptr, y);
}

Problem Network::check_ids(const std::int64_t* ids, Index count) const {
    for (Index k = 0; k < count; ++k) {
        if (ids[k] >= 0 && ids[k] < tokens_.size()) continue;
        return {GW_DATA, "id " + std::to_string(ids[k]) + " is outside the vocabulary; expected 0 to " +
                             std::to_string(tokens_.size() - 1)};
    }
    return {};
}

// The vectors of words by their characters, (words, K).
Problem Network::spelled(const std::vector<std::string_view>& words, std::vector<float>& to) const {
    const Description& d = about_;
    const Index E = d.character_E, H = d.character_H;
    const bool lstm = d.characters == Description::Characters::lstm;
    const Index K = lstm ? 2 * H : H;
    to.assign(words.size() * static_cast<std::size_t>(K), 0.0f);
    std::vector<std::int64_t> ids, lengths;
    std::vector<Index> places;
    for (std::size_t word = 0; word < words.size(); ++word) {
        const std::size_t before = ids.size();
        each_character(words[word],
                       [&](std::uint32_t, std::string_view bytes) { ids.push_back(characters_.id_of(bytes)); });
        if (ids.size() == before) continue;  // an empty word has zeros
        lengths.push_back(static_cast<std::int64_t>(ids.size() - before)), places.push_back(static_cast<Index>(word));
    }
    const Sequences in{static_cast<Index>(lengths.size()), lengths.data(), ids.data()};
    if (lstm) {
        return Batch::each(in, [&](const Batch& batch) -> Problem {
            for (Index direction = 0; direction < 2; ++direction) {
                const std::vector<float> zeros(static_cast<std::size_t>(batch.rows * H));
                Ends ends{zeros, zeros};
                sweep(*spelling_[static_cast<std::size_t>(direction)], 1, H, 0, direction == 1, batch, ids.data(), ends,
                      [](Index, Index, const float*) {});
                for (Index r = 0; r < batch.rows; ++r) {
                    const Index word = places[static_cast<std::size_t>(batch.order[static_cast<std::size_t>(r)])];
                    std::copy_n(ends.h.begin() + r * H, H, to.begin() + word * K + direction * H);
                }
            }
            return {};
        });
    }
    std::vector<float> windows, answers;
    Index first = 0;
    for (std::size_t row = 0; row < lengths.size(); ++row, first += static_cast<Index>(lengths[row - 1])) {
        const Index count = static_cast<Index>(lengths[row]);
        windows.assign(static_cast<std::size_t>(count * 3 * E), 0.0f),
            answers.resize(static_cast<std::size_t>(count * H));
        for (Index s = 0; s < count; ++s) {
            for (Index k = 0; k < 3; ++k) {
                const Index from = s + k - 1;
                if (from < 0 || from >= count) continue;
                std::copy_n(character_table_.begin() + ids[static_cast<std::size_t>(first + from)] * E, E,
                            windows.begin() + (s * 3 + k) * E);
            }
        }
        linear(*spelling_[0], count, windows.data(), answers.data());
        float* best = to.data() + places[row] * K;
        std::copy_n(answers.begin(), H, best);
        for (Index s = 1; s < count; ++s) {
            for (Index k = 0; k < H; ++k)
                best[k] = answers[static_cast<std::size_t>(s * H + k)] > best[k]
                              ? answers[static_cast<std::size_t>(s * H + k)]
                              : best[k];
        }
    }
    return {};
}

// What the first layer reads, for models that do not read ids.
Problem Network::vectors(const Sequences& in, std::vector<float>& x) const {
    const Description& d = about_;
    const Index total = total_of(in), I = d.I;
    if (!d.reads_words()) {
        const double* given = static_cast<const double*>(in.inputs);
        x.resize(static_cast<std::size_t>(total * I));
        Index item = 0;
        for (Index row = 0; row < in.rows; ++row) {
            const Index end = item + static_cast<Index>(in.lengths[row]);
            const double last = d.relative ? given[(end - 1) * I + d.target] : 0;
            for (; item < end; ++item) {
                for (Index k = 0; k < I; ++k) {
                    double value = given[item * I + k];
                    if (!std::isfinite(value))
                        return {GW_DATA, "the input holds numbers that are not finite; expected finite numbers only"};
                    if (d.relative && k == d.target) value -= last;
                    if (!d.x_mean.empty())
                        value = (value - d.x_mean[static_cast<std::size_t>(k)]) / d.x_std[static_cast<std::size_t>(k)];
                    const float number = static_cast<float>(value);
                    if (!std::isfinite(number))
                        return {GW_DATA,
                                "the input holds a number too far from the training data; expected numbers like those"};
                    x[static_cast<std::size_t>(item * I + k)] = number;
                }
            }
        }
        return {};
    }
    const Index E = d.E;
    const gw_text* words = words_of(in);
    std::vector<std::string_view> distinct;
    std::vector<std::size_t> forms;
    std::unordered_map<std::string_view, std::size_t> known;
    for (Index k = 0; k < total; ++k) {
        const std::string_view word(words[k].size ? words[k].data : "", words[k].size);
        if (!is_utf8(word)) return {GW_DATA, "word " + std::to_string(k) + " is not UTF-8"};
        const auto [at, added] = known.emplace(word, distinct.size());
        if (added) distinct.push_back(word);
        forms.push_back(at->second);
    }
    std::vector<float> spellings;
    if (d.characters != Description::Characters::none) {
        if (Problem p = spelled(distinct, spellings)) return p;
    }
    const Index C = distinct.empty() ? 0 : static_cast<Index>(spellings.size() / distinct.size()), K = E + C;
    std::vector<std::int64_t> ids(distinct.size());
    std::transform(distinct.begin(), distinct.end(), ids.begin(),
                   [&](std::string_view word) { return tokens_.id_of(word); });
    x.resize(static_cast<std::size_t>(total * K));
    for (Index k = 0; k < total; ++k) {
        const std::size_t form = forms[static_cast<std::size_t>(k)];
        std::copy_n(table_.begin() + ids[form] * E, E, x.begin() + k * K);
        std::copy_n(spellings.begin() + static_cast<Index>(form) * C, C, x.begin() + k * K + E);
    }
    return {};
}

Problem Network::step(Index rows, const void* inputs, Memory* const* memories, float* trace, void* outputs) const {
    const Description& d = about_;
    const Index H = d.H, L = d.L, n = rows, G = d.gates();
    const bool ids = d.task == GW_LANGUAGE_MODEL, has_c = d.is_lstm();
    const std::vector<std::int64_t> ones(static_cast<std::size_t>(n), 1);
    const Sequences in{n, ones.data(), inputs};
    std::vector<float> x;
    if (Problem p = ids ? check_ids(static_cast<const std::int64_t*>(inputs), n) : vectors(in, x)) return p;
    const std::size_t size = static_cast<std::size_t>(L * n * H);
    std::vector<float> h(size), c(has_c ? size : 0), h_n(size), c_n(c.size()),
        gates(trace && G > 1 ? size * static_cast<std::size_t>(G) : 0);
    for (Index r = 0; r < n; ++r) {
        for (Index layer = 0; layer < L; ++layer) {
            std::copy_n(memories[r]->h.begin() + layer * H, H, h.begin() + (layer * n + r) * H);
            if (has_c) std::copy_n(memories[r]->c.begin() + layer * H, H, c.begin() + (layer * n + r) * H);
        }
    }
    passes_[0]->step(passes_[0]->useful_threads(threads_), n, ids ? inputs : x.data(), h.data(),
                     has_c ? c.data() : nullptr, h_n.data(), has_c ? c_n.data() : nullptr, nullptr,
                     gates.empty() ? nullptr : gates.data());
    std::vector<float> pooled(h_n.end() - n * H, h_n.end()), z(static_cast<std::size_t>(n * d.outputs));
    std::vector<std::vector<float>> sums;
    for (Index r = 0; r < n && d.pooling != Description::Pooling::last; ++r) {
        pool(*memories[r], pooled.data() + r * H, sums.emplace_back());
    }
    linear(*head_, n, pooled.data(), z.data());
    if (Problem p = finish(in, true, z, outputs)) return p;
    for (Index r = 0; r < n; ++r) {
        Memory& memory = *memories[r];
        for (Index layer = 0; layer < L; ++layer) {
            std::copy_n(h_n.begin() + (layer * n + r) * H, H, memory.h.begin() + layer * H);
            if (has_c) std::copy_n(c_n.begin() + (layer * n + r) * H, H, memory.c.begin() + layer * H);
        }
        if (!sums.empty()) memory.pooled.swap(sums[static_cast<std::size_t>(r)]);
        ++memory.count;
    }
    for (Index layer = 0; trace && layer < L; ++layer) {  // one row
        float* to = trace + layer * d.traced() * H;
        if (G > 1) to = std::copy_n(gates.begin() + layer * G * H, G * H, to);
        if (has_c) to = std::copy_n(c_n.begin() + layer * H, H, to);
        std::copy_n(h_n.begin() + layer * H, H, to);
    }
    return {};
}

// Add an output y (H) of the last layer to what a row has pooled before, and put what the head sees in its place.
void Network::pool(const Memory& memory, float* y, std::vector<float>& sums) const {
    const bool mean = about_.pooling == Description::Pooling::mean;
    sums = memory.pooled;
    for (std::size_t k = 0; k < sums.size(); ++k) {
        if (mean) {
            sums[k] += y[k];
        } else {
            sums[k] = memory.count && !(y[k] > sums[k]) ? sums[k] : y[k];
        }
        y[k] = mean ? sums[k] / static_cast<float>(memory.count + 1) : sums[k];
    }
}

// Write logits or, of a regressor, numbers in the units of the training data. z (items or rows, outputs).
Problem Network::finish(const Sequences& in, bool over_time, const std::vector<float>& z, void* outputs) const {
    const Description& d = about_;
    if (!all_finite(z.data(), static_cast<Index>(z.size()))) return not_finite("the outputs of the model");
    if (!outputs) return {};
    if (d.task != GW_REGRESSOR) {
        std::copy(z.begin(), z.end(), static_cast<float*>(outputs));
        return {};
    }
    const double* x = static_cast<const double*>(in.inputs);
    double* to = static_cast<double*>(outputs);
    Index item = 0, row = -1, end = 0;
    for (Index k = 0; k < static_cast<Index>(z.size()) / d.outputs; ++k) {
        if (over_time ? k == end : true) end += static_cast<Index>(in.lengths[++row]);
        item = end - 1;
        const double last = d.relative ? x[item * d.I + d.target] : 0;
        for (Index j = 0; j < d.outputs; ++j) {
            to[k * d.outputs + j] =
                static_cast<double>(z[static_cast<std::size_t>(k * d.outputs + j)]) * d.y_std + d.y_mean + last;
        }
    }
    return {};
}

Problem Network::run(const Sequences& in, Memory* const* memories, bool over_time, void* outputs) const {
    const Description& d = about_;
    const bool each = over_time || d.task == GW_TAGGER;
    if (over_time && d.relative)
        return {GW_USAGE, "this model reads the whole window before it answers; leave over_time at 0"};
    const Index answers = each ? total_of(in) : in.rows;
    std::vector<float> z(outputs || !memories ? static_cast<std::size_t>(answers * d.outputs) : 0);
    if (over_time && d.D == 2 && d.task != GW_TAGGER) {
        if (Problem p = run_prefixes(in, z.data())) return p;
        return finish(in, true, z, outputs);
    }
    std::vector<Memory> after;
    for (Index r = 0; memories && r < in.rows; ++r) after.push_back(*memories[r]);
    if (Problem p = run_rows(in, memories ? &after : nullptr, each, z.empty() ? nullptr : z.data())) return p;
    if (Problem p = finish(in, each, z, outputs)) return p;
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
    const Index H = d.H, L = d.L, D = d.D, K = D * H, total = total_of(in);
    const bool ids = d.task == GW_LANGUAGE_MODEL, last = d.pooling == Description::Pooling::last;
    std::vector<float> x;
    if (Problem p = ids ? check_ids(static_cast<const std::int64_t*>(in.inputs), total) : vectors(in, x)) return p;
    const Index I = ids ? 0 : static_cast<Index>(x.size()) / total;
    std::vector<float> y(D == 2 ? static_cast<std::size_t>(total * K) : 0), seen;
    std::vector<Index> slots;  // of `seen`, what the head reads, in z
    const auto flush = [&](bool all) {
        if (slots.empty() || (!all && static_cast<Index>(slots.size()) < kHeads)) return;
        std::vector<float> answers(slots.size() * static_cast<std::size_t>(d.outputs));
        linear(*head_, static_cast<Index>(slots.size()), seen.data(), answers.data());
        for (std::size_t k = 0; k < slots.size(); ++k) {
            std::copy_n(answers.begin() + static_cast<Index>(k) * d.outputs, d.outputs, z + slots[k] * d.outputs);
        }
        slots.clear(), seen.clear();
    };
    const auto show = [&](const float* from, Index slot) {
        if (!z) return;
        seen.insert(seen.end(), from, from + K), slots.push_back(slot);
        flush(false);
    };
    const Problem problem = Batch::each(in, [&](const Batch& batch) -> Problem {
        const auto row_of = [&](Index r) { return static_cast<std::size_t>(batch.order[static_cast<std::size_t>(r)]); };
        if (D == 1) {
            Ends ends{std::vector<float>(static_cast<std::size_t>(L * batch.rows * H)), {}};
            if (d.is_lstm()) ends.c = ends.h;
            std::vector<Memory> own;
            for (Index r = 0; r < batch.rows; ++r) own.push_back(memories ? (*memories)[row_of(r)] : fresh());
            for (Index r = 0; r < batch.rows; ++r) {
                for (Index layer = 0; layer < L; ++layer) {
                    const Index to = (layer * batch.rows + r) * H;
                    std::copy_n(own[static_cast<std::size_t>(r)].h.begin() + layer * H, H, ends.h.begin() + to);
                    if (d.is_lstm())
                        std::copy_n(own[static_cast<std::size_t>(r)].c.begin() + layer * H, H, ends.c.begin() + to);
                }
            }
            std::vector<float> pooled(static_cast<std::size_t>(H)), sums;
            sweep(*passes_[0], L, H, I, false, batch, ids ? in.inputs : x.data(), ends,
                  [&](Index t, Index n, const float* h) {
                      for (Index r = 0; r < n; ++r) {
                          const std::size_t at = static_cast<std::size_t>(r);
                          const float* from = h + r * H;
                          if (!last) {
                              std::copy_n(from, H, pooled.begin());
                              pool(own[at], pooled.data(), sums);
                              own[at].pooled.swap(sums), from = pooled.data();
                          }
                          ++own[at].count;
                          if (each || t + 1 == batch.lengths[at])
                              show(from, each ? batch.starts[at] + t : batch.order[at]);
                      }
                  });
            for (Index r = 0; memories && r < batch.rows; ++r) {
                Memory& memory = own[static_cast<std::size_t>(r)];
                for (Index layer = 0; layer < L; ++layer) {
                    const Index from = (layer * batch.rows + r) * H;
                    std::copy_n(ends.h.begin() + from, H, memory.h.begin() + layer * H);
                    if (d.is_lstm()) std::copy_n(ends.c.begin() + from, H, memory.c.begin() + layer * H);
                }
                std::swap((*memories)[row_of(r)], memory);
            }
            return {};
        }
        std::vector<float> ends_of_last(static_cast<std::size_t>(batch.rows * K)), below;
        for (Index layer = 0; layer < L; ++layer) {
            for (Index direction = 0; direction < 2; ++direction) {
                Ends ends{std::vector<float>(static_cast<std::size_t>(batch.rows * H)), {}};
                if (d.is_lstm()) ends.c = ends.h;
                const Stream& stream = *passes_[static_cast<std::size_t>(2 * layer + direction)];
                const float* from = layer ? below.data() : x.data();
                sweep(stream, 1, H, layer ? K : I, direction == 1, batch, from, ends,
                      [&](Index t, Index n, const float* h) {
                          for (Index r = 0; r < n; ++r) {
                              const std::size_t at = static_cast<std::size_t>(r);
                              const Index item = batch.starts[at] + (direction ? batch.lengths[at] - 1 - t : t);
                              std::copy_n(h + r * H, H, y.begin() + item * K + direction * H);
                          }
                      });
                for (Index r = 0; r < batch.rows; ++r)
                    std::copy_n(ends.h.begin() + r * H, H, ends_of_last.begin() + r * K + direction * H);
            }
            if (layer + 1 < L) below = y;
        }
        std::vector<float> pooled(static_cast<std::size_t>(K));
        for (Index r = 0; r < batch.rows; ++r) {
            const std::size_t at = static_cast<std::size_t>(r);
            const Index start = batch.starts[at], count = batch.lengths[at];
            if (each) {
                for (Index t = 0; t < count; ++t) show(y.data() + (start + t) * K, start + t);
                continue;
            }
            if (last) {
                show(ends_of_last.data() + r * K, batch.order[at]);
                continue;
            }
            std::copy_n(y.begin() + start * K, K, pooled.begin());
            for (Index t = 1; t < count; ++t) {
                const float* step = y.data() + (start + t) * K;
                for (Index k = 0; k < K; ++k) {
                    float& sum = pooled[static_cast<std::size_t>(k)];
                    sum = d.pooling == Description::Pooling::mean ? sum + step[k] : step[k] > sum ? step[k] : sum;
                }
            }
            for (float& sum : pooled)
                sum = d.pooling == Description::Pooling::mean ? sum / static_cast<float>(count) : sum;
            show(pooled.data(), batch.order[at]);
        }
        return {};
    });
    if (problem) return problem;
    flush(true);
    return {};
}

Problem Network::score(const Sequences& in, Memory* const* memories, double* nll) const {
    const Description& d = about_;
    const Index H = d.H, L = d.L, V = d.outputs;
    const auto* ids = static_cast<const std::int64_t*>(in.inputs);
    if (Problem p = check_ids(ids, total_of(in))) return p;
    std::vector<Memory> after;
    for (Index r = 0; r < in.rows; ++r) after.push_back(memories ? *memories[r] : fresh());
    std::vector<double> found(static_cast<std::size_t>(in.rows));
    const Target& target = active_target();
    std::vector<float> seen, logits(static_cast<std::size_t>(kHeads * V));
    struct Slot {
        Index row;
        std::int64_t next;
    };
    std::vector<Slot> slots;
    const auto flush = [&] {
        linear(*head_, static_cast<Index>(slots.size()), seen.data(), logits.data());
        for (std::size_t k = 0; k < slots.size(); ++k) {
            const float* own = logits.data() + static_cast<Index>(k) * V;
            found[static_cast<std::size_t>(slots[k].row)] +=
                target.log_sum_exp(own, V) - static_cast<double>(own[slots[k].next]);
        }
        slots.clear(), seen.clear();
    };
    // The last id of a row is not read: it stays the next one.
    std::vector<std::int64_t> lengths, read;
    std::vector<Index> rows, starts;
    Index start = 0;
    for (Index r = 0; r < in.rows; start += static_cast<Index>(in.lengths[r]), ++r) {
        if (in.lengths[r] < 2) continue;
        lengths.push_back(in.lengths[r] - 1), rows.push_back(r), starts.push_back(start);
        read.insert(read.end(), ids + start, ids + start + in.lengths[r] - 1);
    }
    const Problem problem =
        Batch::each({static_cast<Index>(rows.size()), lengths.data(), read.data()}, [&](const Batch& batch) -> Problem {
            Ends ends{std::vector<float>(static_cast<std::size_t>(L * batch.rows * H)), {}};
            if (d.is_lstm()) ends.c = ends.h;
            const auto each_part = [&](auto move) {
                for (Index r = 0; r < batch.rows; ++r) {
                    Memory& memory = after[static_cast<std::size_t>(
                        rows[static_cast<std::size_t>(batch.order[static_cast<std::size_t>(r)])])];
                    for (Index layer = 0; layer < L; ++layer) {
                        const Index at = (layer * batch.rows + r) * H;
                        move(memory.h.data() + layer * H, ends.h.data() + at);
                        if (d.is_lstm()) move(memory.c.data() + layer * H, ends.c.data() + at);
                    }
                }
            };
            each_part([&](const float* memory, float* end) { std::copy_n(memory, H, end); });
            sweep(*passes_[0], L, H, 0, false, batch, read.data(), ends, [&](Index t, Index n, const float* h) {
                for (Index r = 0; r < n; ++r) {
                    const std::size_t place = static_cast<std::size_t>(batch.order[static_cast<std::size_t>(r)]);
                    seen.insert(seen.end(), h + r * H, h + (r + 1) * H);
                    slots.push_back({rows[place], ids[starts[place] + t + 1]});
                    ++after[static_cast<std::size_t>(rows[place])].count;
                    if (static_cast<Index>(slots.size()) == kHeads) flush();
                }
            });
            each_part([&](float* memory, const float* end) { std::copy_n(end, H, memory); });
            return {};
        });
    if (problem) return problem;
    if (!slots.empty()) flush();
    for (double sum : found) {
        if (!std::isfinite(sum)) return not_finite("the probabilities of these ids");
    }
    std::copy(found.begin(), found.end(), nll);
    for (Index r = 0; memories && r < in.rows; ++r) std::swap(*memories[r], after[static_cast<std::size_t>(r)]);
    return {};
}

// The best sequence of tags (Viterbi 1967): gatewise.runtime.viterbi, in the same order of operations.
Problem Network::tag(const Sequences& in, std::int64_t* labels) const {
    const Index C = about_.outputs, total = total_of(in);
    std::vector<float> scores(static_cast<std::size_t>(total * C));
    if (Problem p = run(in, nullptr, false, scores.data())) return p;
    const auto best_of = [&](auto* from) { return static_cast<std::int64_t>(std::max_element(from, from + C) - from); };
    if (!about_.crf) {
        for (Index k = 0; k < total; ++k) labels[k] = best_of(scores.data() + k * C);
        return {};
    }
    std::vector<double> best(static_cast<std::size_t>(C)), next(best.size()), sum(best.size());
    std::vector<std::int32_t> from(static_cast<std::size_t>(total * C));
    Index item = 0;
    for (Index row = 0; row < in.rows; ++row) {
        const Index first = item, end = item + static_cast<Index>(in.lengths[row]);
        for (Index c = 0; c < C; ++c)
            best[c] = static_cast<double>(scores[first * C + c]) + static_cast<double>(start_[c]);
        for (++item; item < end; ++item) {
            for (Index c = 0; c < C; ++c) {
                for (Index k = 0; k < C; ++k) sum[k] = best[k] + static_cast<double>(transitions_[k * C + c]);
                const Index k = best_of(sum.data());
                from[item * C + c] = static_cast<std::int32_t>(k);
                next[c] = sum[k] + static_cast<double>(scores[item * C + c]);
            }
            best.swap(next);
        }
        for (Index c = 0; c < C; ++c) best[c] += static_cast<double>(end_[c]);
        labels[end - 1] = best_of(best.data());
        for (Index k = end - 1; k > first; --k) labels[k - 1] = from[k * C + labels[k]];
    }
    return {};
}

}  // namespace gatewise
