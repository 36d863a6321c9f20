// The Python interface of the loss, the update of a training step, and dropout; conventions as in module.cpp.
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "binding.hpp"
#include "checks.hpp"
#include "dispatch.hpp"

namespace nb = nanobind;

namespace gatewise {
namespace {

int useful_threads(Index elements, int most) {
    return threads_for({static_cast<double>(elements) * kSecondsPerElement}, most);
}

int useful_threads(const std::vector<Parameter>& parameters, int most) {
    Index elements = 0;
    for (const Parameter& p : parameters) elements += p.count;
    return useful_threads(elements, most);
}

}  // namespace

void bind_training(nb::module_& m) {
    m.def(
        "linear_loss",
        [](Numbers numbers, int threads, Index N, Index H, Index V, Index chunk, Pointer x, Pointer weight,
           Pointer bias, Pointer targets, double scale, Pointer dx, Pointer dweight, Pointer dbias) {
            check_sizes({N, H});
            check_sizes({N, V});
            check_sizes({V, H});
            if (chunk < 1) {
                throw std::invalid_argument("chunk is " + std::to_string(chunk) + "; expected 1 or more rows");
            }
            check_values<std::out_of_range>("targets", targets, N, V - 1, "the rows of the weight");
            nb::gil_scoped_release released;
            chunk = std::min(chunk, std::max(N, Index{1}));  // sums with it do not overflow
            double nll = 0;
            with_real(numbers, [&](auto zero) {
                using Real = decltype(zero);
                const Kernels<Real>& kernels = active_target();
                const int products = 1 + (dx.address != 0) + (dweight.address != 0);
                // 50: what exp, and reading and writing the logits, take as long as.
                const double operations = static_cast<double>(N * V) * (2.0 * products * static_cast<double>(H) + 50);
                const double seconds = operations / active_target().rates[static_cast<int>(numbers)];
                const double barriers = 10.0 * products * static_cast<double>((N + chunk - 1) / chunk);
                const LinearLoss<Real> loss{N, H, V, chunk, x, weight, bias, targets, scale, &nll, dx, dweight, dbias};
                run(threads_for({seconds, barriers}, threads), [&](Member me) { kernels.loss(numbers, loss, me); });
            });
            return nll;
        },
        "Return the softmax cross-entropy of a linear layer, and write its gradients.");
    nb::class_<Parameter>(m, "Parameter", "A parameter, its gradient, and its Adam state.")
        .def(
            "__init__",
            [](Parameter* parameter, Index count, Pointer p, Pointer g, Pointer m, Pointer v, Pointer rows,
               Index row_count, Index width, double correction_m, double correction_v) {
                new (parameter) Parameter{p, g, m, v, count, rows, row_count, width, correction_m, correction_v};
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
        "Return the norm of all gradients together.");
    m.def(
        "dropout",
        [](int threads, Index count, std::int64_t seed, std::int32_t kept, float scale, Pointer x, Pointer out) {
            check_sizes({count});
            nb::gil_scoped_release released;
            const Target& target = active_target();
            const DropoutMask drawn{count, static_cast<std::uint64_t>(seed), kept, scale, x, out};
            run(useful_threads(count, threads), [&](Member me) { target.dropout(drawn, me); });
        },
        "Write a dropout mask, the scale where a random integer of the seed is below `kept`, else 0, or its product "
        "with x.");
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
        "Run one step of an optimizer.");
}

}  // namespace gatewise
