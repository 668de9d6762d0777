// The random numbers of the simulator: one seed is one run, on every machine and library.
#pragma once

#include <cstdint>

namespace lcrun::storage {

// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014, figure 14).
class SimRandom {
 public:
  explicit SimRandom(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  // In [0, n); n > 0.
  uint64_t below(uint64_t n) { return next() % n; }
  bool once_in(uint64_t n) { return below(n) == 0; }

 private:
  uint64_t state_;
};

}  // namespace lcrun::storage
