// Q8_0: 32 elements, value = d * q, q a signed byte. The canonical code is q + 128.
#pragma once

#include <cstdint>

#include "quant/fit.hpp"
#include "quant/packing.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct Q8_0 {
  static constexpr DType kDType = DType::kQ8_0;
  static constexpr const char* kName = "Q8_0";
  static constexpr int32_t kBlockSize = 32;
  static constexpr Packing kPacking{8, 0, 32, ScaleForm::kHalf, Codebook::kNone, 128};
  struct Block {
    uint16_t d;
    int8_t qs[32];
  };
  static_assert(sizeof(Block) == 34);

  static void unpack(const Block& block, Unpacked& out) {
    out.d = block.d;
    for (int j = 0; j < 32; ++j) out.codes[j] = static_cast<uint8_t>(block.qs[j] + 128);
  }
  // At 8 bits a search gains nothing measurable: the largest magnitude becomes +-127.
  static void quantize(const float* x, Block& block) { block.d = fit_half_absmax(x, 32, 127, block.qs); }
};

}  // namespace lcrun::quant
