// The Python interface: gatewise._native. Arguments are addresses and sizes. engines/boundary.py has checked that each address
// is that of a tensor with memory for its shape and dtype; engines/contract.py documents the shapes of a layer and which
// tensors may be absent (0). This module checks that sizes do not overflow, and the values behind the addresses that control
// what is read or written: lengths, targets, ids, rows, and overlap of memory. The GIL is released while a pass runs.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "binding.hpp"
#include "checks.hpp"
#include "dispatch.hpp"
#include "plan.hpp"
#include "threads.hpp"

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
    Address lengths, x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, h_mask;
};

template <class Real>
LayerWeights<Real> weights(const Given& g) {
    return {at<Real>(g.w_ih), at<Real>(g.w_hh), at<Real>(g.b_ih), at<Real>(g.b_hh)};
}

int useful_threads(const Given& g, int most) {
    const double columns = static_cast<double>(g.T * g.B * gates_of(g.cell) * g.H);
    return threads_for(2.0 * columns * static_cast<double>(g.I + g.H), kOperationsPerThread, most);
}

template <class Real>
void forward(const Given& g, int threads, Address y, Address h_n, Address c_n, Address gates, Address extra,
             Address traced_gates, Address traced_cells) {
    const Kernels<Real>& kernels = active_target();
    Plan plan(g.cell, g.T, g.B, g.H, at<std::int64_t>(g.lengths), g.reverse);
    const LayerForward<Real> pass{g.T, g.I, g.H, plan.steps, weights<Real>(g), at<Real>(g.x), at<Real>(g.h_0),
                                  at<Real>(g.c_0), at<Real>(g.h_mask), at<Real>(y), at<Real>(h_n), at<Real>(c_n),
                                  at<Real>(gates), at<Real>(extra), at<Real>(traced_gates), at<Real>(traced_cells)};
    run(useful_threads(g, threads), [&](Member me) { kernels.forward(g.cell, g.numbers, pass, me); });
}

template <class Real>
void backward(const Given& g, int threads, Address y, Address gates, Address extra, Address dy, Address dh_n, Address dc_n,
              Address dx, Address dh_0, Address dc_0, Address dw_ih, Address dw_hh, Address db_ih, Address db_hh) {
    const Kernels<Real>& kernels = active_target();
    Plan plan(g.cell, g.T, g.B, g.H, at<std::int64_t>(g.lengths), g.reverse);
    const LayerBackward<Real> pass{g.T, g.I, g.H, plan.steps, weights<Real>(g), at<Real>(g.x), at<Real>(g.h_0),
                                   at<Real>(g.c_0), at<Real>(g.h_mask), at<Real>(y), at<Real>(gates), at<Real>(extra),
                                   at<Real>(dy), at<Real>(dh_n), at<Real>(dc_n), at<Real>(dx), at<Real>(dh_0),
                                   at<Real>(dc_0), at<Real>(dw_ih), at<Real>(dw_hh), at<Real>(db_ih), at<Real>(db_hh)};
    run(useful_threads(g, threads), [&](Member me) { kernels.backward(g.cell, g.numbers, pass, me); });
}

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
        .def(
            "__init__",
            [](Given* g, CellKind cell, Numbers numbers, Index T, Index B, Index I, Index H, bool reverse, Address lengths,
               Address x, Address h_0, Address c_0, Address w_ih, Address w_hh, Address b_ih, Address b_hh,
               Address h_mask) {
                const Index G = gates_of(cell);
                check_sizes({T, B, (G + 1) * H});
                check_sizes({I + H, (G + 1) * H});
                if (lengths) check_lengths(at<std::int64_t>(lengths), B, T);
                new (g) Given{cell, numbers, T, B, I, H, reverse, lengths, x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, h_mask};
            },
            nb::arg("cell"), nb::arg("numbers"), nb::arg("T"), nb::arg("B"), nb::arg("I"), nb::arg("H"),
            nb::arg("reverse"), nb::arg("lengths"), nb::arg("x"), nb::arg("h_0"), nb::arg("c_0"), nb::arg("w_ih"),
            nb::arg("w_hh"), nb::arg("b_ih"), nb::arg("b_hh"), nb::arg("h_mask"));
    m.def(
        "forward",
        [](const Given& given, int threads, Address y, Address h_n, Address c_n, Address gates, Address extra,
           Address traced_gates, Address traced_cells) {
            nb::gil_scoped_release released;
            auto pass = given.numbers == Numbers::float64 ? forward<double> : forward<float>;
            pass(given, threads, y, h_n, c_n, gates, extra, traced_gates, traced_cells);
        },
        nb::arg("given"), nb::arg("threads"), nb::arg("y"), nb::arg("h_n"), nb::arg("c_n"), nb::arg("gates"),
        nb::arg("extra"), nb::arg("traced_gates"), nb::arg("traced_cells"), "Run a layer pass.");
    m.def(
        "backward",
        [](const Given& given, int threads, Address y, Address gates, Address extra, Address dy, Address dh_n,
           Address dc_n, Address dx, Address dh_0, Address dc_0, Address dw_ih, Address dw_hh, Address db_ih,
           Address db_hh) {
            nb::gil_scoped_release released;
            auto pass = given.numbers == Numbers::float64 ? backward<double> : backward<float>;
            pass(given, threads, y, gates, extra, dy, dh_n, dc_n, dx, dh_0, dc_0, dw_ih, dw_hh, db_ih, db_hh);
        },
        nb::arg("given"), nb::arg("threads"), nb::arg("y"), nb::arg("gates"), nb::arg("extra"), nb::arg("dy"),
        nb::arg("dh_n"), nb::arg("dc_n"), nb::arg("dx"), nb::arg("dh_0"), nb::arg("dc_0"), nb::arg("dw_ih"),
        nb::arg("dw_hh"), nb::arg("db_ih"), nb::arg("db_hh"), "Run a layer pass backward.");
    bind_training(m);
    bind_stream(m);
    m.def(
        "product_rate",
        [](int threads, Numbers numbers) {
            if (threads < 1 || threads > 4096) {
                throw std::invalid_argument("threads is " + std::to_string(threads) + "; expected 1 to 4096");
            }
            if (numbers == Numbers::float64) throw std::invalid_argument("numbers is float64; expected a compute type of float tensors");
            nb::gil_scoped_release released;
            return product_rate(threads, numbers);
        },
        nb::arg("threads"), nb::arg("numbers"),
        "Measure the peak rate of matrix products in a compute type, in operations per second.");
    m.def("instruction_set", [] { return std::string(active_target().name); }, "Return the name of the instruction set in use.");
    m.def(
        "instruction_sets",
        [] {
            std::vector<std::string> names;
            for (const Target* target : available_targets()) names.emplace_back(target->name);
            return names;
        },
        "Return the names of the instruction sets that this build and this processor support, lowest first.");
}
