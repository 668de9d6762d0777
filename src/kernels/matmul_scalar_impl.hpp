// The scalar backend of matrix products: plain loops over the 16 rows of a panel. Also the statement of what every
// backend provides, where F is a vector of kLanes floats, I one of kLanes int32:
//   joint_vectors(T): how many vectors of output rows one pass handles for a tile of T activation rows
//   kMaxTile: the widest tile, 4, 8 or 16; kChains<Kind>: rows of it whose dot products are interleaved
//   Codes<Kind>, unpack<Kind>(step, lane): the codes of kLanes rows from `lane` on
//   kWidePanels: panels side by side in matmul_wide_impl.hpp, which wants Bytes with dot4(); 0 = rows go as here
//   dot<Kind, C>(codes, first, count, q, sums): sums[c] += code vectors first.. times the same inputs of row c of
//   q, exact
//   Quantizer: see matmul_quantize_impl.hpp
//   to_float(sum): the dot product in a sum (kSumStart); scaled(sum, scale, shift): the same times scale, where shift
//   = -kSumStartValue * scale
//   loads of kLanes floats, halves, bytes; zero, splat, broadcast, add, mul, fma, store, prefetch
// fma here is a product and a sum: without hardware FMA a fused one would cost a library call each.
#pragma once

#include <cstdint>
#include <cstring>

#include "src/kernels/matmul_layout.hpp"
#include "src/kernels/matmul_quantize_impl.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

struct MatmulBackend {
  using Quantizer = PortableQuantizer;
  static constexpr int kLanes = kPanelRows;
  static constexpr int kMaxTile = 4;
  template <int>
  static constexpr int kChains = 1;
  static constexpr int kWidePanels = 0;
  static constexpr int joint_vectors(int) { return 1; }
  struct F {
    float v[kLanes];
  };
  struct I {
    int32_t v[kLanes];
  };

  template <class Make>
  static F make(Make value_of) {
    F out;
    for (int i = 0; i < kLanes; ++i) out.v[i] = value_of(i);
    return out;
  }
  static uint32_t load_u16(const uint8_t* p, int i) {
    uint16_t bits;
    std::memcpy(&bits, p + 2 * i, sizeof(bits));
    return bits;
  }
  static float from_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
  // Shifting the exponent and mantissa into place leaves the exponent 112 too small, which a product by 2^112 mends
  // for subnormals too; infinity and NaN need the largest exponent.
  static float widen_f16(uint32_t half) {
    const uint32_t magnitude = (half & 0x7fffu) << 13;
    const float value = from_bits(magnitude) * 0x1p112f;
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    if (magnitude >= 0x0f800000u) bits = 0x7f800000u | magnitude;
    return from_bits(bits | ((half & 0x8000u) << 16));
  }

  static F zero() {
    return make([](int) { return 0.0f; });
  }
  static F splat(float x) { return broadcast(&x); }
  static I splat(int32_t x) { return broadcast(&x); }
  static F broadcast(const float* p) {
    return make([&](int) { return *p; });
  }
  static I broadcast(const int32_t* p) {
    I out;
    for (int i = 0; i < kLanes; ++i) out.v[i] = *p;
    return out;
  }
  static F load(const float* p) {
    return make([&](int i) { return p[i]; });
  }
  static F load_f16(const uint8_t* p) {
    return make([&](int i) { return widen_f16(load_u16(p, i)); });
  }
  static F load_bf16(const uint8_t* p) {
    return make([&](int i) { return from_bits(load_u16(p, i) << 16); });
  }
  static F load_i8(const uint8_t* p) {
    return make([&](int i) { return static_cast<float>(static_cast<int8_t>(p[i])); });
  }
  static F load_u8(const uint8_t* p) {
    return make([&](int i) { return static_cast<float>(p[i]); });
  }
  static F load_low_nibble(const uint8_t* p) {
    return make([&](int i) { return static_cast<float>(p[i] & 15); });
  }
  static F load_high_nibble(const uint8_t* p) {
    return make([&](int i) { return static_cast<float>(p[i] >> 4); });
  }
  static F add(const F& a, const F& b) {
    return make([&](int i) { return a.v[i] + b.v[i]; });
  }
  static F mul(const F& a, const F& b) {
    return make([&](int i) { return a.v[i] * b.v[i]; });
  }
  static F fma(const F& a, const F& b, const F& c) {
    return make([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  static void store(float* p, const F& a) { std::memcpy(p, a.v, sizeof(a.v)); }
  static void prefetch(const uint8_t*) {}

  template <int Kind>
  struct Codes {
    uint8_t v[8][64];
  };

  template <int Kind>
  static Codes<Kind> unpack(const uint8_t* step, int) {
    constexpr Packing kPack = kPackings[Kind];
    const uint8_t* high = step + low_plane_bytes(kPack);
    Codes<Kind> out;
    for (int v = 0; v < 8; ++v) {
      for (int i = 0; i < 64; ++i) {
        int code = 0;
        if constexpr (kPack.low_bits == 8) code = step[64 * v + i];
        if constexpr (kPack.low_bits == 4) code = (step[64 * (v % 4) + i] >> (4 * (v / 4))) & 15;
        if constexpr (kPack.low_bits == 2) code = (step[64 * (v % 2) + i] >> (2 * (v / 2))) & 3;
        if constexpr (kPack.high_bits == 1) code |= ((high[i] >> v) & 1) << kPack.low_bits;
        if constexpr (kPack.high_bits == 2) code |= ((high[64 * (v % 2) + i] >> (2 * (v / 2))) & 3) << kPack.low_bits;
        if constexpr (kPack.codebook == Codebook::kIq4) code = quant::kIq4Codes[code];
        if constexpr (kPack.codebook == Codebook::kFp4) code = quant::kFp4Codes[code];
        out.v[v][i] = static_cast<uint8_t>(code);
      }
    }
    return out;
  }

  template <int Kind, int C>
  static void dot(const Codes<Kind>& codes, int first, int count, const int8_t* q, I* sums) {
    for (int c = 0; c < C; ++c, q += row_bytes(kPackings[Kind])) {
      for (int v = first; v < first + count; ++v) {
        for (int r = 0; r < kLanes; ++r) {
          for (int i = 0; i < 4; ++i) sums[c].v[r] += codes.v[v][4 * r + i] * q[4 * v + i];
        }
      }
    }
  }
  template <int Kind>
  static void unpack_signed(const uint8_t* step, int8_t* out) {
    const Codes<Kind> codes = unpack<Kind>(step, 0);
    for (int i = 0; i < 8 * 64; ++i) out[i] = static_cast<int8_t>(codes.v[i / 64][i % 64] - kPackings[Kind].zero_point);
  }
  // The same times a factor of each row and sub-block, as 128 * high + low.
  template <int Kind>
  static void unpack_products(const uint8_t* step, const I* factors, int8_t* low, int8_t* high) {
    constexpr int kSubs = kStep / kPackings[Kind].sub_block;
    int8_t codes[8 * 64];
    unpack_signed<Kind>(step, codes);
    for (int i = 0; i < 8 * 64; ++i) {
      const int product = codes[i] * factors[i / 64 * kSubs / 8].v[i % 64 / 4];
      high[i] = static_cast<int8_t>((product + 64) >> 7);
      low[i] = static_cast<int8_t>(product - 128 * high[i]);
    }
  }
  template <class Make>
  static I make_int(Make value_of) {
    I out;
    for (int i = 0; i < kLanes; ++i) out.v[i] = value_of(i);
    return out;
  }
  static F convert(const I& x) {
    return make([&](int i) { return static_cast<float>(x.v[i]); });
  }
  static I load(const int32_t* p) {
    return make_int([&](int i) { return p[i]; });
  }
  static I add(const I& a, const I& b) {
    return make_int([&](int i) { return a.v[i] + b.v[i]; });
  }
  static I mul(const I& a, const I& b) {
    return make_int([&](int i) { return a.v[i] * b.v[i]; });
  }
  template <int N>
  static I shift_left(const I& x) {
    return make_int([&](int i) { return x.v[i] * (1 << N); });
  }
  static I load_int8(const uint8_t* p) {
    return make_int([&](int i) { return static_cast<int8_t>(p[i]); });
  }
  static I load_uint8(const uint8_t* p) {
    return make_int([&](int i) { return p[i]; });
  }
  static I load_nibble(const uint8_t* p) {
    return make_int([&](int i) { return p[i] & 15; });
  }
  static F to_float(const I& sum) {
    return make([&](int i) { return static_cast<float>(sum.v[i] - kSumStart); });
  }
  static F scaled(const I& sum, const F& scale, const F&) { return mul(to_float(sum), scale); }
};

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
