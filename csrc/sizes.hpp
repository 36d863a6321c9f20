// Sizes that come from Python, before anything is counted with them. Not for the code of a rung.
#pragma once

#include <nanobind/nanobind.h>

#include <initializer_list>
#include <string>

#include "numbers.hpp"

namespace gatewise {

// Check that nothing that a call counts, bytes of what it pads and packs among them, exceeds an Index: that the product of the
// sizes does not, each 64 larger and 64 bytes a number. Throws nanobind::value_error, in one line.
inline void check_sizes(std::initializer_list<Index> sizes) {
    double bytes = 64;
    for (Index size : sizes) bytes = size < 0 ? 1e300 : bytes * (static_cast<double>(size) + 64);
    if (bytes < 4e18) return;
    std::string found;
    for (Index size : sizes) found += (found.empty() ? "" : ", ") + std::to_string(size);
    throw nanobind::value_error(("sizes are " + found + "; expected 0 or more, whose product can be counted").c_str());
}

}  // namespace gatewise
