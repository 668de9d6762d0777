// Fuzz target: blocks of any bytes and activations of any bits, prepared and multiplied on every instruction set.
//
// Input: byte 0 picks the format, byte 1 the outputs, byte 2 the blocks in a row, byte 3 the rows of activations; then
// the weights, what is missing being zeros, then the activations as floats, repeated as often as it takes.
// Laws: no crash, no read past the inputs (they end where a page ends that nobody may touch), no write beside the
// outputs; a row has the same bits alone and among others; a row that holds NaN or infinity has only NaN; where values
// are moderate, instruction sets agree; weights that are cut short are refused.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "quant/format.hpp"
#include "quant/half.hpp"
#include "src/base/check.hpp"
#include "src/kernels/matmul.hpp"
#include "src/kernels/ops.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using namespace lcrun;
using namespace lcrun::kernels;

// Memory whose end is the end of what may be read.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t size) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    const size_t body = (size + page_ - 1) / page_ * page_;
    total_ = body + page_;
    base_ = static_cast<std::byte*>(mmap(nullptr, total_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    LCRUN_CHECK(base_ != MAP_FAILED);
    LCRUN_CHECK(mprotect(base_ + body, page_, PROT_NONE) == 0);
    data_ = base_ + body - size;
  }
  ~GuardedBytes() { munmap(base_, total_); }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  std::byte* data() { return data_; }

 private:
  size_t page_;
  size_t total_ = 0;
  std::byte* base_ = nullptr;
  std::byte* data_ = nullptr;
};

struct Sizes {
  const quant::QuantOps* ops;
  int64_t out, cols, rows;
};

Sizes read_sizes(const uint8_t* data) {
  const auto formats = quant::all_ops();
  const quant::QuantOps& ops = formats[data[0] % formats.size()];
  const int64_t block = quant::find_type(ops.dtype)->block_size;
  const int64_t cols = block == 1 ? 1 + data[2] % 70 : block * (1 + data[2] % 3);
  return {&ops, 1 + data[1] % 36, cols, 1 + data[3] % 35};
}

// What a row's weights may be made of, for each input: the sizes of the two parts that formats with an offset add.
std::vector<double> parts_of_row(const quant::QuantOps& ops, const std::byte* row, int64_t cols) {
  std::vector<float> values(static_cast<size_t>(cols));
  ops.dequantize(row, cols, values.data());
  std::vector<double> parts(values.size());
  for (size_t i = 0; i < parts.size(); ++i) parts[i] = std::fabs(static_cast<double>(values[i]));
  if (ops.unpack == nullptr || !ops.packing.has_offset()) return parts;
  const quant::TypeInfo& type = *quant::find_type(ops.dtype);
  const bool is_nibble = ops.packing.scale == quant::ScaleForm::kSuperNibble;
  for (int64_t b = 0; b < cols / type.block_size; ++b) {
    quant::Unpacked block{};
    ops.unpack(row + b * type.block_bytes, block);
    const double m = static_cast<double>(quant::f16_to_f32(block.m));
    for (int64_t i = 0; i < type.block_size; ++i) {
      const auto sub = static_cast<size_t>(i / ops.packing.sub_block);
      const double factor = !ops.packing.is_super() ? 1.0 : is_nibble ? block.sub[sub] >> 4 : block.sub_offset[sub];
      parts[static_cast<size_t>(b * type.block_size + i)] += 2.0 * std::fabs(m * factor);
    }
  }
  return parts;
}

using Rows = std::vector<float>;

constexpr float kUntouched = 12345.0F;
constexpr int64_t kMargin = 5;

// [x.rows, w.rows], with nothing written beside it.
Rows multiply(const Weights& weights, const MatView& x) {
  const int64_t stride = weights.rows() + kMargin;
  Rows y(static_cast<size_t>(x.rows * stride), kUntouched);
  Activations activations;
  LCRUN_CHECK(activations.reserve(x.rows, x.cols).has_value());
  activations.set(x);
  const MatmulJob job{&weights, MatView{y.data(), x.rows, weights.rows(), stride}, nullptr};
  matmul({&job, 1}, activations, 1);
  Rows result;
  for (int64_t r = 0; r < x.rows; ++r) {
    const auto row = y.begin() + r * stride;
    LCRUN_CHECK(std::all_of(row + weights.rows(), row + stride, [](float v) { return v == kUntouched; }));
    result.insert(result.end(), row, row + weights.rows());
  }
  return result;
}

bool same(float a, float b) { return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof(a)) == 0; }

void check_rows_alone(const Weights& weights, const MatView& x, const Rows& whole) {
  const int64_t out = weights.rows();
  for (int64_t r = 0; r < x.rows; r += 1 + x.rows / 3) {
    const Rows alone = multiply(weights, MatView{x.row(r), 1, x.cols, x.cols});
    for (int64_t o = 0; o < out; ++o) {
      LCRUN_CHECK(same(alone[static_cast<size_t>(o)], whole[static_cast<size_t>(r * out + o)]));
    }
  }
}

// [x.rows, out]: what rounding errors are relative to; not finite, or large, where nothing is promised.
std::vector<double> norms_of(const Sizes& sizes, const TensorView& view, const MatView& x) {
  std::vector<double> norms(static_cast<size_t>(sizes.rows * sizes.out));
  for (int64_t o = 0; o < sizes.out; ++o) {
    const auto parts = parts_of_row(*sizes.ops, view.data + static_cast<uint64_t>(o) * view.row_bytes, sizes.cols);
    for (int64_t r = 0; r < sizes.rows; ++r) {
      // Activations are rounded in steps of the largest one of a block: of the row, to be safe.
      double largest = 0.0;
      double sum = 0.0;
      for (int64_t c = 0; c < sizes.cols; ++c) {
        const double size = std::fabs(static_cast<double>(x.row(r)[c]));
        largest = std::isnan(size) || size > largest ? size : largest;
        sum += parts[static_cast<size_t>(c)];
      }
      // Sums of larger ones overflow, whatever the weights are.
      sum = largest < 1e30 ? sum * largest : std::numeric_limits<double>::infinity();
      norms[static_cast<size_t>(r * sizes.out + o)] = sum;
    }
  }
  return norms;
}

void check_bad_activations(const Sizes& sizes, const MatView& x, const Rows& y) {
  if (sizes.ops->unpack == nullptr) return;  // plain weights: as float arithmetic has it
  for (int64_t r = 0; r < sizes.rows; ++r) {
    if (std::all_of(x.row(r), x.row(r) + x.cols, [](float v) { return std::isfinite(v); })) continue;
    for (int64_t o = 0; o < sizes.out; ++o) LCRUN_CHECK(std::isnan(y[static_cast<size_t>(r * sizes.out + o)]));
  }
}

void check_agreement(const Rows& a, const Rows& b, const std::vector<double>& norms) {
  for (size_t i = 0; i < norms.size(); ++i) {
    // Below: where floats are coarse. Above: where sums in another order may overflow.
    if (!(norms[i] < 1e30)) continue;
    const double gap = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    LCRUN_CHECK(gap <= 1e-4 * norms[i] + 1e-35);
  }
}

void check_all_isas(const Sizes& sizes, const TensorView& view, const Weights& weights, const MatView& x) {
  const std::string before(active_isa());
  const auto norms = norms_of(sizes, view, x);
  Rows first;
  for (const std::string& isa : available_isas()) {
    LCRUN_CHECK(set_isa(isa).has_value());
    const Rows y = multiply(weights, x);
    check_rows_alone(weights, x, y);
    check_bad_activations(sizes, x, y);
    if (first.empty()) first = y;
    check_agreement(first, y, norms);
  }
  LCRUN_CHECK(set_isa(before).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  const Sizes sizes = read_sizes(data);
  data += 4, size -= 4;
  TensorView view;
  view.dtype = sizes.ops->dtype;
  view.ne = {sizes.cols, sizes.out, 1, 1};
  view.row_bytes = quant::row_bytes(*quant::find_type(view.dtype), sizes.cols);
  view.size_bytes = view.row_bytes * static_cast<uint64_t>(sizes.out);
  GuardedBytes native(view.size_bytes);
  const size_t given = std::min<size_t>(size, view.size_bytes);
  std::memcpy(native.data(), data, given);
  data += given, size -= given;
  view.data = native.data();

  const auto n = static_cast<size_t>(sizes.rows * sizes.cols);
  GuardedBytes inputs(n * sizeof(float));
  auto* x = reinterpret_cast<float*>(inputs.data());
  for (size_t i = 0; i < n * sizeof(float); ++i) {
    inputs.data()[i] = size == 0 ? std::byte{0x3d} : static_cast<std::byte>(data[i % size]);
  }

  const auto weights = Weights::prepare(view, 1);
  LCRUN_CHECK(weights.has_value());
  check_all_isas(sizes, view, *weights, MatView{x, sizes.rows, sizes.cols, sizes.cols});
  TensorView cut = view;
  cut.size_bytes -= 1;
  LCRUN_CHECK(!Weights::prepare(cut, 1).has_value());
  return 0;
}
