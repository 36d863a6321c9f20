# A toolchain file: the C library as a WebAssembly module, with the compiler that PyPI's ziglang carries.
#
#     cmake -S csrc -B build/wasm -DCMAKE_TOOLCHAIN_FILE=wasm.cmake -DPYTHON=python3 && cmake --build build/wasm
#
# PYTHON is an interpreter that has ziglang.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR wasm32)
set(PYTHON python3 CACHE STRING "An interpreter that has ziglang")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES PYTHON)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_CXX_COMPILER ${PYTHON} "-m;ziglang;c++")
set(CMAKE_CXX_COMPILER_TARGET wasm32-wasi)
set(CMAKE_CXX_FLAGS_INIT "-msimd128 -fno-exceptions -fno-rtti")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-mexec-model=reactor -Wl,--strip-all,-z,stack-size=1048576")
