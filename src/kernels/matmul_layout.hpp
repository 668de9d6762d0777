// How prepared weights and quantised activations lie in memory: shared by matmul.cpp, which writes them, and by the
// kernels, which read them. One layout for all instruction sets. Constants only.
//
// Weights: panels of 16 output rows, so that SIMD lanes are output rows and no horizontal sum exists. A panel is
//   codes:  for each step of 32 inputs, the low plane, then the high plane (if any)
//   scales: for each run of 8 steps (super forms) or each step, 16-bit d of the 16 rows, then 16-bit m (offset forms);
//           super forms then have for each of the 8 steps the sub-scales of the 16 rows, one byte each, one run of 16
//           for each sub-block, then (kSuperOffset) the sub-offsets.
// A step's codes are 8 vectors of 64 bytes: byte 4 * r + i of vector v is the code of row r, input 4 * v + i: what a
// dot product of 4 bytes per lane wants. Planes hold them in fewer bits, so that masks and shifts unpack them:
//   8 bits: the vectors;  4 bits: vector p of 4 holds v = p (low) and v = p + 4 (high);
//   2 bits: vector p of 2 holds v = p + 2 j in bits 2j, 2j + 1;  1 bit: one vector holds v in bit v.
//
// Activations: groups of up to 16 rows ("width"), step by step, so that a kernel walks one stream whatever the number
// of rows. See Group.
#pragma once

#include <cstdint>

#include "quant/packing.hpp"

namespace lcrun::kernels {

using quant::Codebook;
using quant::Packing;
using quant::ScaleForm;

constexpr int kPanelRows = 16;
constexpr int kStep = 32;       // inputs in a step; also the block of quantised activations
constexpr int kSuperSteps = 8;  // steps in a super block of 256
constexpr int kGroupRows = 16;  // activation rows in a full group

// The packings that have kernels: the index is the kind that the kernel table is keyed by.
constexpr Packing kPackings[] = {
    {4, 0, 32, ScaleForm::kHalf, Codebook::kNone, 8},         // Q4_0
    {4, 0, 32, ScaleForm::kHalfOffset, Codebook::kNone, 0},   // Q4_1
    {4, 1, 32, ScaleForm::kHalf, Codebook::kNone, 16},        // Q5_0
    {4, 1, 32, ScaleForm::kHalfOffset, Codebook::kNone, 0},   // Q5_1
    {8, 0, 32, ScaleForm::kHalf, Codebook::kNone, 128},       // Q8_0
    {2, 0, 16, ScaleForm::kSuperNibble, Codebook::kNone, 0},  // Q2_K
    {2, 1, 16, ScaleForm::kSuper, Codebook::kNone, 4},        // Q3_K
    {4, 0, 32, ScaleForm::kSuperOffset, Codebook::kNone, 0},  // Q4_K
    {4, 1, 32, ScaleForm::kSuperOffset, Codebook::kNone, 0},  // Q5_K
    {4, 2, 16, ScaleForm::kSuper, Codebook::kNone, 32},       // Q6_K
    {4, 0, 32, ScaleForm::kHalf, Codebook::kIq4, 128},        // IQ4_NL
    {4, 0, 32, ScaleForm::kSuper, Codebook::kIq4, 128},       // IQ4_XS
    {4, 0, 32, ScaleForm::kBf16, Codebook::kFp4, 16},         // MXFP4
};
constexpr int kPackedKinds = sizeof(kPackings) / sizeof(kPackings[0]);
// Plain kinds: panels of [input][16 rows] numbers.
constexpr int kPlainF32 = 0;
constexpr int kPlainF16 = 1;
constexpr int kPlainBF16 = 2;
constexpr int kPlainKinds = 3;

constexpr int code_bytes(const Packing& p) { return kPanelRows * kStep * (p.low_bits + p.high_bits) / 8; }
constexpr int low_plane_bytes(const Packing& p) { return kPanelRows * kStep * p.low_bits / 8; }
constexpr int sub_blocks(const Packing& p) { return kStep / p.sub_block; }
// 16-bit scales that open a run of steps, and the bytes that each of its steps adds.
constexpr int run_steps(const Packing& p) { return p.is_super() ? kSuperSteps : 1; }
constexpr int run_header_bytes(const Packing& p) { return kPanelRows * 2 * (p.has_offset() ? 2 : 1); }
constexpr int step_scale_bytes(const Packing& p) {
  if (!p.is_super()) return 0;
  return kPanelRows * sub_blocks(p) * (p.scale == ScaleForm::kSuperOffset ? 2 : 1);
}
constexpr int run_bytes(const Packing& p) { return run_header_bytes(p) + run_steps(p) * step_scale_bytes(p); }
constexpr int64_t packed_panel_bytes(const Packing& p, int64_t n_steps) {
  const int64_t bytes = n_steps * code_bytes(p) + n_steps / run_steps(p) * run_bytes(p);
  return (bytes + 63) / 64 * 64;
}

// Sums of a step start at the bits of the float 1.5 * 2^23. They stay below 2^22 in magnitude (32 codes of 8 bits times
// 127), so their bits are at any time those of the float 1.5 * 2^23 + sum: no conversion is needed to multiply them.
constexpr int32_t kSumStart = 0x4b400000;
constexpr float kSumStartValue = 12582912.0f;

// Zero points are folded into the sum too: it starts at kSumStart minus zero point times the sum of the activations of
// the sub-block. These are the (zero point, sub-block) pairs for which that start is kept.
struct StartPlane {
  uint8_t zero_point;
  uint8_t sub_block;
};
constexpr StartPlane kStartPlanes[] = {{8, 32}, {16, 32}, {128, 32}, {4, 16}, {32, 16}};
constexpr int kStartPlaneCount = sizeof(kStartPlanes) / sizeof(kStartPlanes[0]);
constexpr int start_plane_of(const Packing& p) {
  for (int i = 0; i < kStartPlaneCount; ++i) {
    if (kStartPlanes[i].zero_point == p.zero_point && kStartPlanes[i].sub_block == p.sub_block) return i;
  }
  return -1;  // no zero point
}

// Activations of a row that lie together: those of a run.
constexpr int row_bytes(const Packing& p) { return kStep * run_steps(p); }

// What a kernel reads of a group besides codes and scales, as bits: only that is written, for each is a line of memory
// a step that 16 rows share.
constexpr uint32_t kSums32 = 1;
constexpr uint32_t kSums16 = 2;
constexpr uint32_t start_bit(int plane) { return 4U << plane; }
constexpr uint32_t planes_of(const Packing& p) {
  uint32_t planes = 0;
  if (p.has_offset()) planes |= sub_blocks(p) == 1 ? kSums32 : kSums16;
  if (p.zero_point != 0) planes |= start_bit(start_plane_of(p));
  return planes;
}

// One group of activation rows, quantised in blocks of 32 or 256 (whose steps then have equal d): x ~ d * q with
// d = max |x| / 127. A block that holds NaN or infinity has q = 0 and d = NaN, so that every product of the row is NaN.
// Null: not among the planes that were wanted.
struct Group {
  int64_t width;                     // rows
  int8_t* q;                         // [n_steps / steps, width, 32 * steps], where a block has `steps` steps: 1 or 8
  float* d;                          // [n_steps, width]
  float* sums32;                     // [n_steps, width]: d * sum of q over the step
  float* sums16;                     // [n_steps, width, 2]: the same for its halves
  int32_t* start[kStartPlaneCount];  // [n_steps, width, 32 / sub_block]
};

constexpr int64_t kGroupBytesPerRowStep = [] {
  int64_t bytes = kStep + 4 + 4 + 8;
  for (const StartPlane& plane : kStartPlanes) bytes += 4 * (kStep / plane.sub_block);
  return bytes;
}();

}  // namespace lcrun::kernels
