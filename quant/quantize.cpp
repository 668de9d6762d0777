// Rows are converted through float, many rows a task; each task keeps its own report and the reports are added in
// task order, so that the sums do not depend on the threads.
#include "quant/quantize.hpp"

#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "quant/format.hpp"
#include "src/base/format.hpp"
#include "src/base/parallel.hpp"

namespace lcrun::quant {
namespace {

constexpr int64_t kValuesPerTask = int64_t{1} << 16;

struct Job {
  const TensorView* source;
  const QuantOps* from;
  const QuantOps* to;
  uint64_t to_row_bytes;
  std::byte* dst;
};

struct Part {
  double sum_squares = 0.0;
  double max_error = 0.0;
  int64_t n = 0;
  int64_t n_not_finite = 0;
};

void compare(const float* wanted, const float* got, int64_t n, Part& part) {
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(wanted[i]) || !std::isfinite(got[i])) {
      ++part.n_not_finite;
      continue;
    }
    const double error = std::fabs(static_cast<double>(wanted[i]) - static_cast<double>(got[i]));
    part.sum_squares += error * error;
    part.max_error = std::max(part.max_error, error);
    ++part.n;
  }
}

// `scratch` holds two rows of floats.
void convert_rows(const Job& job, int64_t first, int64_t last, float* scratch, Part& part) {
  const int64_t cols = job.source->cols();
  float* wanted = scratch;
  float* got = scratch + cols;
  for (int64_t row = first; row < last; ++row) {
    const auto at = static_cast<uint64_t>(row);
    std::byte* out = job.dst + at * job.to_row_bytes;
    job.from->dequantize(job.source->data + at * job.source->row_bytes, cols, wanted);
    job.to->quantize(wanted, cols, out);
    job.to->dequantize(out, cols, got);
    compare(wanted, got, cols, part);
  }
}

Status check_rows(const TensorView& source, const TypeInfo& type) {
  if (source.cols() > 0 && source.cols() % type.block_size == 0) return {};
  return make_error(Code::kInvalidArgument, "quantize: found rows of {} values, wanted a multiple of {} for {}",
                    source.cols(), type.block_size, type.name);
}

}  // namespace

Result<uint64_t> quantized_bytes(const TensorView& source, DType target) {
  if (find_ops(source.dtype) == nullptr) return unsupported_type("quantize: source", source.dtype);
  const QuantOps* to = find_ops(target);
  if (to == nullptr || to->quantize == nullptr) {
    return make_error(Code::kUnsupported, "quantize: found {}, wanted a type that can be written: {}",
                      type_name(target), supported_types(true));
  }
  LCRUN_TRY(check_rows(source, *find_type(source.dtype)));
  LCRUN_TRY(check_rows(source, *find_type(target)));
  return row_bytes(*find_type(target), source.cols()) * static_cast<uint64_t>(source.rows());
}

Result<QuantizeReport> quantize_tensor(const TensorView& source, DType target, std::span<std::byte> dst,
                                       int n_threads) {
  LCRUN_ASSIGN(const uint64_t bytes, quantized_bytes(source, target));
  const uint64_t source_row = row_bytes(*find_type(source.dtype), source.cols());
  const auto rows = static_cast<uint64_t>(source.rows());
  if (source.row_bytes != source_row || source.size_bytes < source_row * rows || dst.size() != bytes) {
    return make_error(Code::kInvalidArgument, "quantize: found {} source and {} target bytes, wanted {} and {}",
                      source.size_bytes, dst.size(), source_row * rows, bytes);
  }
  const int64_t rows_per_task = std::max<int64_t>(1, kValuesPerTask / source.cols());
  const int64_t n_tasks = (source.rows() + rows_per_task - 1) / rows_per_task;
  std::vector<Part> parts;
  std::vector<float> scratch;
  const int64_t scratch_floats = 2 * source.cols();
  try {
    parts.resize(static_cast<size_t>(n_tasks));
    scratch.resize(static_cast<size_t>(scratch_floats * std::max(1, n_threads)));
  } catch (const std::bad_alloc&) {
    return make_error(Code::kNoMemory, "quantize: no memory for {} threads of {} values", n_threads, scratch_floats);
  }
  const Job job{&source, find_ops(source.dtype), find_ops(target), row_bytes(*find_type(target), source.cols()),
                dst.data()};
  parallel_for(n_threads, n_tasks, [&](int64_t task, int thread) {
    const int64_t first = task * rows_per_task;
    convert_rows(job, first, std::min(first + rows_per_task, source.rows()), scratch.data() + thread * scratch_floats,
                 parts[static_cast<size_t>(task)]);
  });
  QuantizeReport report;
  double sum_squares = 0.0;
  for (const Part& part : parts) {
    sum_squares += part.sum_squares;
    report.max_error = std::max(report.max_error, part.max_error);
    report.n += part.n;
    report.n_not_finite += part.n_not_finite;
  }
  report.rmse = report.n > 0 ? std::sqrt(sum_squares / static_cast<double>(report.n)) : 0.0;
  return report;
}

}  // namespace lcrun::quant
