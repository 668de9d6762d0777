// F32: plain floats.
#pragma once

#include <cstdint>

#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct F32 {
  static constexpr DType kDType = DType::kF32;
  static constexpr const char* kName = "F32";
  static constexpr int32_t kBlockSize = 1;
  using Block = float;
  static float widen(Block bits) { return bits; }
  static Block narrow(float value) { return value; }
};

}  // namespace lcrun::quant
