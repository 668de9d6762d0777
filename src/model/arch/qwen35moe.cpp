// Qwen 3.5 (2026) with experts: qwen35 with the FFN of Qwen3-Next.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  config.ssm.tile_keys = true;
  config.moe.normalize = true;
  config.moe.shared_gate = true;
  if (config.moe.d_ff_shared == 0) config.moe.d_ff_shared = config.layers.front().d_ff;
  LCRUN_TRY(require_experts(file, config));
  return configure_qwen_hybrid(file, config);
}

}  // namespace

extern const ArchSpec kArch_qwen35moe;
const ArchSpec kArch_qwen35moe{"qwen35moe", configure};

}  // namespace lcrun::model
