// Tests of streams; see check.cpp.
#include <stdexcept>
#include <thread>
#include <utility>

#include "../plan.hpp"
#include "../stream.hpp"
#include "check.hpp"

namespace gatewise {
namespace {

constexpr Index kInputs = 37, kUnits = 45, kOutputs = 101, kTokens = 11, kLayers = 2;
constexpr double kTies = 257.0 / 256;  // powers of two times this lie in the middle of two bfloat16

enum class Input { vectors, table, products };  // products: the rows of the table are the products of one-hot vectors

// The nearest bfloat16, the even one of two, by arithmetic.
float rounded(float x) {
    int exponent;
    const float mantissa = std::frexp(x, &exponent);
    return std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
}

// Round a row to the multiples of 1/127 of its largest number.
void to_int8(float* row, Index width) {
    float largest = 0;
    for (Index k = 0; k < width; ++k) largest = std::fmax(largest, std::fabs(row[k]));
    const float scale = largest / 127;
    for (Index k = 0; k < width; ++k) row[k] = largest > 0 ? std::nearbyint(row[k] / scale) * scale : 0;
}

// A stack and the inputs of a step. round: round the weights and the table as they are stored in this way.
struct Stack {
    Input input;
    Index B;
    StreamWeights weights;
    const float *x, *h, *c;
    std::vector<std::int64_t> ids;
    std::vector<Buffer<float>> given;

    Stack(CellKind cell, Stored stored, Input input, Index B, bool decoder, bool bias, Stored round = Stored::fp32)
        : input(input), B(B), weights{cell, stored, kInputs, kUnits, kOutputs, {}, nullptr, nullptr, nullptr, kTokens} {
        const auto drawn = [&](Index count, double scale, Index width = 0) {  // of the rows of a weight
            given.push_back(some<float>(count, given.size(), scale));
            float* numbers = given.back().data();
            for (Index k = 0; round == Stored::bf16 && width && k < count; ++k) numbers[k] = rounded(numbers[k]);
            for (Index k = 0; round == Stored::int8 && width && k < count; k += width) to_int8(numbers + k, width);
            return numbers;
        };
        const Index GH = gates_of(cell) * kUnits, state = kLayers * B * kUnits;
        x = drawn(B * kInputs, 1), h = drawn(state, 1), c = cell == CellKind::lstm ? drawn(state, 1) : nullptr;
        if (input != Input::vectors) {
            const Index width = input == Input::table ? kInputs : GH;
            weights.table = drawn(kTokens * width, kTies, width);
        }
        for (Index layer = 0; layer < kLayers; ++layer) {
            const bool absent = layer == 0 && input == Input::products;
            const float* w_ih =
                absent ? nullptr : drawn(GH * (layer ? kUnits : kInputs), 0.13, layer ? kUnits : kInputs);
            const float *w_hh = drawn(GH * kUnits, 0.13, kUnits), *b_ih = bias ? drawn(GH, 0.7) : nullptr;
            weights.layers.push_back({w_ih, w_hh, b_ih, bias ? drawn(GH, 0.4) : nullptr});
        }
        if (decoder) weights.decoder = drawn(kOutputs * kUnits, 0.13, kUnits);
        if (decoder && bias) weights.decoder_bias = drawn(kOutputs, 0.7);
        for (Index r = 0; r < B; ++r) ids.push_back((r * 3 + 10) % kTokens);  // the last row of the table first
    }

    std::string name(const Target& target) const {
        const int cell = static_cast<int>(weights.cell), kind = static_cast<int>(input);
        return name_of(target, Numbers::float32, "stream, weights %d, cell %d, input %d, rows %td",
                       static_cast<int>(weights.stored), cell, kind, B);
    }

    std::vector<Buffer<float>> results() const {
        std::vector<Buffer<float>> found;
        const Index state = kLayers * B * kUnits;
        found.emplace_back(state, "h_n"), found.emplace_back(c ? state : 0, "c_n");
        found.emplace_back(weights.decoder ? B * kOutputs : 0, "logits");
        return found;
    }

    std::vector<Buffer<float>> step(const Stream& stream, int threads) const {
        auto found = results();
        const void* read = input == Input::vectors ? static_cast<const void*>(x) : ids.data();
        stream.step(threads, B, read, h, c, found[0].data(), c ? found[1].data() : nullptr, found[2].data());
        return found;
    }

    // The same with a layer pass of one step for each layer; lookup and decoder are plain loops.
    std::vector<Buffer<float>> expected() const {
        auto found = results();
        const Index H = kUnits, GH = gates_of(weights.cell) * H, I = input == Input::products ? kTokens : kInputs;
        std::vector<float> in(x, x + B * kInputs), w_ih(GH * kTokens), y(B * H);
        in.resize(B * I);
        for (Index k = 0; k < B * I; ++k) {
            if (input == Input::table) in[k] = weights.table[ids[k / I] * I + k % I];
            if (input == Input::products) in[k] = ids[k / I] == k % I;
        }
        for (Index k = 0; input == Input::products && k < GH * I; ++k) w_ih[k] = weights.table[k % I * GH + k / I];
        for (Index layer = 0; layer < kLayers; ++layer) {
            const Index at = layer * B * H;
            const Plan plan(weights.cell, 1, B, H, nullptr, false);
            LayerForward<float> pass{};
            pass.T = 1, pass.I = layer ? H : I, pass.H = H, pass.steps = plan.steps,
            pass.weights = weights.layers[layer];
            if (!pass.weights.w_ih) pass.weights.w_ih = w_ih.data();
            pass.x = in.data(), pass.h_0 = h + at, pass.y = y.data(), pass.h_n = found[0].data() + at;
            if (c) pass.c_0 = c + at, pass.c_n = found[1].data() + at;
            const Kernels<float>& kernels = target_portable;
            run(1, [&](Member me) { kernels.forward(weights.cell, Numbers::float32, pass, me); });
            in = y;
        }
        for (Index k = 0; weights.decoder && k < B * kOutputs; ++k) {
            const Index row = k / kOutputs, v = k % kOutputs;
            double sum = weights.decoder_bias ? weights.decoder_bias[v] : 0;
            for (Index unit = 0; unit < H; ++unit) sum += y[row * H + unit] * weights.decoder[v * H + unit];
            found[2].data()[k] = static_cast<float>(sum);
        }
        return found;
    }
};

void check_steps(const Target& target, CellKind cell, Stored stored, Input input, Index B) {
    Stack stack(cell, stored, input, B, B != 3, B != 1);
    const std::string where = stack.name(target);
    auto expected = Stack(cell, Stored::fp32, input, B, B != 3, B != 1, stored).expected();
    const Stream first(stack.weights, 1, target);
    check_threads(expected, stored == Stored::int8 ? 3e-5 : 1e-5, where, [&](int threads) {
        const Stream stream(stack.weights, threads, target);
        if (stream.read(threads) != first.read(1)) fail(where, "threads pack other weights");
        return stack.step(stream, threads);
    });
    // Two steps of one stream at once.
    std::vector<Buffer<float>> beside;
    std::thread other([&] { beside = stack.step(first, 2); });
    auto found = stack.step(first, 2);
    other.join();
    compare(beside, found, 0, where + ", at once");
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

// With int8, each weight must be finite.
void check_finite_weights(Stack stack, const Target& target, const std::string& where) {
    const bool products = stack.input == Input::products;
    const StreamWeights& w = stack.weights;
    const Index GH = gates_of(w.cell) * kUnits;
    const auto check = [&](const std::string& name, const float* weight, Index count) {
        for (Index at : {Index{0}, count - 1}) {
            for (const float bad : {INFINITY, -INFINITY, NAN}) {
                const float before = std::exchange(const_cast<float*>(weight)[at], bad);
                check_throws<std::invalid_argument>(where,
                                                    name +
                                                        " holds a number that is not finite, which int8 cannot "
                                                        "represent; use fp32 or bf16 weights",
                                                    [&] { Stream(w, 1, target); });
                const_cast<float*>(weight)[at] = before;
            }
        }
    };
    check(products ? "weight_ih_l0" : "table", w.table, kTokens * (products ? GH : kInputs));
    if (!products) check("weight_ih_l0", w.layers[0].w_ih, GH * kInputs);
    check("weight_hh_l0", w.layers[0].w_hh, GH * kUnits), check("weight_ih_l1", w.layers[1].w_ih, GH * kUnits);
    check("weight_hh_l1", w.layers[1].w_hh, GH * kUnits), check("the decoder's weight", w.decoder, kOutputs * kUnits);
    Stream(w, 1, target);  // the biases are left: they may be anything
}

// Products with int8 weights: sums of the largest terms do not overflow, however many, zeros are zero, and the
// instruction sets agree in every bit. The units of an RNN at h' = 0 are such products.
void check_products(const Target& target, bool extreme) {
    constexpr Index I = 2311, H = 37, V = 131, B = 14;
    auto x = some<float>(B * I, 1), w_ih = some<float>(H * I, 2), w_hh = some<float>(H * H, 3),
         decoder = some<float>(V * H, 4), h = some<float>(B * H, 5, 0);
    for (Index k = 0; extreme && k < B * I; ++k) x.data()[k] = k / I % 3 - 1.0f;
    for (Index k = 0; extreme && k < H * I; ++k) w_ih.data()[k] = k / I % 3 - 1.0f;
    StreamWeights weights{CellKind::rnn_relu, Stored::int8, I, H, V, {}, decoder.data(), nullptr, nullptr, 0};
    weights.layers.push_back({w_ih.data(), w_hh.data(), nullptr, nullptr});
    const auto step = [&](const Target& on) {
        std::vector<Buffer<float>> found;
        found.emplace_back(B * H, "h_n"), found.emplace_back(B * V, "logits");
        Stream(weights, 1, on).step(1, B, x.data(), h.data(), nullptr, found[0].data(), nullptr, found[1].data());
        return found;
    };
    const std::string where = std::string(target.name) + (extreme ? " extreme" : "") + " int8 products";
    auto found = step(target), expected = step(target_portable);
    compare(found, expected, 0, where);
    for (Index k = 0; extreme && k < B * H; ++k) {
        const float sum = static_cast<float>(I) * (k / H % 3 - 1) * (k % H % 3 - 1);
        if (std::fabs(found[0].data()[k] - std::fmax(sum, 0)) > 1e-6 * I) fail(where, "another sum");
    }
}

void check_errors(const Target& target, Stored stored, Input input) {
    Stack stack(CellKind::lstm, stored, input, 3, true, true);
    const Stream stream(stack.weights, 1, target);
    const std::string where = stack.name(target) + ", errors";
    auto expected = stack.step(stream, 1);
    for (std::int64_t id : {std::int64_t{-1}, std::int64_t{kTokens}, INT64_MIN, INT64_MAX}) {
        const std::int64_t before = std::exchange(stack.ids[2], id);
        const std::string message = "token id " + std::to_string(id) + " is outside the vocabulary; expected 0 to 10";
        check_throws<std::out_of_range>(where, message, [&] { stack.step(stream, 2); });
        stack.ids[2] = before;
    }
    for (std::size_t k = 3; k < stack.given.size(); ++k) {  // a stream has copies of all weights
        std::memset(stack.given[k].data(), 0xFF, stack.given[k].bytes());
    }
    auto found = stack.step(stream, 2);
    compare(found, expected, 0, where);
    const auto construct = [&] { Stream(stack.weights, 1, target); };
    if (stored == Stored::int8) check_finite_weights(Stack(CellKind::gru, stored, input, 1, true, true), target, where);
    stack.weights.layers.clear();
    const float* const decoder = std::exchange(stack.weights.decoder, nullptr);
    check_throws<std::invalid_argument>(where, "neither a layer nor a decoder; expected one or more", construct);
    stack.weights.decoder = decoder;
    stack.weights.V = -1;
    check_throws<std::invalid_argument>(
        where, "sizes are -1, 45; expected 0 or more, with a product that does not overflow", construct);
}

}  // namespace

void check_stream(const Target& target) {
    for (CellKind cell : kCells) {
        for (Stored stored : {Stored::fp32, Stored::bf16, Stored::int8}) {
            for (Input input : {Input::vectors, Input::table, Input::products}) {
                for (Index B : {1, 3, 17}) check_steps(target, cell, stored, input, B);
            }
        }
    }
    for (bool extreme : {false, true}) check_products(target, extreme);
    check_errors(target, Stored::bf16, Input::table), check_errors(target, Stored::fp32, Input::products);
    for (Input input : {Input::table, Input::products}) check_errors(target, Stored::int8, input);
}

}  // namespace gatewise
