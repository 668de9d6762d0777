// Metadata into RefConfig. The table states, per architecture, what is not in the keys.
#include "tests/support/reference_config.hpp"

#include <array>
#include <cmath>
#include <stdexcept>
#include <string_view>

namespace lcrun::testing {
namespace {

struct Traits {
  std::string_view name;
  bool neox = false;
  bool layer_norm = false;
  bool gelu = false;
  bool scaled_embedding = false;  // embeddings times sqrt(d_model)
  int period = -1;                // window layers: all but the last of each period; 0: all; -1: no windows
  bool normalize = false;         // chosen expert weights sum to one
  bool ffn_norm_is_post_attention = false;
};

constexpr std::array kTraits = {
    Traits{.name = "llama", .normalize = true},
    Traits{.name = "smollm3"},
    Traits{.name = "qwen2", .neox = true},
    Traits{.name = "qwen3", .neox = true},
    Traits{.name = "qwen3moe", .neox = true, .normalize = true},
    Traits{.name = "qwen2moe", .neox = true},
    Traits{.name = "gemma", .neox = true, .gelu = true, .scaled_embedding = true},
    Traits{.name = "gemma2", .neox = true, .gelu = true, .scaled_embedding = true, .period = 2},
    Traits{.name = "gemma3", .neox = true, .gelu = true, .scaled_embedding = true, .period = 6},
    Traits{.name = "phi3", .neox = true, .period = 0},
    Traits{.name = "granite", .normalize = true},
    Traits{.name = "granitemoe", .normalize = true},
    Traits{.name = "olmo2", .neox = true, .period = 4},
    Traits{.name = "olmoe", .neox = true},
    Traits{.name = "starcoder2", .neox = true, .layer_norm = true, .gelu = true},
    Traits{.name = "stablelm", .neox = true, .layer_norm = true},
    Traits{.name = "internlm2"},
    Traits{.name = "glm4"},
    Traits{.name = "cohere2", .layer_norm = true, .period = 4},
    Traits{.name = "gpt-oss", .neox = true, .period = 2, .ffn_norm_is_post_attention = true},
    Traits{.name = "mamba2"},
    Traits{.name = "qwen3next", .neox = true, .normalize = true, .ffn_norm_is_post_attention = true},
    Traits{.name = "qwen35", .neox = true, .ffn_norm_is_post_attention = true},
    Traits{.name = "qwen35moe", .neox = true, .normalize = true, .ffn_norm_is_post_attention = true},
    Traits{.name = "minicpm"},
};

class Reader {
 public:
  Reader(const ggufish::ModelFile& file, std::string arch) : meta_(file.meta()), arch_(std::move(arch)) {}

  bool has(const std::string& suffix) const { return meta_.has(arch_ + "." + suffix); }
  double number(const std::string& suffix, double fallback) const {
    return check(meta_.float_or(arch_ + "." + suffix, fallback));
  }
  int64_t integer(const std::string& suffix, int64_t fallback) const {
    return check(meta_.int_or(arch_ + "." + suffix, fallback));
  }
  // One value per layer, from a scalar or an array.
  std::vector<int64_t> per_layer(const std::string& suffix, int64_t n, int64_t fallback) const {
    const std::string key = arch_ + "." + suffix;
    if (meta_.has(key) && meta_.is_array(key)) return check(meta_.get_ints(key));
    return std::vector<int64_t>(static_cast<size_t>(n), integer(suffix, fallback));
  }
  bool is_array(const std::string& suffix) const { return has(suffix) && meta_.is_array(arch_ + "." + suffix); }
  std::string text(const std::string& suffix) const {
    return has(suffix) ? std::string(check(meta_.get_string(arch_ + "." + suffix))) : std::string();
  }
  bool flag(const std::string& suffix, bool fallback) const {
    return check(meta_.bool_or(arch_ + "." + suffix, fallback));
  }

 private:
  template <class T>
  static T check(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message);
    return std::move(result).value();
  }
  const ggufish::Metadata& meta_;
  std::string arch_;
};

const Traits& find_traits(const std::string& arch) {
  for (const Traits& row : kTraits) {
    if (row.name == arch) return row;
  }
  throw std::runtime_error("the reference does not know architecture " + arch);
}

void read_scales(const Reader& in, RefConfig& c) {
  const auto d = static_cast<double>(c.d_model);
  c.attn_scale = in.number("attention.scale", 0.0);
  if (c.arch == "granite" || c.arch == "granitemoe" || c.arch == "minicpm") {
    c.embed_scale = in.number("embedding_scale", 1.0);
    c.residual_scale = in.number("residual_scale", 1.0);
    c.logit_scale = 1.0 / in.number("logit_scale", 1.0);
  }
  if (c.arch == "cohere2") c.logit_scale = in.number("logit_scale", 1.0);
  if (c.arch == "gemma2") {
    c.attn_cap = in.number("attn_logit_softcapping", 50.0);
    c.logit_cap = in.number("final_logit_softcapping", 30.0);
  }
  if (c.arch == "gemma2" && c.n_layers == 46) {
    c.attn_scale = 1.0 / std::sqrt(d / static_cast<double>(in.integer("attention.head_count", 1)));
  }
  if (c.arch == "gemma3") c.logit_cap = in.number("final_logit_softcapping", 0.0);
}

void read_rope(const ggufish::ModelFile& file, const Reader& in, RefConfig& c) {
  c.n_rot = in.integer("rope.dimension_count", c.k_dim);
  const std::string type = in.text("rope.scaling.type");
  c.rope_factor = in.number("rope.scaling.factor", 1.0);
  c.rope_ctx = in.number("rope.scaling.original_context_length", in.number("context_length", 0.0));
  c.rope_magnitude = in.number("rope.scaling.attn_factor", 1.0);
  if (type == "yarn") c.scaling = RefScaling::kYarn;
  if ((type.empty() || type == "linear") && c.rope_factor != 1.0) c.scaling = RefScaling::kLinear;
  if (file.find_tensor("rope_freqs.weight") != nullptr) c.rope_factors = "rope_freqs.weight";
  if (file.find_tensor("rope_factors_short.weight") != nullptr) c.rope_factors = "rope_factors_short.weight";
}

void read_experts(const Reader& in, const Traits& traits, RefConfig& c) {
  c.n_experts = in.integer("expert_count", 0);
  c.n_used = in.integer("expert_used_count", 0);
  c.normalize = traits.normalize;
  if (c.arch == "gpt-oss") {
    c.gate = RefGate::kSoftmaxOfChosen;
    c.oai_swiglu = true;
  }
}

// Is layer i a window layer, by the pattern key or the architecture's period?
bool is_local(const Reader& in, const Traits& traits, int64_t i) {
  const std::string suffix = "attention.sliding_window_pattern";
  if (in.is_array(suffix)) return in.per_layer(suffix, 0, 0)[static_cast<size_t>(i)] != 0;
  const int64_t period = in.integer(suffix, traits.period);
  return period == 0 || i % period < period - 1;
}

void read_layers(const Reader& in, const Traits& traits, RefConfig& c) {
  const std::vector<int64_t> heads = in.per_layer("attention.head_count", c.n_layers, 0);
  const std::vector<int64_t> kv_heads = in.per_layer("attention.head_count_kv", c.n_layers, heads[0]);
  const int64_t window = in.integer("attention.sliding_window", c.arch == "gemma2" ? 4096 : 0);
  const double base = in.number("rope.freq_base", 10000.0);
  const bool granite_nope = !in.flag("rope.scaling.finetuned", true) && c.arch.starts_with("granite");
  for (int64_t i = 0; i < c.n_layers; ++i) {
    RefLayer layer;
    layer.n_heads = heads[static_cast<size_t>(i)];
    layer.n_kv_heads = kv_heads[static_cast<size_t>(i)];
    layer.rope_base = base;
    const bool local = traits.period >= 0 && window > 0 && is_local(in, traits, i);
    if (local) layer.window = window;
    if (local && c.arch == "gemma3") {
      layer.rope_base = in.number("rope.freq_base_swa", 10000.0);
      layer.rope_scaled = false;
    }
    if (local && c.arch == "olmo2") layer.rope_scaled = false;
    if (c.arch == "cohere2") layer.rope = local;
    if (c.arch == "smollm3") layer.rope = (i + 1) % 4 != 0;
    if (granite_nope) layer.rope = false;
    if (c.arch == "mamba2") layer.attends = false;
    if (c.arch == "qwen3next" || c.arch.starts_with("qwen35")) {
      layer.attends = (i + 1) % in.integer("full_attention_interval", 4) == 0;
    }
    c.layers.push_back(layer);
  }
}

}  // namespace

RefConfig read_reference_config(const ggufish::ModelFile& file) {
  RefConfig c;
  const auto arch = file.meta().get_string("general.architecture");
  if (!arch) throw std::runtime_error(arch.error().message);
  c.arch = std::string(*arch);
  const Traits& traits = find_traits(c.arch);
  const Reader in(file, c.arch);
  c.n_layers = in.integer("block_count", 0);
  c.d_model = in.integer("embedding_length", 0);
  c.neox = traits.neox;
  c.layer_norm = traits.layer_norm;
  c.eps = in.number(c.layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", 1e-5);
  c.gelu = traits.gelu;
  if (traits.scaled_embedding) c.embed_scale = std::sqrt(static_cast<double>(c.d_model));
  if (traits.ffn_norm_is_post_attention) c.ffn_norm = "post_attention_norm";
  c.parallel = c.arch == "cohere2" || (c.arch == "stablelm" && file.find_tensor("blk.0.ffn_norm.weight") == nullptr);
  c.qk_norm_full = c.arch == "olmo2" || c.arch == "olmoe";
  c.q_gate = c.arch == "qwen3next" || c.arch.starts_with("qwen35");
  c.tile_keys = c.arch.starts_with("qwen35");
  c.tied = file.find_tensor("output.weight") == nullptr;
  const int64_t heads = in.is_array("attention.head_count") ? 1 : in.integer("attention.head_count", 1);
  c.k_dim = in.integer("attention.key_length", c.d_model / heads);
  c.v_dim = in.integer("attention.value_length", c.d_model / heads);
  read_scales(in, c);
  read_rope(file, in, c);
  read_experts(in, traits, c);
  read_layers(in, traits, c);
  c.conv_kernel = in.integer("ssm.conv_kernel", 0);
  c.inner = in.integer("ssm.inner_size", 0);
  c.state = in.integer("ssm.state_size", 0);
  c.groups = in.integer("ssm.group_count", 0);
  c.ssm_heads = in.integer("ssm.time_step_rank", 0);
  return c;
}

}  // namespace lcrun::testing
