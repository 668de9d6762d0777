// A mixture of experts: a router picks a few FFNs for each token and adds their outputs up, weighted.
//
// Tokens are grouped by expert, so that an expert's matrices are read once per batch. The result of a row has the
// same bits however it was batched: products do not depend on the number of rows, and contributions are added in
// the order of expert numbers, the shared expert last.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "src/base/format.hpp"
#include "src/kernels/ops.hpp"
#include "src/model/arch.hpp"
#include "src/model/ffn.hpp"
#include "src/model/rows.hpp"
#include "src/model/tensors.hpp"

namespace lcrun::model {
namespace {

// One FFN of the mixture.
struct Expert {
  std::vector<kernels::Weights> inputs;  // gate and up; or both fused
  kernels::Weights down;
};

// Biases of all experts, one row each; empty = none.
struct ExpertBiases {
  std::vector<float> gate;
  std::vector<float> up;
  std::vector<float> down;
};

// Which experts a batch goes to.  All arrays live in the workspace.
struct Routing {
  int32_t* experts = nullptr;  // [rows, n_used], ascending in each row
  float* weights = nullptr;    // [rows, n_used]
  int32_t* slots = nullptr;    // [rows * n_used] indices into the two above, grouped by expert
  int32_t* starts = nullptr;   // [n_experts + 1] first slot of each expert
};

class MoeFfn final : public FeedForward {
 public:
  static Result<std::unique_ptr<FeedForward>> create(const MixerBuild& build);

  uint64_t scratch_bytes(int64_t max_rows) const override;
  int64_t max_product_cols() const override {
    return std::max({d_model_, d_ff_, shared_ ? shared_->max_product_cols() : 0});
  }
  uint64_t memory_bytes() const override;
  void forward(const StepContext& step, MatView x, MatView out) const override;

 private:
  Status load_experts(const TensorLoader& tensors);
  Status load_biases(const TensorLoader& tensors);
  Status load_shared(const MixerBuild& build, const TensorLoader& tensors);
  Routing route(const StepContext& step, MatView x) const;
  void choose(float* scores, int32_t* experts, float* weights) const;
  void group(Routing& routing, int64_t rows) const;
  int64_t add_jobs(int64_t expert, float* hidden, int64_t rows, kernels::MatmulJob* jobs) const;
  void activate_row(float* gate) const;
  void run_expert(const StepContext& step, const Routing& routing, int64_t expert, MatView x, MatView out) const;
  void run_one_row(const StepContext& step, const Routing& routing, MatView x, MatView out) const;
  void add_shared(const StepContext& step, MatView x, MatView out) const;
  const float* bias_of(const std::vector<float>& biases, int64_t expert, int64_t n) const {
    return biases.empty() ? nullptr : biases.data() + expert * n;
  }

  int64_t d_model_ = 0;
  int64_t d_ff_ = 0;
  int64_t n_experts_ = 0;
  int64_t n_used_ = 0;
  MoeConfig moe_;
  float limit_ = 0.0F;
  float alpha_ = 1.0F;
  kernels::Activation activation_ = kernels::Activation::kSilu;
  kernels::Weights router_;
  std::vector<float> router_bias_;
  std::vector<float> selection_bias_;  // added to scores for choosing only
  std::vector<Expert> experts_;
  ExpertBiases biases_;
  std::unique_ptr<FeedForward> shared_;  // null: none
  std::vector<float> shared_gate_;       // [d_model]; empty: weight 1
};

// Slice `index` of a [cols, rows, depth] tensor.
TensorView slice_of(const TensorView& all, int64_t index) {
  TensorView slice = all;
  slice.ne[2] = 1;
  slice.size_bytes = all.row_bytes * static_cast<uint64_t>(all.ne[1]);
  slice.data = all.data + slice.size_bytes * static_cast<uint64_t>(index);
  return slice;
}

Status MoeFfn::load_experts(const TensorLoader& tensors) {
  struct Part {
    const char* name;
    int64_t rows;
    int64_t cols;
  };
  const bool fused = tensors.has("ffn_gate_up_exps.weight");
  std::vector<Part> parts;
  if (fused) {
    parts = {{"ffn_gate_up_exps.weight", 2 * d_ff_, d_model_}};
  } else {
    parts = {{"ffn_gate_exps.weight", d_ff_, d_model_}, {"ffn_up_exps.weight", d_ff_, d_model_}};
  }
  parts.push_back({"ffn_down_exps.weight", d_model_, d_ff_});
  // All shapes first: n_experts is believed only once the tensors bear it out.
  std::vector<TensorView> views;
  for (const Part& part : parts) {
    LCRUN_ASSIGN(const TensorView found, tensors.view(part.name, part.cols, part.rows, n_experts_));
    views.push_back(found);
  }
  for (int64_t e = 0; e < n_experts_; ++e) {
    Expert expert;
    for (size_t i = 0; i + 1 < views.size(); ++i) {
      const TensorView slice = slice_of(views[i], e);
      LCRUN_ASSIGN(auto weights, kernels::Weights::prepare(slice, tensors.n_threads(), tensors.arena()));
      expert.inputs.push_back(std::move(weights));
    }
    const TensorView slice = slice_of(views.back(), e);
    LCRUN_ASSIGN(expert.down, kernels::Weights::prepare(slice, tensors.n_threads(), tensors.arena()));
    experts_.push_back(std::move(expert));
  }
  for (const TensorView& view : views) tensors.file().drop_pages(view);
  return {};
}

Status MoeFfn::load_biases(const TensorLoader& tensors) {
  if (tensors.has("ffn_gate_up_exps.bias")) {
    return make_error(Code::kUnsupported, "{}: {}: biases of fused experts are not supported", tensors.file().path(),
                      tensors.name("ffn_gate_up_exps.bias"));
  }
  LCRUN_ASSIGN(biases_.gate, tensors.optional_vector("ffn_gate_exps.bias", n_experts_ * d_ff_));
  LCRUN_ASSIGN(biases_.up, tensors.optional_vector("ffn_up_exps.bias", n_experts_ * d_ff_));
  LCRUN_ASSIGN(biases_.down, tensors.optional_vector("ffn_down_exps.bias", n_experts_ * d_model_));
  return {};
}

Status MoeFfn::load_shared(const MixerBuild& build, const TensorLoader& tensors) {
  if (moe_.d_ff_shared == 0) {
    if (!tensors.has("ffn_up_shexp.weight")) return {};
    return build.file.meta().fail(arch_key(build.config, "expert_shared_feed_forward_length"), "0",
                                  format("the width of {}", tensors.name("ffn_up_shexp.weight")));
  }
  LCRUN_ASSIGN(shared_, create_dense_ffn(build, "_shexp", moe_.d_ff_shared));
  if (moe_.shared_gate) {
    LCRUN_ASSIGN(shared_gate_, tensors.vector("ffn_gate_inp_shexp.weight", d_model_));
  }
  return {};
}

Result<std::unique_ptr<FeedForward>> MoeFfn::create(const MixerBuild& build) {
  const ModelConfig& config = build.config;
  auto ffn = std::make_unique<MoeFfn>();
  ffn->moe_ = config.moe;
  ffn->d_model_ = config.d_model;
  ffn->d_ff_ = config.moe.d_ff;
  ffn->n_experts_ = config.moe.n_experts;
  ffn->n_used_ = config.moe.n_used;
  ffn->limit_ = config.swiglu_limit;
  ffn->alpha_ = config.swiglu_alpha;
  ffn->activation_ = config.activation;
  if (ffn->d_ff_ < 1) {
    return build.file.meta().fail(arch_key(config, "expert_feed_forward_length"), format("{}", ffn->d_ff_),
                                  "at least 1");
  }
  const TensorLoader tensors(build.file, format("blk.{}.", build.layer), build.n_threads, build.arena);
  LCRUN_ASSIGN(ffn->router_, tensors.matrix("ffn_gate_inp.weight", ffn->n_experts_, ffn->d_model_));
  LCRUN_ASSIGN(ffn->router_bias_, tensors.optional_vector("ffn_gate_inp.bias", ffn->n_experts_));
  LCRUN_ASSIGN(ffn->selection_bias_, tensors.optional_vector("exp_probs_b.bias", ffn->n_experts_));
  LCRUN_TRY(ffn->load_experts(tensors));
  LCRUN_TRY(ffn->load_biases(tensors));
  LCRUN_TRY(ffn->load_shared(build, tensors));
  return std::unique_ptr<FeedForward>(std::move(ffn));
}

uint64_t MoeFfn::memory_bytes() const {
  uint64_t total = router_.memory_bytes() + (shared_ ? shared_->memory_bytes() : 0);
  for (const Expert& expert : experts_) {
    total += expert.down.memory_bytes();
    for (const auto& weights : expert.inputs) total += weights.memory_bytes();
  }
  return total;
}

uint64_t MoeFfn::scratch_bytes(int64_t max_rows) const {
  const int64_t slots = max_rows * n_used_;
  uint64_t bytes = Workspace::bytes_of<float>(max_rows * n_experts_);  // scores
  bytes += 2 * Workspace::bytes_of<int32_t>(slots) + Workspace::bytes_of<float>(slots);
  bytes += Workspace::bytes_of<int32_t>(n_experts_ + 1);
  // Of the two ways to run experts the larger: a gathered batch of one expert, or one row of all chosen ones.
  const uint64_t batch =
      2 * Workspace::bytes_of<float>(max_rows * d_model_) + Workspace::bytes_of<float>(max_rows * 2 * d_ff_);
  const uint64_t single = Workspace::bytes_of<float>(n_used_ * 2 * d_ff_) + Workspace::bytes_of<float>(d_model_) +
                          Workspace::bytes_of<kernels::MatmulJob>(2 * n_used_);
  const uint64_t shared =
      Workspace::bytes_of<float>(max_rows * d_model_) + (shared_ ? shared_->scratch_bytes(max_rows) : 0);
  return bytes + std::max({batch, single, shared});
}

// Scores become the experts of a row, in ascending order, and their weights.
void MoeFfn::choose(float* scores, int32_t* experts, float* weights) const {
  if (moe_.gate == MoeConfig::Gate::kSoftmax) kernels::softmax(scores, n_experts_);
  if (moe_.gate == MoeConfig::Gate::kSigmoid) {
    for (int64_t e = 0; e < n_experts_; ++e) scores[e] = 1.0F / (1.0F + std::exp(-scores[e]));
  }
  const auto value = [&](int64_t e) {
    const float score = selection_bias_.empty() ? scores[e] : scores[e] + selection_bias_[static_cast<size_t>(e)];
    return std::isnan(score) ? -std::numeric_limits<float>::infinity() : score;
  };
  // The n_used largest, by insertion; of equal ones the first.
  int64_t count = 0;
  for (int64_t e = 0; e < n_experts_; ++e) {
    const float score = value(e);
    if (count == n_used_ && !(score > value(experts[count - 1]))) continue;
    int64_t at = count < n_used_ ? count++ : count - 1;
    while (at > 0 && score > value(experts[at - 1])) {
      experts[at] = experts[at - 1];
      --at;
    }
    experts[at] = static_cast<int32_t>(e);
  }
  std::sort(experts, experts + n_used_);
  for (int64_t i = 0; i < n_used_; ++i) weights[i] = scores[experts[i]];
  if (moe_.gate == MoeConfig::Gate::kSoftmaxOfChosen) kernels::softmax(weights, n_used_);
  float scale = moe_.scale;
  if (moe_.normalize) {
    constexpr float kSmallest = 6.103515625e-5F;  // the smallest normal half: avoids dividing by zero
    float total = 0.0F;
    for (int64_t i = 0; i < n_used_; ++i) total += weights[i];
    scale /= std::max(total, kSmallest);
  }
  for (int64_t i = 0; i < n_used_; ++i) weights[i] *= scale;
}

Routing MoeFfn::route(const StepContext& step, MatView x) const {
  Workspace& scratch = *step.scratch;
  const int64_t slots = x.rows * n_used_;
  Routing routing;
  routing.experts = scratch.take<int32_t>(slots).data();
  routing.slots = scratch.take<int32_t>(slots).data();
  routing.weights = scratch.take<float>(slots).data();
  routing.starts = scratch.take<int32_t>(n_experts_ + 1).data();
  const MatView scores{scratch.take<float>(x.rows * n_experts_).data(), x.rows, n_experts_, n_experts_};
  step.activations->set(x);
  const kernels::MatmulJob job{&router_, scores, router_bias_.empty() ? nullptr : router_bias_.data()};
  kernels::matmul({&job, 1}, *step.activations, step.n_threads);
  for_rows(step.n_threads, x.rows, [&](int64_t row) {
    choose(scores.row(row), routing.experts + row * n_used_, routing.weights + row * n_used_);
  });
  group(routing, x.rows);
  return routing;
}

// Counting sort of the slots by expert; within an expert in row order.
void MoeFfn::group(Routing& routing, int64_t rows) const {
  const int64_t slots = rows * n_used_;
  std::fill(routing.starts, routing.starts + n_experts_ + 1, 0);
  for (int64_t s = 0; s < slots; ++s) ++routing.starts[routing.experts[s] + 1];
  for (int64_t e = 0; e < n_experts_; ++e) routing.starts[e + 1] += routing.starts[e];
  for (int64_t s = 0; s < slots; ++s) routing.slots[routing.starts[routing.experts[s]]++] = static_cast<int32_t>(s);
  for (int64_t e = n_experts_; e > 0; --e) routing.starts[e] = routing.starts[e - 1];
  routing.starts[0] = 0;
}

// Products that fill hidden [rows, 2 * d_ff] with gate and up. Returns their number.
int64_t MoeFfn::add_jobs(int64_t expert, float* hidden, int64_t rows, kernels::MatmulJob* jobs) const {
  const Expert& e = experts_[static_cast<size_t>(expert)];
  const float* biases[] = {bias_of(biases_.gate, expert, d_ff_), bias_of(biases_.up, expert, d_ff_)};
  for (size_t i = 0; i < e.inputs.size(); ++i) {
    float* column = hidden + static_cast<int64_t>(i) * d_ff_;
    jobs[i] = {&e.inputs[i], MatView{column, rows, e.inputs[i].rows(), 2 * d_ff_}, biases[i]};
  }
  return static_cast<int64_t>(e.inputs.size());
}

// gate [d_ff] followed by up [d_ff] -> gate
void MoeFfn::activate_row(float* gate) const {
  float* up = gate + d_ff_;
  if (limit_ > 0.0F) {
    // gate' = min(gate, limit), up' = clamp(up) + 1: gate' sigmoid(alpha gate') up', written as a SiLU of alpha gate'.
    for (int64_t i = 0; i < d_ff_; ++i) {
      gate[i] = alpha_ * std::min(gate[i], limit_);
      up[i] = (std::clamp(up[i], -limit_, limit_) + 1.0F) / alpha_;
    }
  }
  kernels::glu(activation_, gate, up, d_ff_);
}

void MoeFfn::run_expert(const StepContext& step, const Routing& routing, int64_t expert, MatView x, MatView out) const {
  const int64_t first = routing.starts[expert];
  const int64_t rows = routing.starts[expert + 1] - first;
  if (rows == 0) return;
  Workspace& scratch = *step.scratch;
  const size_t mark = scratch.mark();
  const MatView in{scratch.take<float>(rows * d_model_).data(), rows, d_model_, d_model_};
  const MatView added{scratch.take<float>(rows * d_model_).data(), rows, d_model_, d_model_};
  float* hidden = scratch.take<float>(rows * 2 * d_ff_).data();
  for_rows(step.n_threads, rows, [&](int64_t i) {
    std::memcpy(in.row(i), x.row(routing.slots[first + i] / n_used_), static_cast<size_t>(d_model_) * sizeof(float));
  });
  kernels::MatmulJob jobs[2];
  const int64_t n_jobs = add_jobs(expert, hidden, rows, jobs);
  step.activations->set(in);
  kernels::matmul({jobs, static_cast<size_t>(n_jobs)}, *step.activations, step.n_threads);
  for_rows(step.n_threads, rows, [&](int64_t i) { activate_row(hidden + i * 2 * d_ff_); });
  step.activations->set(MatView{hidden, rows, d_ff_, 2 * d_ff_});
  const kernels::MatmulJob down{&experts_[static_cast<size_t>(expert)].down, added,
                                bias_of(biases_.down, expert, d_model_)};
  kernels::matmul({&down, 1}, *step.activations, step.n_threads);
  for_rows(step.n_threads, rows, [&](int64_t i) {
    const int32_t slot = routing.slots[first + i];
    kernels::add_scaled(out.row(slot / n_used_), added.row(i), routing.weights[slot], d_model_);
  });
  scratch.release(mark);
}

// One token: gate and up of all its experts are one parallel region.
void MoeFfn::run_one_row(const StepContext& step, const Routing& routing, MatView x, MatView out) const {
  Workspace& scratch = *step.scratch;
  const size_t mark = scratch.mark();
  float* hidden = scratch.take<float>(n_used_ * 2 * d_ff_).data();
  float* added = scratch.take<float>(d_model_).data();
  kernels::MatmulJob* jobs = scratch.take<kernels::MatmulJob>(2 * n_used_).data();
  int64_t n_jobs = 0;
  for (int64_t i = 0; i < n_used_; ++i) {
    n_jobs += add_jobs(routing.experts[i], hidden + i * 2 * d_ff_, 1, jobs + n_jobs);
  }
  step.activations->set(x);
  kernels::matmul({jobs, static_cast<size_t>(n_jobs)}, *step.activations, step.n_threads);
  for (int64_t i = 0; i < n_used_; ++i) {
    const int64_t expert = routing.experts[i];
    float* gate = hidden + i * 2 * d_ff_;
    activate_row(gate);
    step.activations->set(MatView{gate, 1, d_ff_, d_ff_});
    const kernels::MatmulJob down{&experts_[static_cast<size_t>(expert)].down, MatView{added, 1, d_model_, d_model_},
                                  bias_of(biases_.down, expert, d_model_)};
    kernels::matmul({&down, 1}, *step.activations, step.n_threads);
    kernels::add_scaled(out.row(0), added, routing.weights[i], d_model_);
  }
  scratch.release(mark);
}

void MoeFfn::add_shared(const StepContext& step, MatView x, MatView out) const {
  Workspace& scratch = *step.scratch;
  const size_t mark = scratch.mark();
  const MatView added{scratch.take<float>(x.rows * d_model_).data(), x.rows, d_model_, d_model_};
  shared_->forward(step, x, added);
  for_rows(step.n_threads, x.rows, [&](int64_t row) {
    float weight = 1.0F;
    if (!shared_gate_.empty()) {
      weight = 1.0F / (1.0F + std::exp(-kernels::dot(shared_gate_.data(), x.row(row), d_model_)));
    }
    kernels::add_scaled(out.row(row), added.row(row), weight, d_model_);
  });
  scratch.release(mark);
}

void MoeFfn::forward(const StepContext& step, MatView x, MatView out) const {
  Workspace& scratch = *step.scratch;
  const size_t mark = scratch.mark();
  const Routing routing = route(step, x);
  for (int64_t row = 0; row < x.rows; ++row) {
    std::memset(out.row(row), 0, static_cast<size_t>(d_model_) * sizeof(float));
  }
  if (x.rows == 1) {
    run_one_row(step, routing, x, out);
  } else {
    for (int64_t expert = 0; expert < n_experts_; ++expert) run_expert(step, routing, expert, x, out);
  }
  if (shared_) add_shared(step, x, out);
  scratch.release(mark);
}

}  // namespace

Result<std::unique_ptr<FeedForward>> create_moe_ffn(const MixerBuild& build) { return MoeFfn::create(build); }

}  // namespace lcrun::model
