// Rotation of heads before they are rounded to 4 bits.
//
// Keys have a few dimensions that are far larger than the rest; in a group that shares a scale they leave the others
// one or two codes. A Hadamard transform spreads them over all dimensions (Ashkboos et al., QuaRot, arXiv 2404.00456,
// section 4). It is orthogonal and its own inverse: rotated queries meet rotated keys with the same products, and a
// weighted sum of rotated values rotates back to that of the values. So it is a property of the q4_0 cache alone.
#pragma once

#include <cstdint>

#include "src/base/tensor.hpp"

namespace lcrun::attention {

// Are rows of this cache type kept rotated?
bool is_rotated(DType dtype);
// Rotates a head in place: x = H x / sqrt(n) for each part of n elements, n the largest power of two in `dim`.
// Plain code: the same bits whatever instruction set the kernels use.
void rotate(float* x, int64_t dim);
// The same for heads that lie in columns.  // x [dim, columns]
void rotate_columns(float* x, int64_t dim, int64_t columns);

}  // namespace lcrun::attention
