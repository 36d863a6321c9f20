// What numbers a pass computes with.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gatewise {

using Index = std::ptrdiff_t;

// For what a rung's code calls outside its own namespace: never a function of its own, of which the linker would keep
// one rung's for all (see vector.hpp).
#define GATEWISE_INLINE inline __attribute__((always_inline))

// The numbers of a pass. Inputs, outputs, gates, states and sums are float (or double); the factors of the matrix
// products may be narrower.
enum class Numbers : int {
    float32 = 0,
    float64 = 1,
    bfloat16 = 2,  // factors rounded to bfloat16, products summed in float
    high = 3,      // factors as sums of two bfloat16, three products of the four; float where there are no tiles
};

}  // namespace gatewise
