// The NEON backend of matrix products, for every aarch64 processor: a panel is four vectors of 4 rows.
//
// With the dot product of ARMv8.2, four products are summed into 32 bits by one instruction. Without, products go to
// 16 bits and are added there as long as they fit, then pairwise into 32-bit lanes. Either way codes of 8 bits are
// made signed by taking their zero point, 128, away at once; their sum then starts without it.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "src/kernels/matmul_quantize_impl.hpp"
#include "src/kernels/matmul_unpack_impl.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

// Bytes of 128 bits, as matmul_unpack_impl.hpp wants them.
struct Bytes128 {
  using Bytes = uint8x16_t;
  static Bytes load(const uint8_t* p) { return vld1q_u8(p); }
  static Bytes splat(int byte) { return vdupq_n_u8(static_cast<uint8_t>(byte)); }
  static Bytes select(Bytes x, Bytes mask) { return vandq_u8(x, mask); }
  static Bytes merge(Bytes code, Bytes x, Bytes mask) { return vorrq_u8(code, vandq_u8(x, mask)); }
  template <int N>
  static Bytes shift_left(Bytes x) {
    return vshlq_n_u8(x, N);
  }
  template <int N>
  static Bytes shift_right(Bytes x) {
    return vshrq_n_u8(x, N);
  }
  static Bytes load_table(const uint8_t* p) { return vld1q_u8(p); }
  static Bytes lookup(Bytes table, Bytes codes) { return vqtbl1q_u8(table, codes); }
};

struct MatmulBackend {
  using Quantizer = PortableQuantizer;
  static constexpr int kLanes = 4;
  using F = float32x4_t;
  using I = int32x4_t;
  static constexpr int kMaxTile = 8;
#if defined(__ARM_FEATURE_DOTPROD)
  template <int>
  static constexpr int kChains = 8;
#else
  template <int>
  static constexpr int kChains = 1;
#endif
  static constexpr int kWidePanels = 0;
  static constexpr int joint_vectors(int tile) { return tile == 1 ? 4 : 1; }

  template <int Kind>
  struct Codes {
    int8x16_t v[8];
  };
  template <int Kind>
  static constexpr bool is_wide() {
    return sums_in_16_bits(kPackings[Kind]) == 0;
  }

  template <int Kind>
  static Codes<Kind> unpack(const uint8_t* step, int lane) {
    uint8x16_t codes[8];
    unpack_codes<Bytes128, Kind>(step + 4 * lane, codes);
    Codes<Kind> out;
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      if constexpr (is_wide<Kind>()) codes[i] = veorq_u8(codes[i], vdupq_n_u8(128));
      out.v[i] = vreinterpretq_s8_u8(codes[i]);
    }
    return out;
  }

  static int8x16_t broadcast4(const int8_t* q) {
    int32_t word;
    std::memcpy(&word, q, sizeof(word));
    return vreinterpretq_s8_s32(vdupq_n_s32(word));
  }

#if defined(__ARM_FEATURE_DOTPROD)
  template <int Kind, int C>
  static void dot(const Codes<Kind>& codes, int first, int count, const int8_t* q, I* sums) {
    static_assert(!is_wide<Kind>() || kPackings[Kind].zero_point == 128);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c, q += row_bytes(kPackings[Kind])) {
      if constexpr (is_wide<Kind>()) sums[c] = vdupq_n_s32(kSumStart);
#pragma GCC unroll 2
      for (int i = first; i < first + count; i += 4) {
        const int8x16_t activations = vld1q_s8(q + 4 * i);
        sums[c] = vdotq_laneq_s32(sums[c], codes.v[i], activations, 0);
        sums[c] = vdotq_laneq_s32(sums[c], codes.v[i + 1], activations, 1);
        sums[c] = vdotq_laneq_s32(sums[c], codes.v[i + 2], activations, 2);
        sums[c] = vdotq_laneq_s32(sums[c], codes.v[i + 3], activations, 3);
      }
    }
  }
#else
  template <int Kind, int C>
  static void dot(const Codes<Kind>& codes, int first, int count, const int8_t* q, I* sums) {
    static_assert(!is_wide<Kind>() || kPackings[Kind].zero_point == 128);
    // A 16-bit lane takes one product a vector here, not two.
    constexpr int kFits = is_wide<Kind>() ? 2 : 2 * sums_in_16_bits(kPackings[Kind]);
    const int run = kFits < count ? kFits : count;
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c, q += row_bytes(kPackings[Kind])) {
      if constexpr (is_wide<Kind>()) sums[c] = vdupq_n_s32(kSumStart);
#pragma GCC unroll 8
      for (int begin = first; begin < first + count; begin += run) {
        int8x16_t activation = broadcast4(q + 4 * begin);
        int16x8_t low = vmull_s8(vget_low_s8(codes.v[begin]), vget_low_s8(activation));
        int16x8_t high = vmull_high_s8(codes.v[begin], activation);
#pragma GCC unroll 8
        for (int i = begin + 1; i < begin + run; ++i) {
          activation = broadcast4(q + 4 * i);
          low = vmlal_s8(low, vget_low_s8(codes.v[i]), vget_low_s8(activation));
          high = vmlal_high_s8(high, codes.v[i], activation);
        }
        sums[c] = vaddq_s32(sums[c], vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
      }
    }
  }
#endif
  // See matmul_layout.hpp, kSumStart.
  static F to_float(I sum) { return vsubq_f32(vreinterpretq_f32_s32(sum), splat(kSumStartValue)); }
  static F scaled(I sum, F scale, F shift) { return vfmaq_f32(shift, vreinterpretq_f32_s32(sum), scale); }

  static F zero() { return vdupq_n_f32(0.0f); }
  static F splat(float x) { return vdupq_n_f32(x); }
  static I splat(int32_t x) { return vdupq_n_s32(x); }
  static F broadcast(const float* p) { return vld1q_dup_f32(p); }
  static I broadcast(const int32_t* p) { return vld1q_dup_s32(p); }
  static F add(F a, F b) { return vaddq_f32(a, b); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, F a) { vst1q_f32(p, a); }
  static void prefetch(const uint8_t* p) { __builtin_prefetch(p); }

  static uint16x4_t load_halves(const uint8_t* p) { return vreinterpret_u16_u8(vld1_u8(p)); }
  // 4 bytes in the low half of a vector.
  static uint8x8_t load_bytes(const uint8_t* p) {
    uint32_t word;
    std::memcpy(&word, p, sizeof(word));
    return vreinterpret_u8_u32(vdup_n_u32(word));
  }
  static F from_bytes(uint8x8_t bytes) { return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes)))); }
  static F load_f16(const uint8_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(load_halves(p))); }
  static F load_bf16(const uint8_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(load_halves(p), 16)); }
  static F load_i8(const uint8_t* p) {
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(load_bytes(p))))));
  }
  static F load_u8(const uint8_t* p) { return from_bytes(load_bytes(p)); }
  static F load_low_nibble(const uint8_t* p) { return from_bytes(vand_u8(load_bytes(p), vdup_n_u8(15))); }
  static F load_high_nibble(const uint8_t* p) { return from_bytes(vshr_n_u8(load_bytes(p), 4)); }
};

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
