// A model read from its file, and what it computes. Everything recurrent or linear runs on streams (stream.hpp): layer
// by layer where there are two directions, each from its own end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "safetensors.hpp"
#include "sequences.hpp"

namespace gatewise {

// Tokens and their ids.
class Lexicon {
  public:
    // Take the tokens of an array of strings, in the order of their ids.
    Problem read(JsonValue tokens, bool lowercase, const char* what);

    std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()); }
    const std::string& operator[](std::int64_t id) const { return tokens_[static_cast<std::size_t>(id)]; }
    std::int64_t id_of(std::string_view token) const;  // that of <unk> for others
    std::int64_t find(std::string_view token) const;   // −1 for others; not lower-cased

  private:
    std::vector<std::string> tokens_;
    std::unordered_map<std::string_view, std::int64_t> ids_;
    std::int64_t unk_ = -1;
    bool lowercase_ = false;
};

// What a model file says about its model.
struct Description {
    int task = 0, weights = 0, level = 0;
    CellKind cell = CellKind::lstm;
    Index H = 0, L = 0, D = 1, I = 0, E = 0, character_E = 0, character_H = 0, outputs = 0, window = 0;
    enum class Pooling { last, mean, max } pooling = Pooling::last;
    enum class Characters { none, lstm, cnn } characters = Characters::none;
    bool one_hot = false, tied = false, crf = false, start = false, relative = false;
    std::vector<double> x_mean, x_std;
    double y_mean = 0, y_std = 1;
    Index target = 0;   // the column of a relative model
    std::string owner;  // what a state belongs to

    Index gates() const { return gates_of(cell); }
    Index traced() const { return gates() > 1 ? gates() + (cell == CellKind::lstm ? 2 : 1) : 1; }
    bool is_lstm() const { return cell == CellKind::lstm; }
    bool reads_words() const { return task == GW_TAGGER || task == GW_TEXT_CLASSIFIER; }
    bool streams() const { return D == 1 && !relative; }
};

// What a row has read; the arrays are (L, H) and, pooled, (H).
struct Memory {
    std::vector<float> h, c, pooled;
    std::int64_t count = 0;  // steps
};

class Network {
  public:
    // Read a model file; nothing refers to `data` afterwards.
    Problem read(const char* data, std::size_t size, int threads);

    const Description& about() const { return about_; }
    const Lexicon& tokens() const { return tokens_; }
    const std::vector<std::string>& labels() const { return labels_; }
    const std::string& json() const { return json_; }

    Memory fresh() const;

    // See the functions of gatewise.h; memories change only if all goes well. Arguments are checked: lengths are 1 or
    // more; addresses are valid.
    Problem step(Index rows, const void* inputs, Memory* const* memories, float* trace, void* outputs) const;
    Problem outputs(Index rows, const Memory* const* memories, void* outputs) const;
    Problem run(const Sequences& in, Memory* const* memories, bool over_time, void* outputs) const;
    Problem score(const Sequences& in, Memory* const* memories, double* nll) const;
    Problem tag(const Sequences& in, std::int64_t* labels) const;
    Problem tag_probabilities(const Sequences& in, double* p) const;

  private:
    class Heads;
    class Reader;

    Problem describe(JsonValue about);
    Problem read_scaling(JsonValue about);
    Problem read_weights(Reader& reader);
    Problem read_stack(Reader& reader, const std::string& prefix, Index I, Index H, Index L, Index D, CellKind cell,
                       std::vector<float> table, std::vector<std::unique_ptr<Stream>>& passes) const;
    Problem read_characters(Reader& reader);

    Problem check_ids(const std::int64_t* ids, Index count) const;
    Problem vectors(const Sequences& in, std::vector<float>& x) const;
    Problem spelled(const std::vector<std::string_view>& words, std::vector<float>& to) const;
    Problem run_rows(const Sequences& in, std::vector<Memory>* memories, bool each, float* z) const;
    Problem run_prefixes(const Sequences& in, float* z) const;
    void run_forward(const Batch& batch, const void* items, Index I, std::vector<Memory>* memories, bool each,
                     Heads* heads) const;
    void run_both_ways(const Batch& batch, const float* x, Index I, Index total, bool each, Heads& heads) const;
    Problem finish(const Sequences& in, bool each, const std::vector<float>& z, void* outputs) const;
    void linear(const Stream& stream, Index rows, const float* x, float* y) const;
    void pool(Memory& memory, float* y) const;
    void pooled(const Memory& memory, float* y) const;
    Ends zeros(Index layers, Index rows) const;
    Ends gathered(const std::vector<Memory*>& memories) const;
    void scatter(const Ends& ends, const std::vector<Memory*>& memories) const;

    Description about_;
    Lexicon tokens_, characters_;
    std::vector<std::string> labels_;
    std::string json_;
    std::vector<std::unique_ptr<Stream>> passes_;  // one of L layers; or, in two directions, L·D of one layer
    std::unique_ptr<Stream> head_;
    std::vector<float> table_;  // (tokens, E) of a model of words
    std::vector<std::unique_ptr<Stream>> spelling_;
    std::vector<float> character_table_;  // (characters, E) of a convolution
    std::vector<float> transitions_, start_, end_;
    int threads_ = 1;
};

}  // namespace gatewise
