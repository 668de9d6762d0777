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

  template <int First, int Count>
  typename V::Bytes dot(const int8_t* q, typename V::Bytes start) const {
    constexpr int kFits = sums_in_16_bits(kPackings[Kind]);
    constexpr int kRun = kFits < Count ? kFits : Count;
    auto total = start;
#pragma GCC unroll 8
    for (int first = First; first < First + Count; first += kRun) {
      auto sum = V::multiply_pairs(v[first], V::broadcast4(q + 4 * first));
#pragma GCC unroll 8
      for (int i = first + 1; i < first + kRun; ++i) {
        sum = V::add16(sum, V::multiply_pairs(v[i], V::broadcast4(q + 4 * i)));
      }
      total = V::add32(total, V::sum_pairs(sum, V::splat16(1)));
    }
    return total;
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

  template <int First, int Count>
  typename V::Bytes dot(const int8_t* q, typename V::Bytes start) const {
    auto activation = V::broadcast4(q + 4 * First);
    auto low_sum = V::multiply_pairs(low[First], activation);
    auto high_sum = V::multiply_pairs(high[First], activation);
#pragma GCC unroll 8
    for (int i = First + 1; i < First + Count; ++i) {
      activation = V::broadcast4(q + 4 * i);
      low_sum = V::add16(low_sum, V::multiply_pairs(low[i], activation));
      high_sum = V::add16(high_sum, V::multiply_pairs(high[i], activation));
    }
    start = V::add32(start, V::sum_pairs(low_sum, V::splat16(1)));
    return V::add32(start, V::sum_pairs(high_sum, V::splat16(16)));
  }
};

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
