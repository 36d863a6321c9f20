// Checks of sizes from Python, before any arithmetic with them. Not for code that is compiled per instruction set.
#pragma once

#include <nanobind/nanobind.h>

#include <initializer_list>
#include <string>

#include "numbers.hpp"

namespace gatewise {

// Check that no count in a call, including the bytes of padded and packed data, overflows an Index: the product of all sizes,
// each plus 64, times 64 bytes must not. Throws nanobind::value_error with a one-line message.
inline void check_sizes(std::initializer_list<Index> sizes) {
    double bytes = 64;
    for (Index size : sizes) bytes = size < 0 ? 1e300 : bytes * (static_cast<double>(size) + 64);
    if (bytes < 4e18) return;
    std::string found;
    for (Index size : sizes) found += (found.empty() ? "" : ", ") + std::to_string(size);
    throw nanobind::value_error(("sizes are " + found + "; expected 0 or more, whose product can be counted").c_str());
}

}  // namespace gatewise
