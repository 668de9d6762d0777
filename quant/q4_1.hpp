// Q4_1: 32 elements, value = d * code + m, codes of 4 bits.
#pragma once

#include <cstdint>

#include "quant/bits.hpp"
#include "quant/fit.hpp"
#include "quant/packing.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct Q4_1 {
  static constexpr DType kDType = DType::kQ4_1;
  static constexpr const char* kName = "Q4_1";
  static constexpr int32_t kBlockSize = 32;
  static constexpr Packing kPacking{4, 0, 32, ScaleForm::kHalfOffset, Codebook::kNone, 0};
  struct Block {
    uint16_t d;
    uint16_t m;
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 20);

  static void unpack(const Block& block, Unpacked& out) {
    out.d = block.d;
    out.m = block.m;
    unpack_nibbles32(block.qs, out.codes);
  }
  static void quantize(const float* x, Block& block) {
    uint8_t codes[32];
    const HalfPair fit = fit_half_offset(x, 32, 15, codes);
    block.d = fit.d;
    block.m = fit.m;
    pack_nibbles32(codes, block.qs);
  }
};

}  // namespace lcrun::quant
