// IQ4_NL: 32 elements, value = d * level[code], 16 levels that are denser around zero (kIq4Codes minus 128).
#pragma once

#include <cstdint>

#include "quant/bits.hpp"
#include "quant/packing.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct IQ4_NL {
  static constexpr DType kDType = DType::kIQ4_NL;
  static constexpr const char* kName = "IQ4_NL";
  static constexpr int32_t kBlockSize = 32;
  static constexpr Packing kPacking{4, 0, 32, ScaleForm::kHalf, Codebook::kIq4, 128};
  struct Block {
    uint16_t d;
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 18);

  static void unpack(const Block& block, Unpacked& out) {
    out.d = block.d;
    unpack_nibbles32(block.qs, out.codes);
  }
};

}  // namespace lcrun::quant
