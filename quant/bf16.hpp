// BF16: the upper half of a float.
#pragma once

#include <cstdint>

#include "quant/half.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct BF16 {
  static constexpr DType kDType = DType::kBF16;
  static constexpr const char* kName = "BF16";
  static constexpr int32_t kBlockSize = 1;
  using Block = uint16_t;
  static float widen(Block bits) { return bf16_to_f32(bits); }
  static Block narrow(float value) { return f32_to_bf16(value); }
};

}  // namespace lcrun::quant
