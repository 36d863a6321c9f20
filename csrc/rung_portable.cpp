// Any processor: what the compiler's target has without being asked for more (SSE2, NEON, or none of it).
#define GATEWISE_RUNG portable
#define GATEWISE_VECTOR_BYTES 16

#include "rung.inc"
