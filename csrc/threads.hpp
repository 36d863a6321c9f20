// The number of threads that a call is worth. Results do not depend on it. Not for code that is compiled per instruction set.
#pragma once

#include <algorithm>

namespace gatewise {

// The work per thread below which waking and synchronizing another thread takes longer than it saves.
constexpr double kOperationsPerThread = 1e6;   // of matrix products: about 10 µs
constexpr double kElementsPerThread = 1 << 15;  // of a mask or an update
// Weights read by a step. Measured on two cores, two LSTM layers with a softmax, one thread and two, microseconds: 192 KiB 10.7
// and 14.0; 512 KiB 17.3 and 17.4; 768 KiB 25.6 and 27.6; 960 KiB 25.1 and 19.5; 1 MiB 33.4 and 32.4; 4 MiB 90 and 62; 10 MiB
// 254 and 137.
constexpr double kBytesPerThread = 512 * 1024;

// As many threads as have `per_thread` of the work each, from 1 up to `most`.
inline int threads_for(double work, double per_thread, int most) {
    return work < most * per_thread ? std::max(1, static_cast<int>(work / per_thread)) : most;
}

}  // namespace gatewise
