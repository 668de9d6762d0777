#include "src/attention/turn.hpp"

#include <cmath>

#include "src/kernels/ops.hpp"
#include "src/kernels/slots.hpp"

namespace lcrun::attention {

void turn(const Rotary& rotary, int64_t positions, float* x, int64_t rows, int64_t dim) {
  constexpr size_t kMostPairs = 512;
  if (rotary.frequency.empty() || positions == 0) return;
  float table[2 * kMostPairs];
  const size_t n_pairs = rotary.frequency.size();
  for (size_t i = 0; i < n_pairs; ++i) {
    // In double: at a million positions a float would be off by hundredths of a radian.
    const double angle = static_cast<double>(positions) * rotary.frequency[i];
    table[2 * i] = static_cast<float>(std::cos(angle));
    table[2 * i + 1] = static_cast<float>(std::sin(angle));
  }
  kernels::rope(x, rows, dim, rotary.n_rot(), table, rotary.neox);
}

void turn_columns_back(const Rotary& rotary, int64_t positions, float* keys) {
  constexpr int64_t kColumns = kernels::kKvBlock;
  const int64_t half = rotary.n_rot() / 2;
  for (int64_t i = 0; i < half; ++i) {
    const double angle = static_cast<double>(positions) * rotary.frequency[static_cast<size_t>(i)];
    const auto c = static_cast<float>(std::cos(angle));
    const auto s = static_cast<float>(std::sin(angle));
    float* a = keys + (rotary.neox ? i : 2 * i) * kColumns;
    float* b = keys + (rotary.neox ? i + half : 2 * i + 1) * kColumns;
    for (int64_t column = 0; column < kColumns; ++column) {
      const float x = a[column], y = b[column];
      a[column] = x * c + y * s;
      b[column] = y * c - x * s;
    }
  }
}

}  // namespace lcrun::attention
