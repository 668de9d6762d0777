// Integer dot products for AVX2 and for AVX-512 without VNNI: products of unsigned codes and signed activations are
// summed in pairs to 16 bits (saturating, so sums must fit), those over vectors as long as they fit, then in pairs to
// 32 bits. Codes of 8 bits would saturate: they are split into nibbles, which are summed apart and joined by a factor
// of 16 in the second step: 33 operations for 32 inputs, as many as the usual sign trick, without its reloads.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "src/kernels/matmul_unpack_impl.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

// Sums are made where they are written. Else gcc gathers the products of a chain first, and spills them: products of
// many rows take half as long again. A lone row has the registers, and is faster so.
template <class Bytes>
inline void keep_here(Bytes& x) {
#if defined(__AVX512F__)
  asm("" : "+v"(x));
#else
  asm("" : "+x"(x));
#endif
}

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
    for (int c = 0; c < C; ++c, q += row_bytes(kPackings[Kind])) {
#pragma GCC unroll 8
      for (int begin = first; begin < first + count; begin += run) {
        auto sum = V::multiply_pairs(v[begin], V::broadcast4(q + 4 * begin));
#pragma GCC unroll 8
        for (int i = begin + 1; i < begin + run; ++i) {
          sum = V::add16(sum, V::multiply_pairs(v[i], V::broadcast4(q + 4 * i)));
          if constexpr (C > 1) keep_here(sum);
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
    for (int c = 0; c < C; ++c, q += row_bytes(kPackings[Kind])) {
      auto activation = V::broadcast4(q + 4 * first);
      auto low_sum = V::multiply_pairs(low[first], activation);
      auto high_sum = V::multiply_pairs(high[first], activation);
#pragma GCC unroll 8
      for (int i = first + 1; i < first + count; ++i) {
        activation = V::broadcast4(q + 4 * i);
        low_sum = V::add16(low_sum, V::multiply_pairs(low[i], activation));
        high_sum = V::add16(high_sum, V::multiply_pairs(high[i], activation));
        if constexpr (C > 1) {
          keep_here(low_sum);
          keep_here(high_sum);
        }
      }
      sums[c] = V::add32(sums[c], V::sum_pairs(low_sum, V::splat16(1)));
      sums[c] = V::add32(sums[c], V::sum_pairs(high_sum, V::splat16(16)));
    }
  }
};

// PortableQuantizer (matmul_quantize_impl.hpp) in 256-bit vectors, for AVX-512 too: the same bits in a third of the
// time that the compiler's vectors take.
struct X86Quantizer {
  static int32_t largest_magnitude_bits(const float* x) {
    const __m256i mask = _mm256_set1_epi32(0x7fffffff);
    const auto magnitudes = [&](int i) { return _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)), mask); };
    const __m256i all = _mm256_max_epi32(_mm256_max_epi32(magnitudes(0), magnitudes(8)),
                                         _mm256_max_epi32(magnitudes(16), magnitudes(24)));
    __m128i most = _mm_max_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
    return _mm_cvtsi128_si32(most);
  }

  static void encode(const float* x, float inverse, int8_t* q, int32_t (&sums)[2]) {
    const __m256 factor = _mm256_set1_ps(inverse);
    const auto codes = [&](int i) { return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), factor)); };
    // Packing works within 128-bit lanes: words come out as a0 b0 c0 d0 a1 b1 c1 d1, in units of four bytes.
    const __m256i bytes =
        _mm256_packs_epi16(_mm256_packs_epi32(codes(0), codes(8)), _mm256_packs_epi32(codes(16), codes(24)));
    const __m256i ordered = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), ordered);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), ordered);
    __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    fours = _mm256_hadd_epi32(fours, fours);
    fours = _mm256_hadd_epi32(fours, fours);
    sums[0] = _mm_cvtsi128_si32(_mm256_castsi256_si128(fours));
    sums[1] = _mm_cvtsi128_si32(_mm256_extracti128_si256(fours, 1));
  }
};

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
