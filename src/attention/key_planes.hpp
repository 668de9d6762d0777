// Keys as bit planes: 64 keys of a head rounded to 4 bits, bit by bit apart, as tables of subset sums score them
// (src/kernels/planes_impl.hpp).
//
// Keys are rotated as a q4_0 cache's are (rotation.hpp) and less the mean of their block; a code c stands for
// (c - 7.5) times the key's scale, which is the mean of its absolute elements over 2.38: for elements of a normal
// distribution the step of the best uniform quantiser of 16 levels (Max, "Quantizing for minimum distortion", IRE
// Trans. Inf. Theory 6, 1960, table II).
// Thread rule: free functions on what they are given.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/kernels/slots.hpp"

namespace lcrun::attention {

// 64 rows [64, dim] into a part; `rows` is changed. dim is a multiple of 32.
void encode_planes(float* rows, int64_t dim, std::byte* part);
// What a part holds, as it was given.  // rows [64, dim]
void decode_planes(const std::byte* part, int64_t dim, float* rows);

// Look-up tables of query rows.
struct PlaneTables {
  uint8_t* tables;   // [n, dim / 4, 16]
  int16_t* centres;  // [n]
  float* factors;    // [n]
};
// q [n, dim], rotated
void make_plane_tables(const float* q, int64_t n, int64_t dim, const PlaneTables& out);
int plane_shift(int64_t dim);

}  // namespace lcrun::attention
