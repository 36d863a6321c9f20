// Products of packed pairs on AMX tiles (pairs.hpp): the eight tile registers, one function per instruction, and the
// kernel. Tiles 0 to 3 hold the sums of two tiles of A times two of B, 4 and 5 are for A, 6 and 7 for B. Sums stay in
// them over a block of terms (in multiply_rows, over all terms); blocks are added in order.
#pragma once

#include "pairs.hpp"

namespace gatewise::GATEWISE_TARGET {

constexpr int kA0 = 4, kA1 = 5, kB0 = 6, kB1 = 7;

#ifndef GATEWISE_EMULATE
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

// Tiles are per thread, and other libraries use them too (oneDNN does): products on tiles are computed within the
// lifetime of a TileUse, whose destructor releases the tiles. TileUse may be nested.
static thread_local int tile_rows;  // the configured height of the tiles of A and of the sums; 0: unknown

struct TileUse {
    ~TileUse() {
        release_tiles();
        tile_rows = 0;
    }
};

// Configuring them costs about 40 ns, too much for each product of a time step.
inline void need_rows(int height) {
    if (tile_rows == height) return;
    set_tiles(height);
    tile_rows = height;
}

template <int Parts>
struct OnTiles {
    using Session = TileUse;
    using Factor = uint16_t;
    static constexpr int kParts = Parts;
    static constexpr Index kChunksAtOnce = 16 / Parts, kChunksHeld = 48;  // see OnPairs
    static constexpr Index kStep = kPackedChunk<Parts>;

    // One panel times `rows` rows, which are divided evenly over tiles of equal height; the last tile may overlap the one
    // before. row: the distance between rows of a.
    __attribute__((noinline)) static void multiply_rows(Index rows, Index K, const Factor* a, Index row,
                                                        const Factor* panel, Index first, Index last, float* c,
                                                        Index c_stride, const Factor* /*next_panel*/) {
        const Index tiles = (rows + kTileHeight - 1) / kTileHeight, height = (rows + tiles - 1) / tiles;
        const bool half = last - first <= kTileHeight;
        panel += first / kTileHeight * kTileSize, c += first;
        need_rows(static_cast<int>(height));
        for (Index tile = 0; tile < tiles; tile += 2) {
            auto start = [&](Index t) { return t * height < rows - height ? t * height : rows - height; };
            const Factor *a0 = a + start(tile) * row, *a1 = a + start(tile + 1) * row;
            float *c0 = c + start(tile) * c_stride, *c1 = c + start(tile + 1) * c_stride;
            const auto multiply = [&](auto two, auto both) {
                zero_tile<0>(), zero_tile<1>(), zero_tile<2>(), zero_tile<3>();
                add_chunks<two.value, both.value>(chunks_of(K), a0, a1, row, kChunk, row / 2, panel);
                store_tile<0>(c0, bytes(c_stride));
                if (both.value) store_tile<1>(c0 + 16, bytes(c_stride));
                if (two.value) store_tile<2>(c1, bytes(c_stride));
                if (two.value && both.value) store_tile<3>(c1 + 16, bytes(c_stride));
            };
            constexpr std::true_type yes{};
            constexpr std::false_type no{};
            if (tile + 1 < tiles) {
                half ? multiply(yes, no) : multiply(yes, yes);
            } else {
                half ? multiply(no, no) : multiply(no, yes);
            }
        }
    }
    // A strip times a panel: the 32 × 32 block of C at (m, n), or the part of it that exists. If part is missing, if
    // the rows of C are not evenly spaced, or if the result is added to C, it goes through `sums`; C is read last.
    __attribute__((noinline)) static void multiply_block(const Product<float>& p, Index m, Index n, bool accumulate,
                                                         Index K, const Factor* a, const Factor* b) {
        need_rows(kTileHeight);
        alignas(64) float sums[kStrip][kWidth], bias[kWidth];
        const Index rows = p.M - m < kStrip ? p.M - m : kStrip, columns = p.N - n;
        for (Index r = 0; r < rows; ++r) fetch_row(p.C[m + r] + n);
        float* c = p.C[m] + n;
        Index stride = rows > 1 ? p.C[m + 1] - p.C[m] : kWidth;
        bool direct = !accumulate && rows == kStrip && columns >= kWidth;
        for (Index r = 2; direct && p.C.at && r < rows; ++r) direct = p.C[m + r] - p.C[m] == r * stride;
        if (!direct) c = sums[0], stride = kWidth;
        const bool two = rows > kTileHeight;
        if (!accumulate && p.bias) {
            store(bias, load(p.bias + n, columns)), store(bias + 16, load(p.bias + n + 16, columns - 16));
            load_tile<0>(bias, 0), load_tile<1>(bias + 16, 0);  // stride 0: all rows of the tile are equal
            load_tile<2>(bias, 0), load_tile<3>(bias + 16, 0);
        } else {
            zero_tile<0>(), zero_tile<1>(), zero_tile<2>(), zero_tile<3>();
        }
        two ? add_chunks<true, true>(chunks_of(K), a, a + kTileSize, kChunk, kStep, 2 * kTileSize, b)
            : add_chunks<false, true>(chunks_of(K), a, a, kChunk, kStep, 2 * kTileSize, b);
        float* second = c + kTileHeight * stride;
        store_tile<0>(c, bytes(stride)), store_tile<1>(c + 16, bytes(stride));
        if (two) store_tile<2>(second, bytes(stride)), store_tile<3>(second + 16, bytes(stride));
        for (Index r = 0; !direct && r < rows; ++r) {
            float* row = p.C[m + r] + n;
            Vector<float> s0 = load(sums[r]), s1 = load(sums[r] + 16);
            if (accumulate) s0 = load(row, columns) + s0, s1 = load(row + 16, columns - 16) + s1;
            store(row, s0, columns), store(row + 16, s1, columns - 16);
        }
    }

  private:
    static constexpr Index bytes(Index floats) { return floats * static_cast<Index>(sizeof(float)); }

    // Add to the sums the products of one or two tiles of A with a panel, or with one of its tiles, over `chunks` chunks.
    // row, step, lo: the distances in A between rows, between chunks, and from hi to lo.
    template <bool Two, bool Both>
    static void add_chunks(Index chunks, const Factor* a0, const Factor* a1, Index row, Index step, Index lo,
                           const Factor* b) {
        const Index stride = row * static_cast<Index>(sizeof(Factor));
        for (; chunks > 0; --chunks, a0 += step, a1 += step, b += kStep) {
            load_tile<kA0>(a0, stride);
            if (kParts == 2) {  // hi·lo
                load_tile<kB0>(b + 2 * kTileSize, 64);
                add<Two, Both, true>(a1, stride, b + 3 * kTileSize);
            }
            load_tile<kB0>(b, 64);  // hi·hi
            add<Two, Both, kParts == 1>(a1, stride, b + kTileSize);
            if (kParts == 2) {  // lo·hi
                load_tile<kA0>(a0 + lo, stride);
                if (Two) load_tile<kA1>(a1 + lo, stride);
                multiply_tiles<0, kA0, kB0>();
                if (Both) multiply_tiles<1, kA0, kB1>();
                if (Two) multiply_tiles<2, kA1, kB0>();
                if (Two && Both) multiply_tiles<3, kA1, kB1>();
            }
        }
    }

    // With the first tiles of A and B loaded: load the others and multiply.
    template <bool Two, bool Both, bool LoadA>
    static void add(const Factor* a1, Index stride, const Factor* b1) {
        multiply_tiles<0, kA0, kB0>();
        if (Both) load_tile<kB1>(b1, 64), multiply_tiles<1, kA0, kB1>();
        if (Two && LoadA) load_tile<kA1>(a1, stride);
        if (Two) multiply_tiles<2, kA1, kB0>();
        if (Two && Both) multiply_tiles<3, kA1, kB1>();
    }
};

}  // namespace gatewise::GATEWISE_TARGET
