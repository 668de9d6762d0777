// Mamba-2 (Dao and Gu, arXiv 2405.21060, section 6): a linear recurrence with one decay per head.
//
//   [z | x B C | dt] = W_in u;  x B C <- SiLU(conv(x B C));  dt <- softplus(dt + bias)
//   h <- exp(dt a) h + dt x B^T;  y = h C + d x;  out = W_out RMSNorm_group(y * SiLU(z))
//
// State: two Fixed regions, "conv" (the last taps - 1 inputs of the convolution) and "ssm" (h of all heads). Tokens
// are taken one after another, so any split of a prompt gives the same bits; heads are independent of each other.
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

class Mamba2Mixer final : public TokenMixer {
 public:
  static Result<std::unique_ptr<TokenMixer>> create(const MixerBuild& build);

  std::vector<storage::RegionSpec> regions(const CacheOptions&) const override {
    return {conv_.region(), fixed_region("ssm", d_inner_ * d_state_)};
  }
  Status check_cache(const CacheOptions&) const override { return {}; }
  uint64_t scratch_bytes(int64_t max_rows, const CacheOptions&, int) const override {
    return Workspace::bytes_of<float>(max_rows * in_width()) + Workspace::bytes_of<float>(max_rows * conv_width()) +
           Workspace::bytes_of<float>(max_rows * d_inner_);
  }
  int64_t max_product_cols() const override { return std::max(d_model_, d_inner_); }
  uint64_t memory_bytes() const override { return input_.memory_bytes() + output_.memory_bytes(); }
  Status forward(storage::LayerState& state, const StepContext& step, MatView x, MatView out) const override;

 private:
  int64_t conv_width() const { return d_inner_ + 2 * n_groups_ * d_state_; }
  int64_t in_width() const { return d_inner_ + conv_width() + n_heads_; }
  int64_t head_dim() const { return d_inner_ / n_heads_; }
  void scan_head(int64_t head, float* state, MatView projected, MatView xbc, MatView y) const;
  void gate_and_norm(float* z, float* y) const;

  int64_t d_model_ = 0;
  int64_t d_inner_ = 0;
  int64_t d_state_ = 0;
  int64_t n_groups_ = 0;
  int64_t n_heads_ = 0;
  float eps_ = 1e-5F;
  kernels::Weights input_;  // z, x B C, dt
  ConvState conv_;
  std::vector<float> dt_bias_;  // [n_heads]
  std::vector<float> a_;        // [n_heads], below 0
  std::vector<float> d_;        // [n_heads]
  std::vector<float> norm_;     // [d_inner], applied group by group; empty: no norm
  kernels::Weights output_;
};

Result<std::unique_ptr<TokenMixer>> Mamba2Mixer::create(const MixerBuild& build) {
  const SsmConfig& ssm = build.config.ssm;
  auto mixer = std::make_unique<Mamba2Mixer>();
  mixer->d_model_ = build.config.d_model;
  mixer->d_inner_ = ssm.d_inner;
  mixer->d_state_ = ssm.d_state;
  mixer->n_groups_ = ssm.n_groups;
  mixer->n_heads_ = ssm.n_heads;
  mixer->eps_ = build.config.norm_eps;
  const bool divides = ssm.n_heads > 0 && ssm.n_groups > 0 && ssm.d_inner % ssm.n_heads == 0 &&
                       ssm.d_inner % ssm.n_groups == 0 && ssm.n_heads % ssm.n_groups == 0;
  if (!divides || ssm.d_state < 1) {
    return build.file.meta().fail(
        arch_key(build.config, "ssm.time_step_rank"),
        format("{} heads, {} groups, width {}", ssm.n_heads, ssm.n_groups, ssm.d_inner),
        "a width that is a multiple of the heads, and heads that are a multiple of the groups");
  }
  const TensorLoader tensors(build.file, format("blk.{}.", build.layer), build.n_threads, build.arena);
  LCRUN_ASSIGN(mixer->input_, tensors.matrix("ssm_in.weight", mixer->in_width(), mixer->d_model_));
  LCRUN_ASSIGN(mixer->conv_, ConvState::load(tensors, ssm.conv_kernel, mixer->conv_width()));
  LCRUN_ASSIGN(mixer->dt_bias_, tensors.vector("ssm_dt.bias", ssm.n_heads));
  LCRUN_ASSIGN(mixer->a_, tensors.vector("ssm_a", ssm.n_heads));
  LCRUN_ASSIGN(mixer->d_, tensors.vector("ssm_d", ssm.n_heads));
  LCRUN_ASSIGN(mixer->norm_, tensors.optional_vector("ssm_norm.weight", ssm.d_inner));
  LCRUN_ASSIGN(mixer->output_, tensors.matrix("ssm_out.weight", mixer->d_model_, ssm.d_inner));
  return std::unique_ptr<TokenMixer>(std::move(mixer));
}

// All tokens of one head.  // state [head_dim, d_state]
void Mamba2Mixer::scan_head(int64_t head, float* state, MatView projected, MatView xbc, MatView y) const {
  const int64_t group = head / (n_heads_ / n_groups_);
  const int64_t dim = head_dim();
  const auto h = static_cast<size_t>(head);
  for (int64_t row = 0; row < xbc.rows; ++row) {
    const float* x = xbc.row(row);
    const float* b = x + d_inner_ + group * d_state_;
    const float* c = b + n_groups_ * d_state_;
    const float dt = softplus(projected.row(row)[d_inner_ + conv_width() + head] + dt_bias_[h]);
    kernels::ssm_step(state, x + head * dim, b, c, dt, a_[h], d_[h], dim, d_state_, y.row(row) + head * dim);
  }
}

void Mamba2Mixer::gate_and_norm(float* z, float* y) const {
  kernels::glu(kernels::Activation::kSilu, z, y, d_inner_);  // z = SiLU(z) * y
  const int64_t width = d_inner_ / n_groups_;
  for (int64_t g = 0; g < n_groups_ && !norm_.empty(); ++g) {
    kernels::rms_norm(z + g * width, norm_.data() + g * width, width, eps_, z + g * width);
  }
}

Status Mamba2Mixer::forward(storage::LayerState& state, const StepContext& step, MatView x, MatView out) const {
  LCRUN_TRY(state.regions[0].prepare_fixed());
  LCRUN_TRY(state.regions[1].prepare_fixed());
  float* h = fixed_floats(state.regions[1]);
  Workspace& scratch = *step.scratch;
  const size_t mark = scratch.mark();
  const int64_t rows = x.rows;
  const MatView projected{scratch.take<float>(rows * in_width()).data(), rows, in_width(), in_width()};
  const MatView xbc{scratch.take<float>(rows * conv_width()).data(), rows, conv_width(), conv_width()};
  const MatView y{scratch.take<float>(rows * d_inner_).data(), rows, d_inner_, d_inner_};

  step.activations->set(x);
  const kernels::MatmulJob in_job{&input_, projected, nullptr};
  kernels::matmul({&in_job, 1}, *step.activations, step.n_threads);
  conv_.run(state.regions[0], MatView{projected.data + d_inner_, rows, conv_width(), projected.stride}, xbc);
  parallel_for(step.n_threads, n_heads_,
               [&](int64_t head, int) { scan_head(head, h + head * head_dim() * d_state_, projected, xbc, y); });
  if (out.rows > 0) {
    const MatView z = last_rows(MatView{projected.data, rows, d_inner_, projected.stride}, out.rows);
    const MatView wanted = last_rows(y, out.rows);
    for_rows(step.n_threads, out.rows, [&](int64_t row) { gate_and_norm(z.row(row), wanted.row(row)); });
    step.activations->set(z);
    const kernels::MatmulJob out_job{&output_, out, nullptr};
    kernels::matmul({&out_job, 1}, *step.activations, step.n_threads);
  }
  scratch.release(mark);
  return {};
}

}  // namespace

extern const MixerSpec kMixer_mamba2;
const MixerSpec kMixer_mamba2{"mamba2", Mamba2Mixer::create};

}  // namespace lcrun::model
