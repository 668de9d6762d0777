// Granite 3 with experts (IBM, 2024), and optionally a shared expert.
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  LCRUN_TRY(require_experts(file, config));
  config.moe.normalize = true;
  return configure_granite(file, config);
}

}  // namespace

extern const ArchSpec kArch_granitemoe;
const ArchSpec kArch_granitemoe{"granitemoe", configure};

}  // namespace lcrun::model
