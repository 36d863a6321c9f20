// The Python interface: gatewise._native. Arguments are addresses and sizes: engines/boundary.py has checked that each
// address is that of a tensor with memory for its shape and dtype; engines/contract.py documents the shapes of a layer
// and which tensors may be absent. The bindings convert arguments, call checks.hpp (sizes, and the values that control
// what is read or written) and release the GIL while a pass runs. nanobind translates exceptions.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "binding.hpp"
#include "checks.hpp"
#include "dispatch.hpp"
#include "plan.hpp"

namespace nb = nanobind;

namespace gatewise {

void bind_training(nb::module_& m);  // module_training.cpp
void bind_stream(nb::module_& m);    // module_stream.cpp

namespace {

// The inputs of both directions.
struct Given {
    CellKind cell;
    Numbers numbers;
    Index T, B, I, H;
    bool reverse;
    Pointer lengths, x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, h_mask;

    Plan plan() const { return {cell, T, B, H, lengths, reverse}; }

    template <class Real>
    LayerInputs<Real> inputs(const Plan& plan) const {
        return {T, I, H, plan.steps, {w_ih, w_hh, b_ih, b_hh}, x, h_0, c_0, h_mask};
    }

    // products: with each matrix of weights, 1 in the forward pass, 2 in the backward pass; one with W_hh is in the steps.
    int useful_threads(const Plan& plan, int products, int most) const {
        const Target& target = active_target();
        const Index real = numbers == Numbers::float64 ? sizeof(double) : sizeof(float);
        const double seconds = 2.0 * static_cast<double>(plan.steps.total) * static_cast<double>(gates_of(cell) * H) /
                               target.rates[static_cast<int>(numbers)];
        return threads_for({seconds * static_cast<double>(products * I + (products - 1) * H), 30.0 * products,
                            seconds * static_cast<double>(H), plan.steps.count,
                            (H * real + target.block_bytes - 1) / target.block_bytes, plan.steps.groups},
                           most);
    }
};

}  // namespace
}  // namespace gatewise

NB_MODULE(_native, m) {
    using namespace gatewise;
    nb::enum_<CellKind> cells(m, "Cell");
#define GATEWISE_CELL(name, Struct, gates) cells.value(#name, CellKind::name);
    GATEWISE_CELLS(GATEWISE_CELL)
#undef GATEWISE_CELL
    nb::enum_<Numbers>(m, "Numbers")
        .value("float32", Numbers::float32)
        .value("float64", Numbers::float64)
        .value("bfloat16", Numbers::bfloat16)
        .value("high", Numbers::high);
    nb::class_<Given>(m, "Given", "The inputs of a pass.")
        .def("__init__", [](Given* g, CellKind cell, Numbers numbers, Index T, Index B, Index I, Index H, bool reverse,
                            Pointer lengths, Pointer x, Pointer h_0, Pointer c_0, Pointer w_ih, Pointer w_hh,
                            Pointer b_ih, Pointer b_hh, Pointer h_mask) {
            const Index G = gates_of(cell);
            check_sizes({I, H});  // before sums and products of them
            check_sizes({T, B, (G + 1) * H});
            check_sizes({I + H, (G + 1) * H});
            check_values<std::invalid_argument>("lengths", lengths, B, T, "the number of steps of the input");
            new (g) Given{cell, numbers, T, B, I, H, reverse, lengths, x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, h_mask};
        });
    m.def(
        "forward",
        [](const Given& given, int threads, Pointer y, Pointer h_n, Pointer c_n, Pointer gates, Pointer extra,
           Pointer traced_gates, Pointer traced_cells) {
            nb::gil_scoped_release released;
            const Plan plan = given.plan();
            threads = given.useful_threads(plan, 1, threads);
            with_real(given.numbers, [&](auto zero) {
                using Real = decltype(zero);
                const Kernels<Real>& kernels = active_target();
                const LayerInputs<Real> in = given.inputs<Real>(plan);
                const LayerForward<Real> pass{in, y, h_n, c_n, gates, extra, traced_gates, traced_cells};
                run(threads, [&](Member me) { kernels.forward(given.cell, given.numbers, pass, me); });
            });
        },
        "Run a layer pass.");
    m.def(
        "backward",
        [](const Given& given, int threads, Pointer y, Pointer gates, Pointer extra, Pointer dy, Pointer dh_n,
           Pointer dc_n, Pointer dx, Pointer dh_0, Pointer dc_0, Pointer dw_ih, Pointer dw_hh, Pointer db_ih,
           Pointer db_hh) {
            nb::gil_scoped_release released;
            const Plan plan = given.plan();
            threads = given.useful_threads(plan, 2, threads);
            with_real(given.numbers, [&](auto zero) {
                using Real = decltype(zero);
                const Kernels<Real>& kernels = active_target();
                const LayerInputs<Real> in = given.inputs<Real>(plan);
                LayerBackward<Real> pass{in, y,    gates, extra, dy,    dh_n,  dc_n,
                                         dx, dh_0, dc_0,  dw_ih, dw_hh, db_ih, db_hh};
                run(threads, [&](Member me) { kernels.backward(given.cell, given.numbers, pass, me); });
            });
        },
        "Run a layer pass backward.");
    bind_training(m);
    bind_stream(m);
    m.def(
        "product_rate",
        [](int threads, Numbers numbers) {
            if (threads < 1 || threads > 4096) {
                throw std::invalid_argument("threads is " + std::to_string(threads) + "; expected 1 to 4096");
            }
            if (numbers == Numbers::float64) {
                throw std::invalid_argument("numbers is float64; expected a compute type of float tensors");
            }
            nb::gil_scoped_release released;
            return product_rate(threads, numbers);
        },
        "Measure the peak rate of matrix products in a compute type, in operations per second.");
    m.def(
        "instruction_set", [] { return std::string(active_target().name); },
        "Return the name of the instruction set in use.");
    m.def(
        "instruction_sets",
        [] {
            std::vector<std::string> names;
            for (const Target* target : available_targets()) names.emplace_back(target->name);
            return names;
        },
        "Return the names of the instruction sets that this build and this processor support, lowest first.");
}
