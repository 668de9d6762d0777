// Turning queries: a shift that is the same for all keys of a block is applied to the query, never to the cache.
//
// The product of a query rotated for position m and a key rotated for position n depends on m - n alone (RoFormer, Su
// et al., arXiv 2104.09864, section 3.4). A key that shall count as standing `shift` positions later meets the query
// turned back by as much: quantised keys are never rewritten.
#pragma once

#include <cstdint>
#include <span>

namespace lcrun::attention {

// How a layer's heads are rotated by position; no frequencies where they are not.
struct Rotary {
  std::span<const double> frequency;  // [n_rot / 2] radians per position
  bool neox = false;                  // pairs are (i, i + n_rot / 2), else (2 i, 2 i + 1)

  int64_t n_rot() const { return 2 * static_cast<int64_t>(frequency.size()); }
};

// Turns rows on by `positions` (negative: back).  // x [rows, dim]
void turn(const Rotary& rotary, int64_t positions, float* x, int64_t rows, int64_t dim);
// Turns the 64 keys of a block back by `positions`.  // keys [dim, 64]
void turn_columns_back(const Rotary& rotary, int64_t positions, float* keys);

}  // namespace lcrun::attention
