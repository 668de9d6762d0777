// Many activation rows times packed weights by matrix instructions on tiles (AMX): one text for the instructions and
// for the plain emulation that tests use in their place (tests/support/emulated_tiles.hpp).
//
// The codes of a panel and step are 8 rows of 16 words of 4 bytes, which is the form of a tile of weights; the
// activations of 16 rows and a step are a tile as they lie. Panels are unpacked in chunks of steps, to signed bytes
// without zero points, once for all groups of rows of the call. Each step has scales of its own, so its integer sums
// leave the tile by way of memory and go through the float operations of add_step (matmul_impl.hpp) in the same order:
// the bits are those of the rows computed without tiles. The tiles of a step are at work while the sums of the step
// before are scaled. Results wait in y between chunks. Super blocks: see matmul_super_impl.hpp.
//
// Tiles gives, for tiles 0 to 3 (sums: [rows, 16] 32-bit), 4 and 5 (activations: [rows, bytes] signed bytes), 6 and 7
// (codes: [bytes / 4, 16, 4] signed bytes):
//   configure(rows, bytes), zero<N>(), load<N>(from, stride), store<N>(to, stride), multiply<S, A, C>(): S += A * C,
//   release(): frees the tiles
#pragma once

#include <cstdint>
#include <type_traits>

#include "src/kernels/matmul_impl.hpp"
#include "src/kernels/matmul_super_impl.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

// Some steps of a panel, unpacked.
template <class B, int Kind>
struct StepChunk {
  static constexpr Packing kPack = kPackings[Kind];
  static constexpr int kSteps = 32;  // 16 KiB of codes: a third of a level 1 cache
  static constexpr int kTileBytes = kPack.sub_block;
  alignas(64) int8_t codes[kSteps][kStepCodes];
  StepScales<B, Kind> scales[kSteps];
  int steps;

  void unpack(const uint8_t* panel, int64_t n_steps, int64_t first) {
    steps = static_cast<int>(n_steps - first < kSteps ? n_steps - first : kSteps);
    for_panel_steps<B, Kind>(panel, n_steps, first, steps, 0,
                             [&](const uint8_t* from, const RunScales<B, Kind>& run, const uint8_t* sub, int step) {
                               B::template unpack_signed<Kind>(from, codes[step]);
                               scales[step] = run.step(sub, 0);
                             });
  }
};

// Integer sums of T rows on their way from tiles to vectors: two steps are under way at a time.
template <class B, class Tiles, int Kind, int T>
struct TileSums {
  static constexpr Packing kPack = kPackings[Kind];
  static_assert(kPack.sub_block == kStep);
  alignas(64) int32_t sums[2][T][kPanelRows];

  // Multiplies the codes and activations of a step into sums[Slot].
  template <int Slot>
  void start(const int8_t* codes, const int8_t* q) {
    Tiles::template load<4 + Slot>(q, kStep);
    Tiles::template load<6 + Slot>(codes, kTileLine);
    Tiles::template zero<Slot>();
    Tiles::template multiply<Slot, 4 + Slot, 6 + Slot>();
    Tiles::template store<Slot>(sums[Slot], kTileLine);
  }

  // add_step over sums[Slot]. Inlined by force: the results have to stay in registers.
  template <int Slot>
  __attribute__((always_inline)) void finish(const StepScales<B, Kind>& scales, const StepInput& in,
                                             typename B::F (&acc)[T]) const {
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      const auto product = B::mul(B::convert(B::load(sums[Slot][t])), scales.scale[0]);
      acc[t] = B::fma(product, B::broadcast(in.d + t), acc[t]);
      if constexpr (kPack.has_offset()) acc[t] = B::fma(scales.offset[0], B::broadcast(in.sums + t), acc[t]);
    }
  }
};

// T rows of a group times a chunk of a panel, added to what earlier chunks left in y.
template <class B, class Tiles, int Kind, int T>
inline void tile_rows(const PackedTile& m, const StepChunk<B, Kind>& chunk, const Place& at, int64_t first_step) {
  const Group& group = *at.group;
  const int64_t stride = group.width * kStep;
  const int8_t* q = group.q + first_step * stride + at.row * kStep;
  float* y = at.y + at.row * m.y_stride;
  typename B::F acc[T];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) acc[t] = first_step > 0 ? load_lanes<B>(y + t * m.y_stride, at.left) : B::zero();

  TileSums<B, Tiles, Kind, T> tiles;
  tiles.template start<0>(chunk.codes[0], q);
  int step = 0;
  for (; step + 1 < chunk.steps; step += 2) {
    tiles.template start<1>(chunk.codes[step + 1], q + (step + 1) * stride);
    tiles.template finish<0>(chunk.scales[step], input_at<Kind>(group, first_step + step, at.row), acc);
    if (step + 2 < chunk.steps) tiles.template start<0>(chunk.codes[step + 2], q + (step + 2) * stride);
    tiles.template finish<1>(chunk.scales[step + 1], input_at<Kind>(group, first_step + step + 1, at.row), acc);
  }
  if (step < chunk.steps) {
    tiles.template finish<0>(chunk.scales[step], input_at<Kind>(group, first_step + step, at.row), acc);
  }
  const float* bias = first_step + chunk.steps == m.n_steps ? at.bias : nullptr;
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) store_lanes<B>(acc[t], y + t * m.y_stride, bias, at.left);
}

// T rows of each of `n_groups` groups from `first_group` on.
template <class B, class Tiles, int Kind, int T>
void tile_groups(const PackedTile& m, int64_t first_group, int64_t n_groups) {
  using Chunk = std::conditional_t<kPackings[Kind].is_super(), SuperChunk<B, Kind>, StepChunk<B, Kind>>;
  static_assert(B::kLanes == kPanelRows);
  Tiles::configure(T, Chunk::kTileBytes);
  Chunk chunk;
  for (int64_t step = 0; step < m.n_steps; step += Chunk::kSteps) {
    for (int64_t p = 0; p < m.n_panels; ++p) {
      chunk.unpack(m.panels + p * m.panel_bytes, m.n_steps, step);
      for (int64_t g = first_group; g < first_group + n_groups; ++g) {
        tile_rows<B, Tiles, Kind, T>(m, chunk, place_at(m, g, p), step);
      }
    }
  }
  Tiles::release();
}

// Rows of group g from `row` on without tiles.
template <class B, int Kind>
inline void untiled_rows(const PackedTile& m, int64_t g, int64_t row) {
  for (int64_t p = 0; p < m.n_panels; ++p) {
    Place at = place_at(m, g, p);
    at.row = row;
    if constexpr (kPackings[Kind].is_super())
      super_rows<B, Kind>(m, at);
    else
      packed_group<B, Kind>(m, at);
  }
}

// As multiply_packed. Rows that do not fill a tile of 16 or 8 go without.
template <class B, class Tiles, int Kind>
void multiply_tiled(const PackedTile& m) {
  const int64_t last = m.n_groups - 1;
  const int64_t width = m.groups[last].width;
  const int64_t full = width == kGroupRows ? m.n_groups : last;
  if (full > 0) tile_groups<B, Tiles, Kind, kGroupRows>(m, 0, full);
  if (full == m.n_groups) return;
  // Planes of super blocks cost too much for 8 rows.
  const int64_t tiled = width >= 8 && !kPackings[Kind].is_super() ? 8 : 0;
  if constexpr (!kPackings[Kind].is_super()) {
    if (tiled > 0) tile_groups<B, Tiles, Kind, 8>(m, last, 1);
  }
  untiled_rows<B, Kind>(m, last, tiled);
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
