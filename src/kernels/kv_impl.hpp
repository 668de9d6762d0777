// Cached keys and values of one KV head and 64 tokens: encoding rows, and readers that give vectors of floats.
//
// Layouts (docs/formats.md, "KV blocks"; on disk in sessions):
//   K  f32 f16 bf16  [dim][64]
//      q8_0          int8 [dim][64], then f16 scales [dim / 32][64]
//      q4_0          bytes [dim / 2][64] (low bits dimension 2i, high bits 2i + 1), then f16 scales [dim / 32][64]
//   V  f32 f16 bf16  [64][dim]
//      q8_0          int8 [64][dim], then f16 scales [64][dim / 32]
//      q4_0          bytes [64][dim / 2] (16 bytes of 32 elements: low bits i, high bits i + 16), then f16 scales
// K runs along tokens so that scores of 64 keys are vectors with no transposition and no horizontal sum; V runs
// along the head so that outputs are. A token owns whole bytes: rows are written one at a time, in any order.
// Every reader gives the same float for an element, whatever the instruction set.
#pragma once

#include "src/kernels/simd.hpp"
#include "src/kernels/slots.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

constexpr int64_t kGroup = 32;  // elements that share a scale
constexpr float kHalfMax = 65504.0F;

// --- encoding ----------------------------------------------------------------------------------------------------

inline uint16_t half_of(float x) {
  uint16_t lanes[kLanes];
  store_f16(lanes, splat(x));
  return lanes[0];
}

inline uint16_t bf16_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);  // stays NaN
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

// Saturating: a key beyond 65504 must not become infinite (0 * inf would poison rows that do not even see it).
void halves_of(const float* x, int64_t dim, uint16_t* out) {
  const F32 top = splat(kHalfMax);
  const F32 bottom = splat(-kHalfMax);
  int64_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) store_f16(out + i, vmin(vmax(load(x + i), bottom), top));
  if (i < dim) {
    uint16_t lanes[kLanes];
    store_f16(lanes, vmin(vmax(load_part(x + i, dim - i), bottom), top));
    for (int64_t j = 0; i + j < dim; ++j) out[i + j] = lanes[j];
  }
}

// codes = nearest integers of x * factor + offset within [low, high]. The steps are single roundings on every
// instruction set, so that all of them write the same bytes.
template <class Code>
inline void round_group(const float* x, float factor, float offset, float low, float high, Code* codes) {
  float rounded[kGroup];
  for (int64_t i = 0; i < kGroup; i += kLanes) {
    const F32 scaled = load(x + i) * splat(factor) + splat(offset);
    store(rounded + i, round_near(vmin(vmax(scaled, splat(low)), splat(high))));
  }
  for (int64_t i = 0; i < kGroup; ++i) codes[i] = static_cast<Code>(static_cast<int32_t>(rounded[i]));
}

// Least and largest of 32 values.
inline void range_of(const float* x, float& least, float& largest) {
  F32 top = load(x);
  F32 bottom = splat(0.0F) - top;
  for (int64_t i = kLanes; i < kGroup; i += kLanes) {
    top = vmax(top, load(x + i));
    bottom = vmax(bottom, splat(0.0F) - load(x + i));
  }
  least = -reduce_max(bottom);
  largest = reduce_max(top);
}

inline float bounded_scale(float x) { return x > kHalfMax ? kHalfMax : (x < -kHalfMax ? -kHalfMax : x); }

// 32 values as a scale and codes: x ~ scale * code, code in [-127, 127].
inline uint16_t codes_q8(const float* x, int8_t* codes) {
  float least, largest;
  range_of(x, least, largest);
  const float scale = bounded_scale((largest > -least ? largest : -least) / 127.0F);
  round_group(x, scale > 0.0F ? 1.0F / scale : 0.0F, 0.0F, -127.0F, 127.0F, codes);
  return half_of(scale);
}

// 32 values as a scale and codes: x ~ scale * (code - 8), code in [0, 15]; the value of largest size gets code 0.
inline uint16_t codes_q4(const float* x, uint8_t* codes) {
  float least, largest;
  range_of(x, least, largest);
  const float scale = bounded_scale((largest >= -least ? largest : least) / -8.0F);
  round_group(x, scale != 0.0F ? 1.0F / scale : 0.0F, 8.0F, 0.0F, 15.0F, codes);
  return half_of(scale);
}

inline void put_half(std::byte* p, int64_t index, uint16_t half) { std::memcpy(p + index * 2, &half, sizeof(half)); }

void encode_k_f32(const float* k, int64_t dim, int64_t row, std::byte* part) {
  for (int64_t d = 0; d < dim; ++d) std::memcpy(part + (d * kKvBlock + row) * 4, k + d, sizeof(float));
}
void encode_k_f16(const float* k, int64_t dim, int64_t row, std::byte* part) {
  uint16_t halves[kMaxHeadDim];
  halves_of(k, dim, halves);
  for (int64_t d = 0; d < dim; ++d) put_half(part, d * kKvBlock + row, halves[d]);
}
void encode_k_bf16(const float* k, int64_t dim, int64_t row, std::byte* part) {
  for (int64_t d = 0; d < dim; ++d) put_half(part, d * kKvBlock + row, bf16_of(k[d]));
}
void encode_k_q8_0(const float* k, int64_t dim, int64_t row, std::byte* part) {
  std::byte* scales = part + dim * kKvBlock;
  for (int64_t g = 0; g < dim / kGroup; ++g) {
    int8_t codes[kGroup];
    put_half(scales, g * kKvBlock + row, codes_q8(k + g * kGroup, codes));
    for (int64_t i = 0; i < kGroup; ++i) {
      part[(g * kGroup + i) * kKvBlock + row] = static_cast<std::byte>(codes[i]);
    }
  }
}
void encode_k_q4_0(const float* k, int64_t dim, int64_t row, std::byte* part) {
  std::byte* scales = part + dim / 2 * kKvBlock;
  for (int64_t g = 0; g < dim / kGroup; ++g) {
    uint8_t codes[kGroup];
    put_half(scales, g * kKvBlock + row, codes_q4(k + g * kGroup, codes));
    for (int64_t i = 0; i < kGroup / 2; ++i) {
      const int packed = codes[2 * i] | (codes[2 * i + 1] << 4);
      part[(g * kGroup / 2 + i) * kKvBlock + row] = static_cast<std::byte>(packed);
    }
  }
}

void encode_v_f32(const float* v, int64_t dim, int64_t row, std::byte* part) {
  std::memcpy(part + row * dim * 4, v, static_cast<size_t>(dim) * 4);
}
void encode_v_f16(const float* v, int64_t dim, int64_t row, std::byte* part) {
  uint16_t halves[kMaxHeadDim];
  halves_of(v, dim, halves);
  std::memcpy(part + row * dim * 2, halves, static_cast<size_t>(dim) * 2);
}
void encode_v_bf16(const float* v, int64_t dim, int64_t row, std::byte* part) {
  for (int64_t d = 0; d < dim; ++d) put_half(part, row * dim + d, bf16_of(v[d]));
}
void encode_v_q8_0(const float* v, int64_t dim, int64_t row, std::byte* part) {
  std::byte* scales = part + dim * kKvBlock;
  for (int64_t g = 0; g < dim / kGroup; ++g) {
    int8_t codes[kGroup];
    put_half(scales, row * (dim / kGroup) + g, codes_q8(v + g * kGroup, codes));
    std::memcpy(part + row * dim + g * kGroup, codes, sizeof(codes));
  }
}
void encode_v_q4_0(const float* v, int64_t dim, int64_t row, std::byte* part) {
  std::byte* scales = part + dim / 2 * kKvBlock;
  for (int64_t g = 0; g < dim / kGroup; ++g) {
    uint8_t codes[kGroup];
    put_half(scales, row * (dim / kGroup) + g, codes_q4(v + g * kGroup, codes));
    for (int64_t i = 0; i < kGroup / 2; ++i) {
      const int packed = codes[i] | (codes[i + kGroup / 2] << 4);
      part[row * (dim / 2) + g * kGroup / 2 + i] = static_cast<std::byte>(packed);
    }
  }
}

// --- readers -----------------------------------------------------------------------------------------------------

template <class T>
inline const T* as(const std::byte* p) {
  return static_cast<const T*>(static_cast<const void*>(p));
}

// The bytes that lie `after` bytes behind p, `bytes` of them.
inline void fetch_ahead(const void* p, int64_t after, int64_t bytes) {
  prefetch_lines(static_cast<const char*>(p) + after, bytes);
}

// A K reader gives dimension d of the kLanes keys from `key` on; ahead() fetches what lies behind n of
// them. Quantised types: attention_pairs_impl.hpp.
struct KeysF32 {
  const float* p;
  KeysF32(const std::byte* part, int64_t, int64_t = 0) : p(as<float>(part)) {}
  F32 get(int64_t d, int64_t key) const { return load(p + d * kKvBlock + key); }
  void ahead(int64_t, int64_t, int64_t) const {}  // mostly tiles, which are at hand
};
struct KeysF16 {
  const uint16_t* p;
  int64_t after;
  KeysF16(const std::byte* part, int64_t, int64_t next = 0) : p(as<uint16_t>(part)), after(next) {}
  F32 get(int64_t d, int64_t key) const { return load_f16(p + d * kKvBlock + key); }
  void ahead(int64_t d, int64_t key, int64_t n) const { fetch_ahead(p + d * kKvBlock + key, after, n * 2); }
};
struct KeysBF16 {
  const uint16_t* p;
  int64_t after;
  KeysBF16(const std::byte* part, int64_t, int64_t next = 0) : p(as<uint16_t>(part)), after(next) {}
  F32 get(int64_t d, int64_t key) const { return load_bf16(p + d * kKvBlock + key); }
  void ahead(int64_t d, int64_t key, int64_t n) const { fetch_ahead(p + d * kKvBlock + key, after, n * 2); }
};
// A V reader gives the kLanes elements from `column` on of one key's row.
struct ValuesF32 {
  using Element = float;
  const float* p;
  int64_t dim;
  ValuesF32(const std::byte* part, int64_t n, int64_t = 0) : p(as<float>(part)), dim(n) {}
  F32 get(int64_t key, int64_t column) const { return load(p + key * dim + column); }
  void ahead(int64_t, int64_t, int64_t) const {}
};
struct ValuesF16 {
  using Element = uint16_t;
  const uint16_t* p;
  int64_t dim;
  int64_t after;
  ValuesF16(const std::byte* part, int64_t n, int64_t next = 0) : p(as<uint16_t>(part)), dim(n), after(next) {}
  F32 get(int64_t key, int64_t column) const { return load_f16(p + key * dim + column); }
  void ahead(int64_t key, int64_t column, int64_t n) const { fetch_ahead(p + key * dim + column, after, n * 2); }
};
struct ValuesBF16 {
  using Element = uint16_t;
  const uint16_t* p;
  int64_t dim;
  int64_t after;
  ValuesBF16(const std::byte* part, int64_t n, int64_t next = 0) : p(as<uint16_t>(part)), dim(n), after(next) {}
  F32 get(int64_t key, int64_t column) const { return load_bf16(p + key * dim + column); }
  void ahead(int64_t key, int64_t column, int64_t n) const { fetch_ahead(p + key * dim + column, after, n * 2); }
};
// --- whole parts as floats ---------------------------------------------------------------------------------------

inline float* as_floats(std::byte* tile) { return static_cast<float*>(static_cast<void*>(tile)); }

template <class Keys>
void keys_to_f32(const std::byte* part, int64_t dim, std::byte* tile) {
  const Keys keys(part, dim);
  float* out = as_floats(tile);
  for (int64_t d = 0; d < dim; ++d) {
    for (int64_t key = 0; key < kKvBlock; key += kLanes) store(out + d * kKvBlock + key, keys.get(d, key));
  }
}

// The last elements of a row that fill no vector go through a padded copy.
template <class Values>
void value_tail(const std::byte* part, int64_t dim, int64_t key, int64_t from, float* row) {
  typename Values::Element rest[kValuePad + kLanes] = {};
  for (int64_t i = from; i < dim; ++i) rest[i - from] = as<typename Values::Element>(part)[key * dim + i];
  const Values padded(static_cast<const std::byte*>(static_cast<const void*>(rest)), 0);
  const int64_t stride = (dim + kValuePad - 1) / kValuePad * kValuePad;
  for (int64_t column = from; column < stride; column += kLanes) store(row + column, padded.get(0, column - from));
}

template <class Values>
void values_to_f32(const std::byte* part, int64_t dim, std::byte* tile) {
  const Values values(part, dim);
  const int64_t stride = (dim + kValuePad - 1) / kValuePad * kValuePad;
  const int64_t whole = dim / kLanes * kLanes;
  for (int64_t key = 0; key < kKvBlock; ++key) {
    float* row = as_floats(tile) + key * stride;
    for (int64_t column = 0; column < whole; column += kLanes) store(row + column, values.get(key, column));
    if (whole < stride) value_tail<Values>(part, dim, key, whole, row);
  }
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
