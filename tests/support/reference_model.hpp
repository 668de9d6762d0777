// A forward pass in double precision, written for being obviously right: full attention matrices, plain loops,
// one token after another in recurrences. It shares no code with src/model: it reads metadata and tensors itself.
//
// Covers every architecture of tiny_arch.cpp. Slow (small models and short prompts only). Errors throw
// std::runtime_error: a test that meets one has failed. Thread rule: logits() is const.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ggufish/model_file.hpp"
#include "tests/support/reference_config.hpp"

namespace lcrun::testing {

using Row = std::vector<double>;
using Rows = std::vector<Row>;  // [tokens][elements]

// A tensor as doubles: `rows` of `cols` (all outer dimensions of the file flattened into rows).
struct RefTensor {
  int64_t cols = 0;
  int64_t rows = 0;
  int64_t n_dims = 1;  // dimensions beyond 1 in the file
  std::vector<double> values;

  const double* row(int64_t r) const { return values.data() + r * cols; }
  bool empty() const { return values.empty(); }
};

class ReferenceModel {
 public:
  explicit ReferenceModel(std::shared_ptr<const ggufish::ModelFile> file);

  // Logits at every position.  // [tokens][vocab]
  Rows logits(std::span<const int32_t> tokens) const;
  const RefConfig& config() const { return config_; }

 private:
  // Absent tensors come back empty from optional().
  const RefTensor& tensor(const std::string& name) const;
  const RefTensor& optional(const std::string& name) const;
  Row multiply(const std::string& name, const Row& x) const;  // weight, and bias where there is one
  Row norm(const std::string& name, const Row& x) const;
  bool has(const std::string& name) const { return !optional(name).empty(); }

  void run_layer(int64_t layer, Rows& x) const;
  Rows mix(int64_t layer, const Rows& h) const;
  Rows attention(int64_t layer, const Rows& h) const;
  void project_qkv(int64_t layer, const Row& h, Row& q, Row& k, Row& v, Row& gate) const;
  void norm_heads(const std::string& name, Row& x, int64_t n_heads) const;
  Row attend(int64_t layer, int64_t t, const Rows& q, const Rows& k, const Rows& v) const;
  void rotate(int64_t layer, int64_t pos, Row& x, int64_t n_heads) const;
  double rope_angle(const RefLayer& layer, int64_t pair, int64_t pos, double* magnitude) const;
  Row ffn(int64_t layer, const Row& h) const;
  Row dense_ffn(const std::string& prefix, const std::string& suffix, const Row& h) const;
  Row expert_ffn(const std::string& prefix, int64_t expert, const Row& h) const;
  Row moe_ffn(const std::string& prefix, const Row& h) const;
  Rows mamba2(const std::string& prefix, const Rows& h) const;
  Rows delta(const std::string& prefix, const Rows& h) const;
  Rows convolve(const std::string& prefix, const Rows& in) const;

  std::shared_ptr<const ggufish::ModelFile> file_;
  RefConfig config_;
  std::vector<std::pair<std::string, RefTensor>> tensors_;  // sorted by name
};

// Largest |a - b| over largest |b|: how the tests compare rows of logits.
double relative_error(std::span<const float> got, const Row& want);

}  // namespace lcrun::testing
