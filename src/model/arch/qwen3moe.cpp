// Qwen 3 with experts (arXiv 2505.09388): the weights of the chosen experts sum to one.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  config.needs_qk_norms = true;
  use_neox_rope(config);
  config.moe.normalize = true;
  return require_experts(file, config);
}

}  // namespace

extern const ArchSpec kArch_qwen3moe;
const ArchSpec kArch_qwen3moe{"qwen3moe", configure};

}  // namespace lcrun::model
