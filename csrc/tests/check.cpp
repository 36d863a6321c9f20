// Tests of the kernels on every instruction set, with sizes that are not multiples of a block. Exits with 1 if
//   a result depends on the number of threads, even in a single bit,
//   a result is not finite (all memory, including scratch, is NaN before it is written),
//   memory around a buffer was written (with AddressSanitizer: or read),
//   a result differs from that in double or of a plain loop, or that in double from the one of the portable instruction set,
//   a call gets too few threads or too many,
//   members are not together after a barrier, or treat denormals in other ways than the calling thread,
//   a pass differs when another runs concurrently, in a child process, or after a run that was out of memory,
//   an invalid token id is not an error.
// With the argument no-fork it leaves out the child process, which QEMU cannot run.
// Run it under the sanitizers (sanitize.sh); it needs neither Python nor PyTorch. tests/engines verify the pass in
// double.
#include "check.hpp"

#include <cstdarg>
#include <cstdio>

namespace gatewise {

void fail(const std::string& where, const std::string& what) {
    std::printf("%s: %s\n", where.c_str(), what.c_str());
    ++failures;
}

std::string name_of(const Target& target, Numbers numbers, const char* format, ...) {
    const char* const names[] = {"float32", "float64", "bfloat16", "high"};
    char text[160];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return std::string(target.name) + " " + names[static_cast<int>(numbers)] + " " + text;
}

}  // namespace gatewise

int main(int count, char** arguments) {
    using namespace gatewise;
    const std::vector<const Target*> targets = available_targets();
    check_team();
    check_layers(targets, !(count > 1 && std::string(arguments[1]) == "no-fork"));
    for (const Target* target : targets) {
        check_training(*target);
        check_stream(*target);
    }
    std::printf("%d failures in the checks of %zu instruction sets, on 1 to 4 threads\n", failures, targets.size());
    return failures != 0;
}
