// Every cell: its name, as in gatewise.spec.CELLS, its struct in cells.hpp, and its number of gates.
#pragma once

#include "matrix.hpp"

#define GATEWISE_CELLS(CELL)   \
    CELL(lstm, Lstm, 4)        \
    CELL(gru, Gru, 3)          \
    CELL(rnn_tanh, RnnTanh, 1) \
    CELL(rnn_relu, RnnRelu, 1)

namespace gatewise {

#define GATEWISE_CELL(name, Struct, gates) name,
enum class CellKind : int { GATEWISE_CELLS(GATEWISE_CELL) };
#undef GATEWISE_CELL

#define GATEWISE_CELL(name, Struct, gates) CellKind::name,
constexpr CellKind kCells[] = {GATEWISE_CELLS(GATEWISE_CELL)};
#undef GATEWISE_CELL

constexpr GATEWISE_INLINE Index gates_of(CellKind cell) {
#define GATEWISE_CELL(name, Struct, gates) gates,
    constexpr Index counts[] = {GATEWISE_CELLS(GATEWISE_CELL)};
#undef GATEWISE_CELL
    return counts[static_cast<int>(cell)];
}

}  // namespace gatewise
