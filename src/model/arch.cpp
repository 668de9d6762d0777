// Reading and checking hyper-parameters; the registry of architectures.
#include "src/model/arch.hpp"

#include <cmath>

#include "src/base/format.hpp"

namespace lcrun::model {

#define LCRUN_ARCH(id) extern const ArchSpec kArch_##id;
#include "src/model/arch/archs.gen.h"
#undef LCRUN_ARCH

namespace {

const ArchSpec* const kArchs[] = {
#define LCRUN_ARCH(id) &kArch_##id,
#include "src/model/arch/archs.gen.h"
#undef LCRUN_ARCH
};

constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxExperts = 4096;
constexpr int64_t kMaxWidth = int64_t{1} << 24;

// Reads integers under one architecture's prefix, with a range.
class Keys {
 public:
  Keys(const ggufish::Metadata& meta, std::string_view arch) : meta_(meta), prefix_(std::string(arch) + ".") {}

  std::string name(std::string_view suffix) const { return prefix_ + std::string(suffix); }
  bool has(std::string_view suffix) const { return meta_.has(name(suffix)); }

  Result<int64_t> ranged(std::string_view suffix, int64_t low, int64_t high) const {
    LCRUN_ASSIGN(const int64_t value, meta_.get_int(name(suffix)));
    if (value < low || value > high) {
      return meta_.fail(name(suffix), format("{}", value), format("{} to {}", low, high));
    }
    return value;
  }
  Result<int64_t> ranged_or(std::string_view suffix, int64_t low, int64_t high, int64_t fallback) const {
    if (!has(suffix)) return fallback;
    return ranged(suffix, low, high);
  }
  Result<double> positive_or(std::string_view suffix, double fallback) const {
    LCRUN_ASSIGN(const double value, meta_.float_or(name(suffix), fallback));
    if (!std::isfinite(value) || value <= 0) {
      return meta_.fail(name(suffix), format("{}", value), "a finite number above 0");
    }
    return value;
  }
  Result<double> finite_or(std::string_view suffix, double fallback) const {
    LCRUN_ASSIGN(const double value, meta_.float_or(name(suffix), fallback));
    if (!std::isfinite(value)) return meta_.fail(name(suffix), format("{}", value), "a finite number");
    return value;
  }
  // A scalar for all layers, or an array with one value per layer.
  Result<std::vector<int64_t>> per_layer(std::string_view suffix, int64_t n, int64_t low, int64_t high) const {
    const std::string key = name(suffix);
    if (!meta_.is_array(key)) {
      LCRUN_ASSIGN(const int64_t value, ranged(suffix, low, high));
      return std::vector<int64_t>(static_cast<size_t>(n), value);
    }
    LCRUN_ASSIGN(auto values, meta_.get_ints(key));
    if (static_cast<int64_t>(values.size()) != n) {
      return meta_.fail(key, format("{} values", values.size()), format("{}, one per layer", n));
    }
    for (const int64_t value : values) {
      if (value < low || value > high) return meta_.fail(key, format("{}", value), format("{} to {}", low, high));
    }
    return values;
  }
  const ggufish::Metadata& meta() const { return meta_; }

 private:
  const ggufish::Metadata& meta_;
  std::string prefix_;
};

Status read_heads(const Keys& keys, ModelConfig& config) {
  const int64_t n = config.n_layers;
  if (!keys.has("attention.head_count")) return {};  // a model without attention (mamba2)
  // 0 heads mark layers without attention in hybrid models; a mixer that needs heads refuses 0 itself.
  LCRUN_ASSIGN(const auto heads, keys.per_layer("attention.head_count", n, 0, kMaxHeads));
  auto kv_heads = heads;
  if (keys.has("attention.head_count_kv")) {
    LCRUN_ASSIGN(kv_heads, keys.per_layer("attention.head_count_kv", n, 0, kMaxHeads));
  }
  int64_t most = 0;
  for (const int64_t h : heads) most = std::max(most, h);
  const int64_t fallback = most > 0 ? config.d_model / most : 0;
  LCRUN_ASSIGN(const int64_t k_dim, keys.ranged_or("attention.key_length", 1, kMaxHeadDim, fallback));
  LCRUN_ASSIGN(const int64_t v_dim, keys.ranged_or("attention.value_length", 1, kMaxHeadDim, k_dim));
  for (int64_t i = 0; i < n; ++i) {
    LayerConfig& layer = config.layers[static_cast<size_t>(i)];
    layer.n_heads = heads[static_cast<size_t>(i)];
    layer.n_kv_heads = kv_heads[static_cast<size_t>(i)];
    layer.k_dim = k_dim;
    layer.v_dim = v_dim;
  }
  return {};
}

Status read_rope(const Keys& keys, ModelConfig& config) {
  RopeSpec rope;
  const int64_t k_dim = config.layers.front().k_dim;
  LCRUN_ASSIGN(rope.n_rot, keys.ranged_or("rope.dimension_count", 0, kMaxHeadDim, k_dim));
  LCRUN_ASSIGN(rope.base, keys.positive_or("rope.freq_base", 10000.0));
  LCRUN_ASSIGN(rope.n_ctx_orig,
               keys.ranged_or("rope.scaling.original_context_length", 1, int64_t{1} << 40, config.n_ctx_train));
  LCRUN_ASSIGN(const double legacy_factor, keys.positive_or("rope.scale_linear", 1.0));
  LCRUN_ASSIGN(rope.factor, keys.positive_or("rope.scaling.factor", legacy_factor));
  LCRUN_ASSIGN(rope.attn_factor, keys.positive_or("rope.scaling.attn_factor", 1.0));
  LCRUN_ASSIGN(rope.yarn_ext_factor, keys.finite_or("rope.scaling.yarn_ext_factor", 1.0));
  LCRUN_ASSIGN(rope.yarn_attn_factor, keys.positive_or("rope.scaling.yarn_attn_factor", 1.0));
  LCRUN_ASSIGN(rope.yarn_beta_fast, keys.positive_or("rope.scaling.yarn_beta_fast", 32.0));
  LCRUN_ASSIGN(rope.yarn_beta_slow, keys.positive_or("rope.scaling.yarn_beta_slow", 1.0));
  std::string_view type = rope.factor != 1.0 ? "linear" : "none";
  const std::string type_key = keys.name("rope.scaling.type");
  if (keys.meta().has(type_key)) {
    LCRUN_ASSIGN(type, keys.meta().get_string(type_key));
  }
  if (type == "linear")
    rope.scaling = RopeSpec::Scaling::kLinear;
  else if (type == "yarn")
    rope.scaling = RopeSpec::Scaling::kYarn;
  else if (type != "none" && type != "longrope" && type != "llama3") {
    return make_error(Code::kUnsupported, "{}: found \"{}\", supported: none, linear, yarn, llama3, longrope", type_key,
                      type);
  }
  config.ropes.push_back(rope);
  return {};
}

Status read_moe(const Keys& keys, ModelConfig& config) {
  LCRUN_ASSIGN(config.moe.n_experts, keys.ranged_or("expert_count", 0, kMaxExperts, 0));
  if (config.moe.n_experts == 0) return {};
  LCRUN_ASSIGN(config.moe.n_used, keys.ranged("expert_used_count", 1, config.moe.n_experts));
  LCRUN_ASSIGN(config.moe.d_ff, keys.ranged_or("expert_feed_forward_length", 1, kMaxWidth, config.layers.front().d_ff));
  LCRUN_ASSIGN(config.moe.d_ff_shared, keys.ranged_or("expert_shared_feed_forward_length", 0, kMaxWidth, 0));
  LCRUN_ASSIGN(config.moe.normalize, keys.meta().bool_or(keys.name("expert_weights_norm"), false));
  LCRUN_ASSIGN(const double scale, keys.finite_or("expert_weights_scale", 1.0));
  config.moe.scale = static_cast<float>(scale);
  for (LayerConfig& layer : config.layers) layer.is_moe = layer.has_ffn = true;
  return {};
}

Status read_ssm(const Keys& keys, ModelConfig& config) {
  if (!keys.has("ssm.inner_size")) return {};
  SsmConfig& ssm = config.ssm;
  LCRUN_ASSIGN(ssm.conv_kernel, keys.ranged("ssm.conv_kernel", 1, 64));
  LCRUN_ASSIGN(ssm.d_inner, keys.ranged("ssm.inner_size", 1, kMaxWidth));
  LCRUN_ASSIGN(ssm.d_state, keys.ranged("ssm.state_size", 1, 4096));
  LCRUN_ASSIGN(ssm.n_heads, keys.ranged("ssm.time_step_rank", 1, kMaxWidth));
  LCRUN_ASSIGN(ssm.n_groups, keys.ranged_or("ssm.group_count", 1, kMaxHeads, 1));
  return {};
}

Status read_norm(const Keys& keys, ModelConfig& config) {
  // Which of the two keys a file has says which norm its architecture uses; without either we would have to guess.
  const bool layer_norm = keys.has("attention.layer_norm_epsilon") && !keys.has("attention.layer_norm_rms_epsilon");
  const std::string key = keys.name(layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon");
  config.norm = layer_norm ? NormKind::kLayer : NormKind::kRms;
  LCRUN_ASSIGN(const double eps, keys.meta().get_float(key));
  if (!(eps >= 0 && eps <= 1)) return keys.meta().fail(key, format("{}", eps), "0 to 1");
  config.norm_eps = static_cast<float>(eps);
  return {};
}

// What must hold for every model, whatever its architecture did.
Status check(const ggufish::ModelFile& file, const ModelConfig& config) {
  for (const LayerConfig& layer : config.layers) {
    if (layer.mixer != "attention") continue;
    if (layer.n_heads < 1 || layer.n_kv_heads < 1 || layer.n_heads % layer.n_kv_heads != 0) {
      return file.meta().fail(arch_key(config, "attention.head_count"),
                              format("{} heads, {} kv heads", layer.n_heads, layer.n_kv_heads),
                              "at least 1, and heads a multiple of kv heads");
    }
    if (layer.k_dim < 1 || layer.v_dim < 1) {
      return file.meta().fail(arch_key(config, "attention.key_length"), format("{}", layer.k_dim), "at least 1");
    }
    if (layer.rope >= static_cast<int32_t>(config.ropes.size())) {
      return make_error(Code::kInternal, "{}: layer names rope {}", config.arch, layer.rope);
    }
    if (layer.rope < 0) continue;
    const int64_t n_rot = config.ropes[static_cast<size_t>(layer.rope)].n_rot;
    if (n_rot < 2 || n_rot % 2 != 0 || n_rot > layer.k_dim) {
      return file.meta().fail(arch_key(config, "rope.dimension_count"), format("{}", n_rot),
                              format("an even number from 2 to {}", layer.k_dim));
    }
  }
  return {};
}

}  // namespace

const ArchSpec* find_arch(std::string_view name) {
  for (const ArchSpec* arch : kArchs) {
    if (name == arch->name) return arch;
  }
  return nullptr;
}

std::span<const ArchSpec* const> all_archs() { return kArchs; }

std::string supported_archs() {
  std::string list;
  for (const ArchSpec* arch : kArchs) list += (list.empty() ? "" : ", ") + std::string(arch->name);
  return list;
}

std::string arch_key(const ModelConfig& config, std::string_view suffix) {
  return config.arch + "." + std::string(suffix);
}

Result<ModelConfig> read_common(const ggufish::ModelFile& file, std::string_view arch) {
  const Keys keys(file.meta(), arch);
  ModelConfig config;
  config.arch = std::string(arch);
  LCRUN_ASSIGN(config.n_layers, keys.ranged("block_count", 1, kMaxLayers));
  LCRUN_ASSIGN(config.d_model, keys.ranged("embedding_length", 1, kMaxWidth));
  LCRUN_ASSIGN(config.n_ctx_train, keys.ranged("context_length", 1, int64_t{1} << 40));
  LCRUN_ASSIGN(const TensorView embedding, file.tensor("token_embd.weight"));
  if (embedding.cols() != config.d_model) {
    return file.meta().fail("token_embd.weight", format("rows of {}", embedding.cols()),
                            format("{} ({})", config.d_model, keys.name("embedding_length")));
  }
  config.n_vocab = embedding.rows();
  config.layers.resize(static_cast<size_t>(config.n_layers));
  if (keys.has("feed_forward_length")) {
    LCRUN_ASSIGN(const auto widths, keys.per_layer("feed_forward_length", config.n_layers, 0, kMaxWidth));
    for (size_t i = 0; i < widths.size(); ++i) {
      config.layers[i].d_ff = widths[i];
      config.layers[i].has_ffn = widths[i] > 0;
      // Width 0 says that the layer has none: then the file must not have one either.
      if (widths[i] == 0 && file.find_tensor(format("blk.{}.ffn_down.weight", i)) != nullptr) {
        return file.meta().fail(keys.name("feed_forward_length"), "0",
                                format("the width of blk.{}.ffn_down.weight", i));
      }
    }
  }
  LCRUN_TRY(read_heads(keys, config));
  LCRUN_TRY(read_rope(keys, config));
  LCRUN_TRY(read_moe(keys, config));
  LCRUN_TRY(read_ssm(keys, config));
  LCRUN_TRY(read_norm(keys, config));
  return config;
}

Result<ModelConfig> read_config(const ggufish::ModelFile& file) {
  LCRUN_ASSIGN(const std::string_view name, file.meta().get_string("general.architecture"));
  const ArchSpec* arch = find_arch(name);
  if (arch == nullptr) {
    return make_error(Code::kUnsupported, "{}: general.architecture: found \"{}\", supported: {}", file.path(), name,
                      supported_archs());
  }
  LCRUN_ASSIGN(ModelConfig config, read_common(file, name));
  LCRUN_TRY(arch->configure(file, config));
  LCRUN_TRY(check(file, config));
  return config;
}

}  // namespace lcrun::model
