// Integer dot products for AVX2 and for AVX-512 without VNNI: products of unsigned codes and signed activations are
// summed in pairs to 16 bits (saturating, so sums must fit), those over vectors as long as they fit, then in pairs to
// 32 bits. Codes of 8 bits would saturate: they are split into nibbles, which are summed apart and joined by a factor
// of 16 in the second step: 33 operations for 32 inputs, as many as the usual sign trick, without its reloads.
#pragma once

#include <cstdint>

#include "src/kernels/matmul_unpack_impl.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

template <class V, int Kind, bool kSplit = (sums_in_16_bits(kPackings[Kind]) == 0)>
struct PairCodes {
  typename V::Bytes v[8];

  static PairCodes unpack(const uint8_t* step) {
    PairCodes out;
    unpack_codes<V, Kind>(step, out.v);
    return out;
  }

  template <int C>
  void dot(int first, int count, const int8_t* q, typename V::Bytes* sums) const {
    constexpr int kFits = sums_in_16_bits(kPackings[Kind]);
    const int run = kFits < count ? kFits : count;
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c, q += kStep) {
#pragma GCC unroll 8
      for (int begin = first; begin < first + count; begin += run) {
        auto sum = V::multiply_pairs(v[begin], V::broadcast4(q + 4 * begin));
#pragma GCC unroll 8
        for (int i = begin + 1; i < begin + run; ++i) {
          sum = V::add16(sum, V::multiply_pairs(v[i], V::broadcast4(q + 4 * i)));
        }
        sums[c] = V::add32(sums[c], V::sum_pairs(sum, V::splat16(1)));
      }
    }
  }
};

template <class V, int Kind>
struct PairCodes<V, Kind, true> {
  typename V::Bytes low[8];
  typename V::Bytes high[8];

  static PairCodes unpack(const uint8_t* step) {
    PairCodes out;
    unpack_codes<V, Kind>(step, out.low);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      out.high[i] = V::select(V::template shift_right<4>(out.low[i]), V::splat(15));
      out.low[i] = V::select(out.low[i], V::splat(15));
    }
    return out;
  }

  template <int C>
  void dot(int first, int count, const int8_t* q, typename V::Bytes* sums) const {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c, q += kStep) {
      auto activation = V::broadcast4(q + 4 * first);
      auto low_sum = V::multiply_pairs(low[first], activation);
      auto high_sum = V::multiply_pairs(high[first], activation);
#pragma GCC unroll 8
      for (int i = first + 1; i < first + count; ++i) {
        activation = V::broadcast4(q + 4 * i);
        low_sum = V::add16(low_sum, V::multiply_pairs(low[i], activation));
        high_sum = V::add16(high_sum, V::multiply_pairs(high[i], activation));
      }
      sums[c] = V::add32(sums[c], V::sum_pairs(low_sum, V::splat16(1)));
      sums[c] = V::add32(sums[c], V::sum_pairs(high_sum, V::splat16(16)));
    }
  }
};

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
