#!/bin/sh
# Build check_division.cpp and run it: how evenly the passes divide their work among 2 to 64 members. It needs neither many
# cores nor an instruction set. CXX selects the compiler.
set -eu
tests=$(cd "$(dirname "$0")" && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
${CXX:-c++} -std=gnu++17 -O2 -march=native -Wall -Wextra -Wno-psabi -fno-math-errno -fno-trapping-math \
    "$tests/check_division.cpp" -o "$build/division"
"$build/division"
