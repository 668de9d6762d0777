// The tile instructions of AMX in plain loops, behind the interface of src/kernels/matmul_tiles_impl.hpp: so that the
// kernels over them are tested on processors without. Misuse (tiles not configured or not freed, shapes that do not
// fit) is remembered. In the namespace of the kernels, so that copies for several instruction sets share no symbol.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

struct EmulatedTiles {
  static constexpr int kTiles = 8;
  struct Tile {
    int rows = 0;
    int bytes = 0;
    bool loaded = false;
    int8_t data[16][64];
  };
  struct State {
    bool configured = false;
    Tile tiles[kTiles];
  };
  static State& state() {
    static thread_local State of_thread;
    return of_thread;
  }
  static inline std::atomic<bool> misused{false};
  static inline std::atomic<int64_t> multiplications{0};
  static void expect(bool right) {
    if (!right) misused = true;
  }

  static void configure(int rows, int bytes) {
    expect(!state().configured && rows >= 1 && rows <= 16 && bytes >= 4 && bytes <= 64 && bytes % 4 == 0);
    state() = State{};
    state().configured = true;
    for (int i = 0; i < kTiles; ++i) {
      Tile& tile = state().tiles[i];
      tile.rows = i < 6 ? rows : bytes / 4;
      tile.bytes = i == 4 || i == 5 ? bytes : 64;
      std::memset(tile.data, 0x55, sizeof(tile.data));
    }
  }
  static void release() {
    expect(state().configured);
    state().configured = false;
  }

  template <int N>
  static Tile& tile() {
    static_assert(N >= 0 && N < kTiles);
    expect(state().configured);
    return state().tiles[N];
  }
  template <int N>
  static void zero() {
    std::memset(tile<N>().data, 0, sizeof(Tile::data));
    tile<N>().loaded = true;
  }
  template <int N>
  static void load(const void* from, int64_t stride) {
    Tile& to = tile<N>();
    for (int r = 0; r < to.rows; ++r) {
      std::memcpy(to.data[r], static_cast<const uint8_t*>(from) + r * stride, static_cast<size_t>(to.bytes));
    }
    to.loaded = true;
  }
  template <int N>
  static void store(void* to, int64_t stride) {
    const Tile& from = tile<N>();
    expect(from.loaded);
    for (int r = 0; r < from.rows; ++r) {
      std::memcpy(static_cast<uint8_t*>(to) + r * stride, from.data[r], static_cast<size_t>(from.bytes));
    }
  }
  // TDPBSSD: word n of row m of the sums gains the products of 4 signed bytes each, over all words k of row m of the
  // activations and of column n of the codes.
  template <int Sums, int Activations, int Codes>
  static void multiply() {
    Tile& c = tile<Sums>();
    const Tile& a = tile<Activations>();
    const Tile& b = tile<Codes>();
    expect(c.loaded && a.loaded && b.loaded && c.rows == a.rows && a.bytes == 4 * b.rows && c.bytes == b.bytes);
    for (int m = 0; m < c.rows; ++m) {
      for (int n = 0; n < c.bytes / 4; ++n) {
        int32_t sum;
        std::memcpy(&sum, c.data[m] + 4 * n, sizeof(sum));
        for (int k = 0; k < a.bytes; ++k) sum += a.data[m][k] * b.data[k / 4][4 * n + k % 4];
        std::memcpy(c.data[m] + 4 * n, &sum, sizeof(sum));
      }
    }
    ++multiplications;
  }
};

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
