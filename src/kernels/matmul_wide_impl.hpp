// Many activation rows times packed weights without tiles: the codes of three panels are unpacked once for all rows of
// the call, and each activation that is loaded meets all three. Used where a vector is a whole panel and a dot product
// of bytes is one instruction: there loads bound the products, and packed_tile needs one for each of them.
//
// Panels go by in chunks of steps, as unsigned bytes in the level 1 cache; results wait in y between chunks. Each
// output goes through the operations of add_step (matmul_impl.hpp) in the same order: same bits.
#pragma once

#include <cstdint>

#include "src/kernels/matmul_impl.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

// Rows and panels at a time: their sums and results fill 24 of 32 registers.
constexpr int kWideRows = 4;
constexpr int kWidePanels = 3;

// Some steps of P panels, unpacked.
template <class B, int Kind, int P>
struct WideChunk {
  static constexpr Packing kPack = kPackings[Kind];
  static constexpr int kSteps = kSuperSteps;
  alignas(64) uint8_t codes[kSteps][P][kPanelRows * kStep];
  StepScales<B, Kind> scales[kSteps][P];
  int steps;

  void unpack(const PackedTile& m, int64_t first_panel, int64_t first) {
    steps = static_cast<int>(m.n_steps - first < kSteps ? m.n_steps - first : kSteps);
    for (int p = 0; p < P; ++p) {
      const uint8_t* panel = m.panels + (first_panel + p) * m.panel_bytes;
      const uint8_t* scale = panel + m.n_steps * code_bytes(kPack) + first / run_steps(kPack) * run_bytes(kPack);
      panel += first * code_bytes(kPack);
      for (int step = 0; step < steps;) {
        const auto run = RunScales<B, Kind>::load(scale, 0);
        scale += run_header_bytes(kPack);
        for (int end = step + run_steps(kPack); step < end; ++step) {
          B::template unpack_unsigned<Kind>(panel, codes[step][p]);
          scales[step][p] = run.step(scale, 0);
          panel += code_bytes(kPack);
          scale += step_scale_bytes(kPack);
        }
      }
    }
  }
};

// Adds step `step` of a chunk to R rows.
template <class B, int Kind, int P, int R>
inline __attribute__((always_inline)) void wide_step(const WideChunk<B, Kind, P>& chunk, int step, const StepInput& in,
                                                     typename B::F (&acc)[P][R]) {
  constexpr Packing kPack = kPackings[Kind];
  constexpr int kSubs = kStep / kPack.sub_block;
  typename B::F product[P][R];
#pragma GCC unroll 2
  for (int s = 0; s < kSubs; ++s) {
    typename B::I sums[P][R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const auto start = sum_start<B, Kind>(in, r * kSubs + s);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) sums[p][r] = start;
    }
#pragma GCC unroll 8
    for (int i = s * 8 / kSubs; i < (s + 1) * 8 / kSubs; ++i) {
      typename B::I codes[P];
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) codes[p] = B::load_codes(chunk.codes[step][p] + 64 * i);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const auto q = B::broadcast4(in.q + r * row_bytes(kPack) + 4 * i);
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) sums[p][r] = B::dot4(sums[p][r], codes[p], q);
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) scale_sum<B, Kind>(sums[p][r], chunk.scales[step][p], s, product[p][r]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const ActivationScales<B, Kind> x(in, r);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) add_product<B, Kind>(product[p][r], chunk.scales[step][p], x, acc[p][r]);
  }
}

// R rows of a group times a chunk, added to what earlier chunks left in y.
template <class B, int Kind, int P, int R>
inline void wide_rows(const PackedTile& m, const WideChunk<B, Kind, P>& chunk, const Place& at, int64_t first_step) {
  float* y = at.y + at.row * m.y_stride;
  typename B::F acc[P][R];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      acc[p][r] =
          first_step > 0 ? load_lanes<B>(y + r * m.y_stride + p * kPanelRows, at.left - p * kPanelRows) : B::zero();
    }
  }
  for (int step = 0; step < chunk.steps; ++step) {
    wide_step<B, Kind, P, R>(chunk, step, input_at<Kind>(*at.group, first_step + step, at.row), acc);
  }
  const float* bias = first_step + chunk.steps == m.n_steps ? at.bias : nullptr;
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      store_lanes<B>(acc[p][r], y + r * m.y_stride + p * kPanelRows, bias != nullptr ? bias + p * kPanelRows : nullptr,
                     at.left - p * kPanelRows);
    }
  }
}

// Rows that fill kWideRows of P panels from `first_panel` on.
template <class B, int Kind, int P>
inline void wide_panels(const PackedTile& m, int64_t first_panel, int64_t wide_of_last) {
  WideChunk<B, Kind, P> chunk;
  for (int64_t step = 0; step < m.n_steps; step += chunk.kSteps) {
    chunk.unpack(m, first_panel, step);
    for (int64_t g = 0; g < m.n_groups; ++g) {
      Place at = place_at(m, g, first_panel);
      const int64_t rows = g < m.n_groups - 1 ? kGroupRows : wide_of_last;
      for (; at.row < rows; at.row += kWideRows) wide_rows<B, Kind, P, kWideRows>(m, chunk, at, step);
    }
  }
}

// As multiply_packed. Rows that do not fill kWideRows go without.
template <class B, int Kind>
void multiply_wide(const PackedTile& m) {
  static_assert(B::kLanes == kPanelRows && kGroupRows % kWideRows == 0);
  const int64_t last = m.n_groups - 1;
  const bool is_worth_it = last > 0 || m.groups[last].width >= 2 * kWideRows;
  const int64_t wide_of_last = is_worth_it ? m.groups[last].width / kWideRows * kWideRows : 0;
  if (is_worth_it) {
    int64_t p = 0;
    for (; m.n_panels - p >= kWidePanels; p += kWidePanels) wide_panels<B, Kind, kWidePanels>(m, p, wide_of_last);
    if (m.n_panels - p == 2) wide_panels<B, Kind, 2>(m, p, wide_of_last);
    if (m.n_panels - p == 1) wide_panels<B, Kind, 1>(m, p, wide_of_last);
  }
  for (int64_t p = 0; p < m.n_panels; ++p) {
    Place at = place_at(m, last, p);
    at.row = wide_of_last;
    packed_group<B, Kind>(m, at);
  }
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
