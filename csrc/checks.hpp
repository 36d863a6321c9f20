// Checks of what a caller passes, before anything is computed with it. Each throws with a one-line message: std::invalid_argument
// (in Python a ValueError), or std::out_of_range (an IndexError). Not for code that is compiled per instruction set.
#pragma once

#include <initializer_list>

#include "training.hpp"

namespace gatewise {

// Check that no count in a call, including the bytes of padded and packed data, overflows an Index: the product of all sizes,
// each plus 64, times 64 bytes must not.
void check_sizes(std::initializer_list<Index> sizes);

// Check that the lengths (B) of rows are 0 to T.
void check_lengths(const std::int64_t* lengths, Index B, Index T);

// Check that the targets (N) are 0 to V − 1.
void check_targets(const std::int64_t* targets, Index N, Index V);

// Check the assumptions of an update: the rows of a sparse gradient are strictly increasing rows of the parameter, and no memory
// that is written overlaps any other. `written`: false for the norm alone, which writes none of it.
void check_parameters(const Parameter* parameters, Index count, bool written);

}  // namespace gatewise
