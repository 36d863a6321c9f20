// The C interface: gatewise.h. Checks arguments, turns every failure into a code and a line, and lets nothing escape.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#if !defined(__wasm__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <new>
#if defined(__cpp_exceptions)
#include <exception>
#endif

#include "gatewise.h"
#include "network.hpp"
#include "text.hpp"

struct gw_model {
    gatewise::Network network;
};

struct gw_state {
    const gw_model* model;
    gatewise::Memory memory;
};

namespace gatewise {
namespace {

constexpr int kMostThreads = 4096;

std::int32_t report(const Problem& problem, gw_error* error) {
    if (error) {
        error->code = problem.code();
        std::string_view text = problem.text();
        std::size_t size = std::min(text.size(), sizeof error->message - 1);
        while (size < text.size() && size && (text[size] & 0xC0) == 0x80) --size;  // not within a character
        std::copy_n(text.begin(), size, error->message);
        error->message[size] = 0;
    }
    return problem.code();
}

// Report a failure without memory.
[[maybe_unused]] std::int32_t report(std::int32_t code, const char* text, gw_error* error) {
    if (error) {
        error->code = code;
        std::snprintf(error->message, sizeof error->message, "%s", text);
    }
    return code;
}

// Run f, which returns a Problem.
template <class F>
std::int32_t guarded(gw_error* error, F f) {
#if defined(__cpp_exceptions)
    try {
        return report(f(), error);
    } catch (const std::bad_alloc&) {
        return report(GW_NO_MEMORY, "out of memory; use a smaller batch or shorter sequences", error);
    } catch (const std::exception& problem) {
        return report(GW_USAGE, problem.what(), error);
    }
#else
    return report(f(), error);
#endif
}

Problem missing(const char* what) { return {GW_USAGE, std::string(what) + " is NULL"}; }

Problem check_rows(const gw_model* model, std::int64_t rows) {
    if (!model) return missing("model");
    if (rows < 1 || rows > INT32_MAX)
        return {GW_DATA, "the batch has " + std::to_string(rows) + " rows; expected 1 or more"};
    return {};
}

Problem check(const gw_model* model, std::int64_t rows, const void* inputs) {
    if (Problem problem = check_rows(model, rows)) return problem;
    return inputs ? Problem() : missing("inputs");
}

// Check the words of a call; of other models nothing.
Problem check_words(const gw_model* model, const void* inputs, std::int64_t count) {
    const auto* words = static_cast<const gw_text*>(inputs);
    for (std::int64_t k = 0; model->network.about().reads_words() && k < count; ++k) {
        if (words[k].size && !words[k].data) return missing("a word");
    }
    return {};
}

Problem check_lengths(const gw_model* model, std::int64_t rows, const std::int64_t* lengths, const void* inputs) {
    if (!lengths) return missing("lengths");
    std::int64_t total = 0;
    for (std::int64_t k = 0; k < rows; ++k) {
        if (lengths[k] < 1)
            return {GW_DATA,
                    "row " + std::to_string(k) + " has " + std::to_string(lengths[k]) + " steps; expected 1 or more"};
        if (lengths[k] > INT32_MAX || (total += lengths[k]) > INT32_MAX)
            return {GW_DATA, "more than 2^31 steps in a call; use several"};
    }
    return check_words(model, inputs, total);
}

Problem check_sentences(const gw_model* model, int64_t rows, const int64_t* lengths, const gw_text* words) {
    if (Problem problem = check(model, rows, words)) return problem;
    if (model->network.about().task != GW_TAGGER) return {GW_USAGE, "only a tagger tags words"};
    return check_lengths(model, rows, lengths, words);
}

Problem memories_of(const gw_model* model, std::int64_t rows, gw_state* const* states, std::vector<Memory*>& to) {
    if (!model->network.about().streams()) {
        return {GW_USAGE, model->network.about().D == 2
                              ? "this model reads in both directions, so it has no state; use gw_run on whole sequences"
                              : "this model reads the whole window before it answers, so it has no state; use gw_run"};
    }
    if (!states) return missing("states");
    for (std::int64_t k = 0; k < rows; ++k) {
        if (!states[k]) return missing("a state");
        if (states[k]->model != model) return {GW_DATA, "state " + std::to_string(k) + " belongs to another model"};
        to.push_back(&states[k]->memory);
    }
    std::vector<Memory*> sorted = to;
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
        return {GW_USAGE, "the same state stands for two rows; copy it first"};
    }
    return {};
}

// The bytes of a file, in memory as long as this object lives.
class FileContent {
  public:
    FileContent() = default;
    FileContent(const FileContent&) = delete;
    FileContent& operator=(const FileContent&) = delete;
    ~FileContent() {
#if !defined(__wasm__)
        if (mapped_) munmap(mapped_, size_);
#endif
    }

    Problem open(const char* path) {
        const int file = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (file < 0)
            return {GW_MODEL, "cannot open it (" + std::string(std::strerror(errno)) +
                                  "); expected a file as gatewise export writes it"};
        Problem problem = read(file);
        ::close(file);
        return problem;
    }

    const char* data() const { return static_cast<const char*>(mapped_ ? mapped_ : read_.data()); }
    std::size_t size() const { return size_; }

  private:
    Problem read(int file) {
        struct stat about;
        if (fstat(file, &about) != 0 || !S_ISREG(about.st_mode)) return {GW_MODEL, "not a regular file"};
        size_ = static_cast<std::size_t>(about.st_size);
        if (!size_) return {GW_MODEL, "the file is empty"};
#if !defined(__wasm__)
        void* base = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
        if (base != MAP_FAILED) {
            mapped_ = base;
            return {};
        }
#endif
        read_.resize(size_);
        for (std::size_t done = 0; done < size_;) {
            const ssize_t got = ::read(file, read_.data() + done, size_ - done);
            if (got <= 0) return {GW_MODEL, "cannot read it"};
            done += static_cast<std::size_t>(got);
        }
        return {};
    }

    void* mapped_ = nullptr;
    std::vector<char> read_;
    std::size_t size_ = 0;
};

Problem open_model(const char* data, std::size_t size, const gw_options* options, gw_model** to) {
    int threads = 1;
    if (options && options->size >= sizeof(gw_options) && options->threads) threads = options->threads;
    if (threads < 1 || threads > kMostThreads) {
        return {GW_USAGE, "threads is " + std::to_string(threads) + "; expected 1 to " + std::to_string(kMostThreads)};
    }
    auto model = std::make_unique<gw_model>();
    if (Problem problem = model->network.read(data, size, threads)) return problem;
    *to = model.release();
    return {};
}

// A saved state: the tensors h, c and pooled, those that are not empty, and metadata.
const char* const kStateKey = "gatewise.state";

std::string header_of(const Description& d, const Memory& memory) {
    std::string header = "{\"__metadata__\":{\"" + std::string(kStateKey) + "\":\"" + d.owner + "\",\"count\":\"" +
                         std::to_string(memory.count) + "\"}";
    std::size_t end = 0;
    const auto add = [&](const char* name, const std::vector<float>& part, const std::string& shape) {
        if (part.empty()) return;
        header += std::string(",\"") + name + "\":{\"dtype\":\"F32\",\"shape\":[" + shape + "],\"data_offsets\":[" +
                  std::to_string(end) + ",";
        header += std::to_string(end += 4 * part.size()) + "]}";
    };
    const std::string shape = std::to_string(d.L) + "," + std::to_string(d.H);
    add("h", memory.h, shape), add("c", memory.c, shape), add("pooled", memory.pooled, std::to_string(d.H));
    header += "}";
    header.append((8 - header.size() % 8) % 8, ' ');
    return header;
}

Problem load_state(const gw_model& model, const char* data, std::size_t size, Memory& memory) {
    const Description& d = model.network.about();
    Safetensors file;
    if (Problem problem = file.read(data, size)) return {GW_DATA, "not a saved state: " + problem.text()};
    if (file.metadata(kStateKey).empty()) return {GW_DATA, "not a state that gw_state_save wrote"};
    if (file.metadata(kStateKey) != d.owner) return {GW_DATA, "the state belongs to another model"};
    memory = model.network.fresh();
    std::size_t taken = 0;
    const auto take = [&](const char* name, std::vector<float>& part, std::vector<std::uint64_t> shape) -> Problem {
        if (part.empty()) return {};
        const Safetensors::Tensor* tensor = file.find(name);
        if (!tensor || tensor->dtype != "F32" || tensor->shape != shape) {
            return {GW_DATA, std::string("the state has no valid ") + name};
        }
        std::memcpy(part.data(), file.data(*tensor), 4 * part.size());
        for (float x : part) {
            if (!std::isfinite(x))
                return {GW_DATA, std::string(name) + " of the state holds a number that is not finite"};
        }
        ++taken;
        return {};
    };
    const std::vector<std::uint64_t> shape = {static_cast<std::uint64_t>(d.L), static_cast<std::uint64_t>(d.H)};
    if (Problem problem = take("h", memory.h, shape)) return problem;
    if (Problem problem = take("c", memory.c, shape)) return problem;
    if (Problem problem = take("pooled", memory.pooled, {static_cast<std::uint64_t>(d.H)})) return problem;
    if (taken != file.tensors().size()) return {GW_DATA, "the state holds something else than h, c and pooled"};
    const std::string_view count = file.metadata("count");
    bool digits = !count.empty() && count.size() < 19;
    for (char c : count) {
        digits = digits && c >= '0' && c <= '9';
        if (digits) memory.count = memory.count * 10 + (c - '0');
    }
    return digits ? Problem() : Problem(GW_DATA, "the state has no valid count of steps");
}

}  // namespace
}  // namespace gatewise

using namespace gatewise;

int32_t gw_version(void) { return GW_ABI; }

int32_t gw_open(const char* path, const gw_options* options, gw_model** model, gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (!model) return missing("model");
        *model = nullptr;
        if (!path) return missing("path");
        FileContent content;
        Problem problem = content.open(path);
        if (!problem) problem = open_model(content.data(), content.size(), options, model);
        return problem ? Problem(problem.code(), std::string(path) + ": " + problem.text()) : Problem();
    });
}

int32_t gw_open_memory(const void* data, size_t size, const gw_options* options, gw_model** model, gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (!model) return missing("model");
        *model = nullptr;
        if (!data) return missing("data");
        return open_model(static_cast<const char*>(data), size, options, model);
    });
}

void gw_close(gw_model* model) { delete model; }

int32_t gw_describe(const gw_model* model, gw_info* info, gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (!model) return missing("model");
        if (!info) return missing("info");
        if (info->size < sizeof(size_t)) return {GW_USAGE, "info->size is not set; expected sizeof(gw_info)"};
        const Description& d = model->network.about();
        const Lexicon& tokens = model->network.tokens();
        const bool language = d.task == GW_LANGUAGE_MODEL;
        gw_info full;
        std::memset(&full, 0, sizeof full);
        full.size = std::min(info->size, sizeof full);
        full.task = d.task, full.cell = static_cast<std::int32_t>(d.cell), full.weights = d.weights,
        full.level = d.level;
        full.streams = d.streams(), full.crf = d.crf, full.inputs = language || d.reads_words() ? 0 : d.I;
        full.layers = d.L, full.directions = d.D, full.hidden = d.H, full.outputs = d.outputs, full.traced = d.traced();
        full.tokens = tokens.size(), full.labels = static_cast<std::int64_t>(model->network.labels().size());
        full.eos = language ? tokens.find("<eos>") : -1, full.bos = d.start ? tokens.find("<bos>") : -1;
        full.unk = tokens.find("<unk>"), full.window = d.window;
        std::memcpy(info, &full, full.size);
        return {};
    });
}

gw_text gw_name(const gw_model* model, int32_t kind, int64_t index) {
    if (!model || index < 0) return {nullptr, 0};
    const Network& network = model->network;
    const auto text = [](const std::string& of) { return gw_text{of.data(), of.size()}; };
    if (kind == GW_TOKEN && index < network.tokens().size()) return text(network.tokens()[index]);
    if (kind == GW_LABEL && index < static_cast<int64_t>(network.labels().size())) {
        return text(network.labels()[static_cast<std::size_t>(index)]);
    }
    if (kind == GW_JSON && index == 0) return text(network.json());
    return {nullptr, 0};
}

int32_t gw_encode(const gw_model* model, gw_text text, int64_t* ids, size_t capacity, size_t* count, gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (!model) return missing("model");
        if (!count || (!ids && capacity)) return missing(count ? "ids" : "count");
        if (text.size && !text.data) return missing("text");
        const Description& d = model->network.about();
        if (d.task != GW_LANGUAGE_MODEL)
            return {GW_USAGE, "this model reads words as they are; expected a language model"};
        const std::string_view given(text.size ? text.data : "", text.size);
        if (!is_utf8(given)) return {GW_DATA, "the text is not UTF-8"};
        const Lexicon& tokens = model->network.tokens();
        const std::int64_t eos = tokens.find("<eos>");
        std::size_t found = 0, start = 0, place = 0;
        const auto add = [&](std::int64_t id) {
            if (found < capacity) ids[found] = id;
            ++found;
        };
        const auto close = [&](std::size_t end) {
            if (end > start) add(tokens.id_of(given.substr(start, end - start)));
        };
        each_character(given, [&](std::uint32_t c, std::string_view bytes) {
            if (d.level == GW_CHARACTER) {
                const bool ends = c == '\r' && place + 1 < given.size() && given[place + 1] == '\n';
                if (!ends) add(c == '\n' ? eos : tokens.id_of(bytes));
            } else if (is_space(c)) {
                close(place), start = place + bytes.size();
                if (c == '\n') add(eos);
            }
            place += bytes.size();
        });
        if (d.level != GW_CHARACTER) close(place);
        *count = found;
        return {};
    });
}

int32_t gw_state_new(const gw_model* model, gw_state** state, gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (!model || !state) return missing(model ? "state" : "model");
        *state = nullptr;
        std::vector<Memory*> none;
        if (Problem problem = memories_of(model, 0, state, none)) return problem;
        *state = new gw_state{model, model->network.fresh()};
        return {};
    });
}

int32_t gw_state_copy(const gw_state* state, gw_state** copy, gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (!state || !copy) return missing(state ? "copy" : "state");
        *copy = nullptr;
        *copy = new gw_state(*state);
        return {};
    });
}

void gw_state_free(gw_state* state) { delete state; }

int32_t gw_state_save(const gw_state* state, void* data, size_t capacity, size_t* size, gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (!state || !size) return missing(state ? "size" : "state");
        if (!data && capacity) return missing("data");
        const std::string header = header_of(state->model->network.about(), state->memory);
        const Memory& memory = state->memory;
        const std::uint64_t length = header.size();
        *size = 8 + header.size() + 4 * (memory.h.size() + memory.c.size() + memory.pooled.size());
        if (capacity < *size) return {};
        char* to = static_cast<char*>(data);
        std::memcpy(to, &length, 8);  // little-endian, as network_file.cpp asserts
        to = std::copy(header.begin(), header.end(), to + 8);
        for (const auto* part : {&memory.h, &memory.c, &memory.pooled}) {
            if (!part->empty()) std::memcpy(to, part->data(), 4 * part->size());
            to += 4 * part->size();
        }
        return {};
    });
}

int32_t gw_state_load(const gw_model* model, const void* data, size_t size, gw_state** state, gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (!model || !state) return missing(model ? "state" : "model");
        *state = nullptr;
        if (!data) return missing("data");
        std::vector<Memory*> none;
        if (Problem problem = memories_of(model, 0, state, none)) return problem;
        Memory memory;
        if (Problem problem = load_state(*model, static_cast<const char*>(data), size, memory)) return problem;
        *state = new gw_state{model, std::move(memory)};
        return {};
    });
}

int32_t gw_step(const gw_model* model, int64_t rows, const void* inputs, gw_state* const* states, void* outputs,
                gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (Problem problem = check(model, rows, inputs)) return problem;
        if (!outputs) return missing("outputs");
        std::vector<Memory*> memories;
        if (Problem problem = memories_of(model, rows, states, memories)) return problem;
        if (Problem problem = check_words(model, inputs, rows)) return problem;
        return model->network.step(static_cast<Index>(rows), inputs, memories.data(), nullptr, outputs);
    });
}

int32_t gw_outputs(const gw_model* model, int64_t rows, gw_state* const* states, void* outputs, gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (Problem problem = check_rows(model, rows)) return problem;
        if (!outputs) return missing("outputs");
        std::vector<Memory*> memories;
        if (Problem problem = memories_of(model, rows, states, memories)) return problem;
        return model->network.outputs(static_cast<Index>(rows), memories.data(), outputs);
    });
}

int32_t gw_run(const gw_model* model, int64_t rows, const int64_t* lengths, const void* inputs, gw_state* const* states,
               int32_t over_time, void* outputs, gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (Problem problem = check(model, rows, inputs)) return problem;
        if (Problem problem = check_lengths(model, rows, lengths, inputs)) return problem;
        if (!states && !outputs) return missing("outputs");
        std::vector<Memory*> memories;
        if (states) {
            if (Problem problem = memories_of(model, rows, states, memories)) return problem;
        }
        return model->network.run({static_cast<Index>(rows), lengths, inputs}, states ? memories.data() : nullptr,
                                  over_time != 0, outputs);
    });
}

int32_t gw_score(const gw_model* model, int64_t rows, const int64_t* lengths, const int64_t* ids,
                 gw_state* const* states, double* nll, gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (Problem problem = check(model, rows, ids)) return problem;
        if (model->network.about().task != GW_LANGUAGE_MODEL) return {GW_USAGE, "only a language model scores ids"};
        if (Problem problem = check_lengths(model, rows, lengths, ids)) return problem;
        if (!nll) return missing("nll");
        std::vector<Memory*> memories;
        if (states) {
            if (Problem problem = memories_of(model, rows, states, memories)) return problem;
        }
        return model->network.score({static_cast<Index>(rows), lengths, ids}, states ? memories.data() : nullptr, nll);
    });
}

int32_t gw_tag(const gw_model* model, int64_t rows, const int64_t* lengths, const gw_text* words, int64_t* labels,
               gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (Problem problem = check_sentences(model, rows, lengths, words)) return problem;
        if (!labels) return missing("labels");
        return model->network.tag({static_cast<Index>(rows), lengths, words}, labels);
    });
}

int32_t gw_tag_probabilities(const gw_model* model, int64_t rows, const int64_t* lengths, const gw_text* words,
                             double* probabilities, gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (Problem problem = check_sentences(model, rows, lengths, words)) return problem;
        if (!probabilities) return missing("probabilities");
        return model->network.tag_probabilities({static_cast<Index>(rows), lengths, words}, probabilities);
    });
}

int32_t gw_trace(const gw_model* model, const void* input, gw_state* state, float* trace, void* outputs,
                 gw_error* error) {
    return guarded(error, [&]() -> Problem {
        if (Problem problem = check(model, 1, input)) return problem;
        if (!trace) return missing("trace");
        std::vector<Memory*> memories;
        if (Problem problem = memories_of(model, 1, &state, memories)) return problem;
        if (Problem problem = check_words(model, input, 1)) return problem;
        return model->network.step(1, input, memories.data(), trace, outputs);
    });
}
