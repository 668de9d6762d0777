// The canonical description of a block format: what its codes and scales mean, independent of how it stores them.
//
// A block is kBlockSize elements in sub-blocks of 16 or 32. Element i of sub-block j is
//   value = scale[j] * (decode(code[i]) - zero_point)     or, for formats with an offset,
//   value = scale[j] * decode(code[i]) + offset[j]
// where decode is the identity or a codebook of 16 unsigned bytes. The float products are formed as written, which
// is what every other reader of these formats does, so that values agree bit for bit.
// A format's header turns its bytes into `Unpacked`; dequantisation and the packing of weights for matrix products
// are then written once for all formats. Plain constants only: kernels include this.
#pragma once

#include <cstdint>

namespace lcrun::quant {

enum class ScaleForm : uint8_t {
  kHalf,         // scale = f16 d
  kHalfOffset,   // scale = f16 d, offset = f16 m
  kBf16,         // scale = bf16 d (the power-of-two scales of MX formats, exact)
  kSuper,        // scale = f16 d * int8 sub[j]
  kSuperOffset,  // scale = f16 d * uint8 sub[j], offset = f16 m * uint8 sub_offset[j]
  kSuperNibble,  // scale = f16 d * (sub[j] & 15), offset = f16 m * (sub[j] >> 4)
};

enum class Codebook : uint8_t { kNone, kIq4, kFp4 };

// 16 entries each, shifted by the zero point of the formats that use them.
constexpr uint8_t kIq4Codes[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
constexpr uint8_t kFp4Codes[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

struct Packing {
  uint8_t low_bits = 0;   // 2, 4 or 8: bits of a code kept in the first plane
  uint8_t high_bits = 0;  // 0, 1 or 2: bits kept in the second plane
  uint8_t sub_block = 0;  // 16 or 32 elements share a scale
  ScaleForm scale = ScaleForm::kHalf;
  Codebook codebook = Codebook::kNone;
  uint8_t zero_point = 0;

  constexpr bool has_offset() const {
    return scale == ScaleForm::kHalfOffset || scale == ScaleForm::kSuperOffset || scale == ScaleForm::kSuperNibble;
  }
  // Scales of 256 elements hang together.
  constexpr bool is_super() const {
    return scale == ScaleForm::kSuper || scale == ScaleForm::kSuperOffset || scale == ScaleForm::kSuperNibble;
  }
  friend constexpr bool operator==(const Packing&, const Packing&) = default;
};

// One block of any format; fields that a ScaleForm does not name are not written.
struct Unpacked {
  uint8_t codes[256];
  uint16_t d;  // bits of the 16-bit float
  uint16_t m;
  uint8_t sub[16];
  uint8_t sub_offset[16];
};

// Flips the sign of f16 bits: formats that subtract a minimum store the offset of the description above.
constexpr uint16_t negate_f16(uint16_t bits) { return static_cast<uint16_t>(bits ^ 0x8000u); }

}  // namespace lcrun::quant
