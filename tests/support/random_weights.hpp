// Matrices of random bytes in any computable format: every code occurs, scales are replaced by sane ones.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "quant/format.hpp"
#include "quant/half.hpp"
#include "src/base/tensor.hpp"
#include "tests/support/random.hpp"

namespace lcrun::test {

struct RandomWeights {
  std::vector<std::byte> bytes;
  TensorView view;

  // Row `r` as floats.
  std::vector<float> row(int64_t r) const {
    std::vector<float> values(static_cast<size_t>(view.cols()));
    quant::find_ops(view.dtype)
        ->dequantize(view.data + static_cast<uint64_t>(r) * view.row_bytes, view.cols(), values.data());
    return values;
  }
};

// Byte offsets of the f16 fields of a block.
inline std::vector<size_t> half_fields(DType dtype) {
  switch (dtype) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {0, 2};
    case DType::kQ2_K:
      return {80, 82};
    case DType::kQ3_K:
      return {108};
    case DType::kQ6_K:
      return {208};
    case DType::kMXFP4:
    case DType::kF32:
    case DType::kBF16:
      return {};
    default:
      return {0};
  }
}

inline RandomWeights random_weights(DType dtype, int64_t rows, int64_t cols, Random& random) {
  const quant::TypeInfo& type = *quant::find_type(dtype);
  RandomWeights w;
  w.view.dtype = dtype;
  w.view.ne = {cols, rows, 1, 1};
  w.view.row_bytes = quant::row_bytes(type, cols);
  w.view.size_bytes = w.view.row_bytes * static_cast<uint64_t>(rows);
  w.bytes.resize(w.view.size_bytes);
  w.view.data = w.bytes.data();
  for (std::byte& b : w.bytes) b = static_cast<std::byte>(random.next() >> 56);
  const auto block_bytes = static_cast<size_t>(type.block_bytes);
  for (size_t at = 0; at < w.bytes.size(); at += block_bytes) {
    for (const size_t field : half_fields(dtype)) {
      const uint16_t half = quant::f32_to_f16(random.uniform(-0.02F, 0.02F));
      std::memcpy(w.bytes.data() + at + field, &half, sizeof(half));
    }
    if (dtype == DType::kMXFP4) w.bytes[at] = static_cast<std::byte>(118 + random.below(6));
    if (dtype == DType::kBF16 || dtype == DType::kF32) {
      const float value = random.uniform(-0.1F, 0.1F);
      if (dtype == DType::kF32) std::memcpy(w.bytes.data() + at, &value, sizeof(value));
      const uint16_t bits = quant::f32_to_bf16(value);
      if (dtype == DType::kBF16) std::memcpy(w.bytes.data() + at, &bits, sizeof(bits));
    }
  }
  return w;
}

}  // namespace lcrun::test
