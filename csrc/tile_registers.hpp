// The eight tile registers of AMX, one function per instruction; tiles.hpp builds on them.
#pragma once

#include "vector.hpp"
#ifndef GATEWISE_EMULATE
#include <immintrin.h>
#endif

namespace gatewise::GATEWISE_TARGET {

static_assert(GATEWISE_VECTOR_BYTES == 64, "a row of a tile is a vector");

constexpr Index kTileHeight = 16, kChunk = 32, kTileSize = kTileHeight * kChunk;  // rows, terms, elements
constexpr int kA0 = 4, kA1 = 5, kB0 = 6, kB1 = 7;

// The tiles of the processor, or an emulation for tests on any processor: equal but for denormals and the order of
// sums.
#ifdef GATEWISE_EMULATE

struct Tiles {
    unsigned char bytes[8][kTileHeight][64];
    int rows[8];  // 0: not configured

    void need(int tile) const {
        if (!rows[tile]) __builtin_trap();  // as the processor does
    }
};
static thread_local Tiles emulated;

inline void set_tiles(int height) {
    for (int tile = 0; tile < 8; ++tile) emulated.rows[tile] = tile < kB0 ? height : static_cast<int>(kTileHeight);
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
inline float from_bits(uint16_t bits) {
    uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float x;
    __builtin_memcpy(&x, &wide, sizeof x);
    return x;
}
template <int Sums, int A, int B>
inline void multiply_tiles() {
    emulated.need(Sums), emulated.need(A), emulated.need(B);
    uint16_t b[kTileHeight][kChunk];
    __builtin_memcpy(b, emulated.bytes[B], sizeof b);
    for (Index r = 0; r < emulated.rows[Sums]; ++r) {
        uint16_t a[kChunk];
        float sums[16];
        __builtin_memcpy(a, emulated.bytes[A][r], sizeof a);
        __builtin_memcpy(sums, emulated.bytes[Sums][r], sizeof sums);
        for (Index k = 0; k < kChunk; ++k) {
            for (Index j = 0; j < 16; ++j) sums[j] += from_bits(a[k]) * from_bits(b[k / 2][2 * j + k % 2]);
        }
        __builtin_memcpy(emulated.bytes[Sums][r], sums, sizeof sums);
    }
}

#else

// In assembly, because GCC's intrinsics (amxtileintrin.h) do not tell the compiler that they read memory.
inline void set_tiles(int height) {
    struct {
        uint8_t palette = 1, start_row = 0, reserved[14] = {};
        uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {};
    } configuration;
    for (int tile = 0; tile < 8; ++tile) configuration.rows[tile] = uint8_t(tile < kB0 ? height : kTileHeight);
    __asm__ volatile("ldtilecfg %0" ::"m"(configuration));
}
inline void release_tiles() { __asm__ volatile("tilerelease" ::: "memory"); }

template <int Tile>
inline void zero_tile() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(Tile));
}
template <int Tile>
inline void load_tile(const void* from, Index stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(Tile) : "memory");
}
template <int Tile>
inline void store_tile(void* to, Index stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(Tile) : "memory");
}
template <int Sums, int A, int B>
inline void multiply_tiles() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sums), "i"(A), "i"(B));
}

#endif

}  // namespace gatewise::GATEWISE_TARGET
