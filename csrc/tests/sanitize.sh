#!/bin/sh
# Build the kernels with check.cpp under the sanitizers and run it: csrc/tests/sanitize.sh [address,undefined] [thread]
# (both where none is named; "none" for neither). CXX chooses the compiler, GCC or Clang. Nothing is installed.
set -eu
csrc=$(cd "$(dirname "$0")/.." && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
CXX=${CXX:-c++}

has() { grep -q "^flags.* $1\( \|$\)" /proc/cpuinfo 2>/dev/null; }
wide="" avx2="" x86=""
case $(uname -m) in
    x86_64 | amd64 | AMD64)
        x86=-DGATEWISE_X86
        if has avx2 && has fma; then avx2="-mavx2 -mfma"; fi
        # The code for 64 bytes runs on any processor where the compiler may split its vectors.
        wide=$avx2
        if has avx512f && has avx512bw && has avx512dq && has avx512vl; then
            wide="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma"
        fi
        ;;
esac

[ $# -gt 0 ] || set -- address,undefined thread
for sanitizer in "$@"; do
    flags="-std=gnu++17 -O1 -g -Wall -Wextra -Wno-psabi -fno-math-errno -fno-trapping-math -fno-omit-frame-pointer"
    flags="$flags -DGATEWISE_CHECKED $x86 -pthread"
    [ "$sanitizer" = none ] || flags="$flags -fsanitize=$sanitizer -fno-sanitize-recover=all"
    echo "==> $CXX, $sanitizer: building"
    # shellcheck disable=SC2086  # flags are words
    {
        $CXX $flags -c "$csrc/team.cpp" -o "$build/team.o"
        $CXX $flags -c "$csrc/tests/check.cpp" -o "$build/check.o"
        $CXX $flags -c "$csrc/rung_portable.cpp" -o "$build/portable.o"
        rm -f "$build/avx2.o" "$build/avx512.o" "$build/amx.o"
        if [ -n "$x86" ]; then
            $CXX $flags $avx2 -c "$csrc/rung_avx2.cpp" -o "$build/avx2.o" &
            $CXX $flags $wide -c "$csrc/rung_avx512.cpp" -o "$build/avx512.o"
            wait $!
            # Its tiles emulated: a sanitizer does not see what the processor's own read.
            $CXX $flags $wide -DGATEWISE_EMULATE -c "$csrc/rung_amx.cpp" -o "$build/amx.o"
        fi
        $CXX $flags "$build"/*.o -o "$build/check"
    }
    echo "==> $sanitizer: running"
    # A child process after fork may start threads, which ThreadSanitizer has to be told.
    ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS="die_after_fork=0 halt_on_error=1" "$build/check"
done
