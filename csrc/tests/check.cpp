// Runs every cell on every instruction set, forward and backward, the loss, the optimizer steps and a stream step, with sizes
// that are not multiples of a block, and exits with 1 if
//   a result depends on the number of threads, even in a single bit,
//   a result is not finite (all memory, including scratch, is NaN before it is written),
//   memory around a buffer was written (with AddressSanitizer: or read),
//   a pass or a loss differs from that in double, or that from the one of the portable instruction set,
//   a pass differs when two run concurrently, in a child process after fork, or after a run that was out of memory.
// It is intended to run under the sanitizers (sanitize.sh), and needs neither Python nor PyTorch. tests/engines verify the pass
// in double.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "../plan.hpp"
#include "../rungs.hpp"
#include "guarded_buffer.hpp"

namespace gatewise {

extern const Rung rung_portable, rung_avx2, rung_avx512, rung_amx;

namespace {

int failures = 0;

void fail(const std::string& where, const std::string& what) {
    std::printf("%s: %s\n", where.c_str(), what.c_str());
    ++failures;
}

const char* const names_of[] = {" float32", " float64", " bfloat16", " high"};

// Relative to the largest element; twice those of tests/tolerances.py, for the longer sums here.
double tolerance(Numbers numbers) {
    return numbers == Numbers::bfloat16 ? 3e-2 : numbers == Numbers::high ? 1e-4 : 2e-5;
}

// ThreadSanitizer only checks synchronization, and takes ten times as long.
#if defined(__has_feature) && !defined(__SANITIZE_THREAD__)  // Clang versions that do not define it
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
constexpr bool kAll = false;
#else
constexpr bool kAll = true;
#endif

struct Case {
    CellKind cell;
    Index T, B, I, H;
    bool reverse, ragged, masked, bias, traced;

    std::string name() const {
        const char* cells[] = {"lstm", "gru", "rnn_tanh", "rnn_relu"};
        char text[160];
        std::snprintf(text, sizeof text, "%s T=%td B=%td I=%td H=%td%s%s%s%s%s", cells[static_cast<int>(cell)], T, B, I,
                      H, reverse ? " reverse" : "", ragged ? " ragged" : "", masked ? " masked" : "",
                      bias ? "" : " no bias", traced ? " traced" : "");
        return text;
    }
};

// A forward and a backward pass of one case, with its own memory.
template <class Real>
class Pass {
  public:
    explicit Pass(const Case& c) : case_(c), plan_(c.cell, c.T, c.B, c.H, lengths(), c.reverse) {
        const Index GH = gates_of(c.cell) * c.H, G = gates_of(c.cell);
        const bool lstm = c.cell == CellKind::lstm;
        const Real scale = static_cast<Real>(0.7 / std::sqrt(static_cast<double>(c.I + c.H)));
        LayerForward<Real>& f = forward_;
        f.T = c.T, f.I = c.I, f.H = c.H, f.steps = plan_.steps;
        f.x = drawn(c.T * c.B * c.I);
        if (c.ragged) spoil_padding(given_.back().data(), c.I);
        f.h_0 = drawn(c.B * c.H), f.c_0 = lstm ? drawn(c.B * c.H) : nullptr;
        f.h_mask = c.masked ? drawn(c.B * c.H) : nullptr;
        f.weights.w_ih = drawn(GH * c.I, scale), f.weights.w_hh = drawn(GH * c.H, scale);
        f.weights.b_ih = c.bias ? drawn(GH) : nullptr, f.weights.b_hh = c.bias ? drawn(GH) : nullptr;
        f.y = out("y", c.T * c.B * c.H), f.h_n = out("h_n", c.B * c.H), f.c_n = lstm ? out("c_n", c.B * c.H) : nullptr;
        f.gates = G > 1 ? out("gates", f.steps.total * GH) : nullptr;
        f.extra = G > 1 ? out("extra", f.steps.total * c.H) : nullptr;
        f.traced_gates = c.traced && G > 1 ? out("traced gates", c.T * c.B * GH) : nullptr;
        f.traced_cells = c.traced && lstm ? out("traced cells", c.T * c.B * c.H) : nullptr;
        LayerBackward<Real>& b = backward_;
        b.T = c.T, b.I = c.I, b.H = c.H, b.steps = plan_.steps, b.weights = f.weights;
        b.x = f.x, b.h_0 = f.h_0, b.c_0 = f.c_0, b.h_mask = f.h_mask, b.y = f.y, b.gates = f.gates, b.extra = f.extra;
        b.dy = drawn(c.T * c.B * c.H);
        if (c.ragged) spoil_padding(given_.back().data(), c.H);
        b.dh_n = drawn(c.B * c.H), b.dc_n = lstm ? drawn(c.B * c.H) : nullptr;
        b.dx = c.traced ? nullptr : out("dx", c.T * c.B * c.I);
        b.dh_0 = out("dh_0", c.B * c.H), b.dc_0 = lstm ? out("dc_0", c.B * c.H) : nullptr;
        b.dw_ih = out("dw_ih", GH * c.I), b.dw_hh = out("dw_hh", GH * c.H);
        b.db_ih = c.bias ? out("db_ih", GH) : nullptr, b.db_hh = c.bias ? out("db_hh", GH) : nullptr;
    }

    void run(const Rung& rung, Numbers numbers, int threads) {
        gatewise::run(threads, [&](Member me) {
            if constexpr (sizeof(Real) == 8) {
                rung.forward_double(case_.cell, forward_, me);
            } else {
                rung.forward(case_.cell, numbers, forward_, me);
            }
        });
        gatewise::run(threads, [&](Member me) {
            if constexpr (sizeof(Real) == 8) {
                rung.backward_double(case_.cell, backward_, me);
            } else {
                rung.backward(case_.cell, numbers, backward_, me);
            }
        });
    }

    // Check that results are finite and that nothing was written out of bounds.
    void check(const std::string& where) {
        for (std::size_t k = 0; k < results_.size(); ++k) {
            for (Index i = 0; i < results_[k].count(); ++i) {
                if (!std::isfinite(results_[k].data()[i])) {
                    fail(where, names_[k] + "[" + std::to_string(i) + "] is not a number");
                    break;
                }
            }
            if (!results_[k].untouched_around()) fail(where, "memory around " + names_[k] + " was written");
        }
        for (Buffer<Real>& buffer : given_) {
            if (!buffer.untouched_around()) fail(where, "memory around an input was written");
        }
    }

    // Check for bitwise equality.
    void check_equal(Pass& other, const std::string& where) {
        for (std::size_t k = 0; k < results_.size(); ++k) {
            if (std::memcmp(results_[k].data(), other.results_[k].data(), results_[k].bytes()) != 0) {
                fail(where, names_[k] + " differs");
            }
        }
    }

    // Check for equality within a tolerance relative to the largest element.
    template <class Other>
    void check_close(Pass<Other>& other, double tolerance, const std::string& where, bool gradients) {
        for (std::size_t k = 0; k < results_.size(); ++k) {
            if (!gradients && names_[k][0] == 'd') continue;
            double largest = 1, gap = 0;
            for (Index i = 0; i < results_[k].count(); ++i) {
                double a = results_[k].data()[i], b = other.results_[k].data()[i];
                largest = std::fmax(largest, std::fabs(b)), gap = std::fmax(gap, std::fabs(a - b));
            }
            if (!(gap <= tolerance * largest)) fail(where, names_[k] + " is off by " + std::to_string(gap / largest));
        }
    }

  private:
    template <class>
    friend class Pass;

    // Unsorted lengths, the longest T, one of them 0.
    const std::int64_t* lengths() {
        const Index T = case_.T;
        for (Index b = 0; b < case_.B; ++b) lengths_.push_back(b == 1 ? T : (b * 7 + 3) % (T + 1) * (b != 2));
        return case_.ragged ? lengths_.data() : nullptr;
    }

    // Set values past a length to NaN: they must not be read.
    void spoil_padding(Real* m, Index width) {
        for (Index b = 0; b < case_.B; ++b) {
            for (Index t = lengths_[b]; t < case_.T; ++t) {
                std::memset(m + (t * case_.B + b) * width, 0xFF, static_cast<std::size_t>(width) * sizeof(Real));
            }
        }
    }

    // Numbers from -1 to 1 that bfloat16 represents exactly, the same in each dtype.
    const Real* drawn(Index count, Real scale = 1) {
        given_.emplace_back(count);
        for (Index i = 0; i < count; ++i) {
            seed_ = seed_ * 6364136223846793005u + 1442695040888963407u;
            given_.back().data()[i] = static_cast<Real>(static_cast<int>(seed_ >> 57) - 64) / 64 * scale;
        }
        return given_.back().data();
    }

    Real* out(const char* name, Index count) {
        names_.emplace_back(name);
        results_.emplace_back(count);
        return results_.back().data();
    }

    Case case_;
    std::vector<std::int64_t> lengths_;
    Plan plan_;
    LayerForward<Real> forward_{};
    LayerBackward<Real> backward_{};
    std::vector<Buffer<Real>> given_, results_;
    std::vector<std::string> names_;
    std::uint64_t seed_ = 1;
};

template <class Real>
void check_threads(const Case& c, const Rung& rung, Numbers numbers, Pass<Real>& one, const std::vector<int>& counts,
                   const std::string& where) {
    one.run(rung, numbers, 1);
    one.check(where);
    for (int threads : counts) {
        Pass<Real> many(c);
        many.run(rung, numbers, threads);
        many.check(where + ", threads " + std::to_string(threads));
        many.check_equal(one, where + ", threads " + std::to_string(threads));
    }
}

void check_case(const Case& c, const std::vector<const Rung*>& rungs, const std::vector<int>& threads) {
    Pass<double> truth(c);
    truth.run(*rungs[0], Numbers::float64, 1);
    for (const Rung* rung : rungs) {
        std::string where = std::string(rung->name) + " " + c.name();
        Pass<double> in_double(c);
        check_threads(c, *rung, Numbers::float64, in_double, threads, where + " float64");
        in_double.check_close(truth, 1e-10, where + " float64", true);
        for (Numbers numbers : {Numbers::float32, Numbers::high, Numbers::bfloat16}) {
            const bool narrow = numbers == Numbers::bfloat16;
            const std::string with = where + names_of[static_cast<int>(numbers)];
            Pass<float> pass(c);
            check_threads(c, *rung, numbers, pass, threads, with);
            // With 8 bits of precision, some unit of a relu soon falls on the other side of the kink.
            pass.check_close(truth, tolerance(numbers), with, !(narrow && c.cell == CellKind::rnn_relu));
        }
    }
}

// A buffer of pseudorandom numbers from -1 to 1.
template <class Real>
Buffer<Real> some(Index count, std::uint64_t seed, double scale = 1) {
    Buffer<Real> buffer(count);
    for (Index i = 0; i < count; ++i) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        buffer.data()[i] = static_cast<Real>((static_cast<int>(seed >> 57) - 64) / 64.0 * scale);
    }
    return buffer;
}

// Fail if a result differs from `expected` by more than a tolerance (0: in any bit), or memory around it was written.
template <class Real, class Other>
void compare(Buffer<Real>& found, Buffer<Other>& expected, double tolerance, const std::string& where) {
    double largest = tolerance > 0 ? 1e-30 : 0, gap = 0;
    for (Index i = 0; i < found.count(); ++i) {
        const double a = found.data()[i], b = expected.data()[i];
        if (!std::isfinite(a)) return fail(where, "not a number at " + std::to_string(i));
        largest = std::fmax(largest, std::fabs(b)), gap = std::fmax(gap, std::fabs(a - b));
    }
    if (!(gap <= tolerance * largest)) fail(where, "off by " + std::to_string(gap / largest));
    if (!found.untouched_around()) fail(where, "memory around it was written");
}

// The loss of a linear layer and its gradients: nll, dx, dW, db.
template <class Real>
std::vector<Buffer<Real>> loss_of(const Rung& rung, Numbers numbers, int threads, Index N, Index H, Index V,
                                  Index chunk) {
    Buffer<Real> x = some<Real>(N * H, 1), w = some<Real>(V * H, 2, 0.25), b = some<Real>(V, 3);
    std::vector<std::int64_t> targets;
    for (Index n = 0; n < N; ++n) targets.push_back((n * 7 + 1) % V);
    std::vector<Buffer<Real>> found;
    for (Index count : {Index{1}, N * H, V * H, V}) found.emplace_back(count);
    double nll = 0;
    const LinearLoss<Real> loss{N, H, V, chunk, x.data(), w.data(), b.data(), targets.data(), 0.5, &nll,
                                found[1].data(), found[2].data(), found[3].data()};
    run(threads, [&](Member me) {
        if constexpr (sizeof(Real) == 8) {
            rung.loss_double(loss, me);
        } else {
            rung.loss(numbers, loss, me);
        }
    });
    found[0].data()[0] = static_cast<Real>(nll);
    for (Buffer<Real>* given : {&x, &w, &b}) {
        if (!given->untouched_around()) fail(rung.name, "the loss wrote around an input");
    }
    return found;
}

void check_loss(const Rung& rung, Index N, Index H, Index V, Index chunk) {
    char size[80];
    std::snprintf(size, sizeof size, " loss N=%td H=%td V=%td chunk=%td", N, H, V, chunk);
    auto truth = loss_of<double>(rung_portable, Numbers::float64, 1, N, H, V, chunk);
    for (Numbers numbers : {Numbers::float32, Numbers::high, Numbers::bfloat16}) {
        const std::string where = std::string(rung.name) + size + names_of[static_cast<int>(numbers)];
        auto one = loss_of<float>(rung, numbers, 1, N, H, V, chunk);
        for (std::size_t k = 0; k < one.size(); ++k) compare(one[k], truth[k], tolerance(numbers), where);
        for (int threads : {2, 3, 4}) {
            auto many = loss_of<float>(rung, numbers, threads, N, H, V, chunk);
            for (std::size_t k = 0; k < many.size(); ++k) compare(many[k], one[k], 0, where + ", threads differ");
        }
    }
}

// Two steps of an optimizer on a parameter with a dense and one with a sparse gradient; the gradient norm.
std::vector<Buffer<float>> update_of(const Rung& rung, UpdateRule rule, double decay, int threads) {
    constexpr Index kCount = 40001, kRows = 1201, kWidth = 37, kSome = 301;
    std::vector<Buffer<float>> state;  // p, m, v of each, and the norm
    std::vector<std::int64_t> rows;
    for (Index k = 0; k < kSome; ++k) rows.push_back(k * 3 + k % 2);
    for (Index count : {kCount, kRows * kWidth}) {
        for (int k = 0; k < 3; ++k) state.push_back(some<float>(count, 5, k ? 0 : 1));
    }
    state.push_back(some<float>(1, 0));
    Buffer<float> dense = some<float>(kCount, 6), sparse = some<float>(kSome * kWidth, 7);
    const Parameter parameters[] = {
        {state[0].data(), dense.data(), state[1].data(), state[2].data(), kCount, nullptr, 0, 0, 0.1, 0.001},
        {state[3].data(), sparse.data(), state[4].data(), state[5].data(), kRows * kWidth, rows.data(), kSome, kWidth,
         0.1, 0.001}};
    double norm = 0;
    const GradientNorm norm_of{parameters, 2, &norm};
    const Update update{rule, 0.5, 0.01, decay, 0.9, 0.999, 1e-8, parameters, 2};
    for (int step = 0; step < 2; ++step) {
        run(threads, [&](Member me) { rung.norm(norm_of, me); });
        run(threads, [&](Member me) { rung.update(update, me); });
    }
    state[6].data()[0] = static_cast<float>(norm);
    if (!dense.untouched_around() || !sparse.untouched_around()) fail(rung.name, "an update wrote around a gradient");
    return state;
}

void check_update(const Rung& rung, UpdateRule rule, double decay) {
    const std::string where = std::string(rung.name) + " update " + std::to_string(static_cast<int>(rule)) + ", decay " +
                              std::to_string(decay);
    auto truth = update_of(rung_portable, rule, decay, 1), one = update_of(rung, rule, decay, 1);
    for (std::size_t k = 0; k < one.size(); ++k) compare(one[k], truth[k], 1e-5, where);
    for (int threads : {2, 3, 4}) {
        auto many = update_of(rung, rule, decay, threads);
        for (std::size_t k = 0; k < many.size(); ++k) compare(many[k], one[k], 0, where + ", threads differ");
    }
}

// One step of two layers and a decoder: h, c, logits.
std::vector<Buffer<float>> stream_of(const Rung& rung, CellKind cell, bool narrow, int threads, Index B) {
    constexpr Index I = 37, H = 45, V = 101, kLayers = 2;
    const Index G = gates_of(cell);
    std::vector<Buffer<float>> given, found, packed;
    auto drawn = [&](Index count, double scale) {
        given.push_back(some<float>(count, given.size(), scale));
        return given.back().data();
    };
    StreamMatrix matrices[kLayers + 1] = {};
    for (Index k = 0; k <= kLayers; ++k) {
        StreamMatrix& m = matrices[k];
        const bool decoder = k == kLayers;
        m.gates = decoder ? 1 : G, m.units = decoder ? V : H;
        m.terms[0] = k ? H : I, m.terms[1] = decoder ? 0 : H;
        for (int part = 0; part < (decoder ? 1 : 2); ++part) {
            m.from[part] = drawn(m.gates * m.units * m.terms[part], 0.125), m.bias[part] = drawn(m.gates * m.units, 1);
        }
        const StreamPanel panel = rung.stream_panel(m.gates);
        const Index numbers = (m.units + panel.units - 1) / panel.units * panel.columns * (m.terms[0] + m.terms[1]);
        packed.emplace_back(narrow ? (numbers + 1) / 2 : numbers);
        m.packed = packed.back().data();
    }
    for (Index count : {kLayers * B * H, kLayers * B * H, B * V}) found.emplace_back(count);
    const bool lstm = cell == CellKind::lstm;
    if (!lstm) std::memset(found[1].data(), 0, found[1].bytes());
    const StreamStep step{cell, narrow, B, kLayers, H, matrices, matrices + kLayers, drawn(B * I, 1), nullptr,
                          drawn(kLayers * B * H, 1), lstm ? drawn(kLayers * B * H, 1) : nullptr, found[0].data(),
                          lstm ? found[1].data() : nullptr, found[2].data()};
    run(threads, [&](Member me) {
        for (const StreamMatrix& matrix : matrices) rung.pack_stream(matrix, narrow, me);
        me.barrier();
        rung.stream(step, me);
    });
    for (auto* buffers : {&given, &packed}) {
        for (auto& buffer : *buffers) {
            if (!buffer.untouched_around()) fail(rung.name, "a step of a stream wrote around its weights or inputs");
        }
    }
    return found;
}

void check_stream(const Rung& rung, CellKind cell, Index B) {
    for (bool narrow : {false, true}) {
        const std::string where = std::string(rung.name) + " stream, cell " + std::to_string(static_cast<int>(cell)) +
                                  ", rows " + std::to_string(B) + (narrow ? ", narrow" : "");
        auto truth = stream_of(rung_portable, cell, narrow, 1, B), one = stream_of(rung, cell, narrow, 1, B);
        for (std::size_t k = 0; k < one.size(); ++k) compare(one[k], truth[k], 1e-5, where);
        for (int threads : {2, 3, 4}) {
            auto many = stream_of(rung, cell, narrow, threads, B);
            for (std::size_t k = 0; k < many.size(); ++k) compare(many[k], one[k], 0, where + ", threads differ");
        }
    }
}

// Two concurrent passes: one has the workers, the other computes alone.
void check_at_once(const Rung& rung) {
    const Case c{CellKind::lstm, 9, 11, 13, 37, true, true, false, true, false};
    Pass<float> expected(c);
    expected.run(rung, Numbers::float32, 1);
    for (int round = 0; round < (kAll ? 20 : 5); ++round) {
        Pass<float> a(c), b(c);
        std::thread other([&] { a.run(rung, Numbers::float32, 3); });
        b.run(rung, Numbers::float32, 2);
        other.join();
        a.check_equal(expected, std::string(rung.name) + " beside another");
        b.check_equal(expected, std::string(rung.name) + " beside another");
    }
}

// Running out of memory for scratch is recoverable: all members leave the run, which throws; the next run works.
void check_without_memory(const Rung& rung) {
    const Case c{CellKind::lstm, 9, 11, 13, 37, true, true, false, true, false};
    Pass<float> expected(c), found(c);
    expected.run(rung, Numbers::float32, 1);
    for (int threads : {1, 2, 4}) {
        bool thrown = false;
        try {
            run(threads, [](Member me) {
                std::memset(me.shared<char>(1000), 1, me.index == 0 ? 1000 : 0);
                me.shared<char>(Index{1} << 60);
                fail("team", "had memory that no machine has");
            });
        } catch (const std::bad_alloc&) {
            thrown = true;
        }
        if (!thrown) fail("team", "did not say that there is no memory");
        found.run(rung, Numbers::float32, threads);
        found.check_equal(expected, std::string(rung.name) + " after a run without memory");
    }
}

// A child process has no workers.
void check_after_fork(const Rung& rung) {
    const Case c{CellKind::gru, 9, 11, 13, 37, false, true, true, true, false};
    Pass<float> expected(c);
    expected.run(rung, Numbers::float32, 3);
    pid_t child = fork();
    if (child == 0) {
        alarm(60);  // a child that hangs fails too
        failures = 0;
        Pass<float> found(c);
        found.run(rung, Numbers::float32, 3);
        found.check_equal(expected, std::string(rung.name) + " after fork");
        std::fflush(stdout);
        _exit(failures ? 1 : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) fail(rung.name, "wrong in a child process, status " + std::to_string(status));
}

}  // namespace
}  // namespace gatewise

int main() {
    using namespace gatewise;
    std::vector<const Rung*> rungs = {&rung_portable};
#ifdef GATEWISE_AVX2
    rungs.push_back(&rung_avx2);
#endif
#ifdef GATEWISE_AVX512
    rungs.push_back(&rung_avx512);
#endif
#ifdef GATEWISE_AMX
    rungs.push_back(&rung_amx);
#endif
    const Index shapes[][4] = {{3, 50, 70, 37}, {7, 1, 129, 130}, {9, 33, 5, 17}, {0, 3, 2, 4},
                               {2, 128, 33, 65}, {1, 1, 1, 1},    {4, 3, 2, 63},  {3, 2, 600, 5}, {4, 0, 2, 3}};
    for (CellKind cell : kCells) {
        for (const auto& s : shapes) {
            check_case({cell, s[0], s[1], s[2], s[3], true, true, true, true, false}, rungs, {2, 4});
            if (kAll) check_case({cell, s[0], s[1], s[2], s[3], false, false, false, false, true}, rungs, {3});
        }
    }
    // More columns than a product packs at once.
    if (kAll) check_case({CellKind::lstm, 2, 3, 5, 1041, true, true, true, true, false}, rungs, {3});
    for (const Rung* rung : rungs) {
        check_loss(*rung, 75, 37, 101, 40);
        check_loss(*rung, 7, 3, 2, 384);
        if (kAll) check_loss(*rung, 130, 33, 1065, 50);
        if (kAll) check_loss(*rung, 13, 530, 1700, 13);  // few rows, and more terms than a product packs at once
        for (UpdateRule rule : {UpdateRule::sgd, UpdateRule::adam, UpdateRule::adamw}) {
            // 0.013: gradients, multiples of 1/128, and decay, multiples of 0.013/64, never cancel to a rounding error, which
            // Adam's division would amplify to a whole step.
            for (double decay : {0.0, 0.013}) check_update(*rung, rule, decay);
        }
        for (CellKind cell : kCells) {
            for (Index B : {1, 3, 17}) check_stream(*rung, cell, B);
        }
        check_at_once(*rung);
        check_without_memory(*rung);
        check_after_fork(*rung);
    }
    if (failures) std::printf("%d failures\n", failures);
    else std::printf("every rung, cell and size: right, and the same on 1 to 4 threads\n");
    return failures != 0;
}
