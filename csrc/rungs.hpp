// Runtime dispatch: the same functions are compiled once per instruction set (a Rung). The first use selects the best one
// that the processor supports, or the one that GATEWISE_INSTRUCTIONS names.
#pragma once

#include <vector>

#include "passes.hpp"
#include "stream.hpp"
#include "team.hpp"
#include "training.hpp"

namespace gatewise {

struct Rung {
    const char* name;
    // Functions that take a Member are called by all members of its team, with the same arguments.
    void (*forward)(CellKind, Numbers, const LayerForward<float>&, Member);
    void (*forward_double)(CellKind, const LayerForward<double>&, Member);
    void (*backward)(CellKind, Numbers, const LayerBackward<float>&, Member);
    void (*backward_double)(CellKind, const LayerBackward<double>&, Member);
    void (*loss)(Numbers, const LinearLoss<float>&, Member);
    void (*loss_double)(const LinearLoss<double>&, Member);
    void (*norm)(const GradientNorm&, Member);
    void (*update)(const Update&, Member);
    StreamPanel (*stream_panel)(Index gates);
    void (*pack_stream)(const StreamMatrix&, bool narrow, Member);
    void (*stream)(const StreamStep&, Member);
    // Multiply tiles of this compute type (not float64) from the L1 cache, `repeats` times; return the number of operations,
    // counting one product where the parts of the operands take several.
    double (*spin_tiles)(Numbers, Index repeats);
};

// The instruction sets that were compiled and that this processor supports, lowest first.
std::vector<const Rung*> available_rungs();

// The instruction set in use. Throws std::runtime_error with a one-line message if the requested one is not available.
const Rung& rung();

}  // namespace gatewise
