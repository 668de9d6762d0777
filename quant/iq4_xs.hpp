// IQ4_XS: 256 elements in 8 sub-blocks of 32, value = d * (s - 32) * level[code], the levels of IQ4_NL, s of 6 bits.
//
// Each sub-block's codes are laid out as in IQ4_NL; the low nibbles of s are in scales_l, the top two bits in scales_h.
#pragma once

#include <cstdint>
#include <cstring>

#include "quant/bits.hpp"
#include "quant/packing.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct IQ4_XS {
  static constexpr DType kDType = DType::kIQ4_XS;
  static constexpr const char* kName = "IQ4_XS";
  static constexpr int32_t kBlockSize = 256;
  static constexpr Packing kPacking{4, 0, 32, ScaleForm::kSuper, Codebook::kIq4, 128};
  struct Block {
    uint16_t d;
    uint16_t scales_h;
    uint8_t scales_l[4];
    uint8_t qs[8][16];
  };
  static_assert(sizeof(Block) == 136);

  static void unpack(const Block& block, Unpacked& out) {
    out.d = block.d;
    for (int j = 0; j < 8; ++j) {
      const int low = (block.scales_l[j / 2] >> (4 * (j % 2))) & 15;
      const int high = (block.scales_h >> (2 * j)) & 3;
      out.sub[j] = static_cast<uint8_t>((low | (high << 4)) - 32);
      unpack_nibbles32(block.qs[j], out.codes + 32 * j);
    }
  }
};

}  // namespace lcrun::quant
