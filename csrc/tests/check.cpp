// Runs every cell on every rung, forward and backward, over sizes that nothing divides, and exits with 1 where
//   a result depends on the number of threads, in a single bit,
//   a result is not a number (all memory, the scratch too, is NaN before it is written),
//   memory before or behind a buffer was written (under AddressSanitizer: or read),
//   a pass is not what the same pass is in double, and that what the portable rung makes it,
//   a pass differs when two run at once, or in a child process after fork.
// It is made to run under the sanitizers (sanitize.sh), and needs neither Python nor PyTorch. That the double pass is right
// is proved in tests/kernels.
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

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes)
#endif

namespace gatewise {

extern const Rung rung_portable;
#ifdef GATEWISE_X86
extern const Rung rung_avx2, rung_avx512, rung_amx;
#endif

namespace {

int failures = 0;

void fail(const std::string& where, const std::string& what) {
    std::printf("%s: %s\n", where.c_str(), what.c_str());
    ++failures;
}

// `count` numbers, NaN at first, aligned to no vector, with guards on both sides.
template <class Real>
class Buffer {
  public:
    explicit Buffer(Index count) : count_(count), memory_(kGuard + bytes() + kGuard, 0xFF) {
        ASAN_POISON_MEMORY_REGION(memory_.data(), kGuard);
        ASAN_POISON_MEMORY_REGION(memory_.data() + kGuard + bytes(), kGuard);
    }
    Buffer(const Buffer&) = delete;
    Buffer(Buffer&& other) = default;

    Real* data() { return reinterpret_cast<Real*>(memory_.data() + kGuard); }
    std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(Real); }
    Index count() const { return count_; }

    bool untouched_around() {
        if (memory_.empty()) return true;
        ASAN_UNPOISON_MEMORY_REGION(memory_.data(), kGuard);
        ASAN_UNPOISON_MEMORY_REGION(memory_.data() + kGuard + bytes(), kGuard);
        bool untouched = true;
        for (std::size_t k = 0; k < kGuard; ++k) {
            untouched = untouched && memory_[k] == 0xFF && memory_[kGuard + bytes() + k] == 0xFF;
        }
        return untouched;
    }

  private:
    static constexpr std::size_t kGuard = 136;  // 8 more than two of the widest vectors
    Index count_;
    std::vector<unsigned char> memory_;
};

struct Case {
    CellKind cell;
    Index T, B, I, H;
    bool reverse, ragged, masked, bias, traced;

    std::string name() const {
        const char* cells[] = {"lstm", "gru", "rnn_tanh", "rnn_relu"};
        char text[160];
        std::snprintf(text, sizeof text, "%s T=%td B=%td I=%td H=%td%s%s%s%s%s", cells[static_cast<int>(cell)], T, B, I, H,
                      reverse ? " reverse" : "", ragged ? " ragged" : "", masked ? " masked" : "", bias ? "" : " no bias",
                      traced ? " traced" : "");
        return text;
    }
    Index gates() const { return cell == CellKind::lstm ? 4 : cell == CellKind::gru ? 3 : 1; }
};

// A pass forward and back of one case, with memory of its own.
template <class Real>
class Pass {
  public:
    explicit Pass(const Case& c) : case_(c), plan_(c.T, c.B, lengths(), c.reverse) {
        const Index GH = c.gates() * c.H, G = c.gates();
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
        struct Job {
            const Rung& rung;
            Numbers numbers;
            Pass& pass;
        } job{rung, numbers, *this};
        gatewise::run(
            threads,
            [](const void* argument, Member me) {
                const Job& job = *static_cast<const Job*>(argument);
                if constexpr (sizeof(Real) == 8) {
                    job.rung.forward_double(job.pass.case_.cell, job.pass.forward_, me);
                } else {
                    job.rung.forward(job.pass.case_.cell, job.numbers, job.pass.forward_, me);
                }
            },
            &job);
        gatewise::run(
            threads,
            [](const void* argument, Member me) {
                const Job& job = *static_cast<const Job*>(argument);
                if constexpr (sizeof(Real) == 8) {
                    job.rung.backward_double(job.pass.case_.cell, job.pass.backward_, me);
                } else {
                    job.rung.backward(job.pass.case_.cell, job.numbers, job.pass.backward_, me);
                }
            },
            &job);
    }

    // Finite, and nothing written outside.
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

    // The same to the bit.
    void check_equal(Pass& other, const std::string& where) {
        for (std::size_t k = 0; k < results_.size(); ++k) {
            if (std::memcmp(results_[k].data(), other.results_[k].data(), results_[k].bytes()) != 0) {
                fail(where, names_[k] + " differs");
            }
        }
    }

    // The same to a share of the largest number.
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

    // Unsorted, the longest T, one without steps.
    const std::int64_t* lengths() {
        for (Index b = 0; b < case_.B; ++b) lengths_.push_back(b == 1 ? case_.T : (b * 7 + 3) % (case_.T + 1) * (b != 2));
        return case_.ragged ? lengths_.data() : nullptr;
    }

    // What stands past a length is not read: it is NaN.
    void spoil_padding(Real* m, Index width) {
        for (Index b = 0; b < case_.B; ++b) {
            for (Index t = lengths_[b]; t < case_.T; ++t) std::memset(m + (t * case_.B + b) * width, 0xFF, width * sizeof(Real));
        }
    }

    // Numbers in -1 to 1 that a bfloat16 holds, the same in each dtype.
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
void check_threads(const Case& c, const Rung& rung, Numbers numbers, Pass<Real>& one, const std::string& where) {
    one.run(rung, numbers, 1);
    one.check(where);
    for (int threads = 2; threads <= 4; ++threads) {
        Pass<Real> many(c);
        many.run(rung, numbers, threads);
        many.check(where + ", threads " + std::to_string(threads));
        many.check_equal(one, where + ", threads " + std::to_string(threads));
    }
}

void check_case(const Case& c, const std::vector<const Rung*>& rungs) {
    Pass<double> truth(c);
    truth.run(*rungs[0], Numbers::float64, 1);
    for (const Rung* rung : rungs) {
        std::string where = std::string(rung->name) + " " + c.name();
        Pass<double> in_double(c);
        check_threads(c, *rung, Numbers::float64, in_double, where + " float64");
        in_double.check_close(truth, 1e-10, where + " float64", true);
        for (Numbers numbers : {Numbers::float32, Numbers::high, Numbers::bfloat16}) {
            const bool narrow = numbers == Numbers::bfloat16;
            const std::string with = where + (narrow ? " bfloat16" : numbers == Numbers::high ? " high" : " float32");
            Pass<float> pass(c);
            check_threads(c, *rung, numbers, pass, with);
            // In 8 bits some unit of a relu is soon on the other side of its kink. On tiles, high has 16 (tolerances.py).
            const bool split = numbers == Numbers::high && std::string(rung->name) == "amx";
            pass.check_close(truth, narrow ? 3e-2 : split ? 5e-5 : 2e-5, with, !(narrow && c.cell == CellKind::rnn_relu));
        }
    }
}

// Two passes at once: one has the workers, the other computes alone.
void check_at_once(const Rung& rung) {
    const Case c{CellKind::lstm, 9, 11, 13, 37, true, true, false, true, false};
    Pass<float> expected(c);
    expected.run(rung, Numbers::float32, 1);
    for (int round = 0; round < 20; ++round) {
        Pass<float> a(c), b(c);
        std::thread other([&] { a.run(rung, Numbers::float32, 3); });
        b.run(rung, Numbers::float32, 2);
        other.join();
        a.check_equal(expected, std::string(rung.name) + " beside another");
        b.check_equal(expected, std::string(rung.name) + " beside another");
    }
}

// In a child process there are no workers any more.
void check_after_fork(const Rung& rung) {
    const Case c{CellKind::gru, 9, 11, 13, 37, false, true, true, true, false};
    Pass<float> expected(c);
    expected.run(rung, Numbers::float32, 3);
    pid_t child = fork();
    if (child == 0) {
        alarm(60);  // a child that waits for a worker fails too
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
#ifdef GATEWISE_X86
    rungs.push_back(&rung_avx2);
    rungs.push_back(&rung_avx512);
    rungs.push_back(&rung_amx);
#endif
    const Index shapes[][4] = {{3, 50, 70, 37}, {2, 128, 33, 65}, {7, 1, 129, 130}, {40, 33, 5, 17}, {1, 1, 1, 1},
                               {4, 3, 2, 63},   {5, 9, 7, 16},    {3, 2, 600, 5},   {0, 3, 2, 4},    {4, 0, 2, 3}};
    for (CellKind cell : {CellKind::lstm, CellKind::gru, CellKind::rnn_tanh, CellKind::rnn_relu}) {
        for (const auto& s : shapes) {
            check_case({cell, s[0], s[1], s[2], s[3], false, false, false, true, false}, rungs);
            check_case({cell, s[0], s[1], s[2], s[3], true, true, true, false, true}, rungs);
            check_case({cell, s[0], s[1], s[2], s[3], false, true, false, true, true}, rungs);
        }
    }
    check_case({CellKind::lstm, 2, 3, 5, 1041, true, true, true, true, false}, rungs);  // more columns than are held
    for (const Rung* rung : rungs) {
        check_at_once(*rung);
        check_after_fork(*rung);
    }
    std::printf(failures ? "%d failures\n" : "every rung, cell and size: right, and the same on 1 to 4 threads\n", failures);
    return failures != 0;
}
