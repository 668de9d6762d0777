// Q4_0: 32 elements, value = d * (code - 8), codes of 4 bits.
#pragma once

#include <cstdint>

#include "quant/bits.hpp"
#include "quant/fit.hpp"
#include "quant/packing.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct Q4_0 {
  static constexpr DType kDType = DType::kQ4_0;
  static constexpr const char* kName = "Q4_0";
  static constexpr int32_t kBlockSize = 32;
  static constexpr Packing kPacking{4, 0, 32, ScaleForm::kHalf, Codebook::kNone, 8};
  struct Block {
    uint16_t d;
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 18);

  static void unpack(const Block& block, Unpacked& out) {
    out.d = block.d;
    unpack_nibbles32(block.qs, out.codes);
  }
  static void quantize(const float* x, Block& block) {
    uint8_t codes[32];
    block.d = fit_half(x, 32, 8, 15, codes);
    pack_nibbles32(codes, block.qs);
  }
};

}  // namespace lcrun::quant
