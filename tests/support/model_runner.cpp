#include "tests/support/model_runner.hpp"

#include <algorithm>
#include <stdexcept>

#include "tests/support/tiny_model.hpp"

namespace lcrun::testing {
namespace {

template <class T>
T checked(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(result).value();
}

}  // namespace

ModelRunner::ModelRunner(std::shared_ptr<const ggufish::ModelFile> file, const RunnerOptions& options) {
  model::LoadOptions load;
  load.n_threads = options.n_threads;
  model_ = checked(model::Model::load(std::move(file), load));
  prepare(options);
}

ModelRunner::ModelRunner(std::shared_ptr<const model::Model> model, const RunnerOptions& options)
    : model_(std::move(model)) {
  prepare(options);
}

void ModelRunner::prepare(const RunnerOptions& options) {
  model::StepOptions step;
  step.cache = {options.cache_type, options.cache_type};
  step.max_rows = options.max_rows;
  step.n_threads = options.n_threads;
  state_ = checked(model_->new_state(step.cache));
  step_ = checked(model_->plan(step));
}

FloatRows ModelRunner::run(std::span<const int32_t> tokens, int64_t chunk) {
  std::vector<int64_t> sizes;
  for (int64_t left = static_cast<int64_t>(tokens.size()); left > 0; left -= sizes.back()) {
    sizes.push_back(std::min(left, chunk));
  }
  return run_split(tokens, sizes);
}

FloatRows ModelRunner::run_split(std::span<const int32_t> tokens, std::span<const int64_t> sizes) {
  const int64_t vocab = model_->config().n_vocab;
  FloatRows out;
  size_t at = 0;
  for (const int64_t size : sizes) {
    const MatView hidden = checked(model_->forward(tokens.subspan(at, static_cast<size_t>(size)), state_, step_));
    std::vector<float> logits(static_cast<size_t>(size * vocab));
    model_->logits(hidden, MatView{logits.data(), size, vocab, vocab}, step_);
    for (int64_t row = 0; row < size; ++row) {
      out.emplace_back(logits.begin() + row * vocab, logits.begin() + (row + 1) * vocab);
    }
    at += static_cast<size_t>(size);
  }
  return out;
}

std::vector<int64_t> random_split(int64_t n, int64_t most, uint64_t seed) {
  TinyRandom random(seed);
  std::vector<int64_t> sizes;
  while (n > 0) {
    sizes.push_back(std::min(n, 1 + random.below(most)));
    n -= sizes.back();
  }
  return sizes;
}

}  // namespace lcrun::testing
