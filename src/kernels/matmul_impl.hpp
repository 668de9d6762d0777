// Matrix products of prepared weights: one text for all packings and instruction sets.
//
// A kernel walks the steps of a panel once for each tile of T activation rows. For each step it unpacks the codes of
// its rows into registers, and for each activation row forms exact integer dot products in 32-bit lanes (lane =
// output row), then
//   acc = fma(float(dot) * weight_scale, activation_scale, acc)       (two halves first added, for 16-wide sub-blocks)
//   acc = fma(weight_offset, activation_scale * sum of q, acc)        (forms with an offset)
// The first product is one operation where multiply-adds are fused: the bits of a sum are those of the float
// start + dot (matmul_layout.hpp), and fma(start + dot, scale, -start * scale) is dot * scale rounded once, for
// start * scale is exact: a scale has at most 19 bits (half times 8-bit sub-scale), the start two. Not so the scales of
// MXFP4, whose powers of two can overflow: these sums are converted.
// The integers are exact and the float operations of one output are the same, in the same order, for every tile shape:
// so its bits do not depend on how many rows are multiplied at a time. Backends (matmul_<isa>_impl.hpp) give the
// vector operations: see ScalarBackend for what each has to provide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "src/kernels/matmul_layout.hpp"
#include "src/kernels/slots.hpp"

#if defined(LCRUN_TARGET_SCALAR)
#include "src/kernels/matmul_scalar_impl.hpp"
#elif defined(__AVX512F__)
#include "src/kernels/matmul_avx512_impl.hpp"
#elif defined(__AVX2__)
#include "src/kernels/matmul_avx2_impl.hpp"
#else
#include "src/kernels/matmul_neon_impl.hpp"
#endif

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

// Whether kSumStartValue times a scale is exact.
template <int Kind>
constexpr bool kExactShift = kPackings[Kind].scale != ScaleForm::kBf16;

// Scales of kLanes rows for one step: sub-block s has scale[s] and offset[s].
template <class B, int Kind>
struct StepScales {
  static constexpr Packing kPack = kPackings[Kind];
  static constexpr int kSubs = kStep / kPack.sub_block;
  typename B::F scale[kSubs];
  typename B::F offset[kSubs];
  typename B::F shift;  // -kSumStartValue * scale[0]
};

// The 16-bit scales that open a run.
template <class B, int Kind>
struct RunScales {
  static constexpr Packing kPack = kPackings[Kind];
  typename B::F d;
  typename B::F m;

  static RunScales load(const uint8_t* run, int lane) {
    RunScales s;
    if constexpr (kPack.scale == ScaleForm::kBf16) {
      s.d = B::load_bf16(run + 2 * lane);
    } else {
      s.d = B::load_f16(run + 2 * lane);
    }
    if constexpr (kPack.has_offset()) s.m = B::load_f16(run + 2 * (kPanelRows + lane));
    return s;
  }

  // `sub`: the step's bytes.
  StepScales<B, Kind> step(const uint8_t* sub, int lane) const {
    StepScales<B, Kind> out;
    constexpr int kSubs = StepScales<B, Kind>::kSubs;
#pragma GCC unroll 2
    for (int s = 0; s < kSubs; ++s) {
      const uint8_t* at = sub + s * kPanelRows + lane;
      if constexpr (kPack.scale == ScaleForm::kSuper) {
        out.scale[s] = B::mul(d, B::load_i8(at));
      } else if constexpr (kPack.scale == ScaleForm::kSuperOffset) {
        out.scale[s] = B::mul(d, B::load_u8(at));
        out.offset[s] = B::mul(m, B::load_u8(at + kSubs * kPanelRows));
      } else if constexpr (kPack.scale == ScaleForm::kSuperNibble) {
        out.scale[s] = B::mul(d, B::load_low_nibble(at));
        out.offset[s] = B::mul(m, B::load_high_nibble(at));
      } else {
        out.scale[s] = d;
        if constexpr (kPack.has_offset()) out.offset[s] = m;
      }
    }
    if constexpr (kExactShift<Kind>) out.shift = B::mul(out.scale[0], B::splat(-kSumStartValue));
    return out;
  }
};

// The activations of one step, from the tile's first row on.
struct StepInput {
  const int8_t* q;       // of the first row; others follow after row_bytes each
  const float* d;        // [rows]
  const float* sums;     // [rows, subs], offset forms only
  const int32_t* start;  // [rows, subs], forms with a zero point only
};

// Where the integer sum of a cell (row and sub-block, from the tile's first row on) starts.
template <class B, int Kind>
inline typename B::I sum_start(const StepInput& in, int cell) {
  if constexpr (kPackings[Kind].zero_point != 0)
    return B::broadcast(in.start + cell);
  else
    return B::splat(kSumStart);
}

// product = the sum of sub-block s times its scale, added to those before it.
template <class B, int Kind>
inline void scale_sum(typename B::I sum, const StepScales<B, Kind>& scales, int s, typename B::F& product) {
  if (s > 0)
    product = B::fma(B::to_float(sum), scales.scale[s], product);
  else if constexpr (kExactShift<Kind>)
    product = B::scaled(sum, scales.scale[0], scales.shift);
  else
    product = B::mul(B::to_float(sum), scales.scale[0]);
}

// What a row's results of one step are multiplied by.
template <class B, int Kind>
struct ActivationScales {
  static constexpr int kSubs = kStep / kPackings[Kind].sub_block;
  typename B::F d;
  typename B::F sums[kSubs];

  ActivationScales(const StepInput& in, int row) : d(B::broadcast(in.d + row)) {
    if constexpr (kPackings[Kind].has_offset()) {
#pragma GCC unroll 2
      for (int s = 0; s < kSubs; ++s) sums[s] = B::broadcast(in.sums + row * kSubs + s);
    }
  }
};

// Adds a step's product to a row's result.
template <class B, int Kind>
inline void add_product(typename B::F product, const StepScales<B, Kind>& scales, const ActivationScales<B, Kind>& x,
                        typename B::F& acc) {
  acc = B::fma(product, x.d, acc);
  if constexpr (kPackings[Kind].has_offset()) {
#pragma GCC unroll 2
    for (int s = 0; s < x.kSubs; ++s) acc = B::fma(scales.offset[s], x.sums[s], acc);
  }
}

// Adds one step to C rows from `row` on. Their integer chains are interleaved, for a lone chain of dot products takes
// as long as its latencies.
template <class B, int Kind, int C>
inline void add_step(typename B::F* acc, const typename B::template Codes<Kind>& codes,
                     const StepScales<B, Kind>& scales, const StepInput& in, int row) {
  constexpr Packing kPack = kPackings[Kind];
  constexpr int kSubs = StepScales<B, Kind>::kSubs;
  typename B::F product[C];
#pragma GCC unroll 2
  for (int s = 0; s < kSubs; ++s) {
    typename B::I sums[C];
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) sums[c] = sum_start<B, Kind>(in, (row + c) * kSubs + s);
    B::template dot<Kind, C>(codes, s * 8 / kSubs, 8 / kSubs, in.q + row * row_bytes(kPack), sums);
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) scale_sum<B, Kind>(sums[c], scales, s, product[c]);
  }
#pragma GCC unroll 16
  for (int c = 0; c < C; ++c) add_product<B, Kind>(product[c], scales, ActivationScales<B, Kind>(in, row + c), acc[c]);
}

// kLanes results of one row, bias added, clipped at the last output.
template <class B>
inline void store_lanes(typename B::F acc, float* y, const float* bias, int64_t left) {
  if (left >= B::kLanes) {
    if (bias != nullptr) acc = B::add(acc, B::load(bias));
    B::store(y, acc);
    return;
  }
  alignas(64) float lanes[B::kLanes];
  B::store(lanes, acc);
  for (int64_t i = 0; i < left; ++i) y[i] = bias != nullptr ? lanes[i] + bias[i] : lanes[i];
}

// What store_lanes left, without a bias.
template <class B>
inline typename B::F load_lanes(const float* y, int64_t left) {
  if (left >= B::kLanes) return B::load(y);
  alignas(64) float lanes[B::kLanes] = {};
  for (int64_t i = 0; i < left; ++i) lanes[i] = y[i];
  return B::load(lanes);
}

// Calls body(codes, run, sub, step) for `count` steps of a panel from step `first` on: where its codes lie, what opens
// its run (of kLanes rows from `lane` on), and its own scales. Both ends fall between runs.
template <class B, int Kind, class Body>
inline void for_panel_steps(const uint8_t* panel, int64_t n_steps, int64_t first, int count, int lane,
                            const Body& body) {
  constexpr Packing kPack = kPackings[Kind];
  const uint8_t* scales = panel + n_steps * code_bytes(kPack) + first / run_steps(kPack) * run_bytes(kPack);
  panel += first * code_bytes(kPack);
  for (int step = 0; step < count;) {
    const auto run = RunScales<B, Kind>::load(scales, lane);
    scales += run_header_bytes(kPack);
    for (int end = step + run_steps(kPack); step < end; ++step) {
      body(panel, run, scales, step);
      panel += code_bytes(kPack);
      scales += step_scale_bytes(kPack);
    }
  }
}

// How far ahead of a lone row the codes are fetched: what cores read within the latency of the memory (docs/speed.md,
// 2026-11-23). Hardware prefetchers stop at pages, and panels are short.
constexpr int kPrefetchBytes = 12288;

// Some rows of a group, from its row `row` on, and one panel.
struct Place {
  const Group* group;
  int64_t row;
  const uint8_t* panel;
  float* y;           // of the group's first row and the panel's first output
  const float* bias;  // of the panel's first output, or null
  int64_t left;       // outputs from the panel's first on
};

inline Place place_at(const PackedTile& m, int64_t g, int64_t p) {
  const int64_t output = p * kPanelRows;
  return {m.groups + g,
          0,
          m.panels + p * m.panel_bytes,
          m.y + g * kGroupRows * m.y_stride + output,
          m.bias != nullptr ? m.bias + output : nullptr,
          m.n_out - output};
}

// What the rows of a group have at step `step`, from row `row` on.
template <int Kind>
inline StepInput input_at(const Group& group, int64_t step, int64_t row) {
  constexpr Packing kPack = kPackings[Kind];
  constexpr int kSubs = kStep / kPack.sub_block;
  const int64_t cell = step * group.width + row;
  StepInput in{};
  constexpr int kRunSteps = run_steps(kPack);
  in.q = group.q + (step / kRunSteps * group.width + row) * row_bytes(kPack) + step % kRunSteps * kStep;
  in.d = group.d + cell;
  if constexpr (kPack.has_offset()) in.sums = (kSubs == 1 ? group.sums32 : group.sums16) + cell * kSubs;
  if constexpr (kPack.zero_point != 0) in.start = group.start[start_plane_of(kPack)] + cell * kSubs;
  return in;
}

// T rows times H vectors of output rows from lane `lane` on.
template <class B, int Kind, int T, int H>
inline void packed_tile(const PackedTile& m, const Place& at, int lane) {
  constexpr Packing kPack = kPackings[Kind];
  constexpr int kSubs = kStep / kPack.sub_block;
  constexpr int kCodeBytes = code_bytes(kPack);
  constexpr int kRunSteps = run_steps(kPack);
  constexpr int kChains = T < B::template kChains<Kind> ? T : B::template kChains<Kind>;
  const int64_t width = at.group->width;
  const uint8_t* panel = at.panel;
  const uint8_t* scales = panel + m.n_steps * kCodeBytes;
  StepInput in = input_at<Kind>(*at.group, 0, at.row);

  typename B::F acc[H][T];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) acc[h][t] = B::zero();
  }
  for (int64_t first = 0; first < m.n_steps; first += kRunSteps) {
    RunScales<B, Kind> run[H];
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) run[h] = RunScales<B, Kind>::load(scales, lane + h * B::kLanes);
    scales += run_header_bytes(kPack);
    for (int step = 0; step < kRunSteps; ++step) {
      if constexpr (T == 1) {
        for (int line = 0; line < kCodeBytes; line += 64) B::prefetch(panel + kPrefetchBytes + line);
      }
#pragma GCC unroll 4
      for (int h = 0; h < H; ++h) {
        const int from = lane + h * B::kLanes;
        const auto codes = B::template unpack<Kind>(panel, from);
        const StepScales<B, Kind> now = run[h].step(scales, from);
#pragma GCC unroll 16
        for (int t = 0; t < T; t += kChains) add_step<B, Kind, kChains>(acc[h] + t, codes, now, in, t);
      }
      panel += kCodeBytes;
      scales += step_scale_bytes(kPack);
      in.q += kStep;
      in.d += width;
      if constexpr (kPack.has_offset()) in.sums += width * kSubs;
      if constexpr (kPack.zero_point != 0) in.start += width * kSubs;
    }
    in.q += (width - 1) * row_bytes(kPack);
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) {
      const int from = lane + h * B::kLanes;
      store_lanes<B>(acc[h][t], at.y + (at.row + t) * m.y_stride + from, at.bias != nullptr ? at.bias + from : nullptr,
                     at.left - from);
    }
  }
}

// All lanes of a panel for T rows, H vectors at a time.
template <class B, int Kind, int T>
inline void packed_rows(const PackedTile& m, const Place& at) {
  constexpr int kVectors = kPanelRows / B::kLanes;
  constexpr int kJoint = B::joint_vectors(T) < kVectors ? B::joint_vectors(T) : kVectors;
  for (int v = 0; v < kVectors && v * B::kLanes < at.left; v += kJoint) {
    packed_tile<B, Kind, T, kJoint>(m, at, v * B::kLanes);
  }
}

// The rows of a group from `at.row` on.
template <class B, int Kind>
inline void packed_group(const PackedTile& m, Place at) {
  const int64_t rows = at.group->width;
  if constexpr (B::kMaxTile >= 16) {
    for (; rows - at.row >= 16; at.row += 16) packed_rows<B, Kind, 16>(m, at);
  }
  if constexpr (B::kMaxTile >= 8) {
    for (; rows - at.row >= 8; at.row += 8) packed_rows<B, Kind, 8>(m, at);
  }
  for (; rows - at.row >= 4; at.row += 4) packed_rows<B, Kind, 4>(m, at);
  for (; rows - at.row >= 2; at.row += 2) packed_rows<B, Kind, 2>(m, at);
  for (; at.row < rows; ++at.row) packed_rows<B, Kind, 1>(m, at);
}

template <class B, int Kind>
void multiply_packed(const PackedTile& m) {
  for (int64_t g = 0; g < m.n_groups; ++g) {
    for (int64_t p = 0; p < m.n_panels; ++p) packed_group<B, Kind>(m, place_at(m, g, p));
  }
}

// --- plain weights -----------------------------------------------------------------------------------------------
// acc = fma(w, x, acc), input by input. T rows times P panels keep several chains in flight.
template <class B, int Plain>
inline typename B::F load_plain(const uint8_t* at) {
  if constexpr (Plain == kPlainF32) return B::load(reinterpret_cast<const float*>(at));
  if constexpr (Plain == kPlainF16) return B::load_f16(at);
  if constexpr (Plain == kPlainBF16) return B::load_bf16(at);
}

template <class B, int Plain, int T, int P>
inline void plain_tile(const PlainTile& m, int64_t first_panel, int64_t row, int lane) {
  constexpr int kBytes = Plain == kPlainF32 ? 4 : 2;
  typename B::F acc[P][T];
  for (int p = 0; p < P; ++p) {
    for (int t = 0; t < T; ++t) acc[p][t] = B::zero();
  }
  const uint8_t* panel = m.panels + first_panel * m.panel_bytes + lane * kBytes;
  const float* x = m.x + row * m.x_stride;
  for (int64_t k = 0; k < m.cols; ++k) {
    for (int p = 0; p < P; ++p) {
      const typename B::F w = load_plain<B, Plain>(panel + p * m.panel_bytes);
      for (int t = 0; t < T; ++t) acc[p][t] = B::fma(w, B::broadcast(x + t * m.x_stride + k), acc[p][t]);
    }
    panel += kPanelRows * kBytes;
  }
  for (int p = 0; p < P; ++p) {
    const int64_t at = (first_panel + p) * kPanelRows + lane;
    for (int t = 0; t < T; ++t) {
      store_lanes<B>(acc[p][t], m.y + (row + t) * m.y_stride + at, m.bias != nullptr ? m.bias + at : nullptr,
                     m.n_out - at);
    }
  }
}

template <class B, int Plain, int P>
inline void plain_panels(const PlainTile& m, int64_t panel) {
  for (int lane = 0; lane < kPanelRows && panel * kPanelRows + lane < m.n_out; lane += B::kLanes) {
    int64_t row = 0;
    for (; m.n_rows - row >= 4; row += 4) plain_tile<B, Plain, 4, P>(m, panel, row, lane);
    for (; row < m.n_rows; ++row) plain_tile<B, Plain, 1, P>(m, panel, row, lane);
  }
}

template <class B, int Plain>
void multiply_plain(const PlainTile& m) {
  int64_t panel = 0;
  for (; m.n_panels - panel >= 2; panel += 2) plain_panels<B, Plain, 2>(m, panel);
  for (; panel < m.n_panels; ++panel) plain_panels<B, Plain, 1>(m, panel);
}

// --- activations -------------------------------------------------------------------------------------------------
// Bits of the largest magnitude of n values, as a number: bits of floats without a sign are ordered as they are.
template <class B>
inline int32_t largest_bits(const float* x, int64_t n) {
  int32_t largest = 0;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    const int32_t bits = B::Quantizer::largest_magnitude_bits(x + i);
    largest = bits > largest ? bits : largest;
  }
  for (; i < n; ++i) {
    int32_t bits;
    std::memcpy(&bits, x + i, sizeof(bits));
    bits &= 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

// The scale of a block by its largest magnitude; 0 and NaN stand for codes that are all 0. See Group.
struct BlockScale {
  float d = 0.0f;
  float inverse = 0.0f;  // 0 = codes are 0

  explicit BlockScale(int32_t bits) {
    constexpr int32_t kNotFinite = 0x7f800000;
    constexpr int32_t kNan = 0x7fc00000;
    constexpr int32_t kTiny = 0x0d800000;  // 2^-100: smaller blocks count as zeros, their reciprocal would overflow
    if (bits >= kNotFinite) std::memcpy(&d, &kNan, sizeof(d));
    if (bits >= kNotFinite || bits < kTiny) return;
    float largest;
    std::memcpy(&largest, &bits, sizeof(largest));
    d = largest / 127.0f;
    inverse = 127.0f / largest;
  }
};

// One step: codes, and the sums of its halves.
template <class B>
inline void quantize_step(const float* x, const BlockScale& scale, int8_t* q, int32_t (&sums)[2]) {
  if (scale.inverse != 0.0f) return B::Quantizer::encode(x, scale.inverse, q, sums);
  std::memset(q, 0, kStep);
  sums[0] = 0;
  sums[1] = 0;
}

template <class B>
void quantize_row(const float* x, int64_t cols, int64_t steps, int64_t row, const Group& g) {
  BlockScale scale(0);
  for (int64_t step = 0; step * kStep < cols; ++step) {
    float padded[kStep];
    const float* in = x + step * kStep;
    const int64_t left = cols - step * kStep;
    if (step % steps == 0) scale = BlockScale(largest_bits<B>(in, left < steps * kStep ? left : steps * kStep));
    if (left < kStep) {
      for (int i = 0; i < kStep; ++i) padded[i] = i < left ? in[i] : 0.0f;
      in = padded;
    }
    const int64_t at = step * g.width + row;
    int32_t sums[2];
    quantize_step<B>(in, scale, g.q + ((step / steps * g.width + row) * steps + step % steps) * kStep, sums);
    const float d = scale.d;
    g.d[at] = d;
    if (g.sums32 != nullptr) g.sums32[at] = d * static_cast<float>(sums[0] + sums[1]);
    if (g.sums16 != nullptr) {
      g.sums16[2 * at] = d * static_cast<float>(sums[0]);
      g.sums16[2 * at + 1] = d * static_cast<float>(sums[1]);
    }
    for (int i = 0; i < kStartPlaneCount; ++i) {
      if (g.start[i] == nullptr) continue;
      const int32_t zero_point = kStartPlanes[i].zero_point;
      if (kStartPlanes[i].sub_block == kStep) {
        g.start[i][at] = kSumStart - zero_point * (sums[0] + sums[1]);
      } else {
        g.start[i][2 * at] = kSumStart - zero_point * sums[0];
        g.start[i][2 * at + 1] = kSumStart - zero_point * sums[1];
      }
    }
  }
}

// Products by matrix instructions: matmul_tiles_impl.hpp.
template <class B, class Tiles, int Kind>
void multiply_tiled(const PackedTile& m);
struct NoTiles {};
// With codes unpacked once for many rows: matmul_wide_impl.hpp.
template <class B, int Kind>
void multiply_wide(const PackedTile& m);

template <class B, class Tiles, int Kind = 0>
constexpr void fill_packed(MatmulSlots& slots) {
  if constexpr (!std::is_same_v<Tiles, NoTiles>)
    slots.packed[Kind] = multiply_tiled<B, Tiles, Kind>;
  else if constexpr (B::kWidePanels > 0)
    slots.packed[Kind] = multiply_wide<B, Kind>;
  else
    slots.packed[Kind] = multiply_packed<B, Kind>;
  if constexpr (Kind + 1 < kPackedKinds) fill_packed<B, Tiles, Kind + 1>(slots);
}

template <class B, class Tiles>
constexpr MatmulSlots make_matmul_slots() {
  MatmulSlots slots{};
  fill_packed<B, Tiles>(slots);
  slots.plain[kPlainF32] = multiply_plain<B, kPlainF32>;
  slots.plain[kPlainF16] = multiply_plain<B, kPlainF16>;
  slots.plain[kPlainBF16] = multiply_plain<B, kPlainBF16>;
  slots.quantize = quantize_row<B>;
  return slots;
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
