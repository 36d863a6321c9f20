// x86-64 with AVX-512 and its bfloat16 products (BF16): AMD processors since 2022, some of Intel's since 2020.
#define GATEWISE_TARGET avx512_bf16
#define GATEWISE_VECTOR_BYTES 64
#define GATEWISE_PAIRS

#include "target.inc"
