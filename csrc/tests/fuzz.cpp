// Damage model files, states and inputs, and let allocations fail: the C interface must answer with a code and a line.
//
//     fuzz FILES SEED MODEL...
//
// reads FILES damaged versions of the models, in memory, or with =NUMBER the one with this number again. Each call is checked: its code exists, a failure has a message
// of one line, states are unchanged after it. Run it under AddressSanitizer and UndefinedBehaviorSanitizer (option
// GATEWISE_SANITIZE of ../CMakeLists.txt). Exits with 1 after a wrong answer; what crashes names its file.
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "gatewise.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace {

long failing_in = -1;         // allocations until one fails; negative: none does
bool all_after = false;       // whether those after it fail, too
long file = 0, failures = 0;  // the number of the damaged file; wrong answers

bool fails_now() {
    return failing_in >= 0 && (failing_in-- == 0 ? (all_after ? (failing_in = 0, true) : true) : false);
}

}  // namespace

void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return fails_now() ? nullptr : std::malloc(size ? size : 1);
}
void* operator new(std::size_t size) {
    void* taken = operator new(size, std::nothrow);
    if (!taken) throw std::bad_alloc();
    return taken;
}
void* operator new[](std::size_t size) { return operator new(size); }
void operator delete(void* taken) noexcept { std::free(taken); }
void operator delete(void* taken, std::size_t) noexcept { std::free(taken); }
void operator delete(void* taken, const std::nothrow_t&) noexcept { std::free(taken); }
void operator delete[](void* taken) noexcept { std::free(taken); }
void operator delete[](void* taken, std::size_t) noexcept { std::free(taken); }

namespace {

void wrong(const char* call, const std::string& what) {
    std::printf("file %ld, %s: %s\n", file, call, what.c_str());
    ++failures;
}

// SplitMix64.
struct Random {
    std::uint64_t seed;

    std::uint64_t bits() {
        std::uint64_t z = (seed += 0x9E3779B97F4A7C15u);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }
    std::size_t below(std::size_t count) { return count ? bits() % count : 0; }
    template <class T>
    const T& of(const std::vector<T>& choices) {
        return choices[below(choices.size())];
    }
};

// A call's code, after checking what every call promises.
std::int32_t answer(const char* call, std::int32_t code, const gw_error& error) {
    const std::size_t size = strnlen(error.message, sizeof error.message);
    if (code < GW_OK || code > GW_NO_MEMORY) wrong(call, "code " + std::to_string(code));
    if (code != error.code) wrong(call, "two codes");
    if (size == sizeof error.message) wrong(call, "a message without an end");
    if (code && !size) wrong(call, "a failure without a message");
    for (std::size_t k = 0; code && k < size; ++k) {
        if (error.message[k] == '\n') wrong(call, "more than one line");
    }
    return code;
}

std::vector<char> saved(const gw_state* state) {
    gw_error error{};
    std::size_t size = 0;
    if (answer("gw_state_save", gw_state_save(state, nullptr, 0, &size, &error), error)) return {};
    std::vector<char> data(size);
    answer("gw_state_save", gw_state_save(state, data.data(), data.size(), &size, &error), error);
    return data;
}

// Memory of exactly this size on the heap, so that reading beyond it is detected.
struct Exact {
    explicit Exact(const std::string& content) : size(content.size()), data(new char[size ? size : 1]) {
        std::copy(content.begin(), content.end(), data.get());
    }
    std::size_t size;
    std::unique_ptr<char[]> data;
};

const std::vector<std::string>& numbers() {
    static const std::vector<std::string> all = {"0",
                                                 "1",
                                                 "2",
                                                 "3",
                                                 "-1",
                                                 "-0",
                                                 "0.5",
                                                 "1e308",
                                                 "1e999",
                                                 "-1e999",
                                                 "127",
                                                 "255",
                                                 "65536",
                                                 "2147483647",
                                                 "2147483648",
                                                 "4294967295",
                                                 "4294967296",
                                                 "1099511627776",
                                                 "9007199254740991",
                                                 "9007199254740993",
                                                 "9223372036854775807",
                                                 "9223372036854775808",
                                                 "18446744073709551615",
                                                 "18446744073709551616",
                                                 "null",
                                                 "true",
                                                 "[]",
                                                 "{}",
                                                 "\"\"",
                                                 "[0]",
                                                 "1e-400",
                                                 "00",
                                                 "1.",
                                                 "99999999999999999999999999999999999999999999"};
    return all;
}

std::string header_of(const std::string& model) {
    std::uint64_t size = 0;
    if (model.size() < 8) return "";
    std::memcpy(&size, model.data(), 8);
    return model.substr(8, static_cast<std::size_t>(std::min<std::uint64_t>(size, model.size() - 8)));
}

std::string with_header(const std::string& model, const std::string& old, const std::string& header) {
    const std::uint64_t size = header.size();
    std::string made(8, '\0');
    std::memcpy(&made[0], &size, 8);
    return made + header + model.substr(std::min(model.size(), 8 + old.size()));
}

// The places in a text where a run of characters of one kind begins: numbers, or strings (also escaped ones).
std::vector<std::size_t> places(const std::string& text, bool strings) {
    std::vector<std::size_t> found;
    const auto digit = [&](std::size_t k) { return text[k] >= '0' && text[k] <= '9'; };
    for (std::size_t k = 1; k < text.size(); ++k) {
        if (strings ? text[k] == '"' : digit(k) && std::strchr(":,[ ", text[k - 1])) found.push_back(k);
    }
    return found;
}

std::string damaged_header(std::string text, Random& random) {
    const std::vector<std::size_t> digits = places(text, false), quotes = places(text, true);
    const std::size_t at = random.below(text.size() + 1);
    switch (random.below(9)) {
        case 0:
        case 1:
        case 2: {  // a number: another, or one near it
            if (digits.empty()) return text;
            const std::size_t first = random.of(digits);
            std::size_t last = first;
            while (last < text.size() && text[last] >= '0' && text[last] <= '9') ++last;
            const auto value = static_cast<std::uint64_t>(std::strtoull(text.c_str() + first, nullptr, 10));
            const bool near = random.below(3) == 0;
            const std::uint64_t by = random.below(17) - std::uint64_t{8};  // wraps
            return text.replace(first, last - first,
                                near ? std::to_string(static_cast<std::int64_t>(value + by)) : random.of(numbers()));
        }
        case 3: {  // a string: one from elsewhere in the header
            if (quotes.size() < 4) return text;
            const std::size_t from = random.below(quotes.size() - 1), to = random.below(quotes.size() - 1);
            const std::string taken = text.substr(quotes[from], quotes[from + 1] - quotes[from]);
            return text.replace(quotes[to], quotes[to + 1] - quotes[to], taken);
        }
        case 4: {  // a part twice, or elsewhere: keys occur twice
            if (quotes.size() < 2) return text;
            const std::size_t from = random.of(quotes), to = random.of(quotes);
            return text.insert(to, text.substr(from, random.below(200)));
        }
        case 5: return text.erase(at, random.below(40));
        case 6: {  // deep, or large
            const std::size_t count = random.below(20) ? random.below(200) : random.below(100000);
            std::string inserted;
            const char* const part =
                random.of(std::vector<const char*>{"[", "{\"a\":", "0,", "[],", "\"x\",", "{", "]"});
            for (std::size_t k = 0; k < count; ++k) inserted += part;
            return text.insert(digits.empty() ? at : random.of(digits), inserted);
        }
        case 7:  // text that is no UTF-8, or an escape
            return text.insert(
                quotes.empty() ? at : random.of(quotes) + 1,
                random.of(std::vector<std::string>{"\xFF", "\\ud800", "\\u0000", "\\", "\xC0\x80", "\n", "\\x",
                                                   "\\\\u0000", "\xED\xA0\x80", "\\udc00\\ud800", "\x7F"}));
        default:
            if (at < text.size()) text[at] = static_cast<char>(random.bits());
            return text;
    }
}

std::string damaged(std::string model, Random& random) {
    for (std::size_t count = random.below(3) ? 1 : 1 + random.below(3); count--;) {
        const std::string header = header_of(model);
        const std::size_t start = std::min(model.size(), 8 + header.size());
        switch (random.below(8)) {
            case 0: model.resize(random.below(model.size() + 1)); break;
            case 1: model.append(random.below(64), static_cast<char>(random.bits())); break;
            case 2: {  // the size of the header
                const std::uint64_t size = random.of(std::vector<std::uint64_t>{
                    0, 1, 7, model.size(), model.size() - 8, model.size() - 7, std::uint64_t{1} << 63, UINT64_MAX,
                    UINT64_MAX - 7, 100000000, 100000001, std::uint64_t{1} << 32, random.bits()});
                if (model.size() >= 8) std::memcpy(&model[0], &size, 8);
                break;
            }
            case 3: {  // a weight
                const std::vector<float> values = {NAN,    INFINITY, -INFINITY, 3e38f, -3e38f,
                                                   1e-44f, 0.0f,     1e20f,     -1.0f, 0.5f};
                const std::size_t floats = (model.size() - start) / 4;
                if (floats) std::memcpy(&model[start + 4 * random.below(floats)], &random.of(values), 4);
                break;
            }
            default: model = with_header(model, header, damaged_header(header, random));
        }
    }
    return model;
}

// What the functions take, as many as a model needs.
struct Inputs {
    std::vector<std::int64_t> ids;
    std::vector<std::string> spelled;
    std::vector<gw_text> words;
    std::vector<double> numbers;
    const void* given = nullptr;

    Inputs(const gw_info& info, std::size_t count, Random& random, bool valid) {
        const std::vector<std::string> texts = {"the",     "cat", "", "\xE8\xB2\x93", "UNKNOWN", std::string(300, 'a'),
                                                "\xC4\xB0"};
        const std::vector<std::string> bad = {"\xFF", "\xE8\xB2", std::string("\0", 1), "\xED\xA0\x80"};
        const std::vector<std::int64_t> bad_ids = {-1, info.outputs, INT64_MAX, INT64_MIN, std::int64_t{1} << 32};
        const std::vector<double> bad_numbers = {NAN, INFINITY, -INFINITY, 1e308, -1e308, 1e-320};
        for (std::size_t k = 0; k < count; ++k) {
            const bool good = valid || random.below(3);
            if (info.task == GW_LANGUAGE_MODEL) {
                ids.push_back(good ? static_cast<std::int64_t>(random.below(static_cast<std::size_t>(info.outputs)))
                                   : random.of(bad_ids));
            } else if (info.task == GW_TAGGER || info.task == GW_TEXT_CLASSIFIER) {
                spelled.push_back(good ? random.of(texts) : random.of(bad));
            } else {
                for (std::int64_t i = 0; i < info.inputs; ++i) {
                    numbers.push_back(good ? static_cast<double>(random.below(100)) / 16 - 3 : random.of(bad_numbers));
                }
            }
        }
        for (const std::string& word : spelled) words.push_back({word.data(), word.size()});
        given = info.task == GW_LANGUAGE_MODEL                              ? static_cast<const void*>(ids.data())
                : info.task == GW_TAGGER || info.task == GW_TEXT_CLASSIFIER ? static_cast<const void*>(words.data())
                                                                            : numbers.data();
    }
};

// One model, and calls of it.
class Subject {
  public:
    Subject(gw_model* model, Random& random, bool damaged) : model_(model), random_(random), damaged_(damaged) {
        gw_error error{};
        info_.size = sizeof info_;
        answer("gw_describe", gw_describe(model_, &info_, &error), error);
    }
    ~Subject() {
        for (gw_state* state : states_) gw_state_free(state);
        gw_close(model_);
    }

    void everything() {
        gw_name(model_, GW_TOKEN, static_cast<std::int64_t>(random_.bits()));
        for (std::int64_t k = -1; k <= info_.labels; ++k) gw_name(model_, GW_LABEL, k);
        if (info_.streams) {
            for (int k = 0; k < 3; ++k) new_state();
        }
        for (const bool valid : {true, false}) {
            step(valid), run(valid), outputs(valid), trace(valid), score(valid), tag(valid);
        }
        encode();
        if (states_.empty()) return;
        arguments();
        for (int k = 0; k < 3; ++k) load_damaged();
        without_memory();
    }

  private:
    void new_state() {
        gw_error error{};
        gw_state* state = nullptr;
        if (!answer("gw_state_new", gw_state_new(model_, &state, &error), error)) states_.push_back(state);
    }

    // A damaged model may find an output that is not finite, or that an input is not like its training data.
    bool excused(std::int32_t code) const {
        return damaged_ && (code == GW_NOT_FINITE || (code == GW_DATA && info_.inputs));
    }

    // An undamaged model answers valid inputs.
    void expect(const char* call, std::int32_t code, const gw_error& error, bool valid) {
        answer(call, code, error);
        if (valid && code != GW_OK && !excused(code)) wrong(call, error.message);
    }

    // Call f, which must leave the states as they are if it fails.
    template <class F>
    std::int32_t keeping(const char* call, F f) {
        std::vector<std::vector<char>> before;
        for (const gw_state* state : states_) before.push_back(saved(state));
        const std::int32_t code = f();
        failing_in = -1;
        for (std::size_t k = 0; code && k < states_.size(); ++k) {
            if (saved(states_[k]) != before[k]) wrong(call, "a state changed although it failed");
        }
        return code;
    }

    std::size_t floats(std::size_t rows) const { return 2 * rows * static_cast<std::size_t>(info_.outputs); }

    void step(bool valid) {
        const Inputs in(info_, states_.size(), random_, valid);
        std::vector<float> out(floats(states_.size()));
        gw_error error{};
        if (states_.empty()) return;
        const std::int32_t code = keeping("gw_step", [&] {
            return gw_step(model_, static_cast<std::int64_t>(states_.size()), in.given, states_.data(), out.data(),
                           &error);
        });
        expect("gw_step", code, error, valid);
    }

    // What the states give, which must not change: after a step that went well, its outputs to the last bit.
    void outputs(bool valid) {
        if (states_.empty()) return;
        const auto rows = static_cast<std::int64_t>(states_.size());
        const Inputs in(info_, states_.size(), random_, valid);
        std::vector<float> found(floats(states_.size())), expected(found.size());
        gw_error error{};
        const bool stepped =
            !answer("gw_step", gw_step(model_, rows, in.given, states_.data(), expected.data(), &error), error);
        std::vector<std::vector<char>> before;
        for (const gw_state* state : states_) before.push_back(saved(state));
        const std::int32_t code = gw_outputs(model_, rows, states_.data(), found.data(), &error);
        expect("gw_outputs", code, error, stepped);
        for (std::size_t k = 0; k < states_.size(); ++k) {
            if (saved(states_[k]) != before[k]) wrong("gw_outputs", "a state changed");
        }
        if (stepped && !code && std::memcmp(found.data(), expected.data(), 4 * found.size()) != 0) {
            wrong("gw_outputs", "not those of the last step");
        }
    }

    std::vector<std::int64_t> lengths(std::size_t rows, std::size_t& total) {
        std::vector<std::int64_t> all;
        for (total = 0; all.size() < rows; total += static_cast<std::size_t>(all.back())) {
            all.push_back(static_cast<std::int64_t>(info_.window ? std::min<std::int64_t>(info_.window, 50)
                                                                 : 1 + random_.below(5)));
        }
        return all;
    }

    void run(bool valid) {
        const bool carried = !states_.empty() && random_.below(2);
        const bool over_time = (info_.streams || info_.task != GW_REGRESSOR) && random_.below(2);
        const std::size_t rows = carried ? states_.size() : 1 + random_.below(4);
        std::size_t total = 0;
        const auto size = lengths(rows, total);
        const Inputs in(info_, total, random_, valid);
        std::vector<float> out(floats(total));
        gw_error error{};
        const std::int32_t code = keeping("gw_run", [&] {
            return gw_run(model_, static_cast<std::int64_t>(rows), size.data(), in.given,
                          carried ? states_.data() : nullptr, over_time, out.data(), &error);
        });
        expect("gw_run", code, error, valid);
    }

    void trace(bool valid) {
        if (states_.empty()) return;
        const Inputs in(info_, 1, random_, valid);
        std::vector<float> inside(static_cast<std::size_t>(info_.layers * info_.traced * info_.hidden)), out(floats(1));
        gw_error error{};
        const std::int32_t code = keeping(
            "gw_trace", [&] { return gw_trace(model_, in.given, states_[0], inside.data(), out.data(), &error); });
        expect("gw_trace", code, error, valid);
    }

    void score(bool valid) {
        std::size_t total = 0;
        const auto size = lengths(2, total);
        const Inputs in(info_, total, random_, valid);
        double nll[2];
        gw_error error{};
        const bool able = info_.task == GW_LANGUAGE_MODEL;
        const std::int64_t* ids = able ? in.ids.data() : size.data();
        expect("gw_score", gw_score(model_, 2, size.data(), ids, nullptr, nll, &error), error, valid && able);
    }

    void tag(bool valid) {
        std::size_t total = 0;
        const auto size = lengths(2, total);
        const Inputs in(info_, total, random_, valid);
        std::vector<std::int64_t> labels(total);
        gw_error error{};
        const gw_text nothing[16] = {};
        const bool able = info_.task == GW_TAGGER;
        const gw_text* words = able ? in.words.data() : nothing;
        expect("gw_tag", gw_tag(model_, 2, size.data(), words, labels.data(), &error), error, valid && able);
        for (std::int64_t label : labels) {
            if (label < 0 || (able && label >= info_.labels)) wrong("gw_tag", "no label");
        }
        std::vector<double> p(total * static_cast<std::size_t>(std::max<std::int64_t>(info_.labels, 1)));
        const std::int32_t code = gw_tag_probabilities(model_, 2, size.data(), words, p.data(), &error);
        expect("gw_tag_probabilities", code, error, valid && able);
        for (double each : p) {
            if (!(each >= 0 && each <= 1)) wrong("gw_tag_probabilities", "no probability");
        }
    }

    void encode() {
        const std::vector<std::string> texts = {"",       "the cat\n",          "\xFF",
                                                "a\r\nb", std::string("\0", 1), "\xE8\xB2\x93 \xE3\x80\x80 x"};
        const std::string& text = random_.of(texts);
        std::int64_t ids[2];
        std::size_t count = 0;
        gw_error error{};
        answer("gw_encode", gw_encode(model_, {text.data(), text.size()}, ids, 2, &count, &error), error);
    }

    // Arguments that are no batch, no sequence, or NULL.
    void arguments() {
        const Inputs in(info_, 4, random_, true);
        std::vector<float> out(floats(4));
        const auto refused = [&](const char* call, std::int32_t code, const gw_error& error) {
            if (answer(call, code, error) == GW_OK) wrong(call, "an invalid argument was accepted");
        };
        gw_error error{};
        gw_state* const twice[] = {states_[0], states_[0]};
        gw_state* const absent[] = {states_[0], nullptr};
        for (const std::int64_t rows : {std::int64_t{0}, std::int64_t{-1}, INT64_MAX, INT64_MIN}) {
            refused("gw_step", gw_step(model_, rows, in.given, states_.data(), out.data(), &error), error);
            refused("gw_run", gw_run(model_, rows, &rows, in.given, nullptr, 0, out.data(), &error), error);
        }
        for (const std::int64_t length : {std::int64_t{0}, std::int64_t{-1}, INT64_MAX, INT64_MIN}) {
            refused("gw_run", gw_run(model_, 1, &length, in.given, nullptr, 0, out.data(), &error), error);
        }
        refused("gw_step", gw_step(model_, 2, in.given, twice, out.data(), &error), error);
        refused("gw_step", gw_step(model_, 2, in.given, absent, out.data(), &error), error);
        refused("gw_step", gw_step(model_, 1, nullptr, states_.data(), out.data(), &error), error);
        refused("gw_step", gw_step(model_, 1, in.given, nullptr, out.data(), &error), error);
        refused("gw_step", gw_step(model_, 1, in.given, states_.data(), nullptr, &error), error);
        refused("gw_step", gw_step(nullptr, 1, in.given, states_.data(), out.data(), &error), error);
        for (const std::int64_t rows : {std::int64_t{0}, std::int64_t{-1}, INT64_MAX, INT64_MIN}) {
            refused("gw_outputs", gw_outputs(model_, rows, states_.data(), out.data(), &error), error);
        }
        refused("gw_outputs", gw_outputs(model_, 2, twice, out.data(), &error), error);
        refused("gw_outputs", gw_outputs(model_, 2, absent, out.data(), &error), error);
        refused("gw_outputs", gw_outputs(model_, 1, nullptr, out.data(), &error), error);
        refused("gw_outputs", gw_outputs(model_, 1, states_.data(), nullptr, &error), error);
        refused("gw_outputs", gw_outputs(nullptr, 1, states_.data(), out.data(), &error), error);
        refused("gw_run", gw_run(model_, 1, nullptr, in.given, nullptr, 0, out.data(), &error), error);
        gw_step(model_, 0, nullptr, nullptr, nullptr, nullptr);  // an error that nobody reads
    }

    void load_damaged() {
        const std::vector<char> good = saved(states_[0]);
        const Exact bytes(damaged(std::string(good.begin(), good.end()), random_));
        gw_error error{};
        gw_state* state = nullptr;
        const std::int32_t code = gw_state_load(model_, bytes.data.get(), bytes.size, &state, &error);
        answer("gw_state_load", code, error);
        if (code != GW_OK && code != GW_DATA) wrong("gw_state_load", "another code than GW_DATA");
        if (code != GW_OK && state) wrong("gw_state_load", "a state in spite of a failure");
        if (code == GW_OK) {
            std::swap(states_[0], state);
            damaged_ = true;
            step(true);
        }
        gw_state_free(state);
    }

    // Let one allocation fail, or all from one on.
    void without_memory() {
        const auto names = [&](const char* call, std::int32_t code, const gw_error& error) {
            answer(call, code, error);
            if (code != GW_OK && code != GW_NO_MEMORY && !excused(code)) {
                wrong(call, std::string("without memory: ") + error.message);
            }
        };
        std::size_t total = 0;
        const auto size = lengths(states_.size(), total);
        const Inputs in(info_, total, random_, true);
        std::vector<float> out(floats(total));
        const auto rows = static_cast<std::int64_t>(states_.size());
        for (int k = 0; k < 6; ++k) {
            gw_error error{};
            const long first = static_cast<long>(random_.below(k % 2 ? 8 : 60));
            const auto fail = [&] { all_after = random_.below(2), failing_in = first; };
            std::int32_t code = keeping("gw_run", [&] {
                fail();
                return gw_run(model_, rows, size.data(), in.given, states_.data(), 1, out.data(), &error);
            });
            names("gw_run", code, error);
            code = keeping("gw_step", [&] {
                fail();
                return gw_step(model_, rows, in.given, states_.data(), out.data(), &error);
            });
            names("gw_step", code, error);
            code = keeping("gw_outputs", [&] {
                fail();
                return gw_outputs(model_, rows, states_.data(), out.data(), &error);
            });
            if (code != GW_DATA) names("gw_outputs", code, error);  // a pooled state that has read nothing
            gw_state *made = nullptr, *loaded = nullptr;
            const std::vector<char> data = saved(states_[0]);
            fail();
            code = gw_state_copy(states_[0], &made, &error), failing_in = -1;
            names("gw_state_copy", code, error);
            fail();
            code = gw_state_load(model_, data.data(), data.size(), &loaded, &error), failing_in = -1;
            names("gw_state_load", code, error);
            gw_state_free(made), gw_state_free(loaded);
        }
    }

    gw_model* const model_;
    Random& random_;
    bool damaged_;  // the model, or a state: numbers may be too large
    gw_info info_{};
    std::vector<gw_state*> states_;
};

// Read a model; use it if it can be read.
bool read(const std::string& content, Random& random, bool damaged) {
    const Exact bytes(content);
    gw_error error{};
    gw_model* model = nullptr;
    const std::int32_t code = gw_open_memory(bytes.data.get(), bytes.size, nullptr, &model, &error);
    answer("gw_open_memory", code, error);
    if (code == GW_OK) {
        Subject(model, random, damaged).everything();
        return true;
    }
    if (code != GW_MODEL) wrong("gw_open_memory", std::string("another code than GW_MODEL: ") + error.message);
    if (model) wrong("gw_open_memory", "a model in spite of a failure");
    if (!damaged) wrong("gw_open_memory", error.message);
    return false;
}

void read_without_memory(const std::string& content, Random& random) {
    for (long first = 0;; first += 1 + static_cast<long>(random.below(40))) {
        const Exact bytes(content);
        gw_error error{};
        gw_model* model = nullptr;
        all_after = random.below(2), failing_in = first;
        const std::int32_t code = gw_open_memory(bytes.data.get(), bytes.size, nullptr, &model, &error);
        const bool failed = failing_in < 0 || all_after;
        failing_in = -1;
        answer("gw_open_memory", code, error);
        gw_close(model);
        if (code == GW_OK) return;
        if (code != GW_NO_MEMORY || !failed || model)
            wrong("gw_open_memory", std::string("without memory: ") + error.message);
    }
}

void name_file() {
    char text[64];
    const int size = std::snprintf(text, sizeof text, "fuzz: this was file %ld\n", file);
    if (write(2, text, static_cast<std::size_t>(size)) < 0) return;
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 4) return std::fprintf(stderr, "expected FILES SEED MODEL...\n"), 2;
    const bool one = arguments[1][0] == '=';
    const long files = std::atol(arguments[1] + one), seed = std::atol(arguments[2]);
    std::vector<std::string> models;
    for (int k = 3; k < count; ++k) {
        std::ifstream in(arguments[k], std::ios::binary);
        models.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_set_death_callback(name_file);
#endif
    std::signal(SIGPROF, [](int) { name_file(), std::_Exit(1); });
    for (const std::string& model : models) {
        Random random{static_cast<std::uint64_t>(seed)};
        read(model, random, false);
        read_without_memory(model, random);
    }
    long readable = 0;
    for (file = one ? files : 1; file <= files; ++file) {
        Random random{static_cast<std::uint64_t>(seed) * 1000003u + static_cast<std::uint64_t>(file)};
        const itimerval most{{0, 0}, {30, 0}};  // seconds of computing: nothing takes longer
        setitimer(ITIMER_PROF, &most, nullptr);
        readable += read(damaged(random.of(models), random), random, true);
    }
    std::printf("%ld damaged files, of which %ld could be read; %ld wrong answers\n", files, readable, failures);
    return failures != 0;
}
