// Gemma 3 (Gemma Team, arXiv 2503.19786): five window layers to one global layer, each kind with its own RoPE base,
// norms before and after each block, and norms on queries and keys.
#include <cmath>

#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

constexpr int64_t kPeriod = 6;  // every sixth layer is global

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  config.needs_qk_norms = true;
  config.norm_placement = NormPlacement::kBoth;
  config.activation = kernels::Activation::kGeluTanh;
  config.embed_scale = std::sqrt(static_cast<float>(config.d_model));
  config.ropes[0].neox = true;
  // Window layers: base 10,000 and no scaling, whatever the global layers use.
  RopeSpec local;
  local.n_rot = config.ropes[0].n_rot;
  local.neox = true;
  LCRUN_ASSIGN(local.base, positive_or(file, config, "rope.freq_base_swa", 10000.0));
  config.ropes.push_back(local);

  LCRUN_ASSIGN(config.logit_soft_cap, scale_or(file, config, "final_logit_softcapping", 0.0));
  LCRUN_TRY(read_windows(file, config, kPeriod, 0));
  for (LayerConfig& layer : config.layers) layer.rope = layer.window > 0 ? 1 : 0;
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
