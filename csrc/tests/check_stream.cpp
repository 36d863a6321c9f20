// Tests of streams; see check.cpp.
#include <stdexcept>
#include <thread>
#include <utility>

#include "../plan.hpp"
#include "../stream.hpp"
#include "../threads.hpp"
#include "check.hpp"

namespace gatewise {
namespace {

constexpr Index kInputs = 37, kUnits = 45, kOutputs = 101, kTokens = 11, kLayers = 2;
constexpr double kTies = 257.0 / 256;  // powers of two times this lie in the middle of two bfloat16

enum class Input { vectors, table, products };  // products: the rows of the table are the products of one-hot vectors

// A bfloat16 that is nearest to x, the even one of two; by arithmetic in double.
double rounded(double x) {
    int exponent;
    const double mantissa = std::frexp(x, &exponent);
    return std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
}

// A stack and the inputs of a step.
struct Stack {
    Input input;
    Index B;
    StreamWeights weights;
    const float *x, *h, *c;
    std::vector<std::int64_t> ids;
    std::vector<Buffer<float>> given;

    Stack(CellKind cell, bool narrow, Input input, Index B, bool decoder, bool bias)
        : input(input), B(B), weights{cell, narrow, kInputs, kUnits, kOutputs, {}, nullptr, nullptr, nullptr, kTokens} {
        const Index GH = gates_of(cell) * kUnits, state = kLayers * B * kUnits;
        x = drawn(B * kInputs, 1), h = drawn(state, 1), c = cell == CellKind::lstm ? drawn(state, 1) : nullptr;
        if (input != Input::vectors) weights.table = drawn(kTokens * (input == Input::table ? kInputs : GH), kTies);
        for (Index layer = 0; layer < kLayers; ++layer) {
            const bool absent = layer == 0 && input == Input::products;
            weights.layers.push_back({absent ? nullptr : drawn(GH * (layer ? kUnits : kInputs), 0.13), drawn(GH * kUnits, 0.13),
                                      bias ? drawn(GH, 0.7) : nullptr, bias ? drawn(GH, 0.7) : nullptr});
        }
        if (decoder) weights.decoder = drawn(kOutputs * kUnits, 0.13);
        if (decoder && bias) weights.decoder_bias = drawn(kOutputs, 0.7);
        for (Index r = 0; r < B; ++r) ids.push_back((r * 3 + 10) % kTokens);  // the last row of the table first
    }

    std::string name(const Target& target) const {
        return name_of(target, weights.narrow ? Numbers::bfloat16 : Numbers::float32, "stream, cell %d, input %d, rows %td%s",
                       static_cast<int>(weights.cell), static_cast<int>(input), B, weights.decoder ? ", decoder" : "");
    }

    std::vector<Buffer<float>> step(const Stream& stream, int threads) const {
        std::vector<Buffer<float>> found;
        const Index state = kLayers * B * kUnits;
        found.emplace_back(state, "h_n"), found.emplace_back(c ? state : 0, "c_n");
        found.emplace_back(weights.decoder ? B * kOutputs : 0, "logits");
        const void* read = input == Input::vectors ? static_cast<const void*>(x) : ids.data();
        stream.step(threads, B, read, h, c, found[0].data(), c ? found[1].data() : nullptr, found[2].data());
        return found;
    }

    // The same in double: each layer is a layer pass of one step on the rounded weights; lookup and decoder are plain loops.
    std::vector<Buffer<double>> expected() {
        const Index H = kUnits, GH = gates_of(weights.cell) * H, state = B * H;
        const auto stored = [&](float w) { return weights.narrow ? rounded(w) : w; };
        std::vector<Buffer<double>> found;
        found.emplace_back(kLayers * state), found.emplace_back(c ? kLayers * state : 0);
        found.emplace_back(weights.decoder ? B * kOutputs : 0);
        const Index I = input == Input::products ? kTokens : kInputs;
        std::vector<double> below(static_cast<std::size_t>(B * I));
        for (Index k = 0; k < B * I; ++k) {
            const Index id = ids[static_cast<std::size_t>(k / I)];
            below[k] = input == Input::vectors ? x[k] : input == Input::table ? stored(weights.table[id * I + k % I]) : k % I == id;
        }
        for (Index layer = 0; layer < kLayers; ++layer) {
            const LayerWeights<float>& w = weights.layers[layer];
            const Index inputs = layer ? H : I, at = layer * state;
            std::vector<double> w_ih(GH * inputs), y(state), numbers;
            for (Index k = 0; k < GH * inputs; ++k) {
                w_ih[k] = stored(w.w_ih ? w.w_ih[k] : weights.table[k % inputs * GH + k / inputs]);
            }
            for (Index k = 0; k < GH * H; ++k) numbers.push_back(stored(w.w_hh[k]));
            for (const float* bias : {w.b_ih, w.b_hh}) {
                for (Index k = 0; k < GH; ++k) numbers.push_back(bias ? bias[k] : 0);
            }
            for (const float* before : {h, c}) {
                for (Index k = 0; before && k < state; ++k) numbers.push_back(before[at + k]);
            }
            const double *w_hh = numbers.data(), *b_ih = w_hh + GH * H, *h_0 = b_ih + 2 * GH;
            Plan plan(weights.cell, 1, B, H, nullptr, false);
            const LayerForward<double> pass{1, inputs, H, plan.steps, {w_ih.data(), w_hh, b_ih, b_ih + GH}, below.data(), h_0,
                                            c ? h_0 + state : nullptr, nullptr, y.data(), found[0].data() + at,
                                            c ? found[1].data() + at : nullptr, nullptr, nullptr, nullptr, nullptr};
            const Kernels<double>& kernels = target_portable;
            run(1, [&](Member me) { kernels.forward(weights.cell, Numbers::float64, pass, me); });
            below = y;
        }
        for (Index k = 0; weights.decoder && k < B * kOutputs; ++k) {
            const Index row = k / kOutputs, v = k % kOutputs;
            double sum = weights.decoder_bias ? weights.decoder_bias[v] : 0;
            for (Index unit = 0; unit < H; ++unit) sum += below[row * H + unit] * stored(weights.decoder[v * H + unit]);
            found[2].data()[k] = sum;
        }
        return found;
    }

  private:
    const float* drawn(Index count, double scale) {
        given.push_back(some<float>(count, given.size(), scale));
        return given.back().data();
    }
};

void check_steps(const Target& target, CellKind cell, bool narrow, Input input, Index B) {
    Stack stack(cell, narrow, input, B, B != 3, B != 1);
    const std::string where = stack.name(target);
    auto expected = stack.expected();
    const Stream first(stack.weights, 1, target);
    check_threads(expected, 1e-5, where, [&](int threads) {
        const Stream stream(stack.weights, threads, target);
        if (stream.read(threads) != first.read(1)) fail(where, "packed differently on " + std::to_string(threads) + " threads");
        return stack.step(stream, threads);
    });
    // Two steps of one stream at once.
    std::vector<Buffer<float>> beside;
    std::thread other([&] { beside = stack.step(first, 2); });
    auto found = stack.step(first, 2);
    other.join();
    for (std::size_t k = 0; k < found.size(); ++k) compare(beside[k], found[k], 0, where + ", at once");
    check_inputs(stack.given, where);
}

template <class Error, class F>
void check_throws(const std::string& where, const std::string& message, F f) {
    try {
        f();
    } catch (const Error& error) {
        if (error.what() != message) fail(where, std::string("threw ") + error.what());
        return;
    }
    fail(where, "did not throw: " + message);
}

void check_errors(const Target& target, Input input) {
    Stack stack(CellKind::lstm, input == Input::table, input, 3, true, true);
    const Stream stream(stack.weights, 1, target);
    const std::string where = stack.name(target) + ", errors";
    auto expected = stack.step(stream, 1);
    for (std::int64_t id : {std::int64_t{-1}, std::int64_t{kTokens}, INT64_MIN, INT64_MAX}) {
        const std::int64_t before = std::exchange(stack.ids[2], id);
        check_throws<std::out_of_range>(
            where, "token id " + std::to_string(id) + " is outside the vocabulary; expected 0 to " + std::to_string(kTokens - 1),
            [&] { stack.step(stream, 2); });
        stack.ids[2] = before;
    }
    for (std::size_t k = 3; k < stack.given.size(); ++k) {  // a stream has copies of all weights
        std::memset(stack.given[k].data(), 0xFF, stack.given[k].bytes());
    }
    auto found = stack.step(stream, 2);
    for (std::size_t k = 0; k < found.size(); ++k) compare(found[k], expected[k], 0, where);
    stack.weights.layers.clear();
    check_throws<std::invalid_argument>(where, "layers is empty; expected one or more", [&] { Stream(stack.weights, 1, target); });
    stack.weights.I = Index{1} << 61;
    check_throws<std::invalid_argument>(where,
                                        "sizes are 2305843009213693997, 180; expected 0 or more, whose product can be counted",
                                        [&] { Stream(stack.weights, 1, target); });
}

}  // namespace

void check_stream(const Target& target) {
    for (CellKind cell : kCells) {
        for (bool narrow : {false, true}) {
            for (Input input : {Input::vectors, Input::table, Input::products}) {
                for (Index B : {1, 3, 17}) check_steps(target, cell, narrow, input, B);
            }
        }
    }
    for (Input input : {Input::table, Input::products}) check_errors(target, input);
    const bool right = threads_for(0, 10, 4) == 1 && threads_for(29, 10, 4) == 2 && threads_for(1e300, 10, 4) == 4;
    if (!right) fail("threads_for", "another number of threads");
}

}  // namespace gatewise
