// Random choices of evaluations: the same on every machine, for ever, because results are compared by seed.
//
// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). No std:: distribution: those
// differ between standard libraries. Thread rule: a value.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace lcrun::runtime {

class EvalRandom {
 public:
  explicit EvalRandom(uint64_t seed) : state_(seed) {}
  // A stream of its own for each combination of numbers (a case: task, length, depth, seed).
  static EvalRandom of(std::initializer_list<uint64_t> numbers) {
    EvalRandom random(0x6c6372756eULL);
    for (const uint64_t number : numbers) random.state_ = random.next() ^ (number * 0xff51afd7ed558ccdULL);
    return random;
  }

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  // 0 .. n - 1, n in 1 .. 2^32: the high half of a product, whose bias is below n / 2^32.
  int64_t below(int64_t n) { return static_cast<int64_t>(((next() >> 32) * static_cast<uint64_t>(n)) >> 32); }
  // first .. last, both included.
  int64_t between(int64_t first, int64_t last) { return first + below(last - first + 1); }

 private:
  uint64_t state_;
};

}  // namespace lcrun::runtime
