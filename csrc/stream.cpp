#include "stream.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "checks.hpp"
#include "throwing.hpp"

namespace gatewise {
namespace {

std::uint16_t to_bfloat16(float x) {  // to nearest even; a NaN stays one
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return static_cast<std::uint16_t>((x == x ? bits + 0x7FFF + ((bits >> 16) & 1) : bits | 0x400000) >> 16);
}

// The bits of the largest size, infinity and NaN above all.
std::int32_t largest_bits(const float* x, Index count) {
    std::int32_t largest = 0;
    for (Index k = 0; k < count; ++k) {
        std::int32_t bits;
        std::memcpy(&bits, x + k, sizeof bits);
        largest = std::max(largest, bits & INT32_MAX);
    }
    return largest;
}

void check_finite(const std::string& name, const float* weight, Index count) {
    if (weight && largest_bits(weight, count) >= 0x7F800000) {
        GATEWISE_THROW(std::invalid_argument(
            name + " holds a number that is not finite, which int8 cannot represent; use fp32 or bf16 weights"));
    }
}

// A weight that is not finite would only show in a step, as NaN in all that follows from it.
void check_finite(const StreamWeights& w) {
    const Index GH = gates_of(w.cell) * w.H;
    const bool one_hot = !w.layers.empty() && !w.layers[0].w_ih;
    check_finite(one_hot ? "weight_ih_l0" : "table", w.table, w.tokens * (one_hot ? GH : w.I));
    for (std::size_t layer = 0; layer < w.layers.size(); ++layer) {
        const std::string suffix = std::to_string(layer);
        check_finite("weight_ih_l" + suffix, w.layers[layer].w_ih, GH * (layer ? w.H : w.I));
        check_finite("weight_hh_l" + suffix, w.layers[layer].w_hh, GH * w.H);
    }
    check_finite("the decoder's weight", w.decoder, w.V * w.H);
}

}  // namespace

Stream::Stream(const StreamWeights& w, int threads, const Target& target)
    : target_(target), tokens_(w.table ? w.tokens : 0) {
    check_sizes({w.I, w.H});  // before sums and products of them
    check_sizes({w.I + w.H, 4 * w.H});
    check_sizes({w.V, w.H});
    check_sizes({w.tokens, std::max(w.I, 4 * w.H)});
    if (w.layers.empty() && !(w.decoder && w.V)) {
        GATEWISE_THROW(std::invalid_argument("neither a layer nor a decoder; expected one or more"));
    }
    if (w.stored == Stored::int8) check_finite(w);
    const Index gates = gates_of(w.cell), GH = gates * w.H;
    for (const auto& [w_ih, w_hh, b_ih, b_hh] : w.layers) {
        const Index inputs = !w_ih ? 0 : matrices_.empty() ? w.I : w.H;
        const float *first = keep(b_ih, GH), *second = keep(b_hh, GH);
        matrices_.push_back({gates, w.H, {inputs, w.H}, {w_ih, w_hh}, {first, second}, nullptr});
    }
    const bool decoder = w.decoder && w.V;
    if (decoder) {
        matrices_.push_back({1, w.V, {w.H, 0}, {w.decoder, nullptr}, {keep(w.decoder_bias, w.V), nullptr}, nullptr});
    }
    step_.cell = w.cell, step_.stored = w.stored, step_.H = w.H, step_.L = static_cast<Index>(w.layers.size());
    step_.layers = matrices_.data(), step_.decoder = decoder ? &matrices_.back() : nullptr;
    width_ = matrices_[0].terms[0] ? w.I : GH;
    pack(threads);
    keep_table(w.table);
}

void Stream::keep_table(const float* table) {
    const Index count = tokens_ * width_;
    if (step_.stored == Stored::fp32) table_.assign(table, table + count);
    if (step_.stored == Stored::bf16) {
        bf16_table_.resize(static_cast<std::size_t>(count));
        std::transform(table, table + count, bf16_table_.begin(), to_bfloat16);
    }
    if (step_.stored != Stored::int8) return;
    int8_table_.reserve(static_cast<std::size_t>(count));
    for (const float* row = table; row != table + count; row += width_) {
        scales_.push_back(scale_for(largest_bits(row, width_), 127));
        for (Index k = 0; k < width_; ++k) {
            int8_table_.push_back(static_cast<std::int8_t>(std::nearbyint(row[k] / scales_.back())));
        }
    }
}

const float* Stream::keep(const float* bias, Index count) {
    if (!bias) return nullptr;
    return biases_.emplace_back(bias, bias + count).data();
}

void Stream::pack(int threads) {
    std::vector<std::size_t> offsets;
    for (const StreamMatrix& m : matrices_) {
        const Index units = target_.stream_units(m.gates), blocks = (m.units + units - 1) / units;
        offsets.push_back(bytes_);
        for (Index K : m.terms) {
            bytes_ += static_cast<std::size_t>(blocks * packed_bytes(step_.stored, m.gates * units, K));
        }
    }
    memory_ = Pages(bytes_);
    if (!memory_.begin()) GATEWISE_THROW(NoMemory());
    for (std::size_t k = 0; k < matrices_.size(); ++k) {
        matrices_[k].packed = memory_.begin() + offsets[k];
        run(threads, [&](Member me) { target_.pack_stream(matrices_[k], step_.stored, me); });
    }
}

int Stream::useful_threads(int most) const {
    return threads_for({static_cast<double>(bytes_) * kSecondsPerByte, static_cast<double>(step_.L)}, most);
}

void Stream::step(int threads, Index B, const void* x, const float* h, const float* c, float* h_n, float* c_n,
                  float* logits, float* gates) const {
    check_sizes({B, std::max(step_.decoder ? step_.decoder->units : 0, 4 * step_.H), step_.L});
    const float* given = tokens_ ? look_up(static_cast<const std::int64_t*>(x), B) : static_cast<const float*>(x);
    StreamStep step = step_;
    step.B = B, step.h = h, step.c = c, step.h_n = h_n, step.c_n = c_n, step.logits = logits;
    step.gates = gates;
    (matrices_[0].terms[0] ? step.x : step.product) = given;
    run(threads, [&](Member me) { target_.stream(step, me); });
}

// The rows of the table, in memory of the calling thread until its next step.
const float* Stream::look_up(const std::int64_t* ids, Index B) const {
    thread_local std::vector<float> rows;
    rows.resize(static_cast<std::size_t>(B * width_));
    for (Index r = 0; r < B; ++r) {
        const std::int64_t id = ids[r];  // read once: another thread may change it between the check and its use
        if (id < 0 || id >= tokens_) {
            GATEWISE_THROW(std::out_of_range("token id " + std::to_string(id) +
                                             " is outside the vocabulary; expected 0 to " +
                                             std::to_string(tokens_ - 1)));
        }
        float* to = rows.data() + r * width_;
        const Index from = id * width_;
        if (step_.stored == Stored::fp32) std::copy_n(table_.data() + from, width_, to);
        for (Index k = 0; step_.stored == Stored::bf16 && k < width_; ++k) {
            const std::uint32_t bits = static_cast<std::uint32_t>(bf16_table_[from + k]) << 16;
            std::memcpy(to + k, &bits, sizeof bits);
        }
        for (Index k = 0; step_.stored == Stored::int8 && k < width_; ++k) to[k] = int8_table_[from + k] * scales_[id];
    }
    return rows.data();
}

std::uint64_t Stream::read(int threads) const {
    std::atomic<std::uint64_t> sum{0};
    run(threads, [&](Member me) {
        typedef std::uint64_t Vector __attribute__((vector_size(16)));
        constexpr Index piece = 8;
        Vector sums[piece] = {};
        const Index count = static_cast<Index>(bytes_ / sizeof sums), first = me.first(count);
        const Vector* at = reinterpret_cast<const Vector*>(memory_.begin()) + first * piece;
        for (Index k = first; k < me.last(count); ++k, at += piece) {
            for (Index j = 0; j < piece; ++j) sums[j] ^= at[j];
        }
        for (Index j = 1; j < piece; ++j) sums[0] ^= sums[j];
        sum ^= sums[0][0] ^ sums[0][1];
    });
    return sum;
}

}  // namespace gatewise
