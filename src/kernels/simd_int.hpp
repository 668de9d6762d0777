// Integer products for attention over quantised caches: I32, kLanes sums of products of 16-bit pairs.
//
// A pair is two 16-bit integers in one 32-bit lane; dot_pairs() multiplies pairs and adds both products to the lane.
// Sums are exact, so neither their order nor the instruction set changes a bit. Columns come 16 at a time (kUnit
// vectors), the piece in which bytes of two rows are interleaved into pairs without crossing vector halves.
#pragma once

#include "src/kernels/simd.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

#if defined(LCRUN_SIMD_AVX512)
using I32 = __m512i;
#elif defined(LCRUN_SIMD_X86)
using I32 = __m256i;
#elif defined(LCRUN_SIMD_NEON)
using I32 = int32x4_t;
#else
using I32 = int32_t;
#endif

constexpr int64_t kUnitColumns = 16;
constexpr int64_t kUnit = kUnitColumns / kLanes;  // vectors of 16 columns

// splat_pair: the pair p[0], p[1] in all lanes.  load_pairs, store_pairs: kLanes pairs.  store_i16: kLanes floats
// rounded to nearest even, within 16 bits.
// interleave_i8: pairs (a[i], b[i]), i < 16.  split_q4: pairs (low, high four bits of p[i]), each less 8.
// load_every_other_f16: p[which], p[which + 2], ... as floats; which is 0 or 1.
// interleave_q4: pairs of ((a[i] >> shift) & 15) - 8 and the same of b.
#if defined(LCRUN_SIMD_AVX512)
inline I32 zero_i32() { return _mm512_setzero_si512(); }
inline I32 load_pairs(const int32_t* p) { return _mm512_loadu_si512(p); }
inline void store_pairs(int32_t* p, I32 x) { _mm512_storeu_si512(p, x); }
inline I32 splat_i32(int32_t x) { return _mm512_set1_epi32(x); }
inline F32 to_f32(I32 x) { return _mm512_cvtepi32_ps(x); }
// In assembly, for g++ 12 otherwise copies and spills the sums of a pass in its inner loop (half the speed).
inline I32 dot_pairs(I32 sum, I32 a, I32 b) {
#if defined(__AVX512VNNI__)
  asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
#else
  I32 product;
  asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+v"(sum), "=&v"(product) : "v"(a), "v"(b));
#endif
  return sum;
}
inline void store_i16(int16_t* p, F32 x) {
  const __m256i words = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x));
  _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(p)), words);
}
inline F32 load_every_other_f16(const uint16_t* p, int64_t which) {
  const __m512i both = _mm512_loadu_si512(p);
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(which == 0 ? both : _mm512_srli_epi32(both, 16)));
}
inline I32 join_words(I32 low, I32 high) {
  return _mm512_mask_blend_epi16(0xAAAAAAAAU, low, _mm512_slli_epi32(high, 16));
}
inline void interleave_i8(const int8_t* a, const int8_t* b, I32* out) {
  out[0] = join_words(_mm512_cvtepi8_epi32(load_bytes(a)), _mm512_cvtepi8_epi32(load_bytes(b)));
}
inline I32 less_eight(I32 nibbles) {
  return _mm512_sub_epi16(_mm512_and_si512(nibbles, _mm512_set1_epi16(15)), _mm512_set1_epi16(8));
}
inline void split_q4(const uint8_t* p, I32* out) {
  const I32 bytes = _mm512_cvtepu8_epi32(load_bytes(p));
  out[0] = less_eight(_mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 12)));
}
inline void interleave_q4(const uint8_t* a, const uint8_t* b, int shift, I32* out) {
  const I32 high = _mm512_slli_epi32(_mm512_cvtepu8_epi32(load_bytes(b)), 16);
  const I32 both = _mm512_or_si512(_mm512_cvtepu8_epi32(load_bytes(a)), high);
  out[0] = less_eight(_mm512_srl_epi32(both, _mm_cvtsi32_si128(shift)));
}
#elif defined(LCRUN_SIMD_X86)
inline I32 zero_i32() { return _mm256_setzero_si256(); }
inline I32 load_pairs(const int32_t* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(p)));
}
inline void store_pairs(int32_t* p, I32 x) { _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(p)), x); }
inline I32 splat_i32(int32_t x) { return _mm256_set1_epi32(x); }
inline F32 to_f32(I32 x) { return _mm256_cvtepi32_ps(x); }
// In assembly, for g++ 12 otherwise copies and spills the sums of a pass in its inner loop (half the speed).
inline I32 dot_pairs(I32 sum, I32 a, I32 b) {
#if defined(__AVXVNNI__)
  asm("%{vex%} vpdpwssd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
#else
  I32 product;
  asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(a), "x"(b));
#endif
  return sum;
}
inline void store_i16(int16_t* p, F32 x) {
  const __m256i n = _mm256_cvtps_epi32(x);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1));
  _mm_storeu_si128(static_cast<__m128i*>(static_cast<void*>(p)), words);
}
inline F32 load_every_other_f16(const uint16_t* p, int64_t which) {
  const __m256i both = _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(p)));
  const __m256i low = _mm256_and_si256(which == 0 ? both : _mm256_srli_epi32(both, 16), _mm256_set1_epi32(0xffff));
  return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
}
inline __m128i load_16_bytes(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline void interleave_i8(const int8_t* a, const int8_t* b, I32* out) {
  const __m128i first = load_16_bytes(a), second = load_16_bytes(b);
  out[0] = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(first, second));
  out[1] = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(first, second));
}
inline I32 less_eight(I32 nibbles) {
  return _mm256_sub_epi16(_mm256_and_si256(nibbles, _mm256_set1_epi16(15)), _mm256_set1_epi16(8));
}
inline void split_q4(const uint8_t* p, I32* out) {
  for (int64_t i = 0; i < kUnit; ++i) {
    const I32 bytes = _mm256_cvtepu8_epi32(load_bytes(p + i * kLanes));
    out[i] = less_eight(_mm256_or_si256(bytes, _mm256_slli_epi32(bytes, 12)));
  }
}
inline void interleave_q4(const uint8_t* a, const uint8_t* b, int shift, I32* out) {
  const __m128i first = load_16_bytes(a), second = load_16_bytes(b);
  const __m128i by = _mm_cvtsi32_si128(shift);
  out[0] = less_eight(_mm256_srl_epi16(_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(first, second)), by));
  out[1] = less_eight(_mm256_srl_epi16(_mm256_cvtepu8_epi16(_mm_unpackhi_epi8(first, second)), by));
}
#elif defined(LCRUN_SIMD_NEON)
inline I32 zero_i32() { return vdupq_n_s32(0); }
inline I32 load_pairs(const int32_t* p) { return vld1q_s32(p); }
inline void store_pairs(int32_t* p, I32 x) { vst1q_s32(p, x); }
inline I32 splat_i32(int32_t x) { return vdupq_n_s32(x); }
inline F32 to_f32(I32 x) { return vcvtq_f32_s32(x); }
inline I32 dot_pairs(I32 sum, I32 a, I32 b) {
  const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
  return vaddq_s32(sum, vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
}
inline void store_i16(int16_t* p, F32 x) { vst1_s16(p, vqmovn_s32(vcvtnq_s32_f32(x))); }
inline F32 load_every_other_f16(const uint16_t* p, int64_t which) {
  const uint16x4x2_t both = vld2_u16(p);
  return vcvt_f32_f16(vreinterpret_f16_u16(which == 0 ? both.val[0] : both.val[1]));
}
// 32 bytes in order as 16 pairs.
inline void widen_pairs(int8x16_t first, int8x16_t second, I32* out) {
  out[0] = vreinterpretq_s32_s16(vmovl_s8(vget_low_s8(first)));
  out[1] = vreinterpretq_s32_s16(vmovl_high_s8(first));
  out[2] = vreinterpretq_s32_s16(vmovl_s8(vget_low_s8(second)));
  out[3] = vreinterpretq_s32_s16(vmovl_high_s8(second));
}
inline void interleave_i8(const int8_t* a, const int8_t* b, I32* out) {
  const int8x16_t first = vld1q_s8(a), second = vld1q_s8(b);
  widen_pairs(vzip1q_s8(first, second), vzip2q_s8(first, second), out);
}
inline int8x16_t less_eight(uint8x16_t nibbles) {
  return vsubq_s8(vreinterpretq_s8_u8(vandq_u8(nibbles, vdupq_n_u8(15))), vdupq_n_s8(8));
}
inline void split_q4(const uint8_t* p, I32* out) {
  const uint8x16_t bytes = vld1q_u8(p);
  const int8x16_t low = less_eight(bytes), high = less_eight(vshrq_n_u8(bytes, 4));
  widen_pairs(vzip1q_s8(low, high), vzip2q_s8(low, high), out);
}
inline void interleave_q4(const uint8_t* a, const uint8_t* b, int shift, I32* out) {
  const int8x16_t by = vdupq_n_s8(static_cast<int8_t>(-shift));
  const int8x16_t first = less_eight(vshlq_u8(vld1q_u8(a), by)), second = less_eight(vshlq_u8(vld1q_u8(b), by));
  widen_pairs(vzip1q_s8(first, second), vzip2q_s8(first, second), out);
}
#else
inline I32 zero_i32() { return 0; }
inline I32 load_pairs(const int32_t* p) { return *p; }
inline void store_pairs(int32_t* p, I32 x) { *p = x; }
inline I32 splat_i32(int32_t x) { return x; }
inline F32 to_f32(I32 x) { return static_cast<float>(x); }
inline int32_t low_word(int32_t pair) { return static_cast<int16_t>(static_cast<uint16_t>(pair & 0xffff)); }
inline I32 join_words(int32_t low, int32_t high) {
  return static_cast<int32_t>((static_cast<uint32_t>(high) << 16) | (static_cast<uint32_t>(low) & 0xffffU));
}
inline I32 dot_pairs(I32 sum, I32 a, I32 b) { return sum + low_word(a) * low_word(b) + (a >> 16) * (b >> 16); }
inline void store_i16(int16_t* p, F32 x) {
  const float magic = 12582912.0F;  // see round_near() in simd.hpp
  const float bounded = vmin(vmax(x, -32768.0F), 32767.0F);
  *p = static_cast<int16_t>(static_cast<int32_t>((bounded + magic) - magic));
}
inline F32 load_every_other_f16(const uint16_t* p, int64_t which) { return load_f16(p + which); }
inline void interleave_i8(const int8_t* a, const int8_t* b, I32* out) {
  for (int64_t i = 0; i < kUnit; ++i) out[i] = join_words(a[i], b[i]);
}
inline int32_t less_eight(int32_t byte) { return (byte & 15) - 8; }
inline void split_q4(const uint8_t* p, I32* out) {
  for (int64_t i = 0; i < kUnit; ++i) out[i] = join_words(less_eight(p[i]), less_eight(p[i] >> 4));
}
inline void interleave_q4(const uint8_t* a, const uint8_t* b, int shift, I32* out) {
  for (int64_t i = 0; i < kUnit; ++i) out[i] = join_words(less_eight(a[i] >> shift), less_eight(b[i] >> shift));
}
#endif

inline I32 splat_pair(const int16_t* p) {
  int32_t both;
  std::memcpy(&both, p, sizeof(both));
  return splat_i32(both);
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
