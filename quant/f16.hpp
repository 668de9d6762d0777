// F16: IEEE 754 binary16. What is too large becomes infinity.
#pragma once

#include <cstdint>

#include "quant/half.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct F16 {
  static constexpr DType kDType = DType::kF16;
  static constexpr const char* kName = "F16";
  static constexpr int32_t kBlockSize = 1;
  using Block = uint16_t;
  static float widen(Block bits) { return f16_to_f32(bits); }
  static Block narrow(float value) { return f32_to_f16(value); }
};

}  // namespace lcrun::quant
