// x86-64 with AVX2 and fused multiply-add: processors since 2013.
#define GATEWISE_TARGET avx2
#define GATEWISE_VECTOR_BYTES 32

#include "target.inc"
