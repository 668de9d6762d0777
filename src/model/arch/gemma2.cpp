// Gemma 2 (arXiv 2408.00118): window and global layers take turns, norms before and after each block, soft caps on
// attention scores and logits.
#include <cmath>

#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  constexpr int64_t kPeriod = 2;
  constexpr int64_t kWindow = 4096;
  constexpr int64_t k27bLayers = 46;
  config.norm_placement = NormPlacement::kBoth;
  use_neox_rope(config);
  config.activation = kernels::Activation::kGeluTanh;
  config.embed_scale = std::sqrt(static_cast<float>(config.d_model));
  LCRUN_ASSIGN(config.attn_soft_cap, scale_or(file, config, "attn_logit_softcapping", 50.0));
  LCRUN_ASSIGN(config.logit_soft_cap, scale_or(file, config, "final_logit_softcapping", 30.0));
  // The 27B model scales by the width per head instead of the head size.
  const int64_t n_heads = config.layers.front().n_heads;
  if (config.n_layers == k27bLayers && n_heads > 0) {
    config.attn_scale = 1.0F / std::sqrt(static_cast<float>(config.d_model) / static_cast<float>(n_heads));
  }
  return read_windows(file, config, kPeriod, kWindow);
}

}  // namespace

extern const ArchSpec kArch_gemma2;
const ArchSpec kArch_gemma2{"gemma2", configure};

}  // namespace lcrun::model
