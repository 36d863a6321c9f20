#!/bin/sh
# Build the extension module under AddressSanitizer into build/asan and run tests/engines/test_hostile.py and
# test_boundary.py with it: csrc/tests/sanitize_python.sh [how many calls, 3000]. PYTHON names the interpreter of the
# development environment. What is installed stays as it is. The rung is portable alone, which is built in a minute: what
# each rung reads and writes is for sanitize.sh.
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
# CXX is the compiler that CMake took. Python frees little at its end, so that leaks say nothing.
# libstdc++ beside, since Python has none and AddressSanitizer looks for what throws when it starts.
asan="$("${CXX:-c++}" -print-file-name=libasan.so) $("${CXX:-c++}" -print-file-name=libstdc++.so)"
# -S: what is installed for development would come first.
PYTHONPATH="$PWD/build/asan/python:$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
export PYTHONPATH LD_PRELOAD="$asan" ASAN_OPTIONS=detect_leaks=0 GATEWISE_HOSTILE_EXAMPLES="${1:-3000}"
"$PYTHON" -S -c 'import gatewise._native as native; assert "build/asan" in native.__file__, native.__file__'
exec "$PYTHON" -S -m pytest -q -s -p no:cacheprovider tests/engines/test_hostile.py tests/engines/test_boundary.py
