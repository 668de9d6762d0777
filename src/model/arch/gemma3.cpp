// Gemma 3 (Gemma Team, arXiv 2503.19786): five window layers to one global layer, each kind with its own RoPE base,
// norms before and after each block, and norms on queries and keys.
#include <cmath>

#include "src/base/format.hpp"
#include "src/model/arch.hpp"

namespace lcrun::model {
namespace {

constexpr int64_t kPeriod = 6;  // every sixth layer is global

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  const auto& meta = file.meta();
  config.activation = kernels::Activation::kGeluTanh;
  config.embed_scale = std::sqrt(static_cast<float>(config.d_model));
  config.ropes[0].neox = true;
  // Window layers: base 10,000 and no scaling, whatever the global layers use.
  RopeSpec local;
  local.n_rot = config.ropes[0].n_rot;
  local.neox = true;
  LCRUN_ASSIGN(local.base, meta.float_or(arch_key(config, "rope.freq_base_swa"), 10000.0));
  config.ropes.push_back(local);

  LCRUN_ASSIGN(const double cap, meta.float_or(arch_key(config, "final_logit_softcapping"), 0.0));
  config.logit_soft_cap = static_cast<float>(cap);
  LCRUN_ASSIGN(const int64_t window, meta.int_or(arch_key(config, "attention.sliding_window"), 0));
  if (window < 0) return meta.fail(arch_key(config, "attention.sliding_window"), format("{}", window), "0 or more");
  for (int64_t i = 0; i < config.n_layers; ++i) {
    LayerConfig& layer = config.layers[static_cast<size_t>(i)];
    const bool global = window == 0 || i % kPeriod == kPeriod - 1;
    layer.window = global ? 0 : window;
    layer.rope = global ? 0 : 1;
  }
  // The 27B model scales by the width per head instead of the head size.
  if (config.n_layers == 62) {
    config.attn_scale =
        1.0F / std::sqrt(static_cast<float>(config.d_model / std::max<int64_t>(1, config.layers[0].n_heads)));
  }
  return {};
}

}  // namespace

extern const ArchSpec kArch_gemma3;
const ArchSpec kArch_gemma3{"gemma3", configure};

}  // namespace lcrun::model
