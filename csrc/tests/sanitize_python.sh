#!/bin/sh
# Build the extension module under AddressSanitizer into build/asan and run tests/engines/test_hostile.py and
# test_boundary.py with it: csrc/tests/sanitize_python.sh [number of calls, 3000]. PYTHON names the interpreter of the
# development environment. The installed module is not changed. Only the portable instruction set is built, which takes a
# minute; sanitize.sh checks the memory accesses of the others.
set -eu
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
PATH=$PWD/.venv/bin:$PATH
cmake -G Ninja -B build/asan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DGATEWISE_QUICK=ON -DPython_EXECUTABLE="$PYTHON" \
    -DCMAKE_CXX_FLAGS="-fsanitize=address -fno-omit-frame-pointer"
cmake --build build/asan
rm -rf build/asan/python
mkdir build/asan/python
cp -r src/gatewise build/asan/python/gatewise
rm -f build/asan/python/gatewise/_native*
cp build/asan/_native*.so build/asan/python/gatewise/
# CXX must be the compiler that CMake used. Python frees little at exit, so that leak checks are meaningless.
# Preload libstdc++ too: Python does not link it, and AddressSanitizer looks up its exception functions at startup.
asan="$("${CXX:-c++}" -print-file-name=libasan.so) $("${CXX:-c++}" -print-file-name=libstdc++.so)"
# -S: the development installation would otherwise take precedence.
PYTHONPATH="$PWD/build/asan/python:$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
export PYTHONPATH LD_PRELOAD="$asan" ASAN_OPTIONS=detect_leaks=0 GATEWISE_HOSTILE_EXAMPLES="${1:-3000}"
"$PYTHON" -S -c 'import gatewise._native as native; assert "build/asan" in native.__file__, native.__file__'
exec "$PYTHON" -S -m pytest -q -s -p no:cacheprovider tests/engines/test_hostile.py tests/engines/test_boundary.py
