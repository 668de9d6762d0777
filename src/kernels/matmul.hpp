// Matrix products of quantised weights and float activations: what src/model calls.
//
// Weights are prepared once (packed into row panels, one layout for all ISAs) and multiplied through the active
// kernel table. A row of the result has the same bits whatever the number of activation rows in the call, the
// number of threads, and the other jobs in the call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "src/base/result.hpp"
#include "src/base/tensor.hpp"
#include "src/base/workspace.hpp"

namespace lcrun::kernels {

// Room for many prepared matrices in a few large pieces, which the system can back with large pages: decoding reads
// all weights for every token, and reads a third more bytes a second from them. Grows by a piece when one is full; a
// piece takes up memory as it is written, and lives as long as a matrix in it. Thread rule: one thread at a time.
class WeightArena {
 public:
  // Zeros, aligned to cache lines.
  Result<std::shared_ptr<std::byte>> take(uint64_t bytes);

 private:
  std::shared_ptr<AlignedBuffer> piece_;
  uint64_t used_ = 0;
};

// A matrix [rows, cols] ready to multiply. Owns its packed copy, or its part of an arena. Immutable after prepare().
class Weights {
 public:
  // `source` is 2-D in its native format: ne[0] = cols (inputs), ne[1] = rows (outputs). kUnsupported for types
  // without a kernel, kNoMemory when the copy does not fit. The arena need not outlive the result. `packed` is told of
  // rows that are not needed any more, some megabytes at a time: source and copy are never in memory as a whole.
  using RowsPacked = std::function<void(const TensorView& rows)>;
  static Result<Weights> prepare(const TensorView& source, int n_threads, WeightArena* arena = nullptr,
                                 const RowsPacked& packed = {});
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  DType dtype() const { return dtype_; }
  uint64_t memory_bytes() const { return packed_bytes_; }

 private:
  friend struct WeightsAccess;  // the product's implementation
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  DType dtype_ = DType::kF32;
  int kind_ = 0;             // index of its kernel (matmul_layout.hpp)
  int64_t panel_bytes_ = 0;  // 16 rows
  uint64_t packed_bytes_ = 0;
  std::shared_ptr<const std::byte> packed_;
};

struct MatmulJob;

// Activation rows in the forms that kernels read: float rows, or 8-bit codes with a scale for each block of 32 or 256
// inputs, whichever the weights have. Planned once for the worst case; set() and products allocate nothing.
class Activations {
 public:
  Status reserve(int64_t max_rows, int64_t max_cols);
  // Keeps a view of x: it must live and stay unchanged until the products are done. x.cols need not be a multiple of
  // a block (padded with zeros).
  void set(MatView x);
  MatView x() const { return x_; }
  uint64_t memory_bytes() const { return quantized_.size(); }

 private:
  friend struct WeightsAccess;
  friend void matmul(std::span<const MatmulJob> jobs, Activations& x, int n_threads);
  // Quantises x in blocks of `block` inputs, with what kernels read besides (planes_of()), unless it is so already.
  void quantize(int64_t block, uint32_t planes, int n_threads);

  MatView x_;
  AlignedBuffer quantized_;
  int64_t block_ = 0;  // of what quantized_ holds; 0 = nothing of x
  uint32_t planes_ = 0;
  int64_t max_rows_ = 0;
  int64_t max_cols_ = 0;
};

// y[r, o] = sum_c x[r, c] * w[o, c] (+ bias[o]); y is [x.rows, w.rows].
struct MatmulJob {
  const Weights* weights = nullptr;
  MatView y;
  const float* bias = nullptr;  // [w.rows] or null
};

// All jobs read the same activations; one parallel region for all whose weights want them in the same form.
void matmul(std::span<const MatmulJob> jobs, Activations& x, int n_threads);

}  // namespace lcrun::kernels
