// Q4_K: 256 elements in 8 sub-blocks of 32, value = d * s * code - dmin * m, codes of 4 bits, s and m of 6 bits.
#pragma once

#include <cstdint>

#include "quant/bits.hpp"
#include "quant/fit.hpp"
#include "quant/packing.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct Q4_K {
  static constexpr DType kDType = DType::kQ4_K;
  static constexpr const char* kName = "Q4_K";
  static constexpr int32_t kBlockSize = 256;
  static constexpr Packing kPacking{4, 0, 32, ScaleForm::kSuperOffset, Codebook::kNone, 0};
  struct Block {
    uint16_t d;
    uint16_t dmin;
    uint8_t scales[12];
    uint8_t qs[128];
  };
  static_assert(sizeof(Block) == 144);

  static void unpack(const Block& block, Unpacked& out) {
    out.d = block.d;
    out.m = negate_f16(block.dmin);
    unpack_scales6(block.scales, out.sub, out.sub_offset);
    unpack_nibbles256(block.qs, out.codes);
  }
  static void quantize(const float* x, Block& block) {
    Unpacked fit;
    fit_super_offset(x, 15, fit);
    block.d = fit.d;
    block.dmin = fit.m;
    pack_scales6(fit.sub, fit.sub_offset, block.scales);
    pack_nibbles256(fit.codes, block.qs);
  }
};

}  // namespace lcrun::quant
