// Qwen3-Next (2025): gated delta layers, gated attention in every fourth, many experts and a gated shared one.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  config.moe.normalize = true;
  config.moe.shared_gate = true;
  if (config.moe.d_ff_shared == 0) config.moe.d_ff_shared = config.layers.front().d_ff;
  LCRUN_TRY(require_experts(file, config));
  return configure_qwen_hybrid(file, config);
}

}  // namespace

extern const ArchSpec kArch_qwen3next;
const ArchSpec kArch_qwen3next{"qwen3next", configure};

}  // namespace lcrun::model
