// Reading a model file into a Network.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "network.hpp"
#include "text.hpp"

namespace gatewise {
namespace {

using Kind = JsonValue::Kind;

Problem wrong(const std::string& what) { return {GW_MODEL, what + "; expected a file as gatewise export writes it"}; }

// The place of a text in a list, or −1.
int place_of(std::string_view text, std::initializer_list<std::string_view> list) {
    const auto at = std::find(list.begin(), list.end(), text);
    return at == list.end() ? -1 : static_cast<int>(at - list.begin());
}

template <class Number>
Number little(const char* at) {
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors files are little-endian");
    Number number;
    std::memcpy(&number, at, sizeof number);
    return number;
}

}  // namespace

Problem Lexicon::read(JsonValue tokens, bool lowercase, const char* what) {
    if (!tokens.is(Kind::array) || !tokens.size()) return wrong(std::string("no list of ") + what);
    bool texts = true;
    tokens_.reserve(tokens.size());
    tokens.each_item([&](JsonValue token) {
        texts = texts && token.is(Kind::string);
        tokens_.emplace_back(token.string());
    });
    if (!texts) return wrong(std::string("one of the ") + what + " is no string");
    for (const std::string& token : tokens_) ids_.emplace(token, static_cast<std::int64_t>(ids_.size()));
    if (ids_.size() != tokens_.size()) return wrong(std::string("one of the ") + what + " stands twice");
    unk_ = find("<unk>"), lowercase_ = lowercase;
    return unk_ < 0 ? wrong(std::string("no <unk> among the ") + what) : Problem();
}

std::int64_t Lexicon::find(std::string_view token) const {
    const auto at = ids_.find(token);
    return at == ids_.end() ? -1 : at->second;
}

std::int64_t Lexicon::id_of(std::string_view token) const {
    const std::int64_t id = lowercase_ ? find(lower(token)) : find(token);
    return id < 0 ? unk_ : id;
}

// The tensors of a model file, taken by name as floats.
class Network::Reader {
  public:
    Reader(const Safetensors& file, int weights) : file_(file), weights_(weights) {}

    // Take a matrix, stored as the file says; the columns are all axes but the first. by_column: with int8, there is a
    // scale for each column.
    Problem matrix(const std::string& name, const std::vector<Index>& shape, std::vector<float>& to,
                   bool by_column = false) {
        const char* dtype = weights_ == GW_BF16 ? "BF16" : weights_ == GW_INT8 ? "I8" : "F32";
        const char* at = nullptr;
        if (Problem problem = take(name, dtype, shape, at)) return problem;
        const Index rows = shape[0];
        Index columns = 1;
        for (std::size_t k = 1; k < shape.size(); ++k) columns *= shape[k];
        const std::size_t count = static_cast<std::size_t>(rows * columns);
        to.resize(count);
        if (weights_ == GW_FP32) std::memcpy(to.data(), at, 4 * count);
        for (std::size_t k = 0; weights_ == GW_BF16 && k < count; ++k) {
            const std::uint32_t bits = std::uint32_t{little<std::uint16_t>(at + 2 * k)} << 16;
            std::memcpy(&to[k], &bits, sizeof bits);
        }
        if (weights_ == GW_INT8) {
            std::vector<float> largest;
            if (Problem problem = vector(name + ".largest", by_column ? columns : rows, largest)) return problem;
            for (std::size_t k = 0; k < count; ++k) {
                const std::size_t row = k / static_cast<std::size_t>(columns),
                                  column = k % static_cast<std::size_t>(columns);
                to[k] = value(static_cast<std::int8_t>(at[k]), largest[by_column ? column : row]);
            }
        }
        return finite(name, to);
    }

    Problem vector(const std::string& name, Index size, std::vector<float>& to) { return plain(name, {size}, to); }

    // Take a tensor that is stored as F32 in any file.
    Problem plain(const std::string& name, std::vector<Index> shape, std::vector<float>& to) {
        const char* at = nullptr;
        if (Problem problem = take(name, "F32", shape, at)) return problem;
        std::size_t count = 1;
        for (Index size : shape) count *= static_cast<std::size_t>(size);
        to.resize(count);
        std::memcpy(to.data(), at, 4 * count);
        return finite(name, to);
    }

    Problem nothing_left() const {
        for (const auto& tensor : file_.tensors()) {
            if (!taken_.count(tensor.name)) return wrong("unexpected tensor " + shown(tensor.name));
        }
        return {};
    }

  private:
    // q · largest / 127. The largest numbers are ±largest exactly, so that packing (stream_int8.hpp) finds this scale.
    static float value(std::int8_t q, float largest) {
        std::int32_t bits;
        std::memcpy(&bits, &largest, sizeof bits);
        if (largest >= 0x1p-100f && (q == 127 || q == -127)) return q > 0 ? largest : -largest;
        return static_cast<float>(q) * scale_for(bits & INT32_MAX, 127);
    }

    Problem take(const std::string& name, const char* dtype, const std::vector<Index>& shape, const char*& at) {
        const Safetensors::Tensor* tensor = file_.find(name);
        if (!tensor) return wrong("no tensor " + shown(name));
        bool same = tensor->shape.size() == shape.size();
        std::string expected;
        for (std::size_t k = 0; k < shape.size(); ++k) {
            same = same && tensor->shape[k] == static_cast<std::uint64_t>(shape[k]);
            expected += (k ? ", " : "") + std::to_string(shape[k]);
        }
        if (!same) return wrong("tensor " + shown(name) + " has another shape than (" + expected + ")");
        if (tensor->dtype != dtype) {
            return wrong("tensor " + shown(name) + " has dtype " + shown(tensor->dtype) + ", not " + dtype);
        }
        at = file_.data(*tensor), taken_.insert(tensor->name);
        return {};
    }

    static Problem finite(const std::string& name, const std::vector<float>& numbers) {
        for (float x : numbers) {
            if (!std::isfinite(x)) return {GW_MODEL, "tensor " + shown(name) + " holds a number that is not finite"};
        }
        return {};
    }

    const Safetensors& file_;
    const int weights_;
    std::set<std::string_view> taken_;
};

Problem Network::read(const char* data, std::size_t size, int threads) {
    threads_ = threads;
    Safetensors file;
    if (Problem problem = file.read(data, size)) return problem;
    json_ = file.metadata("gatewise");
    Json facts;
    if (json_.empty()) return wrong("no description of a model in its metadata");
    if (Problem problem = facts.parse(json_)) return {GW_MODEL, "its description is invalid: " + problem.text()};
    const JsonValue about = facts.root()["runtime"];
    if (!about.is(Kind::object)) return wrong("no key 'runtime' in its description");
    if (about["version"].integer() > 1) {
        return {GW_MODEL, "written by a newer Gatewise; this one reads version 1: upgrade Gatewise"};
    }
    if (Problem problem = describe(about)) return problem;
    Reader reader(file, about_.weights);
    if (Problem problem = read_weights(reader)) return problem;
    return reader.nothing_left();
}

Problem Network::describe(JsonValue about) {
    Description& d = about_;
    const auto choice = [&](const char* key, std::initializer_list<std::string_view> list, int& to) -> Problem {
        to = place_of(about[key].string(), list);
        return to < 0 ? wrong(std::string("'") + key + "' is " + shown(about[key].string())) : Problem();
    };
    const auto number = [&](const char* key, Index least, Index& to) -> Problem {
        to = static_cast<Index>(about[key].integer());
        return to < least || to >= Index{1} << 31 ? wrong(std::string("'") + key + "' is no valid size") : Problem();
    };
    int cell = 0, pooling = 0, characters = 0;
    if (Problem p = choice("task", {"language-model", "tagger", "text-classifier", "classifier", "regressor"}, d.task))
        return p;
    if (Problem p = choice("weights", {"fp32", "bf16", "int8"}, d.weights)) return p;
    if (Problem p = choice("level", {"word", "character", "prose"}, d.level)) return p;
    if (Problem p = choice("cell", {"lstm", "gru", "rnn_tanh", "rnn_relu"}, cell)) return p;
    if (Problem p = choice("pooling", {"last", "mean", "max"}, pooling)) return p;
    if (Problem p = choice("character_encoder", {"none", "lstm", "cnn"}, characters)) return p;
    const CellKind cells[] = {CellKind::lstm, CellKind::gru, CellKind::rnn_tanh, CellKind::rnn_relu};
    d.cell = cells[cell], d.pooling = static_cast<Description::Pooling>(pooling);
    d.characters = static_cast<Description::Characters>(characters);
    if (Problem p = number("hidden_size", 1, d.H)) return p;
    if (Problem p = number("num_layers", 1, d.L)) return p;
    if (Problem p = number("inputs", 0, d.I)) return p;
    if (Problem p = number("embedding_size", 0, d.E)) return p;
    if (Problem p = number("character_embedding_size", 0, d.character_E)) return p;
    if (Problem p = number("character_hidden_size", 0, d.character_H)) return p;
    if (Problem p = number("window", 0, d.window)) return p;
    d.D = about["bidirectional"].boolean() ? 2 : 1;
    d.one_hot = about["one_hot"].boolean(), d.tied = about["tied"].boolean(), d.crf = about["crf"].boolean();
    d.start = about["start"].boolean();
    const std::string_view hash = about["model"].string();
    if (hash.size() != 64 || hash.find_first_not_of("0123456789abcdef") != hash.npos) {
        return wrong("'model' is " + shown(hash) + ", no SHA-256");
    }
    d.owner = std::string(about["model"].string()) + "-" + std::string(about["weights"].string());
    const bool language = d.task == GW_LANGUAGE_MODEL, words = language || d.reads_words();
    if (words && (language ? d.one_hot == (d.E > 0) : d.E == 0)) return wrong("'embedding_size' is no valid size");
    if (!words && d.I == 0) return wrong("'inputs' is no valid size");
    if (language && d.D == 2) return wrong("a language model in two directions");
    if (d.characters != Description::Characters::none && (!d.reads_words() || !d.character_E || !d.character_H)) {
        return wrong("a character encoder without sizes, or of a model that reads no words");
    }
    if ((d.crf && d.task != GW_TAGGER) || (d.one_hot && !language) || (d.tied && (!language || d.E != d.H))) {
        return wrong("its settings contradict each other");
    }
    if (words) {
        if (Problem p = tokens_.read(about["tokens"], about["lowercase"].boolean(), "tokens")) return p;
        d.outputs = static_cast<Index>(tokens_.size());
        if (language && (tokens_.find("<eos>") < 0 || (d.start && tokens_.find("<bos>") < 0))) {
            return wrong("no <eos> among the tokens, or no <bos>");
        }
    }
    if (d.characters != Description::Characters::none) {
        if (Problem p = characters_.read(about["characters"], about["characters_lowercase"].boolean(), "characters"))
            return p;
    }
    if (d.task == GW_REGRESSOR) return read_scaling(about);
    if (language) return {};
    bool valid = about["labels"].is(Kind::array);
    about["labels"].each_item([&](JsonValue label) {
        const double x = label.number();
        valid =
            valid && (label.is(Kind::string) || (label.is(Kind::number) && x == std::rint(x) && std::abs(x) < 1e15));
        labels_.push_back(label.is(Kind::string) ? std::string(label.string())
                          : valid                ? std::to_string(std::llround(x))
                                                 : "");
    });
    d.outputs = static_cast<Index>(labels_.size());
    return valid && d.outputs >= 2 ? Problem() : wrong("'labels' is no list of two or more strings or integers");
}

Problem Network::read_scaling(JsonValue about) {
    Description& d = about_;
    const JsonValue scaling = about["scaling"];
    bool valid = scaling.is(Kind::object);
    const auto numbers = [&](const char* key, std::vector<double>& to) {
        scaling[key].each_item([&](JsonValue x) {
            valid = valid && x.is(Kind::number) && std::isfinite(x.number());
            to.push_back(x.number());
        });
        valid = valid && (to.empty() || static_cast<Index>(to.size()) == d.I);
    };
    numbers("x_mean", d.x_mean), numbers("x_std", d.x_std);
    valid = valid && d.x_mean.size() == d.x_std.size();
    for (double x : d.x_std) valid = valid && x > 0;
    if (scaling["y_mean"].is(Kind::number)) d.y_mean = scaling["y_mean"].number();
    if (scaling["y_std"].is(Kind::number)) d.y_std = scaling["y_std"].number();
    valid = valid && std::isfinite(d.y_mean) && std::isfinite(d.y_std) && d.y_std > 0;
    const std::int64_t horizon = scaling["horizon"].is(Kind::missing) ? 1 : scaling["horizon"].integer();
    valid = valid && horizon > 0 && horizon < std::int64_t{1} << 31;
    d.outputs = static_cast<Index>(horizon), d.relative = scaling["relative"].boolean(), d.target = -1;
    Index place = 0;
    scaling["columns"].each_item([&](JsonValue column) {
        if (column.string() == scaling["target"].string()) d.target = place;
        ++place;
    });
    if (d.relative) valid = valid && d.target >= 0 && d.target < d.I && !d.x_mean.empty();
    return valid ? Problem() : wrong("'scaling' is invalid");
}

Problem Network::read_stack(Reader& reader, const std::string& prefix, Index I, Index H, Index L, Index D,
                            CellKind cell, std::vector<float> table,
                            std::vector<std::unique_ptr<Stream>>& passes) const {
    const Index G = gates_of(cell);
    const Stored stored = static_cast<Stored>(about_.weights);
    StreamWeights weights{cell, stored, I, H, 0, {}, nullptr, nullptr, nullptr, 0};
    std::vector<std::vector<float>> kept;  // what `weights` refers to
    const auto pack = [&](bool first) {
        const Index width = about_.one_hot ? G * H : I;
        if (first && !table.empty())
            weights.table = table.data(), weights.tokens = static_cast<Index>(table.size()) / width;
        passes.push_back(std::make_unique<Stream>(weights, threads_));
        weights = {cell, stored, D * H, H, 0, {}, nullptr, nullptr, nullptr, 0}, kept.clear();
    };
    for (Index layer = 0; layer < L; ++layer) {
        const Index inputs = layer ? D * H : I;
        for (Index direction = 0; direction < D; ++direction) {
            const std::string end = "_l" + std::to_string(layer) + (direction ? "_reverse" : "");
            const bool one_hot = about_.one_hot && layer == 0;
            std::vector<float> w_ih, w_hh, b_ih, b_hh;
            if (Problem p = reader.matrix(prefix + "weight_ih" + end, {G * H, inputs}, w_ih, one_hot)) return p;
            if (Problem p = reader.matrix(prefix + "weight_hh" + end, {G * H, H}, w_hh)) return p;
            if (Problem p = reader.vector(prefix + "bias_ih" + end, G * H, b_ih)) return p;
            if (Problem p = reader.vector(prefix + "bias_hh" + end, G * H, b_hh)) return p;
            if (one_hot) {  // a token's product with W_ih is a row of its transpose
                table.resize(w_ih.size());
                for (Index row = 0; row < G * H; ++row) {
                    for (Index token = 0; token < I; ++token) table[token * G * H + row] = w_ih[row * I + token];
                }
                w_ih = {};
            }
            weights.layers.push_back({w_ih.empty() ? nullptr : w_ih.data(), w_hh.data(), b_ih.data(), b_hh.data()});
            for (auto* part : {&w_ih, &w_hh, &b_ih, &b_hh})
                kept.push_back(std::move(*part));  // their data stay in place
            if (D == 2) {
                weights.I = inputs;
                pack(layer == 0);
            }
        }
    }
    if (D == 1) pack(true);
    return {};
}

Problem Network::read_characters(Reader& reader) {
    const Description& d = about_;
    const Index E = d.character_E, H = d.character_H;
    if (d.characters == Description::Characters::none) return {};
    std::vector<float> table, w, bias;
    if (Problem p = reader.matrix("characters.embedding.weight", {characters_.size(), E}, table)) return p;
    if (d.characters == Description::Characters::lstm) {
        return read_stack(reader, "characters.rnn.", E, H, 1, 2, CellKind::lstm, std::move(table), spelling_);
    }
    character_table_ = std::move(table);
    if (Problem p = reader.matrix("characters.convolution.weight", {H, E, 3}, w)) return p;
    if (Problem p = reader.vector("characters.convolution.bias", H, bias)) return p;
    std::vector<float> ordered(w.size());  // (H, 3, E): a window of three characters is one vector
    for (Index row = 0; row < H; ++row) {
        for (Index e = 0; e < E; ++e) {
            for (Index k = 0; k < 3; ++k) ordered[(row * 3 + k) * E + e] = w[(row * E + e) * 3 + k];
        }
    }
    spelling_.push_back(std::make_unique<Stream>(StreamWeights{CellKind::rnn_tanh,
                                                               static_cast<Stored>(d.weights),
                                                               0,
                                                               3 * E,
                                                               H,
                                                               {},
                                                               ordered.data(),
                                                               bias.data(),
                                                               nullptr,
                                                               0},
                                                 threads_));
    return {};
}

Problem Network::read_weights(Reader& reader) {
    const Description& d = about_;
    const bool words = d.task == GW_LANGUAGE_MODEL || d.reads_words();
    const Index V = static_cast<Index>(tokens_.size());
    std::vector<float> table, decoder, bias;
    if (words && !d.one_hot) {
        if (Problem p = reader.matrix("embedding.weight", {V, d.E}, table)) return p;
    }
    if (d.tied) {
        decoder = table;
    } else if (Problem p = reader.matrix("decoder.weight", {d.outputs, d.D * d.H}, decoder)) {
        return p;
    }
    if (Problem p = reader.vector("decoder.bias", d.outputs, bias)) return p;
    if (Problem p = read_characters(reader)) return p;
    if (d.reads_words()) table_ = std::move(table), table = {};
    const Index K = d.characters == Description::Characters::lstm  ? 2 * d.character_H
                    : d.characters == Description::Characters::cnn ? d.character_H
                                                                   : 0;
    const Index I = d.one_hot ? V : words ? d.E + K : d.I;
    if (Problem p = read_stack(reader, "rnn.", I, d.H, d.L, d.D, d.cell, std::move(table), passes_)) return p;
    head_ = std::make_unique<Stream>(StreamWeights{d.cell,
                                                   static_cast<Stored>(d.weights),
                                                   0,
                                                   d.D * d.H,
                                                   d.outputs,
                                                   {},
                                                   decoder.data(),
                                                   bias.data(),
                                                   nullptr,
                                                   0},
                                     threads_);
    if (!d.crf) return {};
    if (Problem p = reader.plain("crf.transitions", {d.outputs, d.outputs}, transitions_)) return p;
    if (Problem p = reader.plain("crf.start", {d.outputs}, start_)) return p;
    return reader.plain("crf.end", {d.outputs}, end_);
}

}  // namespace gatewise
