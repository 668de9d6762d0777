// Phi 3 and 4 (arXiv 2404.14219): q, k and v in one matrix, gate and up in another; long contexts divide the RoPE
// frequencies by one of two tables (LongRoPE, arXiv 2402.13753).
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"
#include "src/model/tensors.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  use_neox_rope(config);
  RopeSpec& rope = config.ropes.front();
  LCRUN_TRY(read_rope_factors(file, "rope_factors_short.weight", rope, rope.freq_factors));
  LCRUN_TRY(read_rope_factors(file, "rope_factors_long.weight", rope, rope.freq_factors_long));
  LCRUN_TRY(read_windows(file, config, 0, 0));
  // Files of the long models state a window beyond their context: it never bites.
  for (LayerConfig& layer : config.layers) {
    if (layer.window >= config.n_ctx_train) layer.window = 0;
  }
  return {};
}

}  // namespace

extern const ArchSpec kArch_phi3;
const ArchSpec kArch_phi3{"phi3", configure};

}  // namespace lcrun::model
