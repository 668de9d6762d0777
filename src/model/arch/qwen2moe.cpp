// Qwen 1.5 and 2 with experts (arXiv 2407.10671): chosen weights are not rescaled, a gated shared expert sees
// every token.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  use_neox_rope(config);
  config.moe.shared_gate = true;
  if (config.moe.d_ff_shared == 0) config.moe.d_ff_shared = config.layers.front().d_ff;
  return require_experts(file, config);
}

}  // namespace

extern const ArchSpec kArch_qwen2moe;
const ArchSpec kArch_qwen2moe{"qwen2moe", configure};

}  // namespace lcrun::model
