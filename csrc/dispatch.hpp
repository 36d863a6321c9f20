// Runtime dispatch: the same functions are compiled once per instruction set (a Target). The first use selects the best
// one that the processor supports, or the one that GATEWISE_INSTRUCTIONS names.
#pragma once

#include <vector>

#include "passes.hpp"
#include "stream_step.hpp"
#include "team.hpp"
#include "training.hpp"

namespace gatewise {

// The functions that exist for float and for double, which has one compute type, float64. Here and in Target, all
// members of a team call a function that takes a Member, with the same arguments.
template <class Real>
struct Kernels {
    void (*forward)(CellKind, Numbers, const LayerForward<Real>&, Member);
    void (*backward)(CellKind, Numbers, const LayerBackward<Real>&, Member);
    void (*loss)(Numbers, const LinearLoss<Real>&, Member);
};

// GATEWISE_INFERENCE: a library of single steps alone (CMakeLists.txt here), without the functions of training.
#ifdef GATEWISE_INFERENCE
struct Target {
    const char* name;
#else
struct Target : Kernels<float>, Kernels<double> {
    const char* name;
    void (*norm)(const GradientNorm&, Member);
    void (*update)(const Update&, Member);
    void (*dropout)(const DropoutMask&, Member);
#endif
    Index (*stream_units)(Index gates);  // of a block, see StreamMatrix
    void (*pack_stream)(const StreamMatrix&, Stored, Member);
    void (*stream)(const StreamStep&, Member);
    double (*log_sum_exp)(const float*, Index);
#ifndef GATEWISE_INFERENCE
    // Multiply tiles of this compute type (not float64) from the L1 cache, `repeats` times; return the number of
    // operations, counting one product where the parts of the operands take several.
    double (*spin_tiles)(Numbers, Index repeats);
    Index block_bytes;  // of half a block of units, see Share in recurrence.hpp
    double rates[4];    // operations per second of a layer pass on one thread, by Numbers; about
#endif
};

extern const Target target_portable, target_avx2, target_avx512, target_avx512_bf16, target_amx;

// The instruction sets that were compiled and that this processor supports, lowest first.
std::vector<const Target*> available_targets();

// The instruction set in use. Throws std::runtime_error with a one-line message if the requested one is not available.
// Call it before a run: members must not throw.
const Target& active_target();

#ifndef GATEWISE_INFERENCE
// Measure the operations per second of tile products in this compute type (not float64) on `threads` threads.
double product_rate(int threads, Numbers numbers);
#endif

}  // namespace gatewise
