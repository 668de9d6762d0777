// MXFP4 (OCP Microscaling Formats 1.0): 32 elements of 4-bit floats (E2M1) with one power-of-two scale.
//
// The codebook holds the doubled element values, so the scale is half of 2^(e - 127), which is exact in bf16 for
// every e (a subnormal for e < 2). e = 255, NaN in the standard, reads as 2^127, as in the tools that write GGUF.
#pragma once

#include <cstdint>

#include "quant/bits.hpp"
#include "quant/packing.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct MXFP4 {
  static constexpr DType kDType = DType::kMXFP4;
  static constexpr const char* kName = "MXFP4";
  static constexpr int32_t kBlockSize = 32;
  static constexpr Packing kPacking{4, 0, 32, ScaleForm::kBf16, Codebook::kFp4, 16};
  struct Block {
    uint8_t e;
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 17);

  static void unpack(const Block& block, Unpacked& out) {
    out.d = static_cast<uint16_t>(block.e < 2 ? 0x20 << block.e : (block.e - 1) << 7);
    unpack_nibbles32(block.qs, out.codes);
  }
};

}  // namespace lcrun::quant
