// MiniCPM (arXiv 2404.06395): Llama with the scales of maximal update parametrisation; old files lack the keys.
#include <cmath>

#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  const auto layers = static_cast<double>(config.n_layers);
  LCRUN_ASSIGN(config.embed_scale, scale_or(file, config, "embedding_scale", 12.0));
  LCRUN_ASSIGN(config.residual_scale, scale_or(file, config, "residual_scale", 1.4 / std::sqrt(layers)));
  const double width_ratio = static_cast<double>(config.d_model) / 256.0;  // 256: the width it was tuned at
  LCRUN_ASSIGN(const float logits, positive_or(file, config, "logit_scale", width_ratio));
  config.logit_scale = 1.0F / logits;
  return {};
}

}  // namespace

extern const ArchSpec kArch_minicpm;
const ArchSpec kArch_minicpm{"minicpm", configure};

}  // namespace lcrun::model
