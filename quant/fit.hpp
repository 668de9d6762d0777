// Choosing scales and codes: what the quantisers of the block formats share.
//
// All minimise the plain squared error of the block: with nothing known about the activations, the expected error of
// a product is proportional to it. Each tries a fan of scales around the one that just covers the values (a slightly
// smaller one that clips the extreme is often better), refits the scale to the codes it gave by least squares, and
// rounds to the stored precision before the final codes are taken, so that no error is made twice.
// Inputs are finite and at most 2^30 in magnitude (quantize_row sees to it). Scales that would overflow f16 are
// clamped to its largest value.
#pragma once

#include <cstdint>

#include "quant/packing.hpp"

namespace lcrun::quant {

// value = d * (code - zero), 0 <= code <= max_code, n <= 32. Returns the bits of d (f16).
uint16_t fit_half(const float* x, int n, int zero, int max_code, uint8_t* codes);

// value = d * q with d = max |x| / max_q. Returns the bits of d.
uint16_t fit_half_absmax(const float* x, int n, int max_q, int8_t* q);

struct HalfPair {
  uint16_t d;
  uint16_t m;
};
// value = d * code + m, 0 <= code <= max_code, n <= 32.
HalfPair fit_half_offset(const float* x, int n, int max_code, uint8_t* codes);

// 256 elements in 8 sub-blocks: value = d * sub[j] * code - m * sub_offset[j], six bits for sub and sub_offset.
// Note the minus: `m` is the formats' dmin, not the offset of packing.hpp.
void fit_super_offset(const float* x, int max_code, Unpacked& out);

// 256 elements in 16 sub-blocks: value = d * int8 sub[j] * (code - zero).
void fit_super(const float* x, int zero, int max_code, Unpacked& out);

}  // namespace lcrun::quant
