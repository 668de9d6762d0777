// SmolLM3 (Hugging Face, 2025): Llama, but every fourth layer has no positions (NoPE, arXiv 2501.18795).
#include "src/model/arch.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile&, ModelConfig& config) {
  constexpr int64_t kPeriod = 4;
  for (int64_t i = kPeriod - 1; i < config.n_layers; i += kPeriod) config.layers[static_cast<size_t>(i)].rope = -1;
  return {};
}

}  // namespace

extern const ArchSpec kArch_smollm3;
const ArchSpec kArch_smollm3{"smollm3", configure};

}  // namespace lcrun::model
