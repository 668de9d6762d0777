// InternLM 2 (arXiv 2403.17297): Llama, with its own name.
#include "src/model/arch.hpp"

namespace lcrun::model {
namespace {

Status configure(const ggufish::ModelFile&, ModelConfig&) { return {}; }

}  // namespace

extern const ArchSpec kArch_internlm2;
const ArchSpec kArch_internlm2{"internlm2", configure};

}  // namespace lcrun::model
