// DType, TensorView and MatView: how numbers are named and looked at. None of these owns memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace lcrun {

// Open enumeration: the values are GGUF's type ids (on disk: never renumber). A value not listed is carried
// through unharmed and refused by name where it would have to be computed with.
enum class DType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
  kNVFP4 = 40,
};

// A tensor of any type in memory that someone else owns (a mapped file, a packed copy).
// `ne` is in GGUF order: ne[0] is the contiguous dimension (columns of a matrix), unused dimensions are 1.
struct TensorView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  std::array<int64_t, 4> ne{1, 1, 1, 1};
  uint64_t size_bytes = 0;  // of the whole tensor
  uint64_t row_bytes = 0;   // of one row of ne[0] elements

  int64_t cols() const { return ne[0]; }
  int64_t rows() const { return ne[1] * ne[2] * ne[3]; }
  int64_t n_elements() const { return cols() * rows(); }
  const float* f32() const { return reinterpret_cast<const float*>(data); }
};

// Rows of float activations. Activations are always float rows.  // [rows, cols], `stride` floats between rows
struct MatView {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  float* row(int64_t r) const { return data + r * stride; }
};

}  // namespace lcrun
