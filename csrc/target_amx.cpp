// x86-64 with AVX-512 and AMX tiles for bfloat16 products: server processors since 2023.
#define GATEWISE_TARGET amx
#define GATEWISE_VECTOR_BYTES 64
#define GATEWISE_TILES

#include "target.inc"
