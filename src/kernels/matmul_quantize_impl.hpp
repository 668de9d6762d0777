// Quantising a block of 32 activations, in plain loops that the compiler turns into vectors.
//
// Rounding is to nearest, ties to even, on every instruction set; here by adding a large number. Magnitudes are
// compared as integers, which orders them like floats and puts infinity and NaN on top.
#pragma once

#include <cstdint>
#include <cstring>

#include "src/kernels/matmul_layout.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

struct PortableQuantizer {
  // The bits of max |x|.
  static int32_t largest_magnitude_bits(const float* x) {
    int32_t largest = 0;
    for (int i = 0; i < kStep; ++i) {
      int32_t bits;
      std::memcpy(&bits, x + i, sizeof(bits));
      bits &= 0x7fffffff;
      largest = bits > largest ? bits : largest;
    }
    return largest;
  }

  // q = round(x * inverse), which is at most 127 in magnitude; sums[h] = sum of half h of q.
  static void encode(const float* x, float inverse, int8_t* q, int32_t (&sums)[2]) {
    constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
    constexpr int32_t kMagicBits = 0x4b400000;
    int32_t codes[kStep];
    for (int i = 0; i < kStep; ++i) {
      const float shifted = x[i] * inverse + kMagic;
      int32_t shifted_bits;
      std::memcpy(&shifted_bits, &shifted, sizeof(shifted_bits));
      codes[i] = shifted_bits - kMagicBits;
    }
    for (int i = 0; i < kStep; ++i) q[i] = static_cast<int8_t>(codes[i]);
    sums[0] = 0;
    sums[1] = 0;
    for (int i = 0; i < kStep / 2; ++i) {
      sums[0] += codes[i];
      sums[1] += codes[i + kStep / 2];
    }
  }
};

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
