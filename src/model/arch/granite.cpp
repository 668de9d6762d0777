// Granite 3 (IBM, 2024): Llama with scales on embeddings, attention, residual branches and logits.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) { return configure_granite(file, config); }

}  // namespace

extern const ArchSpec kArch_granite;
const ArchSpec kArch_granite{"granite", configure};

}  // namespace lcrun::model
