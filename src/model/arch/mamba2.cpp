// Mamba-2 (Dao and Gu, arXiv 2405.21060): a stack of state space layers, no attention and no FFN.
#include "src/model/arch.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  if (config.ssm.d_inner == 0) {
    return file.meta().fail(arch_key(config, "ssm.inner_size"), "nothing", "at least 1");
  }
  config.ropes.clear();
  for (LayerConfig& layer : config.layers) {
    layer.mixer = "mamba2";
    layer.rope = -1;
    layer.has_ffn = false;
  }
  return {};
}

}  // namespace

extern const ArchSpec kArch_mamba2;
const ArchSpec kArch_mamba2{"mamba2", configure};

}  // namespace lcrun::model
