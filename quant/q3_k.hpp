// Q3_K: 256 elements in 16 sub-blocks of 16, value = d * (s - 32) * (code - 4), codes of 3 bits, s of 6 bits.
//
// The low two bits are laid out as in Q2_K; bit 4 * h + p of hmask[l] is the third bit of element 128 * h + 32 * p + l.
// The low halves of the 16 scales are the nibbles of scales[0..7] (low nibbles first), their top two bits are spread
// over scales[8..11], two bits for each group of four.
#pragma once

#include <cstdint>

#include "quant/packing.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct Q3_K {
  static constexpr DType kDType = DType::kQ3_K;
  static constexpr const char* kName = "Q3_K";
  static constexpr int32_t kBlockSize = 256;
  static constexpr Packing kPacking{2, 1, 16, ScaleForm::kSuper, Codebook::kNone, 4};
  struct Block {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;
  };
  static_assert(sizeof(Block) == 110);

  static void unpack(const Block& block, Unpacked& out) {
    out.d = block.d;
    for (int j = 0; j < 16; ++j) {
      const int low = j < 8 ? block.scales[j] & 15 : block.scales[j - 8] >> 4;
      const int high = (block.scales[8 + j % 4] >> (2 * (j / 4))) & 3;
      out.sub[j] = static_cast<uint8_t>((low | (high << 4)) - 32);
    }
    for (int half = 0; half < 2; ++half) {
      for (int p = 0; p < 4; ++p) {
        for (int l = 0; l < 32; ++l) {
          const int low = (block.qs[32 * half + l] >> (2 * p)) & 3;
          const int high = (block.hmask[l] >> (4 * half + p)) & 1;
          out.codes[128 * half + 32 * p + l] = static_cast<uint8_t>(low | (high << 2));
        }
      }
    }
  }
};

}  // namespace lcrun::quant
