#include "src/attention/rotation.hpp"

#include <cmath>

namespace lcrun::attention {

bool is_rotated(DType dtype) { return dtype == DType::kQ4_0; }

void rotate(float* x, int64_t dim) { rotate_columns(x, dim, 1); }

void rotate_columns(float* x, int64_t dim, int64_t columns) {
  const int64_t size = dim & -dim;
  for (int64_t half = 1; half < size; half *= 2) {
    for (int64_t start = 0; start < dim; start += 2 * half) {
      float* low = x + start * columns;
      float* high = low + half * columns;
      for (int64_t i = 0; i < half * columns; ++i) {
        const float a = low[i];
        const float b = high[i];
        low[i] = a + b;
        high[i] = a - b;
      }
    }
  }
  const float scale = 1.0F / std::sqrt(static_cast<float>(size));
  for (int64_t i = 0; i < dim * columns; ++i) x[i] *= scale;
}

}  // namespace lcrun::attention
