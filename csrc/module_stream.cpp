// The Python interface of stream.hpp; conventions as in module.cpp. engines/native/stream.py checks the arguments.
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <tuple>
#include <vector>

#include "binding.hpp"
#include "stream.hpp"

namespace nb = nanobind;

namespace gatewise {

void bind_stream(nb::module_& m) {
    using Layer = std::tuple<Pointer, Pointer, Pointer, Pointer>;  // w_ih, w_hh, b_ih, b_hh
    nb::enum_<Stored>(m, "Stored", "How a stream stores weights.")
        .value("fp32", Stored::fp32)
        .value("bf16", Stored::bf16)
        .value("int8", Stored::int8);
    nb::class_<Stream>(m, "Stream", "The weights of a stack, packed for one step at a time.")
        .def("__init__",
             [](Stream* stream, CellKind cell, Stored stored, Index I, Index H, Index V,
                const std::vector<Layer>& layers, Pointer decoder, Pointer decoder_bias, Pointer table, Index tokens,
                int threads) {
                 StreamWeights weights{cell, stored, I, H, V, {}, decoder, decoder_bias, table, tokens};
                 for (const auto& [w_ih, w_hh, b_ih, b_hh] : layers) {
                     weights.layers.push_back({w_ih, w_hh, b_ih, b_hh});
                 }
                 new (stream) Stream(weights, threads);
             })
        .def_prop_ro("bytes", &Stream::bytes, "The size of the weights that a step reads, in bytes.")
        .def(
            "step",
            [](const Stream& stream, int threads, Index B, Pointer x, Pointer h, Pointer c, Pointer h_n, Pointer c_n,
               Pointer logits) {
                nb::gil_scoped_release released;
                stream.step(stream.useful_threads(threads), B, x, h, c, h_n, c_n, logits);
            },
            "Run one step.")
        .def("read", &Stream::read, nb::call_guard<nb::gil_scoped_release>(),
             "Read every weight without computing anything.");
}

}  // namespace gatewise
