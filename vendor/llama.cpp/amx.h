// Included in front of llama.cpp's ggml-cpu/amx/mmq.cpp (see amx.cmake).
//
// GCC 12 (Debian 12) tells its optimizer too little about three tile instructions in
// amxtileintrin.h:
//   - `_tile_loadconfig` declares 8 bytes as its input, but `ldtilecfg` reads 64. The optimizer
//     drops the stores to the other 56, the tile configuration is garbage, and the first tile
//     instruction ends in SIGILL (llama.cpp pull request 26954).
//   - `_tile_loadd` and `_tile_stored` do not say that they read and write memory at all.
// The macros below are the same instructions with their memory declared. Clang and MSVC implement
// the intrinsics as builtins and need none of this.
#pragma once
#if defined(__GNUC__) && !defined(__clang__) && defined(__AMX_TILE__)
#include <immintrin.h>

#undef _tile_loadconfig
#define _tile_loadconfig(config) \
    __asm__ volatile("ldtilecfg\t%X0" ::"m"(*reinterpret_cast<const char(*)[64]>(config)))

#undef _tile_loadd
#define _tile_loadd(tile, base, stride) AIRD_TILE_LOADD(tile, base, stride)
#define AIRD_TILE_LOADD(tile, base, stride)                                             \
    __asm__ volatile("{tileloadd\t(%0,%1,1), %%tmm" #tile "|tileloadd\t%%tmm" #tile     \
                     ", [%0+%1*1]}" ::"r"(static_cast<const void *>(base)),             \
                     "r"(static_cast<long>(stride))                                     \
                     : "memory")

#undef _tile_stored
#define _tile_stored(tile, base, stride) AIRD_TILE_STORED(tile, base, stride)
#define AIRD_TILE_STORED(tile, base, stride)                                              \
    __asm__ volatile("{tilestored\t%%tmm" #tile ", (%0,%1,1)|tilestored\t[%0+%1*1], "     \
                     "%%tmm" #tile "}" ::"r"(static_cast<void *>(base)),                  \
                     "r"(static_cast<long>(stride))                                       \
                     : "memory")
#endif
