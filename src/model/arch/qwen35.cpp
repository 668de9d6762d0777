// Qwen 3.5 (2026), dense: the layers of Qwen3-Next with a plain FFN; value heads are stored so that they repeat the key
// heads in turn. Text positions are equal in all sections of its RoPE, which makes it a plain one.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  config.ssm.tile_keys = true;
  return configure_qwen_hybrid(file, config);
}

}  // namespace

extern const ArchSpec kArch_qwen35;
const ArchSpec kArch_qwen35{"qwen35", configure};

}  // namespace lcrun::model
