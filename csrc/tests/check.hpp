// What the tests share: test data, and comparisons that record failures.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "../dispatch.hpp"
#include "guarded_buffer.hpp"

// ThreadSanitizer only checks synchronization, and takes ten times as long.
#if defined(__has_feature) && !defined(__SANITIZE_THREAD__)  // Clang versions that do not define it
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

namespace gatewise {

#if defined(__SANITIZE_THREAD__)
constexpr bool kAll = false;
#else
constexpr bool kAll = true;
#endif

// check_team.cpp, check_layers.cpp, check_training.cpp, check_stream.cpp
void check_team();
void check_layers(const std::vector<const Target*>& targets, bool forks);
void check_training(const Target& target);
void check_stream(const Target& target);

inline int failures = 0;

void fail(const std::string& where, const std::string& what);

// The name of a case: that of the target and of the compute type, and what printf makes of the rest.
__attribute__((format(printf, 3, 4))) std::string name_of(const Target& target, Numbers numbers, const char* format,
                                                          ...);

// The tolerance relative to the largest element; twice those of tests/tolerances.py, for the longer sums here.
inline double tolerance(Numbers numbers) {
    return numbers == Numbers::bfloat16 ? 3e-2 : numbers == Numbers::high ? 1e-4 : 2e-5;
}

// A buffer of pseudorandom numbers from −scale to scale, multiples of scale/64: the same in each dtype.
template <class Real>
Buffer<Real> some(Index count, std::uint64_t seed, double scale = 1) {
    Buffer<Real> buffer(count);
    for (Index i = 0; i < count; ++i) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        buffer.data()[i] = static_cast<Real>((static_cast<int>(seed >> 57) - 64) / 64.0 * scale);
    }
    return buffer;
}

// Fail if a result is not finite, differs from `expected` by more than a tolerance relative to the largest element, or
// to `floor` (0: in any bit), or if memory around it was written.
template <class Real, class Other>
void compare(Buffer<Real>& found, Buffer<Other>& expected, double tolerance, const std::string& where,
             double floor = 1e-30) {
    const std::string what = where + ", " + found.name;
    double largest = floor, gap = 0;
    for (Index i = 0; i < found.count(); ++i) {
        const double a = found.data()[i], b = expected.data()[i];
        if (!std::isfinite(a)) return fail(what, "not a number at " + std::to_string(i));
        largest = std::fmax(largest, std::fabs(b)), gap = std::fmax(gap, std::fabs(a - b));
    }
    if (!(gap <= tolerance * largest)) fail(what, "off by " + std::to_string(gap / largest));
    if (tolerance == 0 && std::memcmp(found.data(), expected.data(), found.bytes()) != 0) fail(what, "differs");
    if (!found.untouched_around()) fail(what, "memory around it was written");
}

template <class Real, class Other>
void compare(std::vector<Buffer<Real>>& found, std::vector<Buffer<Other>>& expected, double tolerance,
             const std::string& where, double floor = 1e-30) {
    for (std::size_t k = 0; k < found.size(); ++k) compare(found[k], expected[k], tolerance, where, floor);
}

// Compare the results on one thread with `expected`, and those on other numbers of threads with them, bit for bit.
// results_of(threads) returns a vector of buffers.
template <class Real, class F>
void check_threads(std::vector<Buffer<Real>>& expected, double tolerance, const std::string& where, F results_of,
                   const std::vector<int>& counts = {2, 3, 4}, double floor = 1e-30) {
    auto one = results_of(1);
    compare(one, expected, tolerance, where, floor);
    for (int threads : counts) {
        auto many = results_of(threads);
        compare(many, one, 0, where + ", threads " + std::to_string(threads));
    }
}

// Fail if memory around an input was written.
template <class Real>
void check_inputs(std::vector<Buffer<Real>>& inputs, const std::string& where) {
    for (auto& input : inputs) {
        if (!input.untouched_around()) fail(where, "memory around an input was written");
    }
}

}  // namespace gatewise
