// x86-64 with AVX-512 (F, BW, DQ, VL): Intel server processors since 2017, AMD processors since 2022.
#define GATEWISE_TARGET avx512
#define GATEWISE_VECTOR_BYTES 64

#include "target.inc"
