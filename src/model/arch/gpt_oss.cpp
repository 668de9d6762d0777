// gpt-oss (OpenAI, arXiv 2508.10925): experts in MXFP4 with biases and a clamped SwiGLU, attention sinks, window layers
// in turn with global ones.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  constexpr int64_t kPeriod = 2;
  config.needs_sinks = true;
  use_neox_rope(config);
  config.ffn_norm = "post_attention_norm";
  config.moe.gate = MoeConfig::Gate::kSoftmaxOfChosen;
  config.swiglu_limit = 7.0F;
  config.swiglu_alpha = 1.702F;
  LCRUN_TRY(require_experts(file, config));
  return read_windows(file, config, kPeriod, 0);
}

}  // namespace

extern const ArchSpec kArch_gpt_oss;
const ArchSpec kArch_gpt_oss{"gpt-oss", configure};

}  // namespace lcrun::model
