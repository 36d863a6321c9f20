// Emulations of the instructions of pairs.hpp, dot.hpp and tiles.hpp, for tests on any processor (GATEWISE_EMULATE):
// equal to them but for denormals and the order of sums.
#pragma once

#include "../vector.hpp"

namespace gatewise::GATEWISE_TARGET {

inline float from_bits(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

inline Vector<uint32_t> narrow(Vector<float> low, Vector<float> high) {
    const auto l = (Vector<uint32_t>)to_bfloat16(low), h = (Vector<uint32_t>)to_bfloat16(high);
    Vector<uint16_t> all{};
    for (Index k = 0; k < 32; ++k) all[k] = static_cast<uint16_t>((k < 16 ? l[k] : h[k - 16]) >> 16);
    return (Vector<uint32_t>)all;
}

inline Vector<float> add_pairs(Vector<float> sums, Vector<uint32_t> a, Vector<uint32_t> b) {
    sums += (Vector<float>)(a & 0xFFFF0000u) * (Vector<float>)(b & 0xFFFF0000u);
    return sums + (Vector<float>)(a << 16) * (Vector<float>)(b << 16);
}

struct Tiles {
    unsigned char bytes[8][16][64];
    int rows[8];  // 0: not configured

    void need(int tile) const {
        if (!rows[tile]) __builtin_trap();  // as the processor does
    }
};
static thread_local Tiles emulated;

inline void set_tiles(int height) {
    for (int tile = 0; tile < 8; ++tile) emulated.rows[tile] = tile < 6 ? height : 16;
    __builtin_memset(emulated.bytes, 0, sizeof emulated.bytes);
}
inline void release_tiles() { __builtin_memset(&emulated, 0, sizeof emulated); }

template <int Tile>
inline void zero_tile() {
    emulated.need(Tile);
    __builtin_memset(emulated.bytes[Tile], 0, sizeof emulated.bytes[Tile]);
}
template <int Tile>
inline void load_tile(const void* from, Index stride) {
    emulated.need(Tile);
    for (Index r = 0; r < emulated.rows[Tile]; ++r) {
        __builtin_memcpy(emulated.bytes[Tile][r], static_cast<const char*>(from) + r * stride, 64);
    }
}
template <int Tile>
inline void store_tile(void* to, Index stride) {
    emulated.need(Tile);
    for (Index r = 0; r < emulated.rows[Tile]; ++r) {
        __builtin_memcpy(static_cast<char*>(to) + r * stride, emulated.bytes[Tile][r], 64);
    }
}
template <int Sums, int A, int B>
inline void multiply_tiles() {
    emulated.need(Sums), emulated.need(A), emulated.need(B);
    uint16_t b[16][32];
    __builtin_memcpy(b, emulated.bytes[B], sizeof b);
    for (Index r = 0; r < emulated.rows[Sums]; ++r) {
        uint16_t a[32];
        float sums[16];
        __builtin_memcpy(a, emulated.bytes[A][r], sizeof a);
        __builtin_memcpy(sums, emulated.bytes[Sums][r], sizeof sums);
        for (Index k = 0; k < 32; ++k) {
            for (Index j = 0; j < 16; ++j) {
                sums[j] += from_bits(uint32_t{a[k]} << 16) * from_bits(uint32_t{b[k / 2][2 * j + k % 2]} << 16);
            }
        }
        __builtin_memcpy(emulated.bytes[Sums][r], sums, sizeof sums);
    }
}

}  // namespace gatewise::GATEWISE_TARGET
