// The vector type of the kernels: F32, kLanes floats of the instruction set that this copy is compiled for.
//
// A thin layer over xsimd with the architecture named (never default_arch), so that one kernel text serves AVX2,
// AVX-512 and NEON; the scalar twin is the same text with one lane. Intrinsics appear only where xsimd 8.1 has no
// operation: half floats, widening 8-bit loads, ordered reductions, 2^n.
// fma() is a fused multiply-add on vector sets and a product and a sum on the scalar set (no hardware FMA there).
// exp/tanh/erf: relative error bounds stand beside each, checked by tests/unit/kernels/ops_test.cpp.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if !defined(LCRUN_TARGET_SCALAR) && defined(__AVX2__)
#include <immintrin.h>

#include <xsimd/xsimd.hpp>
#define LCRUN_SIMD_X86 1
#if defined(__AVX512F__)
#define LCRUN_SIMD_AVX512 1
#endif
#elif !defined(LCRUN_TARGET_SCALAR) && defined(__ARM_NEON)
#include <arm_neon.h>

#include <xsimd/xsimd.hpp>
#define LCRUN_SIMD_NEON 1
#endif

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

#if defined(LCRUN_SIMD_AVX512)
using F32 = xsimd::batch<float, xsimd::avx512bw>;
#elif defined(LCRUN_SIMD_X86)
using F32 = xsimd::batch<float, xsimd::fma3<xsimd::avx2> >;
#elif defined(LCRUN_SIMD_NEON)
using F32 = xsimd::batch<float, xsimd::neon64>;
#else
using F32 = float;
#endif

constexpr int64_t kLanes = static_cast<int64_t>(sizeof(F32) / sizeof(float));
// 32 vector registers, or 16.
#if defined(LCRUN_SIMD_AVX512) || defined(LCRUN_SIMD_NEON)
constexpr bool kManyRegisters = true;
#else
constexpr bool kManyRegisters = false;
#endif

// --- loads, stores, arithmetic: the same names for vectors and for one float -------------------------------------
#if defined(LCRUN_SIMD_X86) || defined(LCRUN_SIMD_NEON)
inline F32 load(const float* p) { return F32::load_unaligned(p); }
inline void store(float* p, F32 x) { x.store_unaligned(p); }
inline F32 splat(float x) { return F32(x); }
#if defined(LCRUN_SIMD_AVX512)
// xsimd 8.1 multiplies and adds here: half the speed, two roundings.
inline F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
#else
inline F32 fma(F32 a, F32 b, F32 c) { return xsimd::fma(a, b, c); }
#endif
inline F32 vmax(F32 a, F32 b) { return xsimd::max(a, b); }
inline F32 vmin(F32 a, F32 b) { return xsimd::min(a, b); }
inline F32 vabs(F32 x) { return xsimd::abs(x); }
// x < y ? a : b
inline F32 where_less(F32 x, F32 y, F32 a, F32 b) { return xsimd::select(x < y, a, b); }
#else
inline F32 load(const float* p) { return *p; }
inline void store(float* p, F32 x) { *p = x; }
inline F32 splat(float x) { return x; }
inline F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
inline F32 vmax(F32 a, F32 b) { return a > b ? a : b; }
inline F32 vmin(F32 a, F32 b) { return a < b ? a : b; }
inline F32 vabs(F32 x) { return x < 0.0F ? -x : x; }
inline F32 where_less(F32 x, F32 y, F32 a, F32 b) { return x < y ? a : b; }
#endif

// --- what xsimd 8.1 lacks ----------------------------------------------------------------------------------------
// reduce_*: fixed order.  pow2: 2^n for integral n in [-126, 127].  load_f16, load_bf16: kLanes halves as floats.
// scale_by_pow2(p, n + 1.5 * 2^23): p 2^n, for p and p 2^n of normal size.
#if defined(LCRUN_SIMD_AVX512)
inline float reduce_add(F32 x) { return _mm512_reduce_add_ps(x); }
inline float reduce_max(F32 x) { return _mm512_reduce_max_ps(x); }
inline F32 pow2(F32 n) { return _mm512_scalef_ps(_mm512_set1_ps(1.0F), n); }
inline F32 scale_by_pow2(F32 p, F32 shifted) {
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent));
}
inline __m128i load_bytes(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline __m256i load_words(const uint16_t* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(p)));
}
inline F32 load_f16(const uint16_t* p) { return _mm512_cvtph_ps(load_words(p)); }
inline F32 load_bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_words(p)), 16));
}
// p[0], p[stride], p[2 stride], ...
inline F32 load_strided(const float* p, int64_t stride) {
  const __m512i steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_i32gather_ps(_mm512_mullo_epi32(steps, _mm512_set1_epi32(static_cast<int32_t>(stride))), p, 4);
}
inline void store_f16(uint16_t* p, F32 x) {
  const __m256i halves = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(p)), halves);
}
#elif defined(LCRUN_SIMD_X86)
inline float reduce_add(F32 x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
}
inline float reduce_max(F32 x) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
}
inline F32 pow2(F32 n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
inline F32 scale_by_pow2(F32 p, F32 shifted) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
}
inline __m128i load_bytes(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
inline __m128i load_words(const uint16_t* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(p)));
}
inline F32 load_f16(const uint16_t* p) { return _mm256_cvtph_ps(load_words(p)); }
inline F32 load_bf16(const uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_words(p)), 16));
}
inline F32 load_strided(const float* p, int64_t stride) {
  const __m256i steps = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_i32gather_ps(p, _mm256_mullo_epi32(steps, _mm256_set1_epi32(static_cast<int32_t>(stride))), 4);
}
inline void store_f16(uint16_t* p, F32 x) {
  const __m128i halves = _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm_storeu_si128(static_cast<__m128i*>(static_cast<void*>(p)), halves);
}
#elif defined(LCRUN_SIMD_NEON)
inline float reduce_add(F32 x) { return vaddvq_f32(x); }
inline float reduce_max(F32 x) { return vmaxvq_f32(x); }
inline F32 pow2(F32 n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23));
}
inline F32 scale_by_pow2(F32 p, F32 shifted) {
  const int32x4_t exponent = vshlq_n_s32(vreinterpretq_s32_f32(shifted), 23);
  return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), exponent));
}
inline F32 load_f16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
inline F32 load_bf16(const uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
inline F32 load_strided(const float* p, int64_t stride) {
  const float lanes[] = {p[0], p[stride], p[2 * stride], p[3 * stride]};
  return load(lanes);
}
inline void store_f16(uint16_t* p, F32 x) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x))); }
#else
inline float reduce_add(F32 x) { return x; }
inline float reduce_max(F32 x) { return x; }
inline float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}
inline F32 pow2(F32 n) { return from_bits(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23); }
inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline F32 scale_by_pow2(F32 p, F32 shifted) { return from_bits(bits_of(p) + (bits_of(shifted) << 23)); }
inline F32 load_f16(const uint16_t* p) {
  const uint32_t h = *p;
  const uint32_t sign = (h & 0x8000U) << 16;
  const uint32_t rest = h & 0x7fffU;
  // Subnormal halves are multiples of 2^-24; exponent 31 keeps infinities and NaN.
  if (rest < 0x400U) return from_bits(sign) + (sign != 0 ? -1.0F : 1.0F) * static_cast<float>(rest) * 0x1p-24F;
  const uint32_t bias = rest >= 0x7c00U ? 0x70000000U : 0x38000000U;
  return from_bits(sign | ((rest << 13) + bias));
}
inline F32 load_bf16(const uint16_t* p) { return from_bits(static_cast<uint32_t>(*p) << 16); }
inline F32 load_strided(const float* p, int64_t) { return *p; }
// Round to nearest even, like the vector instructions.
inline void store_f16(uint16_t* p, F32 x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const uint32_t sign = (bits >> 16) & 0x8000U;
  const uint32_t size = bits & 0x7fffffffU;
  uint32_t half;
  if (size > 0x7f800000U) {
    half = 0x7e00U;  // NaN
  } else if (size >= 0x477ff000U) {
    half = 0x7c00U;  // rounds past 65504
  } else if (size < 0x38800000U) {
    // Subnormal: adding 0.5 leaves the multiple of 2^-24 in the low bits, rounded by the addition.
    float shifted = from_bits(size) + 0.5F;
    std::memcpy(&half, &shifted, sizeof(half));
    half -= 0x3f000000U;
  } else {
    half = (size - 0x38000000U + 0xfffU + ((size >> 13) & 1U)) >> 13;
  }
  *p = static_cast<uint16_t>(sign | half);
}
#endif

inline void prefetch(const void* p) { __builtin_prefetch(p); }
// Every cache line of `bytes` from p on.
inline void prefetch_lines(const void* p, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) prefetch(static_cast<const char*>(p) + at);
}

// --- pieces of rows ----------------------------------------------------------------------------------------------
// The last n < kLanes elements of a row, other lanes `fill`.
inline F32 load_part(const float* p, int64_t n, float fill = 0.0F) {
  float lanes[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) lanes[i] = i < n ? p[i] : fill;
  return load(lanes);
}
inline void store_part(float* p, F32 x, int64_t n) {
  float lanes[kLanes];
  store(lanes, x);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

// out[i] = f(in[i]) over n elements.
template <class F>
inline void map_row(const float* in, float* out, int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, f(load(in + i)));
  if (i < n) store_part(out + i, f(load_part(in + i, n - i)), n - i);
}
// out[i] = f(a[i], b[i]) over n elements.
template <class F>
inline void map_rows(const float* a, const float* b, float* out, int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, f(load(a + i), load(b + i)));
  if (i < n) store_part(out + i, f(load_part(a + i, n - i), load_part(b + i, n - i)), n - i);
}

// --- functions ---------------------------------------------------------------------------------------------------
// Nearest integer for |x| < 2^22: adding 1.5 * 2^23 leaves no bits for the fraction.
inline F32 round_near(F32 x) {
  const F32 magic = splat(12582912.0F);
  return (x + magic) - magic;
}

// e^x with relative error below 2e-7; exactly 1 at 0; 0 below -87.33 (also -inf); saturates near 1.7e38 above 88.02.
// x = n ln2 + r, |r| <= ln2 / 2; e^r = 1 + r + r^2 P(r), P fitted for least relative error.
inline F32 vexp(F32 x) {
  const F32 lowest = splat(-87.33F);
  const F32 bounded = vmin(vmax(x, lowest), splat(88.02F));
  const F32 n = round_near(bounded * splat(1.44269504F));
  const F32 r = fma(n, splat(2.12194440e-4F), fma(n, splat(-0.693359375F), bounded));
  F32 p = splat(1.3814596459e-3F);
  p = fma(p, r, splat(8.3687175065e-3F));
  p = fma(p, r, splat(4.1668388993e-2F));
  p = fma(p, r, splat(1.6666521132e-1F));
  p = fma(p, r, splat(4.9999994040e-1F));
  const F32 e = fma(r * r, p, r) + splat(1.0F);
  return where_less(x, lowest, splat(0.0F), e * pow2(n));
}

// tanh with relative error below 4e-7. Near 0 an odd polynomial, else 1 - 2 / (e^2|x| + 1) with the sign of x.
inline F32 vtanh(F32 x) {
  const F32 z = x * x;
  F32 p = splat(-5.6039053015e-3F);
  p = fma(p, z, splat(2.0551711321e-2F));
  p = fma(p, z, splat(-5.3714103997e-2F));
  p = fma(p, z, splat(1.3331152499e-1F));
  p = fma(p, z, splat(-3.3333271742e-1F));
  const F32 near_zero = fma(x * z, p, x);
  const F32 size = vabs(x);
  const F32 big = splat(1.0F) - splat(2.0F) / (vexp(vmin(size, splat(40.0F)) * splat(2.0F)) + splat(1.0F));
  const F32 far = where_less(x, splat(0.0F), splat(0.0F) - big, big);
  return where_less(size, splat(0.64F), near_zero, far);
}

// erf with absolute error below 3e-7 (Abramowitz and Stegun 7.1.26).
inline F32 verf(F32 x) {
  const F32 size = vabs(x);
  const F32 t = splat(1.0F) / fma(splat(0.3275911F), size, splat(1.0F));
  F32 p = splat(1.061405429F);
  p = fma(p, t, splat(-1.453152027F));
  p = fma(p, t, splat(1.421413741F));
  p = fma(p, t, splat(-0.284496736F));
  p = fma(p, t, splat(0.254829592F));
  const F32 y = splat(1.0F) - p * t * vexp(splat(0.0F) - size * size);
  return where_less(x, splat(0.0F), splat(0.0F) - y, y);
}

inline F32 vsilu(F32 x) { return x / (splat(1.0F) + vexp(splat(0.0F) - x)); }
inline F32 vsoft_cap(F32 x, F32 cap, F32 inverse) { return cap * vtanh(x * inverse); }

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
