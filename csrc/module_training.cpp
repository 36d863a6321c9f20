// Python's way in to the loss and the update of a training step, and the masks of dropout, called like the passes in module.cpp.
#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "rungs.hpp"

namespace nb = nanobind;

namespace gatewise {

using Address = std::uintptr_t;

namespace {

constexpr Index kWorthAThread = 1 << 15;  // numbers: for fewer, waking another thread takes longer

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

template <class Real>
double loss(Numbers numbers, int threads, Index N, Index H, Index V, Index chunk, Address x, Address weight, Address bias,
            Address targets, double scale, Address dx, Address dweight, Address dbias) {
    double nll = 0;
    const LinearLoss<Real> loss{N, H, V, chunk, at<Real>(x), at<Real>(weight), at<Real>(bias), at<std::int64_t>(targets),
                                scale, &nll, at<Real>(dx), at<Real>(dweight), at<Real>(dbias)};
    run(threads, [&](Member me) {
        if constexpr (sizeof(Real) == 8) {
            rung().loss_double(loss, me);
        } else {
            rung().loss(numbers, loss, me);
        }
    });
    return nll;
}

int threads_for(int threads, Index numbers) { return static_cast<int>(std::min<Index>(threads, 1 + numbers / kWorthAThread)); }

// See gatewise.nn.dropout: word k of SplitMix64 (Steele, Lea and Flood 2014) has the numbers 2 k and 2 k + 1.
void dropout_mask(int threads, Index count, std::uint64_t seed, std::int32_t kept, float scale, float* mask) {
    std::uint32_t bits;
    std::memcpy(&bits, &scale, sizeof bits);
    const auto drawn = [=](std::uint64_t number) {  // no branch, which a processor could not foresee
        return bits & -static_cast<std::uint32_t>(static_cast<std::int32_t>(number) < kept);
    };
    const auto word = [=](Index k) {
        std::uint64_t z = seed + static_cast<std::uint64_t>(k + 1) * 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        z ^= z >> 31;
        return drawn(z) | static_cast<std::uint64_t>(drawn(z >> 32)) << 32;
    };
    run(threads_for(threads, count), [&](Member me) {
        for (Index k = me.first(count / 2); k < me.last(count / 2); ++k) {
            const std::uint64_t two = word(k);
            std::memcpy(mask + 2 * k, &two, sizeof two);
        }
    });
    if (count % 2 > 0) {
        const std::uint32_t last = static_cast<std::uint32_t>(word(count / 2));
        std::memcpy(mask + count - 1, &last, sizeof last);
    }
}

int threads_for(int threads, const std::vector<Parameter>& parameters) {
    Index numbers = 0;
    for (const Parameter& p : parameters) numbers += p.count;
    return threads_for(threads, numbers);
}

}  // namespace

void bind_training(nb::module_& m) {
    m.def(
        "linear_loss",
        [](Numbers numbers, int threads, Index N, Index H, Index V, Index chunk, Address x, Address weight, Address bias,
           Address targets, double scale, Address dx, Address dweight, Address dbias) {
            (void)rung();  // here it may throw
            if (chunk < 1) throw nb::value_error(("chunk is " + std::to_string(chunk) + "; expected 1 or more rows").c_str());
            for (Index n = 0; n < N; ++n) {
                const std::int64_t target = at<std::int64_t>(targets)[n];
                if (target < 0 || target >= V) {
                    throw nb::index_error(("targets holds " + std::to_string(target) + "; expected 0 to " +
                                           std::to_string(V - 1) + ", the rows of the weight")
                                              .c_str());
                }
            }
            nb::gil_scoped_release released;
            auto pass = numbers == Numbers::float64 ? loss<double> : loss<float>;
            return pass(numbers, threads, N, H, V, chunk, x, weight, bias, targets, scale, dx, dweight, dbias);
        },
        nb::arg("numbers"), nb::arg("threads"), nb::arg("N"), nb::arg("H"), nb::arg("V"), nb::arg("chunk"), nb::arg("x"),
        nb::arg("weight"), nb::arg("bias"), nb::arg("targets"), nb::arg("scale"), nb::arg("dx"), nb::arg("dweight"),
        nb::arg("dbias"), "Return the softmax cross-entropy of a linear layer, and write its gradients.");
    nb::class_<Parameter>(m, "Parameter", "A parameter, its gradient, and what Adam keeps of it.")
        .def(
            "__init__",
            [](Parameter* parameter, Index count, Address p, Address g, Address m, Address v, Address rows,
               Index row_count, Index width, double correction_m, double correction_v) {
                new (parameter) Parameter{at<float>(p), at<float>(g), at<float>(m), at<float>(v), count,
                                          at<std::int64_t>(rows), row_count, width, correction_m, correction_v};
            },
            nb::arg("count"), nb::arg("p"), nb::arg("g"), nb::arg("m") = 0, nb::arg("v") = 0, nb::arg("rows") = 0,
            nb::arg("row_count") = 0, nb::arg("width") = 0, nb::arg("correction_m") = 1.0,
            nb::arg("correction_v") = 1.0);
    nb::enum_<UpdateRule>(m, "UpdateRule")
        .value("sgd", UpdateRule::sgd)
        .value("adam", UpdateRule::adam)
        .value("adamw", UpdateRule::adamw);
    m.def(
        "gradient_norm",
        [](int threads, const std::vector<Parameter>& parameters) {
            (void)rung();
            nb::gil_scoped_release released;
            double norm = 0;
            const GradientNorm all{parameters.data(), static_cast<Index>(parameters.size()), &norm};
            run(threads_for(threads, parameters), [&](Member me) { rung().norm(all, me); });
            return norm;
        },
        nb::arg("threads"), nb::arg("parameters"), "Return the norm of all gradients together.");
    m.def(
        "dropout_mask",
        [](int threads, Index count, std::int64_t seed, std::int32_t kept, float scale, Address mask) {
            nb::gil_scoped_release released;
            dropout_mask(threads, count, static_cast<std::uint64_t>(seed), kept, scale, at<float>(mask));
        },
        nb::arg("threads"), nb::arg("count"), nb::arg("seed"), nb::arg("kept"), nb::arg("scale"), nb::arg("mask"),
        "Write a mask: the scale where a number of the seed is below `kept`, elsewhere 0.");
    m.def(
        "update",
        [](int threads, UpdateRule rule, const std::vector<Parameter>& parameters, double clip, double lr,
           double weight_decay, double beta1, double beta2, double epsilon) {
            (void)rung();
            nb::gil_scoped_release released;
            const Update step{rule, clip, lr, weight_decay, beta1, beta2, epsilon, parameters.data(),
                              static_cast<Index>(parameters.size())};
            run(threads_for(threads, parameters), [&](Member me) { rung().update(step, me); });
        },
        nb::arg("threads"), nb::arg("rule"), nb::arg("parameters"), nb::arg("clip"), nb::arg("lr"),
        nb::arg("weight_decay"), nb::arg("beta1") = 0.0, nb::arg("beta2") = 0.0, nb::arg("epsilon") = 0.0,
        "Do one step of an optimiser.");
}

}  // namespace gatewise
