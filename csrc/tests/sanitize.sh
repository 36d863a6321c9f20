#!/bin/sh
# Build the kernels and their tests (check*.cpp) under the sanitizers and run them:
# csrc/tests/sanitize.sh [address,undefined] [thread] (both by default; "none" for neither). CXX selects the compiler, GCC
# or Clang. Nothing is installed. "aarch64" instead of a sanitizer: build for that processor, optimized, and run under
# QEMU (Debian: g++-aarch64-linux-gnu, qemu-user; AARCH64_CXX selects the compiler).
set -eu
csrc=$(cd "$(dirname "$0")/.." && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
CXX=${CXX:-c++}

has() {
    for feature in "$@"; do
        grep -q "^flags.* $feature\( \|$\)" /proc/cpuinfo 2>/dev/null || return 1
    done
}

# Instruction sets that the processor lacks are emulated: vectors by the compiler (-O0, since optimizing them takes minutes),
# bfloat16 pairs and tiles by emulated_instructions.hpp.
targets="portable avx512 avx512_bf16 amx" defines="-DGATEWISE_AVX512 -DGATEWISE_AVX512_BF16 -DGATEWISE_AMX"
avx2="" avx512=-O0
if has avx2 fma; then
    targets="$targets avx2" defines="$defines -DGATEWISE_AVX2" avx2="-mavx2 -mfma"
fi
if has avx512f avx512bw avx512dq avx512vl; then
    avx512="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma"
fi
bf16="$avx512 -DGATEWISE_EMULATE"
if has avx512f avx512bw avx512dq avx512vl avx512_bf16 avx512_vnni; then
    bf16="$avx512 -mavx512bf16 -mavx512vnni"
fi
amx="$avx512 -DGATEWISE_EMULATE"

emulate=-DGATEWISE_EMULATE run="" arguments=""
if [ "$*" = aarch64 ]; then
    CXX=${AARCH64_CXX:-aarch64-linux-gnu-g++} targets=portable defines="" emulate="" run=qemu-aarch64 arguments=no-fork
fi

[ $# -gt 0 ] || set -- address,undefined thread
for sanitizer in "$@"; do
    flags="-std=gnu++17 -O1 -g -Wall -Wextra -Wno-psabi -fno-math-errno -fno-trapping-math -fno-omit-frame-pointer"
    flags="$flags -DGATEWISE_CHECKED $defines -pthread"
    case $sanitizer in
        none) ;;
        aarch64) flags="$flags -O3 -static" ;;
        *) flags="$flags -fsanitize=$sanitizer -fno-sanitize-recover=all" ;;
    esac
    echo "==> $CXX, $sanitizer: building"
    rm -f "$build"/*
    objects=""
    # shellcheck disable=SC2086  # flags are words
    {
        for file in dispatch stream scratch team tests/check tests/check_team tests/check_layers tests/check_stream \
            tests/check_training; do
            objects="$objects $build/${file#tests/}.o"
            $CXX $flags $emulate -c "$csrc/$file.cpp" -o "$build/${file#tests/}.o" &
        done
        for target in $targets; do
            case $target in avx2) own=$avx2 ;; avx512) own=$avx512 ;; avx512_bf16) own=$bf16 ;; amx) own=$amx ;; *) own="" ;; esac
            $CXX $flags $own -c "$csrc/target_$target.cpp" -o "$build/$target.o" &
            objects="$objects $build/$target.o"
        done
        wait  # if a file fails to compile, the next line fails
        $CXX $flags $objects -ldl -o "$build/check"
    }
    echo "==> $sanitizer: running"
    # ThreadSanitizer must be told that a child process after fork may start threads.
    ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS="die_after_fork=0 halt_on_error=1" \
        $run "$build/check" $arguments
done
