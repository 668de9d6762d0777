// Loading checked tensors: every shape is compared with the hyper-parameters before anything is computed with it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ggufish/model_file.hpp"
#include "src/base/result.hpp"
#include "src/kernels/matmul.hpp"
#include "src/model/config.hpp"

namespace lcrun::model {

// Looks tensors up under a prefix ("blk.7.").
class TensorLoader {
 public:
  // Matrices go into the arena, if there is one.
  TensorLoader(const ggufish::ModelFile& file, std::string prefix, int n_threads, kernels::WeightArena* arena = nullptr)
      : file_(file), prefix_(std::move(prefix)), n_threads_(n_threads), arena_(arena) {}

  const ggufish::ModelFile& file() const { return file_; }
  int n_threads() const { return n_threads_; }
  kernels::WeightArena* arena() const { return arena_; }
  std::string name(std::string_view suffix) const { return prefix_ + std::string(suffix); }
  bool has(std::string_view suffix) const { return file_.find_tensor(name(suffix)) != nullptr; }

  // A matrix of `rows` outputs and `cols` inputs, packed for products. Pages of the original are dropped.
  Result<kernels::Weights> matrix(std::string_view suffix, int64_t rows, int64_t cols) const;
  // An empty vector when the file has none.
  Result<std::vector<float>> optional_vector(std::string_view suffix, int64_t n) const;
  Result<std::vector<float>> vector(std::string_view suffix, int64_t n) const;
  // A checked view: [cols, rows, depth] in GGUF order.
  Result<TensorView> view(std::string_view suffix, int64_t cols, int64_t rows, int64_t depth) const;

 private:
  const ggufish::ModelFile& file_;
  std::string prefix_;
  int n_threads_;
  kernels::WeightArena* arena_;
};

// A norm's weights; empty weight = the model has no such norm.
struct Norm {
  std::vector<float> weight;
  std::vector<float> bias;
  bool present() const { return !weight.empty(); }
};
// "<suffix>.weight" and "<suffix>.bias", both optional unless `required`.
Result<Norm> load_norm(const TensorLoader& tensors, std::string_view suffix, int64_t n, bool required);
// One row; x and y may be the same. An absent norm copies.
void apply_norm(const Norm& norm, NormKind kind, float eps, const float* x, int64_t n, float* y);

// Optional tensor of n_rot / 2 frequency divisors, checked to be positive.
Status read_rope_factors(const ggufish::ModelFile& file, std::string_view tensor, const RopeSpec& rope,
                         std::vector<float>& factors);

}  // namespace lcrun::model
