// Reproducible random rows for tests: a fixed generator, no library distributions (they differ between libraries).
#pragma once

#include <cstdint>
#include <vector>

namespace lcrun::test {

// xorshift64*, Vigna, "An experimental exploration of Marsaglia's xorshift generators", section 3
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ULL + 1) {}
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1DULL;
  }
  // In [low, high).
  float uniform(float low, float high) { return low + (high - low) * static_cast<float>(next() >> 40) * 0x1p-24F; }
  // In [0, n).
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
  std::vector<float> row(int64_t n, float low = -1.0F, float high = 1.0F) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values) value = uniform(low, high);
    return values;
  }

 private:
  uint64_t state_;
};

}  // namespace lcrun::test
