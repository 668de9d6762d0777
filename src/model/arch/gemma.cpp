// Gemma 1 (arXiv 2403.08295): GeGLU, embeddings scaled by the square root of the width, tied output.
#include <cmath>

#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile&, ModelConfig& config) {
  use_neox_rope(config);
  config.activation = kernels::Activation::kGeluTanh;
  config.embed_scale = std::sqrt(static_cast<float>(config.d_model));
  return {};
}

}  // namespace

extern const ArchSpec kArch_gemma;
const ArchSpec kArch_gemma{"gemma", configure};

}  // namespace lcrun::model
