// Feed-forward blocks: dense here, mixtures of experts in ffn_moe.cpp.
#pragma once

#include <memory>

#include "src/base/result.hpp"
#include "src/model/mixer.hpp"

namespace lcrun::model {

class FeedForward {
 public:
  virtual ~FeedForward() = default;
  virtual uint64_t scratch_bytes(int64_t max_rows) const = 0;
  virtual int64_t max_product_cols() const = 0;
  // x: normed input [rows, d_model]; out: [rows, d_model]
  virtual void forward(const StepContext& step, MatView x, MatView out) const = 0;
  virtual uint64_t memory_bytes() const = 0;
};

// The block that the layer's config asks for.
Result<std::unique_ptr<FeedForward>> create_ffn(const MixerBuild& build);

// Dense, gated (ffn_gate + ffn_up, or both fused in ffn_up: [gate; up]) or plain (ffn_up alone), biases optional.
// `suffix` names the tensors ("" or "_shexp"), d_ff is the hidden width.
Result<std::unique_ptr<FeedForward>> create_dense_ffn(const MixerBuild& build, std::string_view suffix, int64_t d_ff);

// A mixture of experts as ModelConfig::moe describes it (ffn_moe.cpp).
Result<std::unique_ptr<FeedForward>> create_moe_ffn(const MixerBuild& build);

}  // namespace lcrun::model
