#include "src/model/ffn.hpp"

#include <algorithm>

#include "src/base/format.hpp"
#include "src/kernels/ops.hpp"
#include "src/model/arch.hpp"
#include "src/model/rows.hpp"
#include "src/model/tensors.hpp"

namespace lcrun::model {
namespace {

class DenseFfn final : public FeedForward {
 public:
  static Result<std::unique_ptr<FeedForward>> create(const MixerBuild& build, std::string_view suffix, int64_t d_ff) {
    auto ffn = std::make_unique<DenseFfn>();
    const TensorLoader tensors(build.file, format("blk.{}.", build.layer), build.n_threads, build.arena);
    const std::string tail(suffix);
    const int64_t d_model = build.config.d_model;
    ffn->d_ff_ = d_ff;
    ffn->d_model_ = d_model;
    ffn->activation_ = build.config.activation;
    const std::string gate = "ffn_gate" + tail;
    const std::string up = "ffn_up" + tail;
    const TensorView* up_view = build.file.find_tensor(tensors.name(up + ".weight"));
    const bool fused = !build.config.plain_ffn && up_view != nullptr && up_view->ne[1] == 2 * d_ff;
    if (!fused && !build.config.plain_ffn) {
      LCRUN_ASSIGN(auto gate_weights, tensors.matrix(gate + ".weight", d_ff, d_model));
      ffn->inputs_.push_back(std::move(gate_weights));
      LCRUN_ASSIGN(auto gate_bias, tensors.optional_vector(gate + ".bias", d_ff));
      ffn->input_biases_.push_back(std::move(gate_bias));
      ffn->gated_ = true;
    }
    ffn->gated_ = ffn->gated_ || fused;
    const int64_t up_rows = fused ? 2 * d_ff : d_ff;
    LCRUN_ASSIGN(auto up_weights, tensors.matrix(up + ".weight", up_rows, d_model));
    ffn->inputs_.push_back(std::move(up_weights));
    LCRUN_ASSIGN(auto up_bias, tensors.optional_vector(up + ".bias", up_rows));
    ffn->input_biases_.push_back(std::move(up_bias));
    LCRUN_ASSIGN(ffn->down_, tensors.matrix("ffn_down" + tail + ".weight", d_model, d_ff));
    LCRUN_ASSIGN(ffn->down_bias_, tensors.optional_vector("ffn_down" + tail + ".bias", d_model));
    return std::unique_ptr<FeedForward>(std::move(ffn));
  }

  uint64_t scratch_bytes(int64_t max_rows) const override { return Workspace::bytes_of<float>(max_rows * width()); }
  int64_t max_product_cols() const override { return std::max(d_model_, d_ff_); }
  uint64_t memory_bytes() const override {
    uint64_t total = down_.memory_bytes();
    for (const auto& weights : inputs_) total += weights.memory_bytes();
    return total;
  }

  void forward(const StepContext& step, MatView x, MatView out) const override {
    Workspace& scratch = *step.scratch;
    const size_t mark = scratch.mark();
    const int64_t rows = x.rows;
    MatView hidden{scratch.take<float>(rows * width()).data(), rows, width(), width()};
    kernels::MatmulJob jobs[2];
    int64_t column = 0;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      jobs[i] = {&inputs_[i], MatView{hidden.data + column, rows, inputs_[i].rows(), hidden.stride},
                 input_biases_[i].empty() ? nullptr : input_biases_[i].data()};
      column += inputs_[i].rows();
    }
    step.activations->set(x);
    kernels::matmul({jobs, inputs_.size()}, *step.activations, step.n_threads);
    for_rows(step.n_threads, rows, [&](int64_t row) {
      float* gate = hidden.row(row);
      if (gated_) {
        kernels::glu(activation_, gate, gate + d_ff_, d_ff_);
      } else {
        kernels::activate(activation_, gate, d_ff_);
      }
    });
    step.activations->set(MatView{hidden.data, rows, d_ff_, hidden.stride});
    const kernels::MatmulJob down{&down_, out, down_bias_.empty() ? nullptr : down_bias_.data()};
    kernels::matmul({&down, 1}, *step.activations, step.n_threads);
    scratch.release(mark);
  }

 private:
  int64_t width() const { return gated_ ? 2 * d_ff_ : d_ff_; }

  int64_t d_model_ = 0;
  int64_t d_ff_ = 0;
  bool gated_ = false;
  kernels::Activation activation_ = kernels::Activation::kSilu;
  std::vector<kernels::Weights> inputs_;  // gate and up, or both fused, or up alone
  std::vector<std::vector<float>> input_biases_;
  kernels::Weights down_;
  std::vector<float> down_bias_;
};

}  // namespace

Result<std::unique_ptr<FeedForward>> create_dense_ffn(const MixerBuild& build, std::string_view suffix, int64_t d_ff) {
  if (d_ff < 1) {
    return build.file.meta().fail(arch_key(build.config, "feed_forward_length"), format("{}", d_ff), "at least 1");
  }
  return DenseFfn::create(build, suffix, d_ff);
}

Result<std::unique_ptr<FeedForward>> create_ffn(const MixerBuild& build) {
  const LayerConfig& layer = build.config.layers[static_cast<size_t>(build.layer)];
  return layer.is_moe ? create_moe_ffn(build) : create_dense_ffn(build, "", layer.d_ff);
}

}  // namespace lcrun::model
