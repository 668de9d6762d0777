// The AVX2 backend of matrix products, with AVX-VNNI where that is compiled for: a panel is two vectors of 8 rows. Wide
// tiles take one vector at a time, for want of registers; a lone row both, so that a panel is read from memory once.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "src/kernels/matmul_x86_impl.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

// Bytes of 256 bits, as matmul_unpack_impl.hpp and matmul_x86_impl.hpp want them.
struct Bytes256 {
  using Bytes = __m256i;
  static Bytes load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static void store(uint8_t* p, Bytes x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
  static Bytes splat(int byte) { return _mm256_set1_epi8(static_cast<char>(byte)); }
  static Bytes splat16(int word) { return _mm256_set1_epi16(static_cast<short>(word)); }
  static Bytes select(Bytes x, Bytes mask) { return _mm256_and_si256(x, mask); }
  static Bytes merge(Bytes code, Bytes x, Bytes mask) { return _mm256_or_si256(code, _mm256_and_si256(x, mask)); }
  template <int N>
  static Bytes shift_left(Bytes x) {
    return _mm256_slli_epi16(x, N);
  }
  template <int N>
  static Bytes shift_right(Bytes x) {
    return _mm256_srli_epi16(x, N);
  }
  static Bytes load_table(const uint8_t* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Bytes lookup(Bytes table, Bytes codes) { return _mm256_shuffle_epi8(table, codes); }
  static Bytes broadcast4(const int8_t* p) {
    int32_t word;
    std::memcpy(&word, p, sizeof(word));
    return _mm256_set1_epi32(word);
  }
  static Bytes multiply_pairs(Bytes codes, Bytes q) { return _mm256_maddubs_epi16(codes, q); }
  static Bytes sum_pairs(Bytes sums, Bytes factors) { return _mm256_madd_epi16(sums, factors); }
  static Bytes add16(Bytes a, Bytes b) { return _mm256_add_epi16(a, b); }
  static Bytes add32(Bytes a, Bytes b) { return _mm256_add_epi32(a, b); }
#if defined(__AVXVNNI__)
  static Bytes dot4(Bytes sum, Bytes codes, Bytes q) { return _mm256_dpbusd_avx_epi32(sum, codes, q); }
#endif
};

#if defined(__AVXVNNI__)
// Four products are summed into 32 bits by one instruction. Codes are unpacked as they are used: with the sums of all
// chains there are no registers to keep them in.
template <class V, int Kind>
struct VnniCodes {
  const uint8_t* step;

  static VnniCodes unpack(const uint8_t* step) { return {step}; }

  template <int C, int Index>
  void add(const int8_t* q, __m256i* sums) const {
    const __m256i code = codes_of<V, Kind, Index>(step);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      sums[c] = V::dot4(sums[c], code, V::broadcast4(q + c * row_bytes(kPackings[Kind]) + 4 * Index));
    }
  }
  template <int C>
  void dot(int first, int count, const int8_t* q, __m256i* sums) const {
    if (first == 0) {
      add<C, 0>(q, sums);
      add<C, 1>(q, sums);
      add<C, 2>(q, sums);
      add<C, 3>(q, sums);
    }
    if (first + count > 4) {
      add<C, 4>(q, sums);
      add<C, 5>(q, sums);
      add<C, 6>(q, sums);
      add<C, 7>(q, sums);
    }
  }
};
#endif

struct MatmulBackend {
  using Quantizer = X86Quantizer;
  static constexpr int kLanes = 8;
  using F = __m256;
  using I = __m256i;
#if defined(__AVXVNNI__)
  static constexpr int kMaxTile = 8;
  template <int>
  static constexpr int kChains = 8;
  template <int Kind>
  using Codes = VnniCodes<Bytes256, Kind>;
  static constexpr int kWidePanels = 1;
  using Bytes = Bytes256;
#else
  static constexpr int kMaxTile = 16;
  template <int Kind>  // two tell PairCodes that a row is not alone
  static constexpr int kChains = kPackings[Kind].sub_block == kStep ? 2 : 1;
  template <int Kind>
  using Codes = PairCodes<Bytes256, Kind>;
  static constexpr int kWidePanels = 0;
#endif
  static constexpr int joint_vectors(int tile) { return tile == 1 ? 2 : 1; }

  template <int Kind>
  static Codes<Kind> unpack(const uint8_t* step, int lane) {
    return Codes<Kind>::unpack(step + 4 * lane);
  }
  template <int Kind, int C>
  static void dot(const Codes<Kind>& codes, int first, int count, const int8_t* q, I* sums) {
    codes.template dot<C>(first, count, q, sums);
  }
  // See matmul_layout.hpp, kSumStart.
  static F to_float(I sum) { return _mm256_sub_ps(_mm256_castsi256_ps(sum), splat(kSumStartValue)); }
  static F scaled(I sum, F scale, F shift) { return _mm256_fmadd_ps(_mm256_castsi256_ps(sum), scale, shift); }

  static F zero() { return _mm256_setzero_ps(); }
  static F splat(float x) { return _mm256_set1_ps(x); }
  static I splat(int32_t x) { return _mm256_set1_epi32(x); }
  static F broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  static I broadcast(const int32_t* p) { return _mm256_set1_epi32(*p); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F a) { _mm256_storeu_ps(p, a); }
  static void prefetch(const uint8_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }

  static __m128i load8(const uint8_t* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }
  static __m128i load16(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static F from_bytes(__m128i bytes) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)); }
  static F load_f16(const uint8_t* p) { return _mm256_cvtph_ps(load16(p)); }
  static F load_bf16(const uint8_t* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(p)), 16));
  }
  static F load_i8(const uint8_t* p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load8(p))); }
  static F load_u8(const uint8_t* p) { return from_bytes(load8(p)); }
  static F load_low_nibble(const uint8_t* p) { return from_bytes(_mm_and_si128(load8(p), _mm_set1_epi8(15))); }
  static F load_high_nibble(const uint8_t* p) {
    return from_bytes(_mm_and_si128(_mm_srli_epi16(load8(p), 4), _mm_set1_epi8(15)));
  }
};

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
