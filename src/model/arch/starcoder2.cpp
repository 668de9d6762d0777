// StarCoder 2 (arXiv 2402.19173): LayerNorm, biases everywhere, a plain GELU FFN without gate.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile&, ModelConfig& config) {
  use_neox_rope(config);
  config.plain_ffn = true;
  config.activation = kernels::Activation::kGeluTanh;
  return {};
}

}  // namespace

extern const ArchSpec kArch_starcoder2;
const ArchSpec kArch_starcoder2{"starcoder2", configure};

}  // namespace lcrun::model
