// Scores of 64 keys kept as bit planes: what a selector reads of keys (docs/formats.md, "Index planes").
//
// A key is codes of 4 bits times a scale; plane p holds one bit of every code, the highest first. A query comes as a
// table: for each 4 dimensions, the sum of its elements over the 16 subsets of them, as small integers; the 4 bits of a
// plane look the sum up, 64 keys at a time (look-ups as in Andre et al., "Quicker ADC", arXiv 1812.09162, over bits as
// in RaBitQ, Gao and Long, arXiv 2405.12497).
// Sums and the best of the 64 keys are integers: the same bits on every instruction set, but for the mean's product.
#pragma once

#include "src/kernels/kv_impl.hpp"
#include "src/kernels/simd.hpp"
#include "src/kernels/slots.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

// Bytes of kBytes keys, and 16-bit sums of the even and of the odd ones.
#if defined(LCRUN_SIMD_AVX512)
using Bytes = __m512i;
inline Bytes load_keys(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline Bytes low_nibbles(Bytes x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
inline Bytes high_nibbles(Bytes x) { return low_nibbles(_mm512_srli_epi16(x, 4)); }
inline Bytes look_up(const uint8_t* table, Bytes at) {
  const __m128i row = _mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(table)));
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(row), at);
}
inline Bytes add_bytes(Bytes a, Bytes b) { return _mm512_add_epi8(a, b); }
inline Bytes even_words(Bytes x) { return _mm512_and_si512(x, _mm512_set1_epi16(255)); }
inline Bytes odd_words(Bytes x) { return _mm512_srli_epi16(x, 8); }
inline Bytes zero_words() { return _mm512_setzero_si512(); }
inline Bytes splat_word(int16_t x) { return _mm512_set1_epi16(x); }
inline Bytes add_words(Bytes a, Bytes b) { return _mm512_add_epi16(a, b); }
inline Bytes weigh(Bytes sums, Bytes centre, int shift, Bytes scales) {
  const Bytes less = _mm512_sll_epi16(_mm512_sub_epi16(sums, centre), _mm_cvtsi32_si128(shift));
  return _mm512_mulhrs_epi16(less, _mm512_slli_epi16(scales, 7));
}
inline Bytes max_words(Bytes a, Bytes b) { return _mm512_max_epi16(a, b); }
inline __m128i fold_words(Bytes x) {
  const __m256i half = _mm256_max_epi16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
  return _mm_max_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}
#elif defined(LCRUN_SIMD_X86)
using Bytes = __m256i;
inline Bytes load_keys(const uint8_t* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(p)));
}
inline Bytes low_nibbles(Bytes x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
inline Bytes high_nibbles(Bytes x) { return low_nibbles(_mm256_srli_epi16(x, 4)); }
inline Bytes look_up(const uint8_t* table, Bytes at) {
  const __m128i row = _mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(table)));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(row), at);
}
inline Bytes add_bytes(Bytes a, Bytes b) { return _mm256_add_epi8(a, b); }
inline Bytes even_words(Bytes x) { return _mm256_and_si256(x, _mm256_set1_epi16(255)); }
inline Bytes odd_words(Bytes x) { return _mm256_srli_epi16(x, 8); }
inline Bytes zero_words() { return _mm256_setzero_si256(); }
inline Bytes splat_word(int16_t x) { return _mm256_set1_epi16(x); }
inline Bytes add_words(Bytes a, Bytes b) { return _mm256_add_epi16(a, b); }
inline Bytes weigh(Bytes sums, Bytes centre, int shift, Bytes scales) {
  const Bytes less = _mm256_sll_epi16(_mm256_sub_epi16(sums, centre), _mm_cvtsi32_si128(shift));
  return _mm256_mulhrs_epi16(less, _mm256_slli_epi16(scales, 7));
}
inline Bytes max_words(Bytes a, Bytes b) { return _mm256_max_epi16(a, b); }
inline __m128i fold_words(Bytes x) { return _mm_max_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)); }
#elif defined(LCRUN_SIMD_NEON)
using Bytes = uint8x16_t;
inline uint16x8_t as_words(Bytes x) { return vreinterpretq_u16_u8(x); }
inline int16x8_t as_signed(Bytes x) { return vreinterpretq_s16_u8(x); }
inline Bytes from_signed(int16x8_t x) { return vreinterpretq_u8_s16(x); }
inline Bytes load_keys(const uint8_t* p) { return vld1q_u8(p); }
inline Bytes low_nibbles(Bytes x) { return vandq_u8(x, vdupq_n_u8(15)); }
inline Bytes high_nibbles(Bytes x) { return vshrq_n_u8(x, 4); }
inline Bytes look_up(const uint8_t* table, Bytes at) { return vqtbl1q_u8(vld1q_u8(table), at); }
inline Bytes add_bytes(Bytes a, Bytes b) { return vaddq_u8(a, b); }
inline Bytes even_words(Bytes x) { return vreinterpretq_u8_u16(vandq_u16(as_words(x), vdupq_n_u16(255))); }
inline Bytes odd_words(Bytes x) { return vreinterpretq_u8_u16(vshrq_n_u16(as_words(x), 8)); }
inline Bytes zero_words() { return vdupq_n_u8(0); }
inline Bytes splat_word(int16_t x) { return from_signed(vdupq_n_s16(x)); }
inline Bytes add_words(Bytes a, Bytes b) { return vreinterpretq_u8_u16(vaddq_u16(as_words(a), as_words(b))); }
inline Bytes weigh(Bytes sums, Bytes centre, int shift, Bytes scales) {
  const int16x8_t less = vsubq_s16(as_signed(sums), as_signed(centre));
  const int16x8_t shifted = vshlq_s16(less, vdupq_n_s16(static_cast<int16_t>(shift)));
  return from_signed(vqrdmulhq_s16(shifted, vshlq_n_s16(as_signed(scales), 7)));
}
inline Bytes max_words(Bytes a, Bytes b) { return from_signed(vmaxq_s16(as_signed(a), as_signed(b))); }
#else
// One key: it is even, and there is no odd one.
using Bytes = int32_t;
inline Bytes load_keys(const uint8_t* p) { return *p; }
inline Bytes low_nibbles(Bytes x) { return x & 15; }
inline Bytes high_nibbles(Bytes x) { return x >> 4; }
inline Bytes look_up(const uint8_t* table, Bytes at) { return table[at]; }
inline Bytes add_bytes(Bytes a, Bytes b) { return a + b; }
inline Bytes even_words(Bytes x) { return x; }
inline Bytes odd_words(Bytes x) { return x; }
inline Bytes zero_words() { return 0; }
inline Bytes splat_word(int16_t x) { return static_cast<uint16_t>(x); }
inline Bytes add_words(Bytes a, Bytes b) { return a + b; }
inline Bytes weigh(Bytes sums, Bytes centre, int shift, Bytes scales) {
  const int32_t less = static_cast<int16_t>(static_cast<uint16_t>((sums - centre) * (1 << shift)));
  return (less * (scales * 128) + (1 << 14)) >> 15;
}
inline Bytes max_words(Bytes a, Bytes b) { return a > b ? a : b; }
#endif
constexpr int64_t kKeyBytes = sizeof(Bytes) == sizeof(int32_t) ? 1 : static_cast<int64_t>(sizeof(Bytes));

#if defined(LCRUN_SIMD_X86)
// The largest of 8 signed words: the least of their distances to 32767.
inline int32_t largest_word(Bytes x) {
  const __m128i flipped = _mm_xor_si128(fold_words(x), _mm_set1_epi16(0x7fff));
  return 0x7fff - (_mm_cvtsi128_si32(_mm_minpos_epu16(flipped)) & 0xffff);
}
#elif defined(LCRUN_SIMD_NEON)
inline int32_t largest_word(Bytes x) { return vmaxvq_s16(as_signed(x)); }
#else
inline int32_t largest_word(Bytes x) { return x; }
#endif

// kRows queries meet kKeyBytes keys from `key` on; best[r] keeps the largest.
template <int kRows>
inline void plane_keys(const PlaneTile& t, int64_t row, const PlanePart& part, int64_t key, Bytes* best) {
  const int64_t quads = t.dim / 16;
  Bytes even[kRows], odd[kRows];
  for (int r = 0; r < kRows; ++r) even[r] = odd[r] = zero_words();
  for (int64_t plane = 0; plane < kKeyPlanes; ++plane) {
    if (plane > 0) {
      for (int r = 0; r < kRows; ++r) {
        even[r] = add_words(even[r], even[r]);
        odd[r] = add_words(odd[r], odd[r]);
      }
    }
    const uint8_t* bits = part.planes + plane * t.dim * (kKvBlock / 8) + key;
    for (int64_t quad = 0; quad < quads; ++quad, bits += 2 * kKvBlock) {
      if (key == 0) fetch_ahead(bits, t.after, 2 * kKvBlock);
      const Bytes first = load_keys(bits), second = load_keys(bits + kKvBlock);
      const Bytes at[4] = {low_nibbles(first), high_nibbles(first), low_nibbles(second), high_nibbles(second)};
      for (int r = 0; r < kRows; ++r) {
        const uint8_t* table = t.tables + (row + r) * t.dim * 4 + quad * 64;
        const Bytes sum = add_bytes(add_bytes(look_up(table, at[0]), look_up(table + 16, at[1])),
                                    add_bytes(look_up(table + 32, at[2]), look_up(table + 48, at[3])));
        even[r] = add_words(even[r], even_words(sum));
        odd[r] = add_words(odd[r], odd_words(sum));
      }
    }
  }
  const Bytes scales = load_keys(part.scales + key);
  const Bytes even_scales = even_words(scales), odd_scales = odd_words(scales);
  for (int r = 0; r < kRows; ++r) {
    const Bytes centre = splat_word(t.centres[row + r]);
    const Bytes even_top = weigh(even[r], centre, t.shift, even_scales);
    const Bytes top = max_words(even_top, weigh(odd[r], centre, t.shift, odd_scales));
    best[r] = key == 0 ? top : max_words(best[r], top);
  }
}

template <int kRows>
inline void plane_rows(const PlaneTile& t, int64_t row, const PlanePart& part, float* scores, int64_t stride) {
  Bytes best[kRows];
  for (int64_t key = 0; key < kKvBlock; key += kKeyBytes) plane_keys<kRows>(t, row, part, key, best);
  F32 mean[kRows];
  for (int r = 0; r < kRows; ++r) mean[r] = splat(0.0F);
  for (int64_t d = 0; d < t.dim; d += kLanes) {
    const F32 shared = load_f16(part.mean + d);
    for (int r = 0; r < kRows; ++r) mean[r] = fma(load(t.q + (row + r) * t.dim + d), shared, mean[r]);
  }
  for (int r = 0; r < kRows; ++r) {
    const auto top = static_cast<float>(largest_word(best[r]));
    scores[r * stride] = reduce_add(mean[r]) + top * (t.factors[row + r] * part.unit);
  }
}

// scores[r * stride] = the best of 64 keys for row r.
void plane_scores(const PlaneTile& t, const std::byte* data, float* scores, int64_t stride) {
  // What stands before the planes, which are fetched as they are read.
  fetch_ahead(data, t.after, PlanePart::bytes(t.dim) - kKeyPlanes * t.dim * (kKvBlock / 8));
  const PlanePart part(data, t.dim);
  int64_t row = 0;
  for (; row + 3 <= t.rows; row += 3) plane_rows<3>(t, row, part, scores + row * stride, stride);
  if (t.rows - row == 2) plane_rows<2>(t, row, part, scores + row * stride, stride);
  if (t.rows - row == 1) plane_rows<1>(t, row, part, scores + row * stride, stride);
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
