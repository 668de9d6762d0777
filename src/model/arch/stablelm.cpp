// StableLM 2 (arXiv 2402.17834): LayerNorm, part of each head rotated; the 12B model norms each head of q and k with
// weights of its own and feeds attention and FFN from one norm.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  use_neox_rope(config);
  config.head_norms = true;
  config.parallel_ffn = file.find_tensor("blk.0.ffn_norm.weight") == nullptr;
  return {};
}

}  // namespace

extern const ArchSpec kArch_stablelm;
const ArchSpec kArch_stablelm{"stablelm", configure};

}  // namespace lcrun::model
