// Llama (Touvron et al., arXiv 2302.13971) and everything published under its name: Llama 1 to 3, Mistral, Mixtral
// (experts whose weights sum to one, arXiv 2401.04088), SmolLM2.
#include "src/model/arch.hpp"
#include "src/model/tensors.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  config.moe.normalize = true;
  // Llama 3.1 and later carry per-frequency divisors as a tensor instead of scaling keys.
  return read_rope_factors(file, "rope_freqs.weight", config.ropes[0], config.ropes[0].freq_factors);
}

}  // namespace

extern const ArchSpec kArch_llama;
const ArchSpec kArch_llama{"llama", configure};

}  // namespace lcrun::model
