// The tile instructions of AMX, as matmul_tiles_impl.hpp wants them. Written in assembly, for the compilers' own
// functions take no tile number from a template. Compilers never touch tiles by themselves.
//
// Thread rule: tiles are state of a thread; who configures them releases them before it returns. The process must have
// been granted them by the operating system (src/base/cpu.cpp asks).
#pragma once

#include <cstdint>

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

struct AmxTiles {
  static void configure(int rows, int bytes) {
    // The layout that LDTILECFG reads.
    struct alignas(64) Config {
      uint8_t palette = 1;
      uint8_t start_row = 0;
      uint8_t reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    static_assert(sizeof(Config) == 64);
    for (int i = 0; i < 8; ++i) {
      config.row_bytes[i] = static_cast<uint16_t>(i == 4 || i == 5 ? bytes : 64);
      config.rows[i] = static_cast<uint8_t>(i < 6 ? rows : bytes / 4);
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
  }
  static void release() { __asm__ volatile("tilerelease"); }

  template <int N>
  static void zero() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(N));
  }
  template <int N>
  static void load(const void* from, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(N) : "memory");
  }
  template <int N>
  static void store(void* to, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(N) : "memory");
  }
  template <int Sums, int Activations, int Codes>
  static void multiply() {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sums), "i"(Activations), "i"(Codes));
  }
};

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
