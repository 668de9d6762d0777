// From a row of tiny_arch.hpp to keys and tensors. Spreads are chosen so that logits come out of order one.
#include <cmath>
#include <stdexcept>

#include "src/base/format.hpp"
#include "tests/support/tiny_arch.hpp"
#include "tests/support/tiny_model.hpp"
#include "tests/support/tiny_vocab.hpp"

namespace lcrun::testing {
namespace {

constexpr int64_t kConvKernel = 4;
constexpr int64_t kDeltaHeadDim = 16;
constexpr int64_t kDeltaKeyHeads = 2;
constexpr int64_t kDeltaValueHeads = 4;
constexpr int64_t kMambaGroups = 2;
constexpr int64_t kMambaState = 16;
constexpr int64_t kMambaHeads = 4;

uint32_t u32(int64_t value) { return static_cast<uint32_t>(value); }

class Builder {
 public:
  Builder(const TinyOptions& options, const TinyArch& arch) : o_(options), a_(arch) { recipe_.seed = options.seed; }

  TinyRecipe build() {
    common_keys();
    rope_keys();
    special_keys();
    add_tiny_vocab(recipe_);
    global_tensors();
    for (int64_t layer = 0; layer < o_.n_layers; ++layer) layer_tensors(layer);
    return std::move(recipe_);
  }

 private:
  bool is_recurrent(int64_t layer) const {
    return a_.mixer == TinyMixer::kMamba2 || (a_.mixer == TinyMixer::kDelta && (layer + 1) % 4 != 0);
  }
  bool has_experts() const { return a_.moe || o_.moe; }

  void key(const std::string& suffix, TinyValue value) {
    recipe_.keys.push_back({std::string(a_.name) + "." + suffix, std::move(value)});
  }

  void common_keys() {
    recipe_.keys.push_back({"general.architecture", std::string(a_.name)});
    recipe_.keys.push_back({"general.name", std::string("tiny ") + a_.name});
    key("block_count", u32(o_.n_layers));
    key("context_length", uint32_t{4096});
    key("embedding_length", u32(o_.d_model));
    key(a_.layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", 1e-5F);
    if (a_.mixer != TinyMixer::kMamba2) {
      key("feed_forward_length", u32(o_.d_ff));
      key("attention.head_count", u32(o_.n_heads));
      key("attention.head_count_kv", u32(o_.n_kv_heads));
      key("attention.key_length", u32(o_.head_dim));
      key("attention.value_length", u32(o_.head_dim));
      key("rope.dimension_count", u32(a_.half_rope ? o_.head_dim / 2 : o_.head_dim));
    }
    if (has_experts()) expert_keys();
    if (a_.window_pattern > 0) key("attention.sliding_window", u32(o_.window));
  }

  void expert_keys() {
    key("expert_count", u32(o_.n_experts));
    key("expert_used_count", u32(o_.n_experts_used));
    const std::string name = a_.name;
    if (name != "llama" && name != "olmoe" && name != "granitemoe") key("expert_feed_forward_length", u32(o_.d_ff));
    if (a_.shared_expert) key("expert_shared_feed_forward_length", u32(o_.d_ff));
  }

  void rope_keys() {
    switch (o_.rope) {
      case TinyRope::kPlain:
      case TinyRope::kFactors:
        return;
      case TinyRope::kLinear:
        key("rope.scaling.type", std::string("linear"));
        key("rope.scaling.factor", 4.0F);
        return;
      case TinyRope::kYarn:
        key("rope.scaling.type", std::string("yarn"));
        key("rope.scaling.factor", 8.0F);
        key("rope.scaling.original_context_length", uint32_t{64});
        return;
    }
  }

  void special_keys() {
    for (const TinyFloat& row : tiny_float_keys()) {
      if (std::string_view(row.arch) == a_.name) key(row.suffix, row.value);
    }
    if (a_.mixer == TinyMixer::kMamba2) ssm_keys(2 * o_.d_model, kMambaState, kMambaGroups, kMambaHeads);
    if (a_.mixer == TinyMixer::kDelta) {
      ssm_keys(kDeltaHeadDim * kDeltaValueHeads, kDeltaHeadDim, kDeltaKeyHeads, kDeltaValueHeads);
    }
    if (std::string_view(a_.name).starts_with("qwen35")) {
      key("rope.dimension_sections", std::vector<int32_t>{2, 1, 1, 0});
    }
    if (std::string_view(a_.name) == "phi3") key("rope.scaling.original_context_length", uint32_t{4096});
  }

  void ssm_keys(int64_t inner, int64_t state, int64_t groups, int64_t heads) {
    key("ssm.conv_kernel", u32(kConvKernel));
    key("ssm.inner_size", u32(inner));
    key("ssm.state_size", u32(state));
    key("ssm.group_count", u32(groups));
    key("ssm.time_step_rank", u32(heads));
  }

  void add(TinyTensor tensor) { recipe_.tensors.push_back(std::move(tensor)); }
  void matrix(const std::string& name, int64_t cols, int64_t rows, double gain = 1.0) {
    add({.name = name,
         .ne = {cols, rows},
         .dtype = o_.matrix_type,
         .spread = gain / std::sqrt(static_cast<double>(cols))});
  }
  // Never quantised: routers, convolutions.
  void f32(const std::string& name, std::vector<int64_t> ne, double mean, double spread) {
    add({.name = name, .ne = std::move(ne), .mean = mean, .spread = spread});
  }
  void norm(const std::string& name, int64_t n) {
    f32(name + ".weight", {n}, 1.0, 0.2);
    if (a_.norm_bias) f32(name + ".bias", {n}, 0.0, 0.2);
  }

  void global_tensors() {
    const bool tied = !a_.own_output || (o_.tied_output && a_.output_optional);
    const double width = std::sqrt(static_cast<double>(o_.d_model));
    add({.name = "token_embd.weight",
         .ne = {o_.d_model, kTinyVocab},
         .dtype = o_.matrix_type,
         .spread = tied ? 1.0 / width : 1.0});
    norm("output_norm", o_.d_model);
    if (!tied) matrix("output.weight", o_.d_model, kTinyVocab);
    if (o_.rope == TinyRope::kFactors) {
      add({.name = "rope_freqs.weight", .ne = {o_.head_dim / 2}, .mean = 1.0, .spread = 7.0, .uniform = true});
    }
    if (std::string_view(a_.name) == "phi3") {
      add({.name = "rope_factors_long.weight", .ne = {o_.head_dim / 2}, .mean = 1, .spread = 9, .uniform = true});
      add({.name = "rope_factors_short.weight", .ne = {o_.head_dim / 2}, .mean = 1, .spread = 1, .uniform = true});
    }
  }

  void layer_tensors(int64_t layer) {
    const std::string p = format("blk.{}.", layer);
    if (a_.attn_norm) norm(p + "attn_norm", o_.d_model);
    if (a_.mixer == TinyMixer::kMamba2) {
      mamba2_tensors(p);
    } else if (is_recurrent(layer)) {
      delta_tensors(p);
    } else {
      attention_tensors(p);
    }
    if (a_.ffn_norm != nullptr) norm(p + a_.ffn_norm, o_.d_model);
    if (a_.post_norms) {
      norm(p + "post_attention_norm", o_.d_model);
      norm(p + "post_ffw_norm", o_.d_model);
    }
    if (has_experts()) {
      expert_tensors(p);
    } else {
      ffn_tensors(p);
    }
  }

  void attention_tensors(const std::string& p) {
    const int64_t q = o_.n_heads * o_.head_dim * (a_.q_gate ? 2 : 1);
    const int64_t kv = o_.n_kv_heads * o_.head_dim;
    if (a_.fused_qkv) {
      matrix(p + "attn_qkv.weight", o_.d_model, q + 2 * kv, 1.3);
    } else {
      matrix(p + "attn_q.weight", o_.d_model, q, 1.5);
      matrix(p + "attn_k.weight", o_.d_model, kv, 1.5);
      matrix(p + "attn_v.weight", o_.d_model, kv);
    }
    matrix(p + "attn_output.weight", o_.n_heads * o_.head_dim, o_.d_model);
    if (a_.qkv_bias || o_.extra_biases) {
      f32(p + "attn_q.bias", {q}, 0.0, 0.3);
      f32(p + "attn_k.bias", {kv}, 0.0, 0.3);
      f32(p + "attn_v.bias", {kv}, 0.0, 0.3);
    }
    if (a_.out_bias || o_.extra_biases) f32(p + "attn_output.bias", {o_.d_model}, 0.0, 0.3);
    if (a_.sinks) f32(p + "attn_sinks.weight", {o_.n_heads}, 0.0, 1.0);
    qk_norm_tensors(p);
  }

  void qk_norm_tensors(const std::string& p) {
    std::vector<int64_t> q;
    std::vector<int64_t> k;
    switch (a_.qk_norm) {
      case TinyQkNorm::kNone:
        return;
      case TinyQkNorm::kHead:
        q = k = {o_.head_dim};
        break;
      case TinyQkNorm::kFull:
        q = {o_.n_heads * o_.head_dim}, k = {o_.n_kv_heads * o_.head_dim};
        break;
      case TinyQkNorm::kEach:
        q = {o_.head_dim, o_.n_heads}, k = {o_.head_dim, o_.n_kv_heads};
        break;
    }
    f32(p + "attn_q_norm.weight", q, 1.0, 0.2);
    f32(p + "attn_k_norm.weight", k, 1.0, 0.2);
  }

  void ffn_tensors(const std::string& p) {
    if (a_.ffn == TinyFfn::kNone) return;
    const int64_t up = a_.ffn == TinyFfn::kFusedGateUp ? 2 * o_.d_ff : o_.d_ff;
    if (a_.ffn == TinyFfn::kGated) matrix(p + "ffn_gate.weight", o_.d_model, o_.d_ff);
    matrix(p + "ffn_up.weight", o_.d_model, up);
    matrix(p + "ffn_down.weight", o_.d_ff, o_.d_model, 1.5);
    if (!a_.ffn_bias && !o_.extra_biases) return;
    if (a_.ffn == TinyFfn::kGated) f32(p + "ffn_gate.bias", {o_.d_ff}, 0.0, 0.3);
    f32(p + "ffn_up.bias", {up}, 0.0, 0.3);
    f32(p + "ffn_down.bias", {o_.d_model}, 0.0, 0.3);
  }

  void experts(const std::string& name, int64_t cols, int64_t rows, double gain = 1.0) {
    add({.name = name + ".weight",
         .ne = {cols, rows, o_.n_experts},
         .dtype = o_.expert_type,
         .spread = gain / std::sqrt(static_cast<double>(cols))});
    if (a_.expert_bias) f32(name + ".bias", {rows, o_.n_experts}, 0.0, 0.3);
  }

  void expert_tensors(const std::string& p) {
    f32(p + "ffn_gate_inp.weight", {o_.d_model, o_.n_experts}, 0.0, 1.5 / std::sqrt(static_cast<double>(o_.d_model)));
    if (a_.expert_bias) f32(p + "ffn_gate_inp.bias", {o_.n_experts}, 0.0, 0.3);
    experts(p + "ffn_gate_exps", o_.d_model, o_.d_ff);
    experts(p + "ffn_up_exps", o_.d_model, o_.d_ff);
    experts(p + "ffn_down_exps", o_.d_ff, o_.d_model, 1.5);
    if (!a_.shared_expert) return;
    matrix(p + "ffn_gate_shexp.weight", o_.d_model, o_.d_ff);
    matrix(p + "ffn_up_shexp.weight", o_.d_model, o_.d_ff);
    matrix(p + "ffn_down_shexp.weight", o_.d_ff, o_.d_model, 1.5);
    if (a_.shared_gate) {
      f32(p + "ffn_gate_inp_shexp.weight", {o_.d_model}, 0.0, 1.0 / std::sqrt(static_cast<double>(o_.d_model)));
    }
  }

  // Decay rates and time steps of a recurrence: a in [-1.6, -0.1), dt bias in [-2, 0).
  void decay_tensors(const std::string& p, std::vector<int64_t> a_shape, int64_t heads) {
    add({.name = p + "ssm_dt.bias", .ne = {heads}, .mean = -2.0, .spread = 2.0, .uniform = true});
    add({.name = p + "ssm_a", .ne = std::move(a_shape), .mean = -1.6, .spread = 1.5, .uniform = true});
  }

  void mamba2_tensors(const std::string& p) {
    const int64_t inner = 2 * o_.d_model;
    const int64_t conv = inner + 2 * kMambaGroups * kMambaState;
    matrix(p + "ssm_in.weight", o_.d_model, inner + conv + kMambaHeads);
    f32(p + "ssm_conv1d.weight", {kConvKernel, conv}, 0.0, 0.5);
    f32(p + "ssm_conv1d.bias", {conv}, 0.0, 0.2);
    decay_tensors(p, {1, kMambaHeads}, kMambaHeads);
    f32(p + "ssm_d", {1, kMambaHeads}, 1.0, 0.2);
    f32(p + "ssm_norm.weight", {inner / kMambaGroups, kMambaGroups}, 1.0, 0.2);
    matrix(p + "ssm_out.weight", inner, o_.d_model);
  }

  void delta_tensors(const std::string& p) {
    const int64_t keys = kDeltaHeadDim * kDeltaKeyHeads;
    const int64_t values = kDeltaHeadDim * kDeltaValueHeads;
    matrix(p + "attn_qkv.weight", o_.d_model, 2 * keys + values);
    matrix(p + "attn_gate.weight", o_.d_model, values);
    f32(p + "ssm_conv1d.weight", {kConvKernel, 2 * keys + values}, 0.0, 0.5);
    decay_tensors(p, {kDeltaValueHeads}, kDeltaValueHeads);
    if (a_.split_beta_alpha) {
      matrix(p + "ssm_beta.weight", o_.d_model, kDeltaValueHeads);
      matrix(p + "ssm_alpha.weight", o_.d_model, kDeltaValueHeads);
    } else {
      matrix(p + "ssm_ba.weight", o_.d_model, 2 * kDeltaValueHeads);
    }
    f32(p + "ssm_norm.weight", {kDeltaHeadDim}, 1.0, 0.2);
    matrix(p + "ssm_out.weight", values, o_.d_model);
  }

  const TinyOptions& o_;
  const TinyArch& a_;
  TinyRecipe recipe_;
};

}  // namespace

TinyRecipe tiny_recipe(const TinyOptions& options) {
  const TinyArch* arch = find_tiny_arch(options.arch);
  if (arch == nullptr) throw std::runtime_error("no tiny recipe for " + options.arch);
  TinyOptions adjusted = options;
  if (arch->qk_norm == TinyQkNorm::kFull && arch->moe) adjusted.n_kv_heads = options.n_heads;  // OLMoE has no GQA
  return Builder(adjusted, *arch).build();
}

std::vector<std::string> tiny_archs() {
  std::vector<std::string> names;
  for (const TinyArch& row : tiny_arch_rows()) names.emplace_back(row.name);
  return names;
}

bool tiny_has_experts(std::string_view arch) {
  const TinyArch* row = find_tiny_arch(arch);
  return row != nullptr && row->moe;
}

bool tiny_is_recurrent(std::string_view arch) {
  const TinyArch* row = find_tiny_arch(arch);
  return row != nullptr && row->mixer != TinyMixer::kAttention;
}

bool tiny_has_window(std::string_view arch) {
  const TinyArch* row = find_tiny_arch(arch);
  return row != nullptr && row->window_pattern > 0;
}

}  // namespace lcrun::testing
