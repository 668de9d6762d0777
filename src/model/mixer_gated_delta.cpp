// Gated delta rule (Yang et al., Gated Delta Networks, arXiv 2412.06464, section 3), as Qwen3-Next uses it.
//
//   [q k v] = SiLU(conv(W_qkv x)), q and k of unit length, q / sqrt(dk);  z = W_gate x
//   beta = sigmoid(W_b x);  g = a softplus(W_a x + dt_bias), a < 0
//   S <- exp(g) S;  S <- S + k^T beta (v - k S);  o = q S;  out = W_out (RMSNorm_head(o) * SiLU(z))
//
// State: two Fixed regions, "conv" and "delta" (S of all value heads). One token after another, so any split of a
// prompt gives the same bits; value heads are independent of each other.
#include <algorithm>
#include <cmath>

#include "src/base/format.hpp"
#include "src/kernels/ops.hpp"
#include "src/model/arch.hpp"
#include "src/model/mixer.hpp"
#include "src/model/recurrence.hpp"
#include "src/model/rows.hpp"
#include "src/model/tensors.hpp"

namespace lcrun::model {
namespace {

class GatedDeltaMixer final : public TokenMixer {
 public:
  static Result<std::unique_ptr<TokenMixer>> create(const MixerBuild& build);

  std::vector<storage::RegionSpec> regions(const CacheOptions&) const override {
    return {conv_.region(), fixed_region("delta", n_heads_ * k_dim_ * v_dim_)};
  }
  Status check_cache(const CacheOptions&) const override { return {}; }
  uint64_t scratch_bytes(int64_t max_rows, const CacheOptions&, int) const override {
    return 2 * Workspace::bytes_of<float>(max_rows * conv_width()) +
           2 * Workspace::bytes_of<float>(max_rows * v_width()) + Workspace::bytes_of<float>(max_rows * 2 * n_heads_);
  }
  int64_t max_product_cols() const override { return std::max(d_model_, v_width()); }
  uint64_t memory_bytes() const override {
    uint64_t total = qkv_.memory_bytes() + gate_.memory_bytes() + output_.memory_bytes();
    for (const auto& weights : rates_) total += weights.memory_bytes();
    return total;
  }
  Status forward(storage::LayerState& state, const StepContext& step, MatView x, MatView out) const override;

 private:
  int64_t k_width() const { return n_groups_ * k_dim_; }
  int64_t v_width() const { return n_heads_ * v_dim_; }
  int64_t conv_width() const { return 2 * k_width() + v_width(); }
  Status load_rates(const TensorLoader& tensors);
  void project(const StepContext& step, MatView x, MatView qkv, MatView z, MatView rates) const;
  void unit_keys(float* qk) const;
  void scan_head(int64_t head, float* state, MatView qkv, MatView rates, MatView o) const;

  int64_t d_model_ = 0;
  int64_t n_groups_ = 0;  // heads of q and k
  int64_t n_heads_ = 0;   // heads of v
  int64_t k_dim_ = 0;
  int64_t v_dim_ = 0;
  bool tile_keys_ = false;
  float eps_ = 1e-5F;
  kernels::Weights qkv_;
  kernels::Weights gate_;
  std::vector<kernels::Weights> rates_;  // beta and alpha; or both in one, interleaved by key head
  ConvState conv_;
  std::vector<float> dt_bias_;  // [n_heads]
  std::vector<float> a_;        // [n_heads]
  std::vector<float> norm_;     // [v_dim]
  kernels::Weights output_;
};

Status GatedDeltaMixer::load_rates(const TensorLoader& tensors) {
  if (tensors.has("ssm_ba.weight")) {
    LCRUN_ASSIGN(auto both, tensors.matrix("ssm_ba.weight", 2 * n_heads_, d_model_));
    rates_.push_back(std::move(both));
    return {};
  }
  for (const char* name : {"ssm_beta.weight", "ssm_alpha.weight"}) {
    LCRUN_ASSIGN(auto weights, tensors.matrix(name, n_heads_, d_model_));
    rates_.push_back(std::move(weights));
  }
  return {};
}

Result<std::unique_ptr<TokenMixer>> GatedDeltaMixer::create(const MixerBuild& build) {
  const SsmConfig& ssm = build.config.ssm;
  const bool divides = ssm.n_heads > 0 && ssm.n_groups > 0 && ssm.d_state > 0 && ssm.d_inner > 0 &&
                       ssm.d_inner % ssm.n_heads == 0 && ssm.n_heads % ssm.n_groups == 0;
  if (!divides) {
    return build.file.meta().fail(
        arch_key(build.config, "ssm.time_step_rank"),
        format("{} value heads, {} key heads, width {}", ssm.n_heads, ssm.n_groups, ssm.d_inner),
        "a width that is a multiple of the value heads, and value heads that are a multiple of the key heads");
  }
  auto mixer = std::make_unique<GatedDeltaMixer>();
  mixer->d_model_ = build.config.d_model;
  mixer->n_groups_ = ssm.n_groups;
  mixer->n_heads_ = ssm.n_heads;
  mixer->k_dim_ = ssm.d_state;
  mixer->v_dim_ = ssm.d_inner / ssm.n_heads;
  mixer->tile_keys_ = ssm.tile_keys;
  mixer->eps_ = build.config.norm_eps;
  const TensorLoader tensors(build.file, format("blk.{}.", build.layer), build.n_threads, build.arena);
  if (tensors.has("ssm_in.weight") && !tensors.has("attn_qkv.weight")) {
    return make_error(Code::kUnsupported, "{}: {}: an old layout of this architecture; convert the model again",
                      build.file.path(), tensors.name("ssm_in.weight"));
  }
  LCRUN_ASSIGN(mixer->qkv_, tensors.matrix("attn_qkv.weight", mixer->conv_width(), mixer->d_model_));
  LCRUN_ASSIGN(mixer->gate_, tensors.matrix("attn_gate.weight", mixer->v_width(), mixer->d_model_));
  LCRUN_TRY(mixer->load_rates(tensors));
  LCRUN_ASSIGN(mixer->conv_, ConvState::load(tensors, ssm.conv_kernel, mixer->conv_width()));
  LCRUN_ASSIGN(mixer->dt_bias_, tensors.vector("ssm_dt.bias", ssm.n_heads));
  LCRUN_ASSIGN(mixer->a_, tensors.vector("ssm_a", ssm.n_heads));
  LCRUN_ASSIGN(mixer->norm_, tensors.vector("ssm_norm.weight", mixer->v_dim_));
  LCRUN_ASSIGN(mixer->output_, tensors.matrix("ssm_out.weight", mixer->d_model_, mixer->v_width()));
  return std::unique_ptr<TokenMixer>(std::move(mixer));
}

void GatedDeltaMixer::project(const StepContext& step, MatView x, MatView qkv, MatView z, MatView rates) const {
  kernels::MatmulJob jobs[4];
  size_t n = 0;
  jobs[n++] = {&qkv_, qkv, nullptr};
  jobs[n++] = {&gate_, z, nullptr};
  int64_t column = 0;
  for (const kernels::Weights& weights : rates_) {
    jobs[n++] = {&weights, MatView{rates.data + column, rates.rows, weights.rows(), rates.stride}, nullptr};
    column += weights.rows();
  }
  step.activations->set(x);
  kernels::matmul({jobs, n}, *step.activations, step.n_threads);
}

// Queries and keys of all heads to unit length; queries also take the scale 1 / sqrt(k_dim).
void GatedDeltaMixer::unit_keys(float* qk) const {
  // |x|^2 + eps under the root, written as an RMS norm: mean(x^2) + eps / n, then 1 / sqrt(n).
  const auto n = static_cast<float>(k_dim_);
  const float unit = 1.0F / std::sqrt(n);
  for (int64_t head = 0; head < 2 * n_groups_; ++head) {
    float* x = qk + head * k_dim_;
    kernels::rms_norm(x, nullptr, k_dim_, eps_ / n, x);
    kernels::scale(x, head < n_groups_ ? unit * unit : unit, k_dim_);
  }
}

// All tokens of one value head.  // state [k_dim, v_dim]
void GatedDeltaMixer::scan_head(int64_t head, float* state, MatView qkv, MatView rates, MatView o) const {
  const int64_t per_key = n_heads_ / n_groups_;
  const int64_t key_head = tile_keys_ ? head % n_groups_ : head / per_key;
  // Interleaved: for each key head the betas of its value heads, then their alphas.
  const bool interleaved = rates_.size() == 1;
  const int64_t beta_at = interleaved ? head / per_key * 2 * per_key + head % per_key : head;
  const int64_t alpha_at = beta_at + (interleaved ? per_key : n_heads_);
  const auto h = static_cast<size_t>(head);
  for (int64_t row = 0; row < qkv.rows; ++row) {
    const float* q = qkv.row(row) + key_head * k_dim_;
    const float* v = qkv.row(row) + 2 * k_width() + head * v_dim_;
    const float beta = 1.0F / (1.0F + std::exp(-rates.row(row)[beta_at]));
    const float g = a_[h] * softplus(rates.row(row)[alpha_at] + dt_bias_[h]);
    float* out = o.row(row) + head * v_dim_;
    kernels::delta_step(state, q, q + k_width(), v, g, beta, true, k_dim_, v_dim_, out);
    kernels::rms_norm(out, norm_.data(), v_dim_, eps_, out);
  }
}

Status GatedDeltaMixer::forward(storage::LayerState& state, const StepContext& step, MatView x, MatView out) const {
  LCRUN_TRY(state.regions[0].prepare_fixed());
  LCRUN_TRY(state.regions[1].prepare_fixed());
  float* s = fixed_floats(state.regions[1]);
  Workspace& scratch = *step.scratch;
  const size_t mark = scratch.mark();
  const int64_t rows = x.rows;
  const auto take = [&](int64_t cols) { return MatView{scratch.take<float>(rows * cols).data(), rows, cols, cols}; };
  const MatView projected = take(conv_width());
  const MatView qkv = take(conv_width());
  const MatView z = take(v_width());
  const MatView o = take(v_width());
  const MatView rates = take(2 * n_heads_);

  project(step, x, projected, z, rates);
  conv_.run(state.regions[0], projected, qkv);
  for_rows(step.n_threads, rows, [&](int64_t row) { unit_keys(qkv.row(row)); });
  parallel_for(step.n_threads, n_heads_,
               [&](int64_t head, int) { scan_head(head, s + head * k_dim_ * v_dim_, qkv, rates, o); });
  if (out.rows > 0) {
    const MatView gate = last_rows(z, out.rows), wanted = last_rows(o, out.rows);
    for_rows(step.n_threads, out.rows, [&](int64_t row) {
      kernels::glu(kernels::Activation::kSilu, gate.row(row), wanted.row(row), v_width());  // z = SiLU(z) * o
    });
    step.activations->set(gate);
    const kernels::MatmulJob job{&output_, out, nullptr};
    kernels::matmul({&job, 1}, *step.activations, step.n_threads);
  }
  scratch.release(mark);
  return {};
}

}  // namespace

extern const MixerSpec kMixer_gated_delta;
const MixerSpec kMixer_gated_delta{"gated_delta", GatedDeltaMixer::create};

}  // namespace lcrun::model
