// Whole tensors from one format to another, with a report of what was lost.
#pragma once

#include <cstdint>
#include <span>

#include "src/base/result.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

// How far the written values are from the values read; NaN and infinity in the source are left out of the figures
// and counted apart.
struct QuantizeReport {
  double rmse = 0.0;       // root of the mean squared difference
  double max_error = 0.0;  // largest absolute difference
  int64_t n = 0;           // values compared
  int64_t n_not_finite = 0;
};

// Bytes that `source` takes in format `target`. kUnsupported when one of the two cannot be computed with or `target`
// is only read; kInvalidArgument when a row is not a whole number of blocks.
Result<uint64_t> quantized_bytes(const TensorView& source, DType target);

// Converts all rows; dst must have quantized_bytes() bytes (kInvalidArgument otherwise, also for a source whose bytes
// do not match its shape). The result and the report are the same for any number of threads.
Result<QuantizeReport> quantize_tensor(const TensorView& source, DType target, std::span<std::byte> dst, int n_threads);

}  // namespace lcrun::quant
