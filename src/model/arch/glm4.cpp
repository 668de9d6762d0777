// GLM 4 (0414): norms before and after each block, half of each head rotated in adjacent pairs, gate and up fused.
#include "src/base/format.hpp"
#include "src/model/arch.hpp"
#include "src/model/arch_keys.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile& file, ModelConfig& config) {
  config.norm_placement = NormPlacement::kBoth;
  const std::string sections = arch_key(config, "rope.dimension_sections");
  if (file.meta().has(sections)) {
    LCRUN_ASSIGN(const auto values, file.meta().get_ints(sections));
    for (const int64_t value : values) {
      if (value == 0) continue;
      return make_error(Code::kUnsupported, "{}: {}: the vision variant's positions are not supported", file.path(),
                        sections);
    }
  }
  return drop_predict_layers(file, config);
}

}  // namespace

extern const ArchSpec kArch_glm4;
const ArchSpec kArch_glm4{"glm4", configure};

}  // namespace lcrun::model
