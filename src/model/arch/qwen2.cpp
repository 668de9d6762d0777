// Qwen 2 and 2.5 (arXiv 2407.10671, 2412.15115): Llama with biases on queries, keys and values.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile&, ModelConfig& config) {
  use_neox_rope(config);
  return {};
}

}  // namespace

extern const ArchSpec kArch_qwen2;
const ArchSpec kArch_qwen2{"qwen2", configure};

}  // namespace lcrun::model
