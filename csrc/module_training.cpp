// The Python interface of the loss, the update of a training step, and dropout masks; same conventions as in module.cpp.
#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "rungs.hpp"
#include "sizes.hpp"

namespace nb = nanobind;

namespace gatewise {

using Address = std::uintptr_t;

namespace {

constexpr Index kWorthAThread = 1 << 15;  // elements; for fewer, waking another thread takes longer

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

// See gatewise.nn.dropout: word k of SplitMix64 (Steele, Lea and Flood 2014) holds the random integers 2 k and 2 k + 1.
void dropout_mask(int threads, Index count, std::uint64_t seed, std::int32_t kept, float scale, float* mask) {
    std::uint32_t bits;
    std::memcpy(&bits, &scale, sizeof bits);
    const auto drawn = [=](std::uint64_t number) {  // branch-free, because a branch would be unpredictable
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

// Check the assumptions of the update: the rows of a sparse gradient are strictly increasing rows of the parameter, and no
// memory that is written overlaps any other.
void check_parameters(const std::vector<Parameter>& parameters, bool written) {
    struct Range {
        const float *begin, *end;
        bool written;
    };
    std::vector<Range> ranges;
    const auto add = [&](const float* begin, Index count, bool is_written) {
        if (begin && count) ranges.push_back({begin, begin + count, is_written});
    };
    for (const Parameter& p : parameters) {
        if (p.width < 0 || (p.width && p.count % p.width)) throw nb::value_error("a gradient's rows are not the parameter's");
        for (Index k = 0; p.width && k < p.row_count; ++k) {
            if (p.rows[k] > (k ? p.rows[k - 1] : -1) && p.rows[k] < p.count / p.width) continue;
            throw nb::value_error(("a sparse gradient names row " + std::to_string(p.rows[k]) + " of " +
                                   std::to_string(p.count / p.width) + "; expected rising rows, each once")
                                      .c_str());
        }
        if (written) {
            add(p.p, p.count, true), add(p.m, p.count, true), add(p.v, p.count, true), add(p.g, p.gradient_count(), false);
        }
    }
    std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
    const float *end = nullptr, *end_written = nullptr;
    for (const Range& range : ranges) {
        if (range.begin < (range.written ? end : end_written)) {
            throw nb::value_error("parameters, their gradients or what the optimiser keeps of them share memory; expected memory of "
                                  "its own for each: clone them");
        }
        end = std::max(end, range.end);
        if (range.written) end_written = std::max(end_written, range.end);
    }
}

}  // namespace

void bind_training(nb::module_& m) {
    m.def(
        "linear_loss",
        [](Numbers numbers, int threads, Index N, Index H, Index V, Index chunk, Address x, Address weight, Address bias,
           Address targets, double scale, Address dx, Address dweight, Address dbias) {
            (void)rung();  // may throw, so call it while the GIL is held
            check_sizes({N, H});
            check_sizes({N, V});
            check_sizes({V, H});
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
            check_parameters(parameters, false);
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
            check_sizes({count});
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
            check_parameters(parameters, true);
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
