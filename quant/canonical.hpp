// Rows of every format, written once: block formats from their canonical description (packing.hpp), plain ones by
// widening and narrowing each number. format.cpp instantiates these for the registry.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "quant/half.hpp"
#include "quant/packing.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

// What a block format header provides. Writable formats add `static void quantize(const float*, Block&)`.
template <class F>
concept BlockFormat = requires(const typename F::Block& block, Unpacked& out) {
  { F::kDType } -> std::convertible_to<DType>;
  { F::kName } -> std::convertible_to<const char*>;
  { F::kBlockSize } -> std::convertible_to<int32_t>;
  { F::kPacking } -> std::convertible_to<Packing>;
  F::unpack(block, out);
};

struct SubScale {
  float scale;
  float offset;
};

// Scale and offset of sub-block j.
inline SubScale sub_scale(const Packing& packing, const Unpacked& u, int j) {
  switch (packing.scale) {
    case ScaleForm::kHalf:
      return {f16_to_f32(u.d), 0.0f};
    case ScaleForm::kHalfOffset:
      return {f16_to_f32(u.d), f16_to_f32(u.m)};
    case ScaleForm::kBf16:
      return {bf16_to_f32(u.d), 0.0f};
    case ScaleForm::kSuper:
      return {f16_to_f32(u.d) * static_cast<float>(static_cast<int8_t>(u.sub[j])), 0.0f};
    case ScaleForm::kSuperOffset:
      return {f16_to_f32(u.d) * static_cast<float>(u.sub[j]), f16_to_f32(u.m) * static_cast<float>(u.sub_offset[j])};
    case ScaleForm::kSuperNibble:
      return {f16_to_f32(u.d) * static_cast<float>(u.sub[j] & 15), f16_to_f32(u.m) * static_cast<float>(u.sub[j] >> 4)};
  }
  return {0.0f, 0.0f};
}

inline uint8_t decode_code(Codebook codebook, uint8_t code) {
  if (codebook == Codebook::kIq4) return kIq4Codes[code];
  return codebook == Codebook::kFp4 ? kFp4Codes[code] : code;
}

template <BlockFormat F>
void dequantize_block(const typename F::Block& block, float* dst) {
  constexpr Packing kPacking = F::kPacking;
  Unpacked u;
  F::unpack(block, u);
  for (int j = 0; j < F::kBlockSize / kPacking.sub_block; ++j) {
    const SubScale s = sub_scale(kPacking, u, j);
    for (int i = j * kPacking.sub_block; i < (j + 1) * kPacking.sub_block; ++i) {
      const auto level = static_cast<float>(decode_code(kPacking.codebook, u.codes[i]) - kPacking.zero_point);
      dst[i] = kPacking.has_offset() ? s.scale * level + s.offset : s.scale * level;
    }
  }
}

// Rows come from mapped files: blocks are copied out, never cast, so that alignment does not matter.
template <BlockFormat F>
void dequantize_row(const std::byte* src, int64_t n, float* dst) {
  for (int64_t i = 0; i < n; i += F::kBlockSize, src += sizeof(typename F::Block)) {
    typename F::Block block;
    std::memcpy(&block, src, sizeof(block));
    dequantize_block<F>(block, dst + i);
  }
}

template <class F>
concept WritableBlockFormat = BlockFormat<F> && requires(const float* x, typename F::Block& block) {
  F::quantize(x, block);
};

// What block quantisers see of an input: NaN counts as 0, magnitudes beyond 2^30 (infinity too) count as 2^30. That
// is beyond what any block format can hold, and its squares still sum without overflow.
inline float tame(float value) {
  constexpr float kLimit = 0x1p30f;
  if (!(value == value)) return 0.0f;
  return value > kLimit ? kLimit : (value < -kLimit ? -kLimit : value);
}

template <WritableBlockFormat F>
void quantize_row(const float* src, int64_t n, std::byte* dst) {
  for (int64_t i = 0; i < n; i += F::kBlockSize, dst += sizeof(typename F::Block)) {
    float tamed[F::kBlockSize];
    for (int j = 0; j < F::kBlockSize; ++j) tamed[j] = tame(src[i + j]);
    typename F::Block block;
    F::quantize(tamed, block);
    std::memcpy(dst, &block, sizeof(block));
  }
}

template <BlockFormat F>
void unpack_block(const std::byte* src, Unpacked& out) {
  typename F::Block block;
  std::memcpy(&block, src, sizeof(block));
  F::unpack(block, out);
}

// Formats of single numbers: `widen` and `narrow` one at a time.
template <class F>
void widen_row(const std::byte* src, int64_t n, float* dst) {
  for (int64_t i = 0; i < n; ++i) {
    typename F::Block bits;
    std::memcpy(&bits, src + i * static_cast<int64_t>(sizeof(bits)), sizeof(bits));
    dst[i] = F::widen(bits);
  }
}

template <class F>
void narrow_row(const float* src, int64_t n, std::byte* dst) {
  for (int64_t i = 0; i < n; ++i) {
    const typename F::Block bits = F::narrow(src[i]);
    std::memcpy(dst + i * static_cast<int64_t>(sizeof(bits)), &bits, sizeof(bits));
  }
}

}  // namespace lcrun::quant
