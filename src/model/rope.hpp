// Tables of cos and sin for a batch of positions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/base/result.hpp"
#include "src/model/config.hpp"

namespace lcrun::model {

// Angle per position of each pair, with the spec's scaling applied, and the factor of cos and sin.
struct RopeFrequencies {
  std::vector<double> frequency;  // [n_rot / 2] radians per position
  double magnitude = 1.0;
};

// n_ctx: the context in use; chooses phi3's long factors. (YaRN: Peng et al., arXiv 2309.00071, section 3.)
RopeFrequencies rope_frequencies(const RopeSpec& spec, int64_t n_ctx);

// The same for all ropes of a model; `yarn` > 1: those of layers that see everything are stretched by as much, with
// YaRN's parameters (section 3), so that n_ctx_train * yarn positions lie where the trained ones did.
std::vector<RopeFrequencies> rope_frequencies(const ModelConfig& config, int64_t n_ctx, double yarn);
// By how much, for a context. kUnsupported: the model scales its positions by a way of its own.
Result<double> yarn_factor(const ModelConfig& config, int64_t n_ctx);

// table [rows, n_rot/2, 2] = {cos, sin} of positions pos0 .. pos0 + rows
void fill_rope_table(const RopeFrequencies& frequencies, int64_t pos0, int64_t rows, float* table);

}  // namespace lcrun::model
