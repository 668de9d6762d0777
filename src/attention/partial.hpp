// AttnPartial: what attention over some of the keys yields, and how partials meet.
//
// Per query row: m = max score, l = sum exp(score - m), o = sum exp(score - m) v (not normalised). Merging is
// associative up to rounding, so keys may be split over blocks, threads or devices; this runtime merges in one
// fixed order (spans of blocks by absolute position), which makes results independent of who computed what.
// An empty partial (no visible key) is m = -inf, l = 0, o = 0 and merges as nothing, free of NaN.
// A view: memory belongs to the caller's scratch.
#pragma once

#include <cstdint>

namespace lcrun::attention {

struct AttnPartial {
  float* o = nullptr;  // [rows, o_stride]
  float* m = nullptr;  // [rows]
  float* l = nullptr;  // [rows]
  int64_t rows = 0;
  int64_t o_stride = 0;

  // Floats that a partial occupies, and the partial over `memory` of that many.
  static int64_t floats(int64_t rows, int64_t o_stride) { return rows * (o_stride + 2); }
  static AttnPartial over(float* memory, int64_t rows, int64_t o_stride) {
    return {memory, memory + rows * o_stride, memory + rows * (o_stride + 1), rows, o_stride};
  }
};

// Empties all rows.
void init(const AttnPartial& partial);
// into = into merged with from; same shape.
void merge(const AttnPartial& into, const AttnPartial& from);
// out[0..v_dim) = o / l of one row. `sink` is an extra logit without a value, or null. Zeros if nothing was seen.
void finish(const AttnPartial& partial, int64_t row, const float* sink, int64_t v_dim, float* out);

}  // namespace lcrun::attention
