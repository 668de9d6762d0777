// Super blocks whose sums stay integers: for tables with matrix instructions, which want long sums.
//
// The activations of a super block of 256 inputs share a scale, and so do its weights but for sub-scales of a byte.
// Here these are multiplied in as integers: for each output and row
//   acc = fma(weight_offset, activation_scale * sum of q, acc)      for each sub-block (forms with an offset), then
//   acc = fma(float(total) * weight_scale, activation_scale, acc),  total = sum of sub-scale * dot, exact (28 bits)
// Tiles get there by weights that are sub-scale * code, 14 bits in two planes of bytes: 128 * high + low. Rows without
// a tile multiply the dot product of a sub-block. Same totals, same float operations: same bits.
#pragma once

#include <cstdint>

#include "src/kernels/matmul_impl.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

constexpr int kStepCodes = kPanelRows * kStep;
constexpr int64_t kTileLine = 64;

// The sub-scales of kLanes rows as integers, sub-block `s` of the step whose bytes are at `sub`.
template <class B, int Kind>
inline typename B::I sub_scale(const uint8_t* sub, int s) {
  constexpr Packing kPack = kPackings[Kind];
  const uint8_t* at = sub + s * kPanelRows;
  if constexpr (kPack.scale == ScaleForm::kSuper) return B::load_int8(at);
  if constexpr (kPack.scale == ScaleForm::kSuperOffset) return B::load_uint8(at);
  if constexpr (kPack.scale == ScaleForm::kSuperNibble) return B::load_nibble(at);
}

// The last operation of a super block.
template <class B>
inline typename B::F add_total(typename B::I total, typename B::F scale, const float* d, typename B::F acc) {
  return B::fma(B::mul(B::convert(total), scale), B::broadcast(d), acc);
}

// T rows of a panel without tiles.
template <class B, int Kind, int T>
inline void super_tile(const PackedTile& m, const Place& at) {
  constexpr Packing kPack = kPackings[Kind];
  constexpr int kSubs = kStep / kPack.sub_block;
  const uint8_t* panel = at.panel;
  const uint8_t* scales = panel + m.n_steps * code_bytes(kPack);
  typename B::F acc[T];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) acc[t] = B::zero();
  for (int64_t first = 0; first < m.n_steps; first += kSuperSteps) {
    const auto run = RunScales<B, Kind>::load(scales, 0);
    scales += run_header_bytes(kPack);
    typename B::I total[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) total[t] = B::splat(int32_t{0});
    for (int step = 0; step < kSuperSteps; ++step) {
      if constexpr (T == 1) {
        for (int line = 0; line < code_bytes(kPack); line += 64) B::prefetch(panel + kPrefetchBytes + line);
      }
      const StepInput in = input_at<Kind>(*at.group, first + step, at.row);
      const auto codes = B::template unpack<Kind>(panel, 0);
      const StepScales<B, Kind> now = run.step(scales, 0);
#pragma GCC unroll 2
      for (int s = 0; s < kSubs; ++s) {
        typename B::I sums[T];
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          sums[t] = B::splat(int32_t{0});
          if constexpr (kPack.zero_point != 0)
            sums[t] = B::add(B::broadcast(in.start + t * kSubs + s), B::splat(-kSumStart));
        }
        B::template dot<Kind, T>(codes, s * 8 / kSubs, 8 / kSubs, in.q, sums);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          total[t] = B::add(total[t], B::mul(sums[t], sub_scale<B, Kind>(scales, s)));
          if constexpr (kPack.has_offset())
            acc[t] = B::fma(now.offset[s], B::broadcast(in.sums + t * kSubs + s), acc[t]);
        }
      }
      panel += code_bytes(kPack);
      scales += step_scale_bytes(kPack);
    }
    const StepInput in = input_at<Kind>(*at.group, first, at.row);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[t] = add_total<B>(total[t], run.d, in.d + t, acc[t]);
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) store_lanes<B>(acc[t], at.y + (at.row + t) * m.y_stride, at.bias, at.left);
}

// The rows of a group from `at.row` on.
template <class B, int Kind>
inline void super_rows(const PackedTile& m, Place at) {
  const int64_t rows = at.group->width;
  for (; rows - at.row >= 8; at.row += 8) super_tile<B, Kind, 8>(m, at);
  for (; rows - at.row >= 4; at.row += 4) super_tile<B, Kind, 4>(m, at);
  for (; rows - at.row >= 2; at.row += 2) super_tile<B, Kind, 2>(m, at);
  for (; at.row < rows; ++at.row) super_tile<B, Kind, 1>(m, at);
}

// Some super blocks of a panel, as planes of bytes.
template <class B, int Kind>
struct SuperChunk {
  static constexpr Packing kPack = kPackings[Kind];
  static constexpr int kSubs = kStep / kPack.sub_block;
  static constexpr int kSteps = 2 * kSuperSteps;  // 16 KiB of planes
  static constexpr int kTileBytes = 2 * kStep;    // two steps fill a tile
  alignas(64) int8_t low[kSteps][kStepCodes];
  int8_t high[kSteps][kStepCodes];
  typename B::F scale[kSteps / kSuperSteps];
  typename B::F offset[kSteps][kSubs];
  int steps;

  void unpack(const uint8_t* panel, int64_t n_steps, int64_t first) {
    steps = static_cast<int>(n_steps - first < kSteps ? n_steps - first : kSteps);
    for_panel_steps<B, Kind>(panel, n_steps, first, steps, 0,
                             [&](const uint8_t* codes, const RunScales<B, Kind>& run, const uint8_t* sub, int step) {
                               if (step % kSuperSteps == 0) scale[step / kSuperSteps] = run.d;
                               typename B::I factors[kSubs];
                               const StepScales<B, Kind> now = run.step(sub, 0);
                               for (int s = 0; s < kSubs; ++s) {
                                 factors[s] = sub_scale<B, Kind>(sub, s);
                                 if constexpr (kPack.has_offset()) offset[step][s] = now.offset[s];
                               }
                               B::template unpack_products<Kind>(codes, factors, low[step], high[step]);
                             });
  }
};

// T rows times a super block: integer sums on their way from tiles to vectors, two super blocks at a time.
template <class B, class Tiles, int Kind, int T>
struct SuperSums {
  using Chunk = SuperChunk<B, Kind>;
  static constexpr Packing kPack = kPackings[Kind];
  alignas(64) int32_t low[2][T][kPanelRows];
  int32_t high[2][T][kPanelRows];

  template <int Slot>
  void start(const Chunk& chunk, int step, const int8_t* q) {
    Tiles::template zero<2 * Slot>();
    Tiles::template zero<2 * Slot + 1>();
#pragma GCC unroll 4
    for (int pair = 0; pair < kSuperSteps; pair += 2) {
      Tiles::template load<4>(q + pair * kStep, row_bytes(kPack));
      Tiles::template load<6>(chunk.low[step + pair], kTileLine);
      Tiles::template multiply<2 * Slot, 4, 6>();
      Tiles::template load<7>(chunk.high[step + pair], kTileLine);
      Tiles::template multiply<2 * Slot + 1, 4, 7>();
    }
    Tiles::template store<2 * Slot>(low[Slot], kTileLine);
    Tiles::template store<2 * Slot + 1>(high[Slot], kTileLine);
  }

  // Inlined by force: the results have to stay in registers.
  template <int Slot>
  __attribute__((always_inline)) void finish(const Chunk& chunk, int step, const StepInput& in, int64_t width,
                                             typename B::F (&acc)[T]) const {
    if constexpr (kPack.has_offset()) {
      constexpr int kSubs = Chunk::kSubs;
      for (int i = 0; i < kSuperSteps; ++i) {
#pragma GCC unroll 2
        for (int s = 0; s < kSubs; ++s) {
          const float* sums = in.sums + i * width * kSubs + s;
#pragma GCC unroll 16
          for (int t = 0; t < T; ++t) {
            acc[t] = B::fma(chunk.offset[step + i][s], B::broadcast(sums + t * kSubs), acc[t]);
          }
        }
      }
    }
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      const auto total = B::add(B::load(low[Slot][t]), B::template shift_left<7>(B::load(high[Slot][t])));
      acc[t] = add_total<B>(total, chunk.scale[step / kSuperSteps], in.d + t, acc[t]);
    }
  }
};

// T rows of a group times a chunk of a panel, added to what earlier chunks left in y.
template <class B, class Tiles, int Kind, int T>
inline void tile_rows(const PackedTile& m, const SuperChunk<B, Kind>& chunk, const Place& at, int64_t first_step) {
  const Group& group = *at.group;
  float* y = at.y + at.row * m.y_stride;
  typename B::F acc[T];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) acc[t] = first_step > 0 ? load_lanes<B>(y + t * m.y_stride, at.left) : B::zero();

  static_assert(SuperChunk<B, Kind>::kSteps == 2 * kSuperSteps);
  const StepInput in = input_at<Kind>(group, first_step, at.row);
  SuperSums<B, Tiles, Kind, T> tiles;
  tiles.template start<0>(chunk, 0, in.q);
  if (chunk.steps > kSuperSteps) {
    const StepInput next = input_at<Kind>(group, first_step + kSuperSteps, at.row);
    tiles.template start<1>(chunk, kSuperSteps, next.q);
    tiles.template finish<0>(chunk, 0, in, group.width, acc);
    tiles.template finish<1>(chunk, kSuperSteps, next, group.width, acc);
  } else {
    tiles.template finish<0>(chunk, 0, in, group.width, acc);
  }
  const float* bias = first_step + chunk.steps == m.n_steps ? at.bias : nullptr;
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) store_lanes<B>(acc[t], y + t * m.y_stride, bias, at.left);
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
