// Softmax attention with a KV cache: MHA, GQA and MQA; full or windowed; optional q/k norms, biases, sinks, and a
// gate on the output of each head.
//
// State: one region of keys and values, Append for layers that see everything, Ring for window layers (they keep the
// window and a little slack, so that a few tokens can be taken back). Open blocks besides where the cache is sealed,
// and last what is kept of full blocks where some queries choose what they read (block_summaries.hpp).
#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "src/attention/attention.hpp"
#include "src/attention/block_summaries.hpp"
#include "src/attention/remainder.hpp"
#include "src/attention/selector.hpp"
#include "src/base/format.hpp"
#include "src/kernels/ops.hpp"
#include "src/model/arch.hpp"
#include "src/model/mixer.hpp"
#include "src/model/rows.hpp"
#include "src/model/tensors.hpp"

namespace lcrun::model {
namespace {

class AttentionMixer final : public TokenMixer {
 public:
  static Result<std::unique_ptr<TokenMixer>> create(const MixerBuild& build);

  std::vector<storage::RegionSpec> regions(const CacheOptions& cache) const override {
    storage::RegionSpec spec;
    const attention::KvLayout layout = params(cache).layout;
    spec.name = layout.region_name();
    spec.block_bytes = layout.block_bytes();
    if (window_ > 0) {
      spec.kind = storage::RegionKind::kRing;
      spec.window = window_;
    }
    std::vector<storage::RegionSpec> specs{spec};
    if (layout.is_sealed()) {
      storage::RegionSpec open;  // of which a token needs its own block alone
      open.kind = storage::RegionKind::kRing;
      open.name = "kv_open";
      open.block_bytes = layout.open_form().block_bytes();
      specs.push_back(open);
    }
    for (storage::RegionSpec& kept : summaries(cache, {}).regions()) specs.push_back(std::move(kept));
    return specs;
  }
  Status check_cache(const CacheOptions& cache) const override {
    LCRUN_TRY(params(cache).layout.check());
    return summaries(cache, {}).check();
  }
  uint64_t scratch_bytes(int64_t max_rows, const CacheOptions& cache, int n_threads) const override {
    const uint64_t gated = q_gate_ ? Workspace::bytes_of<float>(max_rows * 2 * q_width()) : 0;
    return Workspace::bytes_of<float>(max_rows * qkv_width()) + Workspace::bytes_of<float>(max_rows * out_width()) +
           gated + attending_bytes(max_rows, cache, n_threads);
  }
  int64_t max_product_cols() const override { return std::max(d_model_, out_width()); }
  uint64_t memory_bytes() const override {
    uint64_t total = output_.memory_bytes();
    for (const auto& weights : inputs_) total += weights.memory_bytes();
    return total;
  }
  Status forward(storage::LayerState& state, const StepContext& step, MatView x, MatView out) const override;
  Status rebuild_index(storage::LayerState& state, const StepContext& step, int64_t tokens) const override;

 private:
  int64_t q_width() const { return n_heads_ * k_dim_; }
  int64_t k_width() const { return n_kv_heads_ * k_dim_; }
  int64_t v_width() const { return n_kv_heads_ * v_dim_; }
  int64_t qkv_width() const { return q_width() + k_width() + v_width(); }
  int64_t out_width() const { return n_heads_ * v_dim_; }

  attention::AttnParams params(const CacheOptions& cache) const {
    attention::AttnParams p;
    p.layout = {n_kv_heads_, k_dim_, v_dim_, cached_type(cache.type_k, window_), cached_type(cache.type_v, window_)};
    p.n_heads = n_heads_;
    p.scale = scale_;
    p.soft_cap = soft_cap_;
    p.window = window_;
    p.sinks = sinks_.empty() ? nullptr : sinks_.data();
    return p;
  }
  // What is kept of the blocks of this layer, if anything is.
  attention::BlockSummaries summaries(const CacheOptions& cache, attention::Rotary rotary) const {
    return {window_ > 0 ? nullptr : cache.attention.get(), layer_, params(cache).layout, rotary};
  }
  attention::Rotary rotary(const StepContext& step) const {
    if (rope_ < 0) return {};
    return {step.rope_frequencies[static_cast<size_t>(rope_)].frequency, neox_};
  }
  uint64_t attending_bytes(int64_t max_rows, const CacheOptions& cache, int n_threads) const {
    const attention::AttnParams p = params(cache);
    const uint64_t dense = attention::attend_scratch_bytes(p, max_rows, n_threads);
    if (window_ > 0 || cache.attention == nullptr) return dense;
    return std::max(dense + attention::everything_scratch_bytes(*cache.attention),
                    attention::tile_scratch_bytes(p, max_rows, n_threads) +
                        attention::plan_scratch_bytes(*cache.attention, p, max_rows, n_threads));
  }
  Status make_index(storage::LayerState& state, const StepContext& step, int64_t rows) const;
  Status attend(storage::LayerState& state, const StepContext& step, const attention::AttnParams& p, MatView q,
                int64_t pos0, MatView o) const;
  Status attend_chosen(storage::LayerState& state, const StepContext& step, const attention::AttnParams& p,
                       const attention::Reading& reading, MatView q, int64_t pos0, MatView o) const;
  Status attend_everything(storage::LayerState& state, const StepContext& step, const attention::AttnParams& p,
                           const attention::Reading& reading, MatView q, int64_t pos0, MatView o) const;
  // `keep`: where choices go in place of step.chosen.
  Result<attention::TilePlan> choose(storage::LayerState& state, const StepContext& step,
                                     const attention::AttnParams& p, const attention::Reading& reading, MatView q,
                                     int64_t pos0, attention::ChosenBlocks* keep = nullptr) const;
  Result<attention::TilePlan> follow(storage::LayerState& state, const StepContext& step,
                                     const attention::AttnParams& p, const attention::Reading& reading, MatView q,
                                     int64_t pos0) const;
  Status show(storage::LayerState& state, const StepContext& step, const attention::AttnParams& p,
              const attention::Reading& reading, const attention::TilePlan& plan, MatView q, int64_t pos0) const;
  Status load_inputs(const TensorLoader& tensors);
  Status load_fused_bias(const TensorLoader& tensors);
  Status load_norms(const MixerBuild& build, const TensorLoader& tensors);
  void balance_norms();
  void project(const StepContext& step, MatView x, MatView qkv, MatView gated, bool with_queries) const;
  void split_gates(const StepContext& step, MatView gated, MatView qkv) const;
  void apply_gates(const StepContext& step, MatView gated, MatView o) const;
  void encode(storage::LayerState& state, const StepContext& step, const attention::KvLayout& layout,
              MatView qkv) const;
  void norm_and_rotate(const StepContext& step, MatView qkv, int64_t asking) const;
  void norm_heads(const std::vector<float>& weight, float* row, int64_t n_heads) const;

  int64_t layer_ = 0;
  int64_t d_model_ = 0;
  int64_t n_heads_ = 0;
  int64_t n_kv_heads_ = 0;
  int64_t k_dim_ = 0;
  int64_t v_dim_ = 0;
  int64_t window_ = 0;
  int32_t rope_ = 0;
  int64_t n_rot_ = 0;
  bool neox_ = false;
  float scale_ = 1.0F;
  float soft_cap_ = 0.0F;
  float eps_ = 1e-5F;
  NormKind norm_kind_ = NormKind::kRms;
  bool q_gate_ = false;                   // the rows of q are [query, gate] head by head
  bool head_norms_ = false;               // q_norm_ and k_norm_ hold a weight for each head
  std::vector<kernels::Weights> inputs_;  // q, k, v; or one matrix with all three
  std::vector<std::vector<float>> input_biases_;
  std::vector<float> q_norm_;  // [k_dim] per head, or [n_heads * k_dim] over the whole row
  std::vector<float> k_norm_;
  std::vector<float> sinks_;  // [n_heads]
  kernels::Weights output_;
  std::vector<float> output_bias_;
};

void count(const StepContext& step, const attention::TilePlan& plan, const attention::AttnParams& p, int64_t queries) {
  const int64_t blocks = attention::blocks_of(plan, p.layout);
  step.stats->queries += queries;
  step.stats->blocks += blocks;
  step.stats->kv_bytes += blocks * static_cast<int64_t>(p.layout.head_bytes());
}

// A norm's weight is for one head size or over the whole row: its length tells which.
Result<std::vector<float>> load_head_norm(const TensorLoader& tensors, std::string_view suffix, int64_t head,
                                          int64_t row, bool required) {
  const TensorView* view = tensors.file().find_tensor(tensors.name(suffix));
  if (view == nullptr && !required) return std::vector<float>();
  return tensors.vector(suffix, view != nullptr && view->n_elements() == row ? row : head);
}

Status AttentionMixer::load_inputs(const TensorLoader& tensors) {
  struct Part {
    const char* name;
    int64_t rows;
  };
  const int64_t q_rows = q_gate_ ? 2 * q_width() : q_width();
  const Part separate[] = {{"attn_q", q_rows}, {"attn_k", k_width()}, {"attn_v", v_width()}};
  const Part fused[] = {{"attn_qkv", qkv_width()}};
  const bool is_fused = tensors.has("attn_qkv.weight") && !q_gate_;
  const std::span<const Part> parts = is_fused ? std::span<const Part>(fused) : std::span<const Part>(separate);
  for (const Part& part : parts) {
    const std::string name = part.name;
    LCRUN_ASSIGN(auto weights, tensors.matrix(name + ".weight", part.rows, d_model_));
    inputs_.push_back(std::move(weights));
    LCRUN_ASSIGN(auto bias, tensors.optional_vector(name + ".bias", part.rows));
    input_biases_.push_back(std::move(bias));
  }
  return is_fused && input_biases_.front().empty() ? load_fused_bias(tensors) : Status();
}

// One matrix for q, k and v may still come with three biases.
Status AttentionMixer::load_fused_bias(const TensorLoader& tensors) {
  std::vector<float> all;
  bool any = false;
  const std::pair<const char*, int64_t> parts[] = {
      {"attn_q.bias", q_width()}, {"attn_k.bias", k_width()}, {"attn_v.bias", v_width()}};
  for (const auto& [name, n] : parts) {
    LCRUN_ASSIGN(auto bias, tensors.optional_vector(name, n));
    any = any || !bias.empty();
    bias.resize(static_cast<size_t>(n), 0.0F);
    all.insert(all.end(), bias.begin(), bias.end());
  }
  if (any) input_biases_.front() = std::move(all);
  return {};
}

Status AttentionMixer::load_norms(const MixerBuild& build, const TensorLoader& tensors) {
  const bool required = build.config.needs_qk_norms;
  // Where each head has its own weights only the whole row will do.
  const int64_t q_head = head_norms_ ? q_width() : k_dim_;
  const int64_t k_head = head_norms_ ? k_width() : k_dim_;
  LCRUN_ASSIGN(q_norm_, load_head_norm(tensors, "attn_q_norm.weight", q_head, q_width(), required));
  LCRUN_ASSIGN(k_norm_, load_head_norm(tensors, "attn_k_norm.weight", k_head, k_width(), required));
  if (build.config.needs_sinks) {
    LCRUN_ASSIGN(sinks_, tensors.vector("attn_sinks.weight", n_heads_));
  } else {
    LCRUN_ASSIGN(sinks_, tensors.optional_vector("attn_sinks.weight", n_heads_));
  }
  return {};
}

// Where queries and keys of all heads have one weight for each dimension, those that are large in keys and small in
// queries would cost the others most when cached keys are rounded with a scale that many dimensions share. A factor
// moves from one to the other; rounding errors that are equal in all dimensions disturb a score least where it is the
// fourth root of the ratio of their squares. Powers of two, the same for both dimensions that rotate together: float
// products keep their bits.
void AttentionMixer::balance_norms() {
  const auto size = static_cast<size_t>(k_dim_);
  if (head_norms_ || q_norm_.size() != size || k_norm_.size() != size) return;
  constexpr double kMostSteps = 8;
  const auto balance = [&](int64_t d, int64_t twin) {
    const auto a = static_cast<size_t>(d), b = static_cast<size_t>(twin);
    const double q = std::hypot(double(q_norm_[a]), double(q_norm_[b]));
    const double k = std::hypot(double(k_norm_[a]), double(k_norm_[b]));
    if (!(q > 0 && k > 0 && std::isfinite(q) && std::isfinite(k))) return;
    const double steps = std::clamp(std::round(0.5 * std::log2(q / k)), -kMostSteps, kMostSteps);
    const auto factor = static_cast<float>(std::exp2(steps));
    for (const size_t i : {a, b}) {
      k_norm_[i] *= factor;
      q_norm_[i] /= factor;
      if (a == b) break;
    }
  };
  const int64_t half = n_rot_ / 2;
  for (int64_t i = 0; i < half; ++i) balance(neox_ ? i : 2 * i, neox_ ? i + half : 2 * i + 1);
  for (int64_t d = 2 * half; d < k_dim_; ++d) balance(d, d);
}

Result<std::unique_ptr<TokenMixer>> AttentionMixer::create(const MixerBuild& build) {
  const ModelConfig& config = build.config;
  const LayerConfig& layer = config.layers[static_cast<size_t>(build.layer)];
  const TensorLoader tensors(build.file, format("blk.{}.", build.layer), build.n_threads, build.arena);
  auto mixer = std::make_unique<AttentionMixer>();
  mixer->layer_ = build.layer;
  mixer->d_model_ = config.d_model;
  mixer->n_heads_ = layer.n_heads;
  mixer->n_kv_heads_ = layer.n_kv_heads;
  mixer->k_dim_ = layer.k_dim;
  mixer->v_dim_ = layer.v_dim;
  mixer->window_ = layer.window;
  mixer->rope_ = layer.rope;
  if (layer.rope >= 0) {
    mixer->n_rot_ = config.ropes[static_cast<size_t>(layer.rope)].n_rot;
    mixer->neox_ = config.ropes[static_cast<size_t>(layer.rope)].neox;
  }
  mixer->scale_ = config.attn_scale != 0.0F ? config.attn_scale : 1.0F / std::sqrt(static_cast<float>(layer.k_dim));
  mixer->soft_cap_ = config.attn_soft_cap;
  mixer->eps_ = config.norm_eps;
  mixer->norm_kind_ = config.norm;
  mixer->q_gate_ = config.q_gate;
  mixer->head_norms_ = config.head_norms;
  if (mixer->q_gate_ && layer.k_dim != layer.v_dim) {
    return build.file.meta().fail(arch_key(config, "attention.value_length"), format("{}", layer.v_dim),
                                  format("{}, as a gate is as wide as its query", layer.k_dim));
  }
  LCRUN_TRY(mixer->load_inputs(tensors));
  LCRUN_TRY(mixer->load_norms(build, tensors));
  mixer->balance_norms();
  LCRUN_ASSIGN(mixer->output_, tensors.matrix("attn_output.weight", config.d_model, mixer->out_width()));
  LCRUN_ASSIGN(mixer->output_bias_, tensors.optional_vector("attn_output.bias", config.d_model));
  return std::unique_ptr<TokenMixer>(std::move(mixer));
}

// gated [rows, 2 * q_width] takes the place of q where queries come with gates.
void AttentionMixer::project(const StepContext& step, MatView x, MatView qkv, MatView gated, bool with_queries) const {
  kernels::MatmulJob jobs[3];
  int64_t column = 0;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const bool is_gated = q_gate_ && i == 0;
    const MatView y{qkv.data + column, qkv.rows, inputs_[i].rows(), qkv.stride};
    jobs[i] = {&inputs_[i], is_gated ? gated : y, input_biases_[i].empty() ? nullptr : input_biases_[i].data()};
    column += is_gated ? q_width() : inputs_[i].rows();
  }
  step.activations->set(x);
  const size_t first = with_queries || inputs_.size() == 1 ? 0 : 1;
  kernels::matmul({jobs + first, inputs_.size() - first}, *step.activations, step.n_threads);
}

// Queries out of [query, gate] pairs.
void AttentionMixer::split_gates(const StepContext& step, MatView gated, MatView qkv) const {
  for_rows(step.n_threads, qkv.rows, [&](int64_t row) {
    for (int64_t head = 0; head < n_heads_; ++head) {
      const float* q = gated.row(row) + head * 2 * k_dim_;
      std::copy(q, q + k_dim_, qkv.row(row) + head * k_dim_);
    }
  });
}

void AttentionMixer::apply_gates(const StepContext& step, MatView gated, MatView o) const {
  for_rows(step.n_threads, o.rows, [&](int64_t row) {
    for (int64_t head = 0; head < n_heads_; ++head) {
      const float* gate = gated.row(row) + head * 2 * k_dim_ + k_dim_;
      float* out = o.row(row) + head * v_dim_;
      for (int64_t i = 0; i < v_dim_; ++i) out[i] /= 1.0F + std::exp(-gate[i]);
    }
  });
}

void AttentionMixer::norm_heads(const std::vector<float>& weight, float* row, int64_t n_heads) const {
  if (weight.empty()) return;
  const int64_t width = head_norms_ ? k_dim_ : static_cast<int64_t>(weight.size());
  const int64_t groups = n_heads * k_dim_ / width;  // 1 when the norm spans the row
  for (int64_t g = 0; g < groups; ++g) {
    float* part = row + g * width;
    const float* w = weight.data() + (head_norms_ ? g * width : 0);
    if (norm_kind_ == NormKind::kRms) {
      kernels::rms_norm(part, w, width, eps_, part);
    } else {
      kernels::layer_norm(part, w, nullptr, width, eps_, part);
    }
  }
}

// Keys of all rows, queries of the last `asking`.
void AttentionMixer::norm_and_rotate(const StepContext& step, MatView qkv, int64_t asking) const {
  const auto prepare = [&](const std::vector<float>& norm, float* heads, int64_t n, int64_t row) {
    norm_heads(norm, heads, n);
    if (rope_ < 0) return;
    const float* table = step.rope_tables[static_cast<size_t>(rope_)].data() + row * n_rot_;
    kernels::rope(heads, n, k_dim_, n_rot_, table, neox_);
  };
  for_rows(step.n_threads, qkv.rows, [&](int64_t row) {
    if (row >= qkv.rows - asking) prepare(q_norm_, qkv.row(row), n_heads_, row);
    prepare(k_norm_, qkv.row(row) + q_width(), n_kv_heads_, row);
  });
}

// The batch's keys and values into the cache; blocks that it fills are sealed.
void AttentionMixer::encode(storage::LayerState& state, const StepContext& step, const attention::KvLayout& layout,
                            MatView qkv) const {
  constexpr int64_t kBlock = storage::kBlockTokens;
  storage::Region& kv = state.regions[0];
  storage::Region* open = layout.is_sealed() ? &state.regions[1] : nullptr;
  for_rows(step.n_threads, qkv.rows, [&](int64_t row) {
    const int64_t at = step.pos0 + row;
    const float* k = qkv.row(row) + q_width();
    if (open == nullptr) {
      attention::encode_kv(layout, k, k + k_width(), at % kBlock, kv.block(at / kBlock));
    } else {
      attention::encode_open(layout, k, k + k_width(), at % kBlock, open->block(at / kBlock));
    }
  });
  if (open == nullptr) return;
  const int64_t first = step.pos0 / kBlock;
  for_rows(step.n_threads, (step.pos0 + qkv.rows) / kBlock - first,
           [&](int64_t i) { attention::seal_kv(layout, first + i, open->block(first + i), kv.block(first + i)); });
}

// What is kept of the blocks that the batch fills.
Status AttentionMixer::make_index(storage::LayerState& state, const StepContext& step, int64_t rows) const {
  const auto kept = summaries(step.cache, rotary(step));
  if (kept.is_empty()) return {};
  LCRUN_TRY(kept.reserve(state, step.pos0 + rows));
  const int64_t first = step.pos0 / storage::kBlockTokens;
  const int64_t n = (step.pos0 + rows) / storage::kBlockTokens - first;
  parallel_for(n > 1 ? step.n_threads : 1, n, [&](int64_t i, int) {
    kept.make_rows(first + i, std::as_const(state.regions[0]).block(first + i), state);
  });
  return {};
}

Status AttentionMixer::rebuild_index(storage::LayerState& state, const StepContext& step, int64_t tokens) const {
  const auto kept = summaries(step.cache, rotary(step));
  if (kept.is_empty()) return {};
  LCRUN_TRY(kept.reserve(state, tokens));
  for (int64_t b = 0; b < tokens / storage::kBlockTokens; ++b) {
    LCRUN_ASSIGN(const auto block, state.regions[0].read_block(b));
    kept.make_rows(b, block.data(), state);
  }
  kept.commit(state, tokens);
  return {};
}

// To whoever looks on at layers that see everything: windows say nothing of a long text.
Status AttentionMixer::show(storage::LayerState& state, const StepContext& step, const attention::AttnParams& p,
                            const attention::Reading& reading, const attention::TilePlan& plan, MatView q,
                            int64_t pos0) const {
  if (window_ > 0) return {};
  storage::Region& kv = state.regions[0];
  const bool is_chosen = reading.role == attention::Role::kSelect;
  const bool is_moved = reading.role == attention::Role::kDense ? reading.positions.moves()
                                                                : reading.positions.kind != attention::Positions::kTrue;
  for (attention::PlanObserver* observer : step.observers) {
    LCRUN_TRY(observer->observe({layer_, is_chosen, is_moved, reading.gone_until > 0, p, kv, plan, pos0, q}));
  }
  if (step.probe == nullptr || !step.probe->wants(step.layer, pos0, q.rows)) return {};
  return step.probe->observe(step.layer, p, kv, plan, pos0, q);
}

// The rows' attention as the session's policy has it: all of them alike.
Status AttentionMixer::attend(storage::LayerState& state, const StepContext& step, const attention::AttnParams& p,
                              MatView q, int64_t pos0, MatView o) const {
  using attention::Role;
  storage::Region& kv = state.regions[0];
  Workspace& scratch = *step.scratch;
  const bool chooses = window_ == 0 && step.cache.attention != nullptr;
  attention::Reading reading =
      chooses ? step.cache.attention->reading(step.pos0, step.asks, layer_) : attention::Reading();
  const attention::Slide& slide = step.cache.slide;
  if (window_ == 0) reading = slide.past_end(reading, step.pos0);
  if (reading.role == Role::kSelect) return attend_chosen(state, step, p, reading, q, pos0, o);
  if (reading.role == Role::kStream) {
    const auto plan = attention::plan_stream(reading, pos0, q.rows, scratch);
    count(step, plan, p, q.rows);
    LCRUN_TRY(attention::execute(p, kv, plan, pos0, q, o, scratch, step.n_threads));
    return show(state, step, p, reading, plan, q, pos0);
  }
  if (reading.positions.moves()) return attend_everything(state, step, p, reading, q, pos0, o);
  // Dense, but for what was dropped.
  const attention::Segment segments[] = {{0, slide.sinks, reading.gone_until - slide.sinks},
                                         {reading.gone_until, pos0 + q.rows}};
  const bool has_sinks = reading.gone_until > 0 && slide.sinks > 0;
  const attention::Plan plan{has_sinks ? std::span(segments) : std::span(segments).last(1)};
  if (reading.gone_until == 0) {
    LCRUN_TRY(attention::attend(p, kv, pos0, q, o, scratch, step.n_threads));
  } else {
    LCRUN_TRY(attention::execute(p, kv, plan, pos0, q, o, scratch, step.n_threads));
  }
  const attention::PlanTile tile{0, q.rows, -1, plan.segments};
  return show(state, step, p, reading, {{&tile, 1}}, q, pos0);
}

// Everything, but not where it is: queries of a block of 64 alike.
Status AttentionMixer::attend_everything(storage::LayerState& state, const StepContext& step,
                                         const attention::AttnParams& p, const attention::Reading& reading, MatView q,
                                         int64_t pos0, MatView o) const {
  constexpr int64_t kBlock = storage::kBlockTokens;
  Workspace& scratch = *step.scratch;
  const size_t mark = scratch.mark();
  for (int64_t row = 0; row < q.rows;) {
    const int64_t pos = pos0 + row;
    const int64_t n = std::min(q.rows - row, (pos / kBlock + 1) * kBlock - pos);
    const MatView queries{q.row(row), n, q.cols, q.stride};
    const MatView out{o.row(row), n, o.cols, o.stride};
    const attention::Plan plan{attention::plan_everything(reading, step.cache.slide, pos + n, scratch)};
    LCRUN_TRY(attention::execute(p, state.regions[0], plan, pos, queries, out, scratch, step.n_threads));
    const attention::PlanTile tile{0, n, -1, plan.segments};
    LCRUN_TRY(show(state, step, p, reading, {{&tile, 1}}, queries, pos));
    scratch.release(mark);
    row += n;
  }
  return {};
}

// As the leader of these queries has chosen, which the first of them may be.
Result<attention::TilePlan> AttentionMixer::follow(storage::LayerState& state, const StepContext& step,
                                                   const attention::AttnParams& p, const attention::Reading& reading,
                                                   MatView q, int64_t pos0) const {
  const auto anchor = static_cast<size_t>(step.cache.attention->anchor_of(layer_));
  if (static_cast<int64_t>(anchor) != layer_) {
    return attention::plan_taken_over(reading, step.chosen[anchor], p, pos0, q.rows, *step.scratch);
  }
  const int64_t leader = step.led->leader_of(pos0);
  attention::ChosenBlocks& chosen = step.led->layer(layer_);
  if (leader == pos0) {
    chosen.begin(leader);
    const size_t mark = step.scratch->mark();
    LCRUN_TRY(choose(state, step, p, reading, {q.row(0), 1, q.cols, q.stride}, pos0, &chosen));
    step.scratch->release(mark);
  }
  if (!step.chosen.empty() && step.chosen[anchor].bytes() > 0) {
    for (int64_t scope = 0; scope < attention::scopes_of(reading, p); ++scope) {
      for (int64_t i = 0; i < q.rows; ++i) step.chosen[anchor].put(pos0 + i, scope, chosen.at(leader, scope));
    }
  }
  return attention::plan_taken_over(reading, chosen, p, pos0, q.rows, *step.scratch, leader);
}

// By this layer's index or keys, or as the layer has chosen whose choice it takes over.
Result<attention::TilePlan> AttentionMixer::choose(storage::LayerState& state, const StepContext& step,
                                                   const attention::AttnParams& p, const attention::Reading& reading,
                                                   MatView q, int64_t pos0, attention::ChosenBlocks* keep) const {
  const auto anchor = static_cast<size_t>(step.cache.attention->anchor_of(layer_));
  if (static_cast<int64_t>(anchor) != layer_) {
    return attention::plan_taken_over(reading, step.chosen[anchor], p, pos0, q.rows, *step.scratch);
  }
  const auto start = std::chrono::steady_clock::now();
  attention::SelectionExtras extras{.keep = keep, .keys = &state.regions[0], .forced = step.forced_blocks};
  if (keep == nullptr && !step.chosen.empty() && step.chosen[anchor].bytes() > 0) extras.keep = &step.chosen[anchor];
  const auto kept = summaries(step.cache, p.rotary);
  attention::IndexOfLayer index;
  if (kept.index()) index = {&*kept.index(), &kept.index_rows(state)};
  if (kept.coarse()) extras.coarse.emplace(*kept.coarse(), kept.coarse_rows(state));
  LCRUN_ASSIGN(const auto plan,
               attention::plan_selection(reading, index, p, pos0, q, *step.scratch, step.n_threads, extras));
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  step.stats->selector_seconds += taken.count();
  const attention::BlockIndex* coarse = kept.coarse() ? &*kept.coarse() : nullptr;
  if (reading.needs_index()) {
    step.stats->scanned_bytes += attention::scanned_bytes(reading, *index.index, coarse, pos0, q.rows);
  }
  step.stats->scanned_bytes += extras.looked_at * static_cast<int64_t>(p.layout.head_bytes() / 2);
  return plan;
}

Status AttentionMixer::attend_chosen(storage::LayerState& state, const StepContext& step,
                                     const attention::AttnParams& p, const attention::Reading& reading, MatView q,
                                     int64_t pos0, MatView o) const {
  Workspace& scratch = *step.scratch;
  const size_t mark = scratch.mark();
  constexpr int64_t kBlock = storage::kBlockTokens;
  const auto kept = summaries(step.cache, p.rotary);
  std::optional<attention::RemainderTerm> rest;
  if (reading.has_remainder()) rest.emplace(reading, *kept.means(), kept.mean_rows(state), p);
  for (int64_t row = 0, n = 0; row < q.rows; row += n) {
    const bool follows = step.led != nullptr;
    int64_t most = reading.is_by_tile() ? kBlock - (pos0 + row) % kBlock : attention::kAskQueries;
    if (follows) most = std::min(most, step.led->end_of(pos0 + row) - pos0 - row);
    n = std::min(most, q.rows - row);
    const MatView queries{q.row(row), n, q.cols, q.stride};
    LCRUN_ASSIGN(const auto plan, follows ? follow(state, step, p, reading, queries, pos0 + row)
                                          : choose(state, step, p, reading, queries, pos0 + row));
    count(step, plan, p, n);
    const MatView out{o.row(row), n, o.cols, o.stride};
    LCRUN_TRY(attention::execute(p, state.regions[0], plan, pos0 + row, queries, out, scratch, step.n_threads,
                                 rest.has_value() ? &*rest : nullptr));
    if (rest.has_value()) step.stats->scanned_bytes += rest->bytes_read(pos0 + row + n - 1);
    LCRUN_TRY(show(state, step, p, reading, plan, queries, pos0 + row));
    scratch.release(mark);
  }
  return {};
}

Status AttentionMixer::forward(storage::LayerState& state, const StepContext& step, MatView x, MatView out) const {
  Workspace& scratch = *step.scratch;
  const size_t mark = scratch.mark();
  const int64_t rows = x.rows;
  attention::AttnParams p = params(step.cache);
  p.rotary = rotary(step);
  for (storage::Region& region : state.regions) {
    if (region.spec().kind != storage::RegionKind::kIndex) LCRUN_TRY(region.reserve_rows(rows));
  }
  if (p.layout.is_sealed()) p.open = &state.regions[1];

  const MatView qkv{scratch.take<float>(rows * qkv_width()).data(), rows, qkv_width(), qkv_width()};
  MatView gated;
  if (q_gate_) gated = {scratch.take<float>(rows * 2 * q_width()).data(), rows, 2 * q_width(), 2 * q_width()};
  const int64_t asking = out.rows;  // the last rows; the others leave keys and values alone
  project(step, x, qkv, gated, asking > 0);
  if (q_gate_ && asking > 0) split_gates(step, gated, qkv);
  norm_and_rotate(step, qkv, asking);
  encode(state, step, p.layout, qkv);
  LCRUN_TRY(make_index(state, step, rows));
  if (asking == 0) {
    scratch.release(mark);
    return {};
  }
  const MatView o{scratch.take<float>(asking * out_width()).data(), asking, out_width(), out_width()};
  const MatView q = last_rows({qkv.data, rows, q_width(), qkv.stride}, asking);
  LCRUN_TRY(attend(state, step, p, q, step.pos0 + rows - asking, o));
  if (q_gate_) apply_gates(step, last_rows(gated, asking), o);
  step.activations->set(o);
  const kernels::MatmulJob job{&output_, out, output_bias_.empty() ? nullptr : output_bias_.data()};
  kernels::matmul({&job, 1}, *step.activations, step.n_threads);
  scratch.release(mark);
  return {};
}

}  // namespace

extern const MixerSpec kMixer_attention;
const MixerSpec kMixer_attention{"attention", AttentionMixer::create};

}  // namespace lcrun::model
