// OLMoE (arXiv 2409.02060): many small experts, q and k normed over all heads at once.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  config.needs_qk_norms = true;
  use_neox_rope(config);
  return require_experts(file, config);
}

}  // namespace

extern const ArchSpec kArch_olmoe;
const ArchSpec kArch_olmoe{"olmoe", configure};

}  // namespace lcrun::model
