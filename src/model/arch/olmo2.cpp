// OLMo 2 and 3 (arXiv 2501.00656): norms after the blocks only, and over all heads of q and k at once; OLMo 3 adds
// window layers, which rotate without context extension.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  constexpr int64_t kPeriod = 4;
  config.needs_qk_norms = true;
  config.norm_placement = NormPlacement::kAfter;
  use_neox_rope(config);
  LCRUN_TRY(read_windows(file, config, kPeriod, 0));
  RopeSpec plain;
  plain.n_rot = config.ropes.front().n_rot;
  plain.base = config.ropes.front().base;
  plain.neox = true;
  config.ropes.push_back(plain);
  for (LayerConfig& layer : config.layers) {
    if (layer.window > 0) layer.rope = 1;
  }
  return {};
}

}  // namespace

extern const ArchSpec kArch_olmo2;
const ArchSpec kArch_olmo2{"olmo2", configure};

}  // namespace lcrun::model
