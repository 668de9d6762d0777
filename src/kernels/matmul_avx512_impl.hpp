// The AVX-512 backend of matrix products: a vector is the 16 rows of a panel. With VNNI four products are summed
// into 32 bits by one instruction; without, see matmul_x86_impl.hpp.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "src/kernels/matmul_x86_impl.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

// Bytes of 512 bits, as matmul_unpack_impl.hpp and matmul_x86_impl.hpp want them.
struct Bytes512 {
  using Bytes = __m512i;
  static Bytes load(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static void store(uint8_t* p, Bytes x) { _mm512_storeu_si512(p, x); }
  static Bytes splat(int byte) { return _mm512_set1_epi8(static_cast<char>(byte)); }
  static Bytes splat16(int word) { return _mm512_set1_epi16(static_cast<short>(word)); }
  static Bytes select(Bytes x, Bytes mask) { return _mm512_and_si512(x, mask); }
  static Bytes merge(Bytes code, Bytes x, Bytes mask) { return _mm512_ternarylogic_epi32(code, x, mask, 0xf8); }
  template <int N>
  static Bytes shift_left(Bytes x) {
    return _mm512_slli_epi16(x, N);
  }
  template <int N>
  static Bytes shift_right(Bytes x) {
    return _mm512_srli_epi16(x, N);
  }
  static Bytes load_table(const uint8_t* p) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Bytes lookup(Bytes table, Bytes codes) { return _mm512_shuffle_epi8(table, codes); }
  static Bytes broadcast4(const int8_t* p) {
    int32_t word;
    std::memcpy(&word, p, sizeof(word));
    return _mm512_set1_epi32(word);
  }
  static Bytes multiply_pairs(Bytes codes, Bytes q) { return _mm512_maddubs_epi16(codes, q); }
  static Bytes sum_pairs(Bytes sums, Bytes factors) { return _mm512_madd_epi16(sums, factors); }
  static Bytes add16(Bytes a, Bytes b) { return _mm512_add_epi16(a, b); }
  static Bytes add32(Bytes a, Bytes b) { return _mm512_add_epi32(a, b); }
#if defined(__AVX512VNNI__)
  static Bytes dot4(Bytes sum, Bytes codes, Bytes q) { return _mm512_dpbusd_epi32(sum, codes, q); }
#endif
};

#if defined(__AVX512VNNI__)
template <class V, int Kind>
struct VnniCodes {
  __m512i v[8];

  static VnniCodes unpack(const uint8_t* step) {
    VnniCodes out;
    unpack_codes<V, Kind>(step, out.v);
    return out;
  }
  template <int C>
  void dot(int first, int count, const int8_t* q, __m512i* sums) const {
#pragma GCC unroll 16
    for (int i = first; i < first + count; ++i) {
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c)
        sums[c] = V::dot4(sums[c], v[i], V::broadcast4(q + c * row_bytes(kPackings[Kind]) + 4 * i));
    }
  }
};
#endif

struct MatmulBackend {
  using Quantizer = X86Quantizer;
  static constexpr int kLanes = 16;
  using F = __m512;
  using I = __m512i;
#if defined(__AVX512VNNI__)
  // The chains hide the latency of the dot product. With the sums of 16 some results live in memory, which costs less
  // than to unpack the codes twice for 8 and 8 rows.
  static constexpr int kMaxTile = 16;
  template <int>
  static constexpr int kChains = 16;
  template <int Kind>
  using Codes = VnniCodes<Bytes512, Kind>;
  static constexpr int kWidePanels = 3;
  using Bytes = Bytes512;
#else
  static constexpr int kMaxTile = 16;
  template <int>
  static constexpr int kChains = 1;
  template <int Kind>
  using Codes = PairCodes<Bytes512, Kind>;
  static constexpr int kWidePanels = 0;
#endif
  static constexpr int joint_vectors(int) { return 1; }

  template <int Kind>
  static Codes<Kind> unpack(const uint8_t* step, int) {
    return Codes<Kind>::unpack(step);
  }
  template <int Kind, int C>
  static void dot(const Codes<Kind>& codes, int first, int count, const int8_t* q, I* sums) {
    codes.template dot<C>(first, count, q, sums);
  }
  // Codes less their zero points, as bytes in the order of the vectors.
  template <int Kind>
  static void unpack_signed(const uint8_t* step, int8_t* out) {
    __m512i codes[8];
    unpack_codes<Bytes512, Kind>(step, codes);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      _mm512_store_si512(out + 64 * i, _mm512_sub_epi8(codes[i], Bytes512::splat(kPackings[Kind].zero_point)));
    }
  }
  // The same times a factor of each row and sub-block, at most 13 bits and a sign: 128 * high + low.
  template <int Kind>
  static void unpack_products(const uint8_t* step, const I* factors, int8_t* low, int8_t* high) {
    constexpr int kSubs = kStep / kPackings[Kind].sub_block;
    __m512i codes[8];
    unpack_codes<Bytes512, Kind>(step, codes);
    const __m512i half = _mm512_set1_epi16(64);
    const __m512i low_bytes = _mm512_set1_epi16(255);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const __m512i both = factors[i * kSubs / 8];
      const __m512i factor = _mm512_mask_blend_epi16(0xaaaaaaaa, both, _mm512_slli_epi32(both, 16));
      const __m512i code = _mm512_sub_epi8(codes[i], Bytes512::splat(kPackings[Kind].zero_point));
      const __m512i even = _mm512_mullo_epi16(_mm512_srai_epi16(_mm512_slli_epi16(code, 8), 8), factor);
      const __m512i odd = _mm512_mullo_epi16(_mm512_srai_epi16(code, 8), factor);
      const __m512i even_high = _mm512_srai_epi16(_mm512_add_epi16(even, half), 7);
      const __m512i odd_high = _mm512_srai_epi16(_mm512_add_epi16(odd, half), 7);
      const __m512i even_low = _mm512_sub_epi16(even, _mm512_slli_epi16(even_high, 7));
      const __m512i odd_low = _mm512_sub_epi16(odd, _mm512_slli_epi16(odd_high, 7));
      const auto bytes = [&](__m512i a, __m512i b) { return Bytes512::merge(_mm512_slli_epi16(b, 8), a, low_bytes); };
      _mm512_store_si512(low + 64 * i, bytes(even_low, odd_low));
      _mm512_store_si512(high + 64 * i, bytes(even_high, odd_high));
    }
  }
  static F convert(I x) { return _mm512_cvtepi32_ps(x); }
  static I load(const int32_t* p) { return _mm512_load_si512(p); }
  static I add(I a, I b) { return _mm512_add_epi32(a, b); }
  static I mul(I a, I b) { return _mm512_mullo_epi32(a, b); }
  template <int N>
  static I shift_left(I x) {
    return _mm512_slli_epi32(x, N);
  }
  static I load_int8(const uint8_t* p) { return _mm512_cvtepi8_epi32(load16(p)); }
  static I load_uint8(const uint8_t* p) { return _mm512_cvtepu8_epi32(load16(p)); }
  static I load_nibble(const uint8_t* p) { return _mm512_and_si512(load_uint8(p), splat(15)); }
  // See matmul_layout.hpp, kSumStart.
  static F to_float(I sum) { return _mm512_sub_ps(_mm512_castsi512_ps(sum), splat(kSumStartValue)); }
  static F scaled(I sum, F scale, F shift) { return _mm512_fmadd_ps(_mm512_castsi512_ps(sum), scale, shift); }

  static F zero() { return _mm512_setzero_ps(); }
  static F splat(float x) { return _mm512_set1_ps(x); }
  static I splat(int32_t x) { return _mm512_set1_epi32(x); }
  static F broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static I broadcast(const int32_t* p) { return _mm512_set1_epi32(*p); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F a) { _mm512_storeu_ps(p, a); }
  static void prefetch(const uint8_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }

  static __m128i load16(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static __m256i load32(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static F from_bytes(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)); }
  static F load_f16(const uint8_t* p) { return _mm512_cvtph_ps(load32(p)); }
  static F load_bf16(const uint8_t* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load32(p)), 16));
  }
  static F load_i8(const uint8_t* p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(p))); }
  static F load_u8(const uint8_t* p) { return from_bytes(load16(p)); }
  static F load_low_nibble(const uint8_t* p) { return from_bytes(_mm_and_si128(load16(p), _mm_set1_epi8(15))); }
  static F load_high_nibble(const uint8_t* p) {
    return from_bytes(_mm_and_si128(_mm_srli_epi16(load16(p), 4), _mm_set1_epi8(15)));
  }
};

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
