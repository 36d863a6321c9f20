# The sources, instruction sets and flags that the extension module (../CMakeLists.txt) and the C library (CMakeLists.txt
# here) share. No flag selects the processor of the build machine: each target names its instruction set, and dispatch.cpp
# selects one at run time. Sets for the caller, after project():
#   GATEWISE_SOURCES      of the C interface, single steps and threads, and one for each instruction set
#   GATEWISE_DEFINITIONS, GATEWISE_OPTIONS, GATEWISE_LIBRARIES
# GATEWISE_INFERENCE, if set before, leaves out what only training needs.
if(NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  message(FATAL_ERROR "csrc uses the vector types of GCC and Clang; found ${CMAKE_CXX_COMPILER_ID}")
endif()
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS ON)
include(CheckCXXCompilerFlag)

set(csrc ${CMAKE_CURRENT_LIST_DIR})
set(GATEWISE_EMULATE "" CACHE STRING "Emulate these instruction sets (avx512;avx512_bf16;amx), for tests on processors that lack them; slow")
option(GATEWISE_QUICK "Build only the portable instruction set, without optimization, in seconds; for mutation tests" OFF)
set(targets ${csrc}/target_portable.cpp)
set(GATEWISE_DEFINITIONS)
if(GATEWISE_QUICK)
  set_source_files_properties(${targets} PROPERTIES COMPILE_OPTIONS -O0)
elseif(GATEWISE_EMULATE)
  list(APPEND GATEWISE_DEFINITIONS GATEWISE_EMULATE)
  foreach(target ${GATEWISE_EMULATE})
    string(TOUPPER ${target} name)
    list(APPEND targets ${csrc}/target_${target}.cpp)
    list(APPEND GATEWISE_DEFINITIONS GATEWISE_${name})
  endforeach()
  set_source_files_properties(${targets} PROPERTIES COMPILE_OPTIONS -Og)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512)
  set_source_files_properties(${targets} PROPERTIES COMPILE_OPTIONS -Os)  # for processors of before 2013
  list(APPEND targets ${csrc}/target_avx2.cpp ${csrc}/target_avx512.cpp)
  list(APPEND GATEWISE_DEFINITIONS GATEWISE_AVX2 GATEWISE_AVX512)
  set_source_files_properties(${csrc}/target_avx2.cpp PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma")
  set_source_files_properties(${csrc}/target_avx512.cpp PROPERTIES COMPILE_OPTIONS "${avx512}")
  check_cxx_compiler_flag("-mavx512bf16" has_bf16)  # GCC 10, Clang 9
  if(has_bf16)
    list(APPEND targets ${csrc}/target_avx512_bf16.cpp)
    list(APPEND GATEWISE_DEFINITIONS GATEWISE_AVX512_BF16)
    set_source_files_properties(${csrc}/target_avx512_bf16.cpp PROPERTIES COMPILE_OPTIONS
      "${avx512};-mavx512bf16;-mavx512vnni")
  endif()
  check_cxx_compiler_flag("-mavx512bf16 -mamx-tile -mamx-bf16" has_amx)  # GCC 11, Clang 11
  if(has_amx AND CMAKE_SYSTEM_NAME STREQUAL "Linux" AND NOT GATEWISE_INFERENCE)  # single steps do not use tiles
    list(APPEND targets ${csrc}/target_amx.cpp)
    list(APPEND GATEWISE_DEFINITIONS GATEWISE_AMX)
    set_source_files_properties(${csrc}/target_amx.cpp PROPERTIES COMPILE_OPTIONS
      "${avx512};-mavx512bf16;-mavx512vnni;-mamx-tile;-mamx-bf16")
  endif()
endif()

# The loops that matter are written in vectors and unrolled by hand: -O3 makes the library a third larger, and steps and
# layers hardly faster.
set(GATEWISE_OPTIONS -O2 -Wall -Wextra -Wno-psabi -fno-math-errno -fno-trapping-math)
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "wasm32")
  set(team team_of_one)
  set(GATEWISE_LIBRARIES)
else()
  set(team team)
  find_package(Threads REQUIRED)
  set(GATEWISE_LIBRARIES Threads::Threads ${CMAKE_DL_LIBS})
endif()
if(GATEWISE_INFERENCE)
  list(APPEND GATEWISE_DEFINITIONS GATEWISE_INFERENCE)
endif()
set(GATEWISE_SOURCES ${targets})
foreach(file runtime/api runtime/json runtime/network runtime/network_file runtime/network_inputs
        runtime/network_tags runtime/safetensors runtime/text dispatch scratch stream ${team})
  list(APPEND GATEWISE_SOURCES ${csrc}/${file}.cpp)
endforeach()

# What runs once a model, or once a call, is compiled for size.
foreach(file runtime/api runtime/json runtime/network_file runtime/safetensors runtime/text
        module module_stream module_training)
  set_source_files_properties(${csrc}/${file}.cpp PROPERTIES COMPILE_OPTIONS -Os)
endforeach()
