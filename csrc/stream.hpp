// A stack of recurrent layers that runs one step at a time: its weights, copied and packed once, and the steps on them.
// The functions of stream_step.hpp do the work. Not for code that is compiled per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "dispatch.hpp"
#include "pages.hpp"

namespace gatewise {

// The weights of a stack; the constructor of a Stream reads them, and nothing refers to them later.
struct StreamWeights {
    CellKind cell;
    Stored stored;  // of the weights and the table, which has a scale for each row with int8
    Index I, H, V;  // inputs of the first layer, units, outputs of the decoder
    std::vector<LayerWeights<float>> layers;
    const float* decoder;       // (V, H), or null
    const float* decoder_bias;  // (V), or null
    // The input of the first layer by token id: (tokens, I); or, if w_ih of that layer is null, its product with W_ih,
    // (tokens, G·H); or null: a step takes vectors.
    const float* table;
    Index tokens;
};

class Stream {
  public:
    // Pack with up to `threads` threads. Throws std::invalid_argument if sizes overflow, neither a layer nor a decoder is
    // given, or a weight to be stored as int8 is not finite; NoMemory. Without layers, the decoder reads (B, H).
    Stream(const StreamWeights& weights, int threads, const Target& target = active_target());
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    // The size of the packed weights, which a step reads.
    std::size_t bytes() const { return bytes_; }

    // The number of threads that a step is worth, up to `most`.
    int useful_threads(int most) const;

    // Run a step of B rows; several threads may run steps of one stream at the same time. x: B token ids, int64, with a
    // table; else (B, I), float. gates: see StreamStep. Throws std::out_of_range before it writes anything if an id is
    // not a row of the table.
    void step(int threads, Index B, const void* x, const float* h, const float* c, float* h_n, float* c_n,
              float* logits, float* gates = nullptr) const;

    // Read every weight (but the last 127 bytes or less) without computing anything, to time memory; return a checksum.
    std::uint64_t read(int threads) const;

  private:
    const float* keep(const float* bias, Index count);
    void pack(int threads);
    void keep_table(const float* table);
    const float* look_up(const std::int64_t* ids, Index B) const;

    const Target& target_;
    StreamStep step_{};  // what all steps have in common
    const Index tokens_;
    Index width_ = 0;                     // of a row of the table
    std::vector<StreamMatrix> matrices_;  // of the layers, and then of the decoder, if there is one
    std::deque<std::vector<float>> biases_;
    std::vector<float> table_;
    std::vector<std::uint16_t> bf16_table_;
    std::vector<std::int8_t> int8_table_;
    std::vector<float> scales_;  // of the rows of int8_table_
    std::size_t bytes_ = 0;
    Pages memory_;
};

}  // namespace gatewise
