// A model in another number format: tensor by tensor, with a report of what was lost.
//
// Matrices are converted; vectors, norms, routers and convolution taps stay as they are (F32). A matrix whose rows
// are not whole blocks of the wanted type gets the nearest type that fits, and the report says so. Memory: one
// tensor at a time. Thread rule: one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ggufish/model_file.hpp"
#include "quant/quantize.hpp"
#include "src/base/file.hpp"
#include "src/base/result.hpp"

namespace lcrun::runtime {

struct RequantizedTensor {
  std::string name;
  DType from = DType::kF32;
  DType to = DType::kF32;
  bool fell_back = false;  // rows did not fit the wanted type
  uint64_t from_bytes = 0;
  uint64_t to_bytes = 0;
  quant::QuantizeReport report;  // all zeros when the bytes were copied
};

struct RequantizeReport {
  std::vector<RequantizedTensor> tensors;
  // Of all converted values.
  double rmse() const;
  double max_error() const;
  uint64_t from_bytes() const;
  uint64_t to_bytes() const;
};

// A type by name that can be written; kUnsupported with the list otherwise.
Result<DType> writable_type(std::string_view name);

// kInvalidArgument when both paths are one file; kBadModel, kUnsupported for the input; kIo, kNoSpace for the output
// (then there is none). `progress` as in Session.
Result<RequantizeReport> requantize(FileSystem& fs, const std::string& from, const std::string& to, DType type,
                                    int n_threads, const std::function<bool(int64_t, int64_t)>& progress);

}  // namespace lcrun::runtime
