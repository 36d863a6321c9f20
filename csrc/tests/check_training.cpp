// Tests of the loss, the optimizer steps and dropout masks; see check.cpp.
#include "check.hpp"

namespace gatewise {
namespace {

// The loss of a linear layer and its gradients.
template <class Real>
std::vector<Buffer<Real>> loss_of(const Target& target, Numbers numbers, int threads, Index N, Index H, Index V,
                                  Index chunk) {
    std::vector<Buffer<Real>> given, found;
    given.push_back(some<Real>(N * H, 1)), given.push_back(some<Real>(V * H, 2, 0.25)),
        given.push_back(some<Real>(V, 3));
    std::vector<std::int64_t> targets;
    for (Index n = 0; n < N; ++n) targets.push_back((n * 7 + 1) % V);
    found.emplace_back(1, "nll"), found.emplace_back(N * H, "dx"), found.emplace_back(V * H, "dweight");
    found.emplace_back(V, "dbias");
    double nll = 0;
    const LinearLoss<Real> loss{N,
                                H,
                                V,
                                chunk,
                                given[0].data(),
                                given[1].data(),
                                given[2].data(),
                                targets.data(),
                                0.5,
                                &nll,
                                found[1].data(),
                                found[2].data(),
                                found[3].data()};
    const Kernels<Real>& kernels = target;
    run(threads, [&](Member me) { kernels.loss(numbers, loss, me); });
    found[0].data()[0] = static_cast<Real>(nll);
    check_inputs(given, name_of(target, numbers, "loss"));
    return found;
}

void check_loss(const Target& target, Index N, Index H, Index V, Index chunk) {
    auto truth = loss_of<double>(target_portable, Numbers::float64, 1, N, H, V, chunk);
    for (Numbers numbers : {Numbers::float32, Numbers::high, Numbers::bfloat16}) {
        check_threads(truth, tolerance(numbers),
                      name_of(target, numbers, "loss N=%td H=%td V=%td chunk=%td", N, H, V, chunk),
                      [&](int threads) { return loss_of<float>(target, numbers, threads, N, H, V, chunk); });
    }
}

// Two steps of an optimizer on a parameter with a dense and one with a sparse gradient; the gradient norm.
std::vector<Buffer<float>> update_of(const Target& target, UpdateRule rule, double decay, int threads) {
    constexpr Index kCount = 40001, kRows = 1201, kWidth = 37, kSome = 301;
    std::vector<Buffer<float>> state, gradients;  // p, m, v of each, and the norm
    std::vector<std::int64_t> rows;
    for (Index k = 0; k < kSome; ++k) rows.push_back(k * 3 + k % 2);
    for (Index count : {kCount, kRows * kWidth}) {
        for (int k = 0; k < 3; ++k) state.push_back(some<float>(count, 5, k ? 0 : 1));
    }
    state.emplace_back(1, "norm");
    gradients.push_back(some<float>(kCount, 6)), gradients.push_back(some<float>(kSome * kWidth, 7));
    const Parameter parameters[] = {
        {state[0].data(), gradients[0].data(), state[1].data(), state[2].data(), kCount, nullptr, 0, 0, 0.1, 0.001},
        {state[3].data(), gradients[1].data(), state[4].data(), state[5].data(), kRows * kWidth, rows.data(), kSome,
         kWidth, 0.1, 0.001}};
    double norm = 0;
    const GradientNorm norm_of{parameters, 2, &norm};
    const Update update{rule, 0.5, 0.01, decay, 0.9, 0.999, 1e-8, parameters, 2};
    for (int step = 0; step < 2; ++step) {
        run(threads, [&](Member me) { target.norm(norm_of, me); });
        run(threads, [&](Member me) { target.update(update, me); });
    }
    state[6].data()[0] = static_cast<float>(norm);
    check_inputs(gradients, name_of(target, Numbers::float32, "update"));
    return state;
}

void check_update(const Target& target, UpdateRule rule, double decay) {
    auto truth = update_of(target_portable, rule, decay, 1);
    check_threads(truth, 1e-5, name_of(target, Numbers::float32, "update %d, decay %g", static_cast<int>(rule), decay),
                  [&](int threads) { return update_of(target, rule, decay, threads); });
}

// The generator of Steele, Lea and Flood (2014), one word after the other.
struct SplitMix64 {
    std::uint64_t state;
    std::uint64_t next() {
        std::uint64_t z = state += 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }
};

void check_dropout(const Target& target, Index count, std::uint64_t seed, std::int32_t kept, bool product) {
    constexpr float kScale = 1.25f;
    std::vector<Buffer<float>> expected;
    expected.emplace_back(count);
    Buffer<float> x(count);
    for (Index k = 0; k < count; ++k) x.data()[k] = static_cast<float>(k % 17 - 8);
    SplitMix64 words{seed};
    std::uint64_t word = 0;
    for (Index k = 0; k < count; ++k) {
        word = k % 2 ? word >> 32 : words.next();
        expected[0].data()[k] = static_cast<std::int32_t>(word & 0xFFFFFFFFu) < kept ? kScale : 0.0f;
        if (product) expected[0].data()[k] *= x.data()[k];
    }
    check_threads(expected, 0, name_of(target, Numbers::float32, "dropout, count %td, kept %d", count, kept),
                  [&](int threads) {
                      std::vector<Buffer<float>> found;
                      found.emplace_back(count, "mask");
                      const DropoutMask mask{count, seed, kept, kScale, product ? x.data() : nullptr, found[0].data()};
                      run(threads, [&](Member me) { target.dropout(mask, me); });
                      return found;
                  });
}

}  // namespace

void check_training(const Target& target) {
    check_loss(target, 75, 37, 101, 40);
    check_loss(target, 150, 37, 101, 20);
    check_loss(target, 7, 3, 2, 384);
    if (kAll) check_loss(target, 130, 33, 1065, 50);
    if (kAll) check_loss(target, 13, 530, 1700, 13);  // few rows, and more terms than a product packs at once
    for (UpdateRule rule : {UpdateRule::sgd, UpdateRule::adam, UpdateRule::adamw}) {
        // 0.013: gradients, multiples of 1/128, and decay, multiples of 0.013/64, never cancel to a rounding error,
        // which Adam's division would amplify to a whole step.
        for (double decay : {0.0, 0.013}) check_update(target, rule, decay);
    }
    // The published first words of a seed, so that the loop above is known to be right.
    SplitMix64 words{1234567};
    if (words.next() != 6457827717110365317u || words.next() != 3203168211198807973u) fail("SplitMix64", "other words");
    for (Index count : {0, 1, 2, 7, 1000, 40001}) {
        const std::uint64_t seed = 0x123456789ABCDEFu * static_cast<std::uint64_t>(count + 1);
        const std::int32_t first = static_cast<std::int32_t>(SplitMix64{seed}.next());  // equal: not below
        for (std::int32_t kept : {INT32_MIN, -1000000, first, 1717986918, INT32_MAX}) {
            for (bool product : {false, true}) check_dropout(target, count, seed, kept, product);
        }
    }
}

}  // namespace gatewise
