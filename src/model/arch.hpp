// ArchSpec: an architecture as a value. One file each in src/model/arch/, one word in its meson.build.
//
// configure() starts from what the common keys say (read_common fills block_count, heads, norms, rope ...) and
// adds what is special. Tensors are looked up by the common names (weights.hpp): optional ones (biases, q/k norms,
// post norms, fused qkv, gate, sinks) are used when the file has them, so most architectures need no code for them.
#pragma once

#include <span>
#include <string>

#include "ggufish/model_file.hpp"
#include "src/base/result.hpp"
#include "src/model/config.hpp"

namespace lcrun::model {

struct ArchSpec {
  const char* name;  // general.architecture
  // Adds to a config on which read_common() has been run.
  Status (*configure)(const ggufish::ModelFile& file, ModelConfig& config);
};

// Null when unknown.
const ArchSpec* find_arch(std::string_view name);
std::span<const ArchSpec* const> all_archs();
// "llama, qwen2, ...": for messages.
std::string supported_archs();

// The keys every transformer shares, checked for range (kBadModel names the key).
Result<ModelConfig> read_common(const ggufish::ModelFile& file, std::string_view arch);
// find_arch + read_common + configure + checks that hold for all (heads divide, dims match, ranges).
Result<ModelConfig> read_config(const ggufish::ModelFile& file);
// "<arch>.<suffix>"
std::string arch_key(const ModelConfig& config, std::string_view suffix);

}  // namespace lcrun::model
