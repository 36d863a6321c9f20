// The compute types of a pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace gatewise {

// 64 bits also where addresses have 32 (WebAssembly), so that sizes from a file do not overflow before they are checked.
using Index = std::conditional<sizeof(std::ptrdiff_t) < 8, std::int64_t, std::ptrdiff_t>::type;

// For functions that code of one instruction set calls outside its namespace: always inlined, so that the linker cannot
// keep the copy of one instruction set for all (see vector.hpp).
#define GATEWISE_INLINE inline __attribute__((always_inline))

// The compute type of a pass. Inputs, outputs, gates, states and sums are float (or double); operands may be narrower.
enum class Numbers : int {
    float32 = 0,
    float64 = 1,
    bfloat16 = 2,  // operands rounded to bfloat16, products summed in float
    high = 3,      // operands split into two bfloat16 parts, three of their four products; float without AMX
};

}  // namespace gatewise
