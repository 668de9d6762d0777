// Many activation rows times packed weights without tiles: the codes of some panels are unpacked once for all rows of
// the call, and each activation that is loaded meets all their vectors. Used where a dot product of bytes is one
// instruction: there loads bound the products, and packed_tile needs one for each of them.
//
// Panels go by in chunks of steps, as unsigned bytes in the level 1 cache; results wait in y between chunks. Each
// output goes through the operations of add_step (matmul_impl.hpp) in the same order: same bits.
#pragma once

#include <cstdint>

#include "src/kernels/matmul_impl.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

// Rows at a time: with three vectors their sums and results fill 24 of 32 registers.
constexpr int kWideRows = 4;

// Some steps of neighbouring panels, unpacked: P vectors of kLanes rows.
template <class B, int Kind, int P>
struct WideChunk {
  static constexpr int kSteps = kSuperSteps;
  static constexpr int kLineBytes = 4 * B::kLanes;
  alignas(64) uint8_t codes[kSteps][P][8][kLineBytes];
  StepScales<B, Kind> scales[kSteps][P];
  int steps;

  void unpack(const PackedTile& m, int64_t first_panel, int64_t first) {
    steps = static_cast<int>(m.n_steps - first < kSteps ? m.n_steps - first : kSteps);
    for (int p = 0; p < P; ++p) {
      const int row = p * B::kLanes;
      const int lane = row % kPanelRows;
      const uint8_t* panel = m.panels + (first_panel + row / kPanelRows) * m.panel_bytes;
      for_panel_steps<B, Kind>(panel, m.n_steps, first, steps, lane,
                               [&](const uint8_t* from, const RunScales<B, Kind>& run, const uint8_t* sub, int step) {
                                 typename B::Bytes::Bytes lines[8];
                                 unpack_codes<typename B::Bytes, Kind>(from + 4 * lane, lines);
                                 for (int i = 0; i < 8; ++i) B::Bytes::store(codes[step][p][i], lines[i]);
                                 scales[step][p] = run.step(sub, lane);
                               });
    }
  }
};

// Adds step `step` of a chunk to kWideRows rows.
template <class B, int Kind, int P>
inline __attribute__((always_inline)) void wide_step(const WideChunk<B, Kind, P>& chunk, int step, const StepInput& in,
                                                     typename B::F (&acc)[P][kWideRows]) {
  constexpr Packing kPack = kPackings[Kind];
  constexpr int kSubs = kStep / kPack.sub_block;
  typename B::F product[P][kWideRows];
#pragma GCC unroll 2
  for (int s = 0; s < kSubs; ++s) {
    typename B::I sums[P][kWideRows];
#pragma GCC unroll 16
    for (int r = 0; r < kWideRows; ++r) {
      const auto start = sum_start<B, Kind>(in, r * kSubs + s);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) sums[p][r] = start;
    }
#pragma GCC unroll 8
    for (int i = s * 8 / kSubs; i < (s + 1) * 8 / kSubs; ++i) {
      typename B::I codes[P];
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) codes[p] = B::Bytes::load(chunk.codes[step][p][i]);
#pragma GCC unroll 16
      for (int r = 0; r < kWideRows; ++r) {
        const auto q = B::Bytes::broadcast4(in.q + r * row_bytes(kPack) + 4 * i);
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) sums[p][r] = B::Bytes::dot4(sums[p][r], codes[p], q);
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
      for (int r = 0; r < kWideRows; ++r) scale_sum<B, Kind>(sums[p][r], chunk.scales[step][p], s, product[p][r]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kWideRows; ++r) {
    const ActivationScales<B, Kind> x(in, r);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) add_product<B, Kind>(product[p][r], chunk.scales[step][p], x, acc[p][r]);
  }
}

// kWideRows rows of a group times a chunk, added to what earlier chunks left in y.
template <class B, int Kind, int P>
inline void wide_rows(const PackedTile& m, const WideChunk<B, Kind, P>& chunk, const Place& at, int64_t first_step) {
  float* y = at.y + at.row * m.y_stride;
  typename B::F acc[P][kWideRows];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < kWideRows; ++r) {
      const int64_t to = p * B::kLanes;
      acc[p][r] = first_step > 0 ? load_lanes<B>(y + r * m.y_stride + to, at.left - to) : B::zero();
    }
  }
  for (int step = 0; step < chunk.steps; ++step) {
    wide_step<B, Kind, P>(chunk, step, input_at<Kind>(*at.group, first_step + step, at.row), acc);
  }
  const float* bias = first_step + chunk.steps == m.n_steps ? at.bias : nullptr;
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < kWideRows; ++r) {
      const int64_t to = p * B::kLanes;
      store_lanes<B>(acc[p][r], y + r * m.y_stride + to, bias != nullptr ? bias + to : nullptr, at.left - to);
    }
  }
}

// All rows of the groups, of the last the first `wide_of_last`, times kPanels panels from `first_panel` on.
template <class B, int Kind, int kPanels>
inline void wide_panels(const PackedTile& m, int64_t first_panel, int64_t wide_of_last) {
  constexpr int kVectors = kPanels * kPanelRows / B::kLanes;
  WideChunk<B, Kind, kVectors> chunk;
  for (int64_t step = 0; step < m.n_steps; step += chunk.kSteps) {
    chunk.unpack(m, first_panel, step);
    for (int64_t g = 0; g < m.n_groups; ++g) {
      Place at = place_at(m, g, first_panel);
      const int64_t rows = g < m.n_groups - 1 ? kGroupRows : wide_of_last;
      for (; at.row < rows; at.row += kWideRows) wide_rows<B, Kind, kVectors>(m, chunk, at, step);
    }
  }
}

// As multiply_packed. Rows that do not fill kWideRows go without.
template <class B, int Kind>
void multiply_wide(const PackedTile& m) {
  static_assert(kGroupRows % kWideRows == 0);
  const int64_t last = m.n_groups - 1;
  const bool is_worth_it = last > 0 || m.groups[last].width >= 2 * kWideRows;
  const int64_t wide_of_last = is_worth_it ? m.groups[last].width / kWideRows * kWideRows : 0;
  if (is_worth_it) {
    int64_t p = 0;
    for (; m.n_panels - p >= B::kWidePanels; p += B::kWidePanels)
      wide_panels<B, Kind, B::kWidePanels>(m, p, wide_of_last);
    if constexpr (B::kWidePanels > 1) {
      for (; p < m.n_panels; ++p) wide_panels<B, Kind, 1>(m, p, wide_of_last);
    }
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
