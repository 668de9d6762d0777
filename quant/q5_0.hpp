// Q5_0: 32 elements, value = d * (code - 16), codes of 5 bits: four in nibbles, the fifth in a word.
#pragma once

#include <cstdint>

#include "quant/bits.hpp"
#include "quant/fit.hpp"
#include "quant/packing.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct Q5_0 {
  static constexpr DType kDType = DType::kQ5_0;
  static constexpr const char* kName = "Q5_0";
  static constexpr int32_t kBlockSize = 32;
  static constexpr Packing kPacking{4, 1, 32, ScaleForm::kHalf, Codebook::kNone, 16};
  struct Block {
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 22);

  static void unpack(const Block& block, Unpacked& out) {
    out.d = block.d;
    unpack_nibbles32(block.qs, out.codes);
    unpack_fifth_bits(block.qh, out.codes);
  }
  static void quantize(const float* x, Block& block) {
    uint8_t codes[32];
    block.d = fit_half(x, 32, 16, 31, codes);
    pack_nibbles32(codes, block.qs);
    pack_fifth_bits(codes, block.qh);
  }
};

}  // namespace lcrun::quant
