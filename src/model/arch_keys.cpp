#include "src/model/arch_keys.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "src/base/format.hpp"
#include "src/model/arch.hpp"

namespace lcrun::model {
namespace {

constexpr int64_t kMaxWindow = int64_t{1} << 40;

// One flag per layer.
Result<std::vector<int64_t>> read_flags(const ggufish::ModelFile& file, const ModelConfig& config,
                                        const std::string& key) {
  LCRUN_ASSIGN(auto flags, file.meta().get_ints(key));
  if (static_cast<int64_t>(flags.size()) < config.n_layers) {
    return file.meta().fail(key, format("{} values", flags.size()), format("{}, one per layer", config.n_layers));
  }
  return flags;
}

Result<int64_t> read_period(const ggufish::ModelFile& file, const std::string& key, int64_t low, int64_t fallback) {
  LCRUN_ASSIGN(const int64_t period, file.meta().int_or(key, fallback));
  if (period < low || period > kMaxWindow) {
    return file.meta().fail(key, format("{}", period), format("a period of {} or more layers", low));
  }
  return period;
}

}  // namespace

void use_neox_rope(ModelConfig& config) {
  for (RopeSpec& rope : config.ropes) rope.neox = true;
}

Result<float> scale_or(const ggufish::ModelFile& file, const ModelConfig& config, std::string_view suffix,
                       double fallback) {
  const std::string key = arch_key(config, suffix);
  LCRUN_ASSIGN(const double value, file.meta().float_or(key, fallback));
  if (!std::isfinite(value) || std::abs(value) > 1e30) {
    return file.meta().fail(key, format("{}", value), "a finite number");
  }
  return static_cast<float>(value);
}

Result<float> positive_or(const ggufish::ModelFile& file, const ModelConfig& config, std::string_view suffix,
                          double fallback) {
  LCRUN_ASSIGN(const float value, scale_or(file, config, suffix, fallback));
  if (value < 1e-30F) return file.meta().fail(arch_key(config, suffix), format("{}", value), "a number above 0");
  return value;
}

Status read_windows(const ggufish::ModelFile& file, ModelConfig& config, int64_t period, int64_t fallback) {
  const ggufish::Metadata& meta = file.meta();
  const std::string key = arch_key(config, "attention.sliding_window");
  LCRUN_ASSIGN(const int64_t window, meta.int_or(key, fallback));
  if (window < 0 || window > kMaxWindow) return meta.fail(key, format("{}", window), "0 or more tokens");
  if (window == 0) return {};
  const std::string pattern = arch_key(config, "attention.sliding_window_pattern");
  std::vector<int64_t> flags;
  if (meta.has(pattern) && meta.is_array(pattern)) {
    LCRUN_ASSIGN(flags, read_flags(file, config, pattern));
  } else {
    LCRUN_ASSIGN(period, read_period(file, pattern, 0, period));
  }
  for (int64_t i = 0; i < config.n_layers; ++i) {
    const bool by_period = period == 0 || i % period < period - 1;
    const bool local = flags.empty() ? by_period : flags[static_cast<size_t>(i)] != 0;
    config.layers[static_cast<size_t>(i)].window = local ? window : 0;
  }
  return {};
}

Status drop_predict_layers(const ggufish::ModelFile& file, ModelConfig& config) {
  const std::string key = arch_key(config, "nextn_predict_layers");
  LCRUN_ASSIGN(const int64_t extra, file.meta().int_or(key, 0));
  if (extra < 0 || extra >= config.n_layers) {
    return file.meta().fail(key, format("{}", extra), format("0 to {}", config.n_layers - 1));
  }
  config.n_layers -= extra;
  config.layers.resize(static_cast<size_t>(config.n_layers));
  return {};
}

Status read_recurrent_layers(const ggufish::ModelFile& file, ModelConfig& config, const char* mixer) {
  const std::string key = arch_key(config, "attention.recurrent_layers");
  const std::string interval_key = arch_key(config, "full_attention_interval");
  std::vector<int64_t> flags;
  if (file.meta().has(key)) {
    LCRUN_ASSIGN(flags, read_flags(file, config, key));
  }
  LCRUN_ASSIGN(const int64_t interval, read_period(file, interval_key, 1, 4));
  for (int64_t i = 0; i < config.n_layers; ++i) {
    const bool recurrent = flags.empty() ? (i + 1) % interval != 0 : flags[static_cast<size_t>(i)] != 0;
    if (recurrent) config.layers[static_cast<size_t>(i)].mixer = mixer;
  }
  return {};
}

Status configure_qwen_hybrid(const ggufish::ModelFile& file, ModelConfig& config) {
  use_neox_rope(config);
  config.ffn_norm = "post_attention_norm";
  config.q_gate = true;
  config.needs_qk_norms = true;
  LCRUN_TRY(drop_predict_layers(file, config));
  return read_recurrent_layers(file, config, "gated_delta");
}

Status configure_granite(const ggufish::ModelFile& file, ModelConfig& config) {
  LCRUN_ASSIGN(const float logits, positive_or(file, config, "logit_scale", 1.0));
  config.logit_scale = 1.0F / logits;
  LCRUN_ASSIGN(config.residual_scale, scale_or(file, config, "residual_scale", 1.0));
  LCRUN_ASSIGN(config.embed_scale, scale_or(file, config, "embedding_scale", 1.0));
  LCRUN_ASSIGN(config.attn_scale, scale_or(file, config, "attention.scale", 0.0));
  LCRUN_ASSIGN(const bool has_positions, file.meta().bool_or(arch_key(config, "rope.scaling.finetuned"), true));
  if (!has_positions) {
    for (LayerConfig& layer : config.layers) layer.rope = -1;
  }
  return {};
}

Status require_experts(const ggufish::ModelFile& file, const ModelConfig& config) {
  if (config.moe.n_experts > 0) return {};
  return file.meta().fail(arch_key(config, "expert_count"), "0", "at least 1 expert");
}

}  // namespace lcrun::model
