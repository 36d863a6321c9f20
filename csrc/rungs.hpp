// The ladder of instruction sets: the same functions, compiled once for each rung; the best that the processor has is
// chosen when first asked, or the one that GATEWISE_INSTRUCTIONS names.
#pragma once

#include <vector>

#include "passes.hpp"
#include "stream.hpp"
#include "team.hpp"
#include "training.hpp"

namespace gatewise {

struct Rung {
    const char* name;
    // What takes a Member is called by all of its team, with the same arguments.
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
    // Multiply tiles of such factors (not float64) from the first-level cache, `repeats` times; return the operations of all
    // that, those of one product where there are several for a factor's parts.
    double (*spin_tiles)(Numbers, Index repeats);
};

// Those that were compiled and that this processor has, lowest first.
std::vector<const Rung*> available_rungs();

// The rung in use. Throws std::runtime_error, in one line, where the one that was asked for cannot be had.
const Rung& rung();

}  // namespace gatewise
