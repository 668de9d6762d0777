#include "src/model/tensors.hpp"

#include <cstring>

#include "quant/format.hpp"
#include "src/base/format.hpp"
#include "src/kernels/ops.hpp"

namespace lcrun::model {
namespace {

std::string shape_text(const TensorView& view) {
  return format("[{}, {}, {}, {}]", view.ne[0], view.ne[1], view.ne[2], view.ne[3]);
}

}  // namespace

Result<TensorView> TensorLoader::view(std::string_view suffix, int64_t cols, int64_t rows, int64_t depth) const {
  LCRUN_ASSIGN(const TensorView found, file_.tensor(name(suffix)));
  if (found.ne[0] != cols || found.ne[1] != rows || found.ne[2] != depth || found.ne[3] != 1) {
    return file_.meta().fail(name(suffix), shape_text(found), format("[{}, {}, {}, 1]", cols, rows, depth));
  }
  if (quant::find_ops(found.dtype) == nullptr) return quant::unsupported_type(name(suffix), found.dtype);
  return found;
}

Result<kernels::Weights> TensorLoader::matrix(std::string_view suffix, int64_t rows, int64_t cols) const {
  LCRUN_ASSIGN(const TensorView source, view(suffix, cols, rows, 1));
  return kernels::Weights::prepare(source, n_threads_, arena_, [&](const TensorView& part) { file_.drop_pages(part); });
}

Result<std::vector<float>> TensorLoader::vector(std::string_view suffix, int64_t n) const {
  LCRUN_ASSIGN(const TensorView source, file_.tensor(name(suffix)));
  // Biases and norms may be stored as [n] or [n, 1]; nothing else has n elements in one row.
  if (source.n_elements() != n) {
    return file_.meta().fail(name(suffix), shape_text(source), format("{} elements", n));
  }
  const quant::QuantOps* ops = quant::find_ops(source.dtype);
  if (ops == nullptr) return quant::unsupported_type(name(suffix), source.dtype);
  std::vector<float> values(static_cast<size_t>(n));
  for (int64_t row = 0; row < source.rows(); ++row) {
    ops->dequantize(source.data + static_cast<uint64_t>(row) * source.row_bytes, source.cols(),
                    values.data() + row * source.cols());
  }
  return values;
}

Result<std::vector<float>> TensorLoader::optional_vector(std::string_view suffix, int64_t n) const {
  if (!has(suffix)) return std::vector<float>();
  return vector(suffix, n);
}

Result<Norm> load_norm(const TensorLoader& tensors, std::string_view suffix, int64_t n, bool required) {
  Norm norm;
  const std::string weight = std::string(suffix) + ".weight";
  if (!required && !tensors.has(weight)) return norm;
  LCRUN_ASSIGN(norm.weight, tensors.vector(weight, n));
  LCRUN_ASSIGN(norm.bias, tensors.optional_vector(std::string(suffix) + ".bias", n));
  return norm;
}

void apply_norm(const Norm& norm, NormKind kind, float eps, const float* x, int64_t n, float* y) {
  if (!norm.present()) {
    if (x != y) std::memcpy(y, x, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  if (kind == NormKind::kRms) {
    kernels::rms_norm(x, norm.weight.data(), n, eps, y);
  } else {
    kernels::layer_norm(x, norm.weight.data(), norm.bias.empty() ? nullptr : norm.bias.data(), n, eps, y);
  }
}

Status read_rope_factors(const ggufish::ModelFile& file, std::string_view tensor, const RopeSpec& rope,
                         std::vector<float>& factors) {
  const TensorLoader tensors(file, "", 1);
  LCRUN_ASSIGN(factors, tensors.optional_vector(tensor, rope.n_rot / 2));
  for (const float factor : factors) {
    if (!(factor > 0) || factor > 1e30F) {
      return file.meta().fail(tensor, format("{}", factor), "a finite number above 0");
    }
  }
  return {};
}

}  // namespace lcrun::model
