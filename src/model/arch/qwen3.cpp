// Qwen 3 (arXiv 2505.09388): norms on the queries and keys of each head.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile&, ModelConfig& config) {
  config.needs_qk_norms = true;
  use_neox_rope(config);
  return {};
}

}  // namespace

extern const ArchSpec kArch_qwen3;
const ArchSpec kArch_qwen3{"qwen3", configure};

}  // namespace lcrun::model
