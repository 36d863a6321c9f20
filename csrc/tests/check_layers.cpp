// Tests of the layer passes, and of runs that are concurrent, out of memory, or in a child process; see check.cpp.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <thread>
#include <utility>

#include "../plan.hpp"
#include "check.hpp"

namespace gatewise {
namespace {

struct Case {
    CellKind cell;
    Index T, B, I, H;
    bool reverse, ragged, masked, bias, traced;

    std::string name(const Target& target, Numbers numbers) const {
        return name_of(target, numbers, "cell %d T=%td B=%td I=%td H=%td%s%s%s%s%s", static_cast<int>(cell), T, B, I, H,
                       reverse ? " reverse" : "", ragged ? " ragged" : "", masked ? " masked" : "",
                       bias ? "" : " no bias", traced ? " traced" : "");
    }
};

// A forward and a backward pass of one case, with its own memory.
template <class Real>
class Pass {
  public:
    explicit Pass(const Case& c) : case_(c), plan_(c.cell, c.T, c.B, c.H, lengths(), c.reverse) {
        const Index GH = gates_of(c.cell) * c.H, G = gates_of(c.cell);
        const bool lstm = c.cell == CellKind::lstm;
        const double scale = 0.7 / std::sqrt(static_cast<double>(c.I + c.H));
        LayerForward<Real>& f = forward_;
        f.T = c.T, f.I = c.I, f.H = c.H, f.steps = plan_.steps;
        f.x = drawn(c.T * c.B * c.I);
        if (c.ragged) spoil_padding(c.I);
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
        static_cast<LayerInputs<Real>&>(b) = f;
        b.y = f.y, b.gates = f.gates, b.extra = f.extra;
        b.dy = drawn(c.T * c.B * c.H);
        if (c.ragged) spoil_padding(c.H);
        b.dh_n = drawn(c.B * c.H), b.dc_n = lstm ? drawn(c.B * c.H) : nullptr;
        b.dx = c.traced ? nullptr : out("dx", c.T * c.B * c.I);
        b.dh_0 = out("dh_0", c.B * c.H), b.dc_0 = lstm ? out("dc_0", c.B * c.H) : nullptr;
        b.dw_ih = out("dw_ih", GH * c.I), b.dw_hh = out("dw_hh", GH * c.H);
        b.db_ih = c.bias ? out("db_ih", GH) : nullptr, b.db_hh = c.bias ? out("db_hh", GH) : nullptr;
    }

    // The results; `gradients` false: those of the forward pass.
    std::vector<Buffer<Real>>& run(const Target& target, Numbers numbers, int threads, bool gradients = true) {
        const Kernels<Real>& kernels = target;
        gatewise::run(threads, [&](Member me) { kernels.forward(case_.cell, numbers, forward_, me); });
        gatewise::run(threads, [&](Member me) { kernels.backward(case_.cell, numbers, backward_, me); });
        check_inputs(given_, case_.name(target, numbers));
        while (!gradients && results_.back().name[0] == 'd') results_.pop_back();
        return results_;
    }

    // y and the final state of a forward pass that keeps no gates, which proceeds in blocks of steps.
    std::vector<Buffer<Real>>& run_in_blocks(const Target& target, Numbers numbers, int threads) {
        const Kernels<Real>& kernels = target;
        LayerForward<Real> f = forward_;
        f.gates = f.extra = nullptr;
        gatewise::run(threads, [&](Member me) { kernels.forward(case_.cell, numbers, f, me); });
        while (results_.size() > (f.c_n ? 3 : 2)) results_.pop_back();
        return results_;
    }

  private:
    // Unsorted lengths, the longest T, one of them 0.
    const std::int64_t* lengths() {
        const Index T = case_.T;
        for (Index b = 0; b < case_.B; ++b) lengths_.push_back(b == 1 ? T : (b * 7 + 3) % (T + 1) * (b != 2));
        return case_.ragged ? lengths_.data() : nullptr;
    }

    // Set the values past a length to NaN in the input that was drawn last: they must not be read.
    void spoil_padding(Index width) {
        for (Index b = 0; b < case_.B; ++b) {
            for (Index t = lengths_[b]; t < case_.T; ++t) {
                Real* row = given_.back().data() + (t * case_.B + b) * width;
                std::memset(row, 0xFF, static_cast<std::size_t>(width) * sizeof(Real));
            }
        }
    }

    const Real* drawn(Index count, double scale = 1) {
        given_.push_back(some<Real>(count, given_.size(), scale));
        return given_.back().data();
    }

    Real* out(const char* name, Index count) {
        results_.emplace_back(count, name);
        return results_.back().data();
    }

    Case case_;
    std::vector<std::int64_t> lengths_;
    Plan plan_;
    LayerForward<Real> forward_{};
    LayerBackward<Real> backward_{};
    std::vector<Buffer<Real>> given_, results_;
};

template <class Real>
std::vector<Buffer<Real>> results_of(const Case& c, const Target& target, Numbers numbers, int threads,
                                     bool gradients = true) {
    return std::move(Pass<Real>(c).run(target, numbers, threads, gradients));
}

void check_case(const Case& c, const std::vector<const Target*>& targets, const std::vector<int>& threads) {
    auto truth = results_of<double>(c, target_portable, Numbers::float64, 1);
    for (const Target* target : targets) {
        check_threads(
            truth, 1e-10, c.name(*target, Numbers::float64),
            [&](int count) { return results_of<double>(c, *target, Numbers::float64, count); }, threads, 1);
        for (Numbers numbers : {Numbers::float32, Numbers::high, Numbers::bfloat16}) {
            // With 8 bits of precision, some unit of a relu soon falls on the other side of the kink.
            const bool gradients = numbers != Numbers::bfloat16 || c.cell != CellKind::rnn_relu;
            check_threads(
                truth, tolerance(numbers), c.name(*target, numbers),
                [&](int count) { return results_of<float>(c, *target, numbers, count, gradients); }, threads, 1);
        }
    }
}

// A pass in several blocks of steps gives the same bits, whether members divide the groups or the units.
void check_blocks(const Target& target) {
    for (CellKind cell : {CellKind::lstm, CellKind::gru}) {
        const Case c{cell, 5, 1200, 2, 3, true, true, true, true, false};
        for (Numbers numbers : {Numbers::float32, Numbers::bfloat16}) {
            auto expected = results_of<float>(c, target, numbers, 1, false);
            for (int threads : {1, 2, 3}) {
                compare(Pass<float>(c).run_in_blocks(target, numbers, threads), expected, 0,
                        c.name(target, numbers) + " in blocks");
            }
        }
    }
}

// Two concurrent passes: one has the workers, the other computes alone.
void check_at_once(const Target& target) {
    const Case c{CellKind::lstm, 9, 11, 13, 37, true, true, false, true, false};
    auto expected = results_of<float>(c, target, Numbers::float32, 1);
    for (int round = 0; round < (kAll ? 20 : 5); ++round) {
        Pass<float> a(c), b(c);
        std::vector<Buffer<float>>* beside = nullptr;
        std::thread other([&] { beside = &a.run(target, Numbers::float32, 3); });
        compare(b.run(target, Numbers::float32, 2), expected, 0, std::string(target.name) + " beside another");
        other.join();
        compare(*beside, expected, 0, std::string(target.name) + " beside another");
    }
}

// Running out of memory for scratch is recoverable: all members leave the run, which throws; the next run works.
void check_without_memory(const Target& target) {
    const Case c{CellKind::lstm, 9, 11, 13, 37, true, true, false, true, false};
    auto expected = results_of<float>(c, target, Numbers::float32, 1);
    for (int threads : {1, 2, 4}) {
        bool thrown = false;
        try {
            run(threads, [](Member me) {
                std::memset(me.shared<char>(1000), 1, me.index == 0 ? 1000 : 0);
                me.shared<char>(Index{1} << 60);
                fail("team", "allocated more memory than any machine has");
            });
        } catch (const std::bad_alloc&) {
            thrown = true;
        }
        if (!thrown) fail("team", "did not report that it is out of memory");
        auto found = results_of<float>(c, target, Numbers::float32, threads);
        compare(found, expected, 0, std::string(target.name) + " after a run without memory");
    }
}

// A child process has no workers.
void check_after_fork(const Target& target) {
    const Case c{CellKind::gru, 9, 11, 13, 37, false, true, true, true, false};
    auto expected = results_of<float>(c, target, Numbers::float32, 3);
    pid_t child = fork();
    if (child == 0) {
        alarm(60);  // a child that hangs fails too
        failures = 0;
        auto found = results_of<float>(c, target, Numbers::float32, 3);
        compare(found, expected, 0, std::string(target.name) + " after fork");
        std::fflush(stdout);
        _exit(failures ? 1 : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) fail(target.name, "wrong in a child process, status " + std::to_string(status));
}

}  // namespace

void check_layers(const std::vector<const Target*>& targets, bool forks) {
    const Index shapes[][4] = {{3, 50, 70, 37}, {7, 1, 129, 130}, {9, 33, 5, 17}, {0, 3, 2, 4}, {2, 128, 33, 65},
                               {1, 1, 1, 1},    {4, 3, 2, 63},    {3, 2, 600, 5}, {4, 0, 2, 3}};
    for (CellKind cell : kCells) {
        for (const auto& s : shapes) {
            check_case({cell, s[0], s[1], s[2], s[3], true, true, true, true, false}, targets, {2, 4});
            if (kAll) check_case({cell, s[0], s[1], s[2], s[3], false, false, false, false, true}, targets, {3});
        }
    }
    // More columns than a product packs at once.
    if (kAll) check_case({CellKind::lstm, 2, 3, 5, 1041, true, true, true, true, false}, targets, {3});
    for (const Target* target : targets) {
        check_blocks(*target), check_at_once(*target), check_without_memory(*target);
        if (forks) check_after_fork(*target);
    }
}

}  // namespace gatewise
