// Q5_K: Q4_K with a fifth bit: bit j of qh[l] is the top bit of element 32 * j + l.
#pragma once

#include <cstdint>

#include "quant/bits.hpp"
#include "quant/fit.hpp"
#include "quant/packing.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct Q5_K {
  static constexpr DType kDType = DType::kQ5_K;
  static constexpr const char* kName = "Q5_K";
  static constexpr int32_t kBlockSize = 256;
  static constexpr Packing kPacking{4, 1, 32, ScaleForm::kSuperOffset, Codebook::kNone, 0};
  struct Block {
    uint16_t d;
    uint16_t dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
  };
  static_assert(sizeof(Block) == 176);

  static void unpack(const Block& block, Unpacked& out) {
    out.d = block.d;
    out.m = negate_f16(block.dmin);
    unpack_scales6(block.scales, out.sub, out.sub_offset);
    unpack_nibbles256(block.qs, out.codes);
    for (int i = 0; i < 256; ++i) {
      out.codes[i] = static_cast<uint8_t>(out.codes[i] | (((block.qh[i % 32] >> (i / 32)) & 1) << 4));
    }
  }
  static void quantize(const float* x, Block& block) {
    Unpacked fit;
    fit_super_offset(x, 31, fit);
    block.d = fit.d;
    block.dmin = fit.m;
    pack_scales6(fit.sub, fit.sub_offset, block.scales);
    pack_nibbles256(fit.codes, block.qs);
    for (int l = 0; l < 32; ++l) {
      int bits = 0;
      for (int j = 0; j < 8; ++j) bits |= (fit.codes[32 * j + l] >> 4) << j;
      block.qh[l] = static_cast<uint8_t>(bits);
    }
  }
};

}  // namespace lcrun::quant
