// Q6_K: 256 elements in 16 sub-blocks of 16, value = d * s * (code - 32), codes of 6 bits, s a signed byte.
//
// In each half of 128: element 32 * p + l (p = 0..3) has its low four bits in ql[32 * (p % 2) + l] (low nibble for
// p < 2, else high) and its top two bits in qh[l], bits 2p and 2p + 1.
#pragma once

#include <cstdint>

#include "quant/fit.hpp"
#include "quant/packing.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct Q6_K {
  static constexpr DType kDType = DType::kQ6_K;
  static constexpr const char* kName = "Q6_K";
  static constexpr int32_t kBlockSize = 256;
  static constexpr Packing kPacking{4, 2, 16, ScaleForm::kSuper, Codebook::kNone, 32};
  struct Block {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
  };
  static_assert(sizeof(Block) == 210);

  static void unpack(const Block& block, Unpacked& out) {
    out.d = block.d;
    for (int j = 0; j < 16; ++j) out.sub[j] = static_cast<uint8_t>(block.scales[j]);
    for (int half = 0; half < 2; ++half) {
      for (int p = 0; p < 4; ++p) {
        for (int l = 0; l < 32; ++l) {
          const int low = (block.ql[64 * half + 32 * (p % 2) + l] >> (p < 2 ? 0 : 4)) & 15;
          const int high = (block.qh[32 * half + l] >> (2 * p)) & 3;
          out.codes[128 * half + 32 * p + l] = static_cast<uint8_t>(low | (high << 4));
        }
      }
    }
  }
  static void quantize(const float* x, Block& block) {
    Unpacked fit;
    fit_super(x, 32, 63, fit);
    block.d = fit.d;
    for (int j = 0; j < 16; ++j) block.scales[j] = static_cast<int8_t>(fit.sub[j]);
    for (int half = 0; half < 2; ++half) {
      for (int l = 0; l < 32; ++l) {
        const uint8_t* codes = fit.codes + 128 * half + l;
        block.ql[64 * half + l] = static_cast<uint8_t>((codes[0] & 15) | ((codes[64] & 15) << 4));
        block.ql[64 * half + 32 + l] = static_cast<uint8_t>((codes[32] & 15) | ((codes[96] & 15) << 4));
        block.qh[32 * half + l] = static_cast<uint8_t>((codes[0] >> 4) | ((codes[32] >> 4) << 2) |
                                                       ((codes[64] >> 4) << 4) | ((codes[96] >> 4) << 6));
      }
    }
  }
};

}  // namespace lcrun::quant
