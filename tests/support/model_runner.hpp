// Runs a model over tokens in a test: logits of every position, whatever the split. Errors throw.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "src/model/model.hpp"

namespace lcrun::testing {

using FloatRows = std::vector<std::vector<float>>;

struct RunnerOptions {
  DType cache_type = DType::kF32;
  int n_threads = 1;
  int64_t max_rows = 64;
};

class ModelRunner {
 public:
  ModelRunner(std::shared_ptr<const ggufish::ModelFile> file, const RunnerOptions& options = {});
  ModelRunner(std::shared_ptr<const model::Model> model, const RunnerOptions& options = {});

  // Appends tokens in calls of at most `chunk` and returns the logits of each.
  FloatRows run(std::span<const int32_t> tokens, int64_t chunk = 64);
  // The same in calls of the given sizes (their sum is the number of tokens).
  FloatRows run_split(std::span<const int32_t> tokens, std::span<const int64_t> sizes);

  storage::SequenceState& state() { return state_; }
  const model::Model& model() const { return *model_; }
  const std::shared_ptr<const model::Model>& shared_model() const { return model_; }

 private:
  void prepare(const RunnerOptions& options);
  std::shared_ptr<const model::Model> model_;
  storage::SequenceState state_;
  model::Step step_;
};

// Random sizes from 1 to `most` that add up to n.
std::vector<int64_t> random_split(int64_t n, int64_t most, uint64_t seed);

}  // namespace lcrun::testing
