// Any processor: the baseline of the compiler's target (SSE2, NEON or no vector instructions).
#define GATEWISE_TARGET portable
#define GATEWISE_VECTOR_BYTES 16

#include "target.inc"
