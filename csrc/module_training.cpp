// The Python interface of the loss, the update of a training step, and dropout masks; same conventions as in module.cpp.
#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "binding.hpp"
#include "checks.hpp"
#include "dispatch.hpp"
#include "threads.hpp"

namespace nb = nanobind;

namespace gatewise {
namespace {

template <class Real>
double loss(Numbers numbers, int threads, Index N, Index H, Index V, Index chunk, Address x, Address weight, Address bias,
            Address targets, double scale, Address dx, Address dweight, Address dbias) {
    const Kernels<Real>& kernels = active_target();
    double nll = 0;
    const LinearLoss<Real> loss{N, H, V, chunk, at<Real>(x), at<Real>(weight), at<Real>(bias), at<std::int64_t>(targets),
                                scale, &nll, at<Real>(dx), at<Real>(dweight), at<Real>(dbias)};
    run(threads, [&](Member me) { kernels.loss(numbers, loss, me); });
    return nll;
}

int useful_threads(double elements, int most) { return threads_for(elements + kElementsPerThread, kElementsPerThread, most); }

int useful_threads(const std::vector<Parameter>& parameters, int most) {
    double elements = 0;
    for (const Parameter& p : parameters) elements += static_cast<double>(p.count);
    return useful_threads(elements, most);
}

}  // namespace

void bind_training(nb::module_& m) {
    m.def(
        "linear_loss",
        [](Numbers numbers, int threads, Index N, Index H, Index V, Index chunk, Address x, Address weight, Address bias,
           Address targets, double scale, Address dx, Address dweight, Address dbias) {
            check_sizes({N, H});
            check_sizes({N, V});
            check_sizes({V, H});
            if (chunk < 1) throw std::invalid_argument("chunk is " + std::to_string(chunk) + "; expected 1 or more rows");
            check_targets(at<std::int64_t>(targets), N, V);
            nb::gil_scoped_release released;
            auto pass = numbers == Numbers::float64 ? loss<double> : loss<float>;
            return pass(numbers, threads, N, H, V, chunk, x, weight, bias, targets, scale, dx, dweight, dbias);
        },
        nb::arg("numbers"), nb::arg("threads"), nb::arg("N"), nb::arg("H"), nb::arg("V"), nb::arg("chunk"), nb::arg("x"),
        nb::arg("weight"), nb::arg("bias"), nb::arg("targets"), nb::arg("scale"), nb::arg("dx"), nb::arg("dweight"),
        nb::arg("dbias"), "Return the softmax cross-entropy of a linear layer, and write its gradients.");
    nb::class_<Parameter>(m, "Parameter", "A parameter, its gradient, and its Adam state.")
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
            const Index count = static_cast<Index>(parameters.size());
            check_parameters(parameters.data(), count, false);
            nb::gil_scoped_release released;
            const Target& target = active_target();
            double norm = 0;
            const GradientNorm all{parameters.data(), count, &norm};
            run(useful_threads(parameters, threads), [&](Member me) { target.norm(all, me); });
            return norm;
        },
        nb::arg("threads"), nb::arg("parameters"), "Return the norm of all gradients together.");
    m.def(
        "dropout_mask",
        [](int threads, Index count, std::int64_t seed, std::int32_t kept, float scale, Address mask) {
            check_sizes({count});
            nb::gil_scoped_release released;
            const Target& target = active_target();
            const DropoutMask drawn{count, static_cast<std::uint64_t>(seed), kept, scale, at<float>(mask)};
            run(useful_threads(static_cast<double>(count), threads), [&](Member me) { target.dropout(drawn, me); });
        },
        nb::arg("threads"), nb::arg("count"), nb::arg("seed"), nb::arg("kept"), nb::arg("scale"), nb::arg("mask"),
        "Write a dropout mask: the scale where a random integer of the seed is below `kept`, else 0.");
    m.def(
        "update",
        [](int threads, UpdateRule rule, const std::vector<Parameter>& parameters, double clip, double lr,
           double weight_decay, double beta1, double beta2, double epsilon) {
            const Index count = static_cast<Index>(parameters.size());
            check_parameters(parameters.data(), count, true);
            nb::gil_scoped_release released;
            const Target& target = active_target();
            const Update step{rule, clip, lr, weight_decay, beta1, beta2, epsilon, parameters.data(), count};
            run(useful_threads(parameters, threads), [&](Member me) { target.update(step, me); });
        },
        nb::arg("threads"), nb::arg("rule"), nb::arg("parameters"), nb::arg("clip"), nb::arg("lr"),
        nb::arg("weight_decay"), nb::arg("beta1") = 0.0, nb::arg("beta2") = 0.0, nb::arg("epsilon") = 0.0,
        "Run one step of an optimizer.");
}

}  // namespace gatewise
