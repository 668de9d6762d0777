// Q2_K: 256 elements in 16 sub-blocks of 16, value = d * s * code - dmin * m, codes of 2 bits, s and m of 4 bits.
//
// Byte 32 * h + l of qs holds, two bits each, the elements 128 * h + 32 * p + l for p = 0..3.
#pragma once

#include <cstdint>

#include "quant/packing.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct Q2_K {
  static constexpr DType kDType = DType::kQ2_K;
  static constexpr const char* kName = "Q2_K";
  static constexpr int32_t kBlockSize = 256;
  static constexpr Packing kPacking{2, 0, 16, ScaleForm::kSuperNibble, Codebook::kNone, 0};
  struct Block {
    uint8_t scales[16];  // s in the low half, m in the high half
    uint8_t qs[64];
    uint16_t d;
    uint16_t dmin;
  };
  static_assert(sizeof(Block) == 84);

  static void unpack(const Block& block, Unpacked& out) {
    out.d = block.d;
    out.m = negate_f16(block.dmin);
    for (int j = 0; j < 16; ++j) out.sub[j] = block.scales[j];
    for (int half = 0; half < 2; ++half) {
      for (int p = 0; p < 4; ++p) {
        for (int l = 0; l < 32; ++l) out.codes[128 * half + 32 * p + l] = (block.qs[32 * half + l] >> (2 * p)) & 3;
      }
    }
  }
};

}  // namespace lcrun::quant
