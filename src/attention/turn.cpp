#include "src/attention/turn.hpp"

#include <cmath>

#include "src/kernels/ops.hpp"

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

}  // namespace lcrun::attention
