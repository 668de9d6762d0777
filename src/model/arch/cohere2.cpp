// Command R7B (Cohere 2, 2024): attention and FFN in parallel from one LayerNorm without bias; global layers have no
// positions.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  constexpr int64_t kPeriod = 4;
  config.parallel_ffn = true;
  LCRUN_ASSIGN(config.logit_scale, scale_or(file, config, "logit_scale", 1.0));
  LCRUN_TRY(read_windows(file, config, kPeriod, 0));
  for (LayerConfig& layer : config.layers) layer.rope = layer.window > 0 ? 0 : -1;
  return {};
}

}  // namespace

extern const ArchSpec kArch_cohere2;
const ArchSpec kArch_cohere2{"cohere2", configure};

}  // namespace lcrun::model
