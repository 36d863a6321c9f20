// The Python interface of stream.hpp: the weights of a stack, copied and packed once, and its step. Arguments are addresses and
// sizes, checked by gatewise/engines/native/stream.py; an address of 0 means an absent tensor.
#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <new>
#include <string>
#include <tuple>
#include <vector>

#include "pages.hpp"
#include "rungs.hpp"
#include "sizes.hpp"

namespace nb = nanobind;

namespace gatewise {
namespace {

using Address = std::uintptr_t;
using LayerAddresses = std::tuple<Address, Address, Address, Address>;  // w_ih, w_hh, b_ih, b_hh

// The weights per thread from which another thread is worth it. Measured on two cores, two LSTM layers with a softmax, one
// thread and two, microseconds: 192 KiB 10.7 and 14.0; 512 KiB 17.3 and 17.4; 768 KiB 25.6 and 27.6; 960 KiB 25.1 and 19.5; 1
// MiB 33.4 and 32.4; 4 MiB 90 and 62; 10 MiB 254 and 137.
constexpr std::size_t kBytesAThread = 512 * 1024;

class Stream {
  public:
    // table: (tokens, width), the rows of an embedding, or 0; if w_ih of the first layer is 0, its rows are the products of
    // that layer.
    Stream(CellKind cell, bool narrow, Index I, Index H, Index V, const std::vector<LayerAddresses>& layers,
           Address decoder, Address decoder_bias, Address table, Index tokens, int threads)
        : cell_(cell), narrow_(narrow), H_(H), tokens_(table ? tokens : 0) {
        const Index gates = gates_of(cell);
        for (const auto& [w_ih, w_hh, b_ih, b_hh] : layers) {
            const Index inputs = !w_ih ? 0 : layers_.empty() ? I : H;
            const float *first_bias = kept(b_ih, gates * H), *second_bias = kept(b_hh, gates * H);
            layers_.push_back({gates, H, {inputs, H}, {at(w_ih), at(w_hh)}, {first_bias, second_bias}, nullptr});
        }
        if (decoder) decoder_ = {1, V, {H, 0}, {at(decoder), nullptr}, {kept(decoder_bias, V), nullptr}, nullptr};
        width_ = layers_[0].terms[0] ? I : gates * H;
        pack(threads);
        if (table && narrow) {
            for (Index k = 0; k < tokens * width_; ++k) narrow_table_.push_back(rounded(at(table)[k]));
        } else if (table) {
            table_.assign(at(table), at(table) + tokens * width_);
        }
    }

    std::size_t bytes() const { return bytes_; }

    void step(int threads, Index B, Address x, Address h, Address c, Address h_n, Address c_n, Address logits) const {
        check_sizes({B, std::max(decoder_.units, 4 * H_), static_cast<Index>(layers_.size())});
        thread_local std::vector<float> rows;
        const float* given = tokens_ ? look_up(reinterpret_cast<const std::int64_t*>(x), B, rows) : at(x);
        const bool multiplied = layers_[0].terms[0] == 0;
        const StreamStep step{cell_, narrow_, B, static_cast<Index>(layers_.size()), H_, layers_.data(),
                              decoder_.packed ? &decoder_ : nullptr, multiplied ? nullptr : given,
                              multiplied ? given : nullptr,
                              at(h), at(c), at(h_n), at(c_n), at(logits)};
        nb::gil_scoped_release released;
        const std::size_t useful = std::max<std::size_t>(bytes_ / kBytesAThread, 1);
        const int members = static_cast<int>(std::min<std::size_t>(static_cast<std::size_t>(threads), useful));
        run(members, [&](Member me) { rung().stream(step, me); });
    }

    // Read every weight (except at most the last 127 bytes) without computing anything: the memory time of a step.
    std::uint64_t read(int threads) const {
        nb::gil_scoped_release released;
        std::atomic<std::uint64_t> sum{0};
        run(threads, [&](Member me) {
            typedef std::uint64_t Vector __attribute__((vector_size(16)));
            constexpr Index piece = 8;
            Vector sums[piece] = {};
            const Index count = static_cast<Index>(bytes_ / sizeof sums), first = me.first(count);
            const Vector* at = reinterpret_cast<const Vector*>(memory_.begin()) + first * piece;
            for (Index k = first; k < me.last(count); ++k, at += piece) {
                for (Index j = 0; j < piece; ++j) sums[j] ^= at[j];
            }
            for (Index j = 1; j < piece; ++j) sums[0] ^= sums[j];
            sum ^= sums[0][0] ^ sums[0][1];
        });
        return sum;
    }

  private:
    static float* at(Address address) { return reinterpret_cast<float*>(address); }

    static std::uint16_t rounded(float x) {  // to bfloat16, to nearest even
        std::uint32_t bits;
        std::memcpy(&bits, &x, sizeof bits);
        return static_cast<std::uint16_t>((x == x ? bits + 0x7FFF + ((bits >> 16) & 1) : bits | 0x400000) >> 16);
    }

    const float* kept(Address from, Index count) {
        if (!from) return nullptr;
        biases_.emplace_back(at(from), at(from) + count);
        return biases_.back().data();
    }

    void pack(int threads) {
        std::vector<StreamMatrix*> all;
        for (StreamMatrix& layer : layers_) all.push_back(&layer);
        if (decoder_.units) all.push_back(&decoder_);
        std::vector<std::size_t> offsets;
        for (const StreamMatrix* m : all) {
            const StreamPanel panel = rung().stream_panel(m->gates);
            const Index blocks = (m->units + panel.units - 1) / panel.units;
            offsets.push_back(bytes_);
            bytes_ += static_cast<std::size_t>(blocks * panel.columns * (m->terms[0] + m->terms[1])) * (narrow_ ? 2 : 4);
        }
        memory_ = Pages(bytes_);
        if (!memory_.begin()) throw NoMemory();
        for (std::size_t k = 0; k < all.size(); ++k) {
            all[k]->packed = memory_.begin() + offsets[k];
            run(threads, [&](Member me) { rung().pack_stream(*all[k], narrow_, me); });
        }
    }

    const float* look_up(const std::int64_t* ids, Index B, std::vector<float>& rows) const {
        rows.resize(static_cast<std::size_t>(B * width_));
        for (Index r = 0; r < B; ++r) {
            if (ids[r] < 0 || ids[r] >= tokens_) {
                const std::string found = "token id " + std::to_string(ids[r]) + " is outside the vocabulary";
                throw nb::index_error((found + "; expected 0 to " + std::to_string(tokens_ - 1)).c_str());
            }
            float* to = rows.data() + r * width_;
            if (!narrow_) {
                std::memcpy(to, table_.data() + ids[r] * width_, static_cast<std::size_t>(width_) * sizeof(float));
                continue;
            }
            for (Index k = 0; k < width_; ++k) {
                const std::uint32_t bits = static_cast<std::uint32_t>(narrow_table_[ids[r] * width_ + k]) << 16;
                std::memcpy(to + k, &bits, sizeof bits);
            }
        }
        return rows.data();
    }

    CellKind cell_;
    bool narrow_;
    Index H_, width_ = 0, tokens_;
    std::vector<StreamMatrix> layers_;
    StreamMatrix decoder_{};
    std::deque<std::vector<float>> biases_;
    std::vector<float> table_;
    std::vector<std::uint16_t> narrow_table_;
    std::size_t bytes_ = 0;
    Pages memory_;
};

}  // namespace

void bind_stream(nb::module_& m) {
    nb::class_<Stream>(m, "Stream", "A stack's weights, packed for one step at a time.")
        .def(
            "__init__",
            [](Stream* made, CellKind cell, bool narrow, Index I, Index H, Index V,
               const std::vector<LayerAddresses>& layers, Address decoder, Address decoder_bias, Address table,
               Index tokens, int threads) {
                (void)rung();  // may throw, so call it while the GIL is held
                check_sizes({I + H, 4 * H});
                check_sizes({V, H});
                check_sizes({tokens, std::max(I, 4 * H)});
                if (layers.empty()) throw nb::value_error("layers is empty; expected one or more");
                new (made) Stream(cell, narrow, I, H, V, layers, decoder, decoder_bias, table, tokens, threads);
            },
            nb::arg("cell"), nb::arg("narrow"), nb::arg("I"), nb::arg("H"), nb::arg("V"), nb::arg("layers"),
            nb::arg("decoder"), nb::arg("decoder_bias"), nb::arg("table"), nb::arg("tokens"), nb::arg("threads"))
        .def_prop_ro("bytes", &Stream::bytes, "Bytes of weights that a step reads.")
        .def("step", &Stream::step, "Run one step.")
        .def("read", &Stream::read, "Read every weight of a step and compute nothing.");
}

}  // namespace gatewise
