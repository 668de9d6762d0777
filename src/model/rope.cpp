#include "src/model/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "src/base/format.hpp"

namespace lcrun::model {
namespace {

// Pair index at which a wave makes `turns` full turns over the trained context (YaRN, section 3.2).
double pair_of_turns(const RopeSpec& spec, double turns) {
  const double context = static_cast<double>(spec.n_ctx_orig);
  return static_cast<double>(spec.n_rot) * std::log(context / (turns * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(spec.base));
}

// Do layers without a window turn by this rope?
bool sees_everything(const ModelConfig& config, int32_t rope) {
  return std::any_of(config.layers.begin(), config.layers.end(),
                     [&](const LayerConfig& layer) { return layer.window == 0 && layer.rope == rope; });
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeSpec& spec, int64_t n_ctx) {
  RopeFrequencies out;
  const int64_t pairs = spec.n_rot / 2;
  out.frequency.resize(static_cast<size_t>(pairs));
  out.magnitude = spec.attn_factor;
  const bool is_long = !spec.freq_factors_long.empty() && n_ctx > spec.n_ctx_orig;
  const std::vector<float>& factors = is_long ? spec.freq_factors_long : spec.freq_factors;
  const bool yarn = spec.scaling == RopeSpec::Scaling::kYarn;
  const double low = std::max(0.0, std::floor(pair_of_turns(spec, spec.yarn_beta_fast)));
  const double high =
      std::min(static_cast<double>(spec.n_rot - 1), std::ceil(pair_of_turns(spec, spec.yarn_beta_slow)));
  for (int64_t i = 0; i < pairs; ++i) {
    double frequency = std::pow(spec.base, -2.0 * static_cast<double>(i) / static_cast<double>(spec.n_rot));
    if (!factors.empty()) frequency /= static_cast<double>(factors[static_cast<size_t>(i)]);
    if (spec.scaling == RopeSpec::Scaling::kLinear) frequency /= spec.factor;
    if (yarn) {
      const double ramp = (static_cast<double>(i) - low) / std::max(0.001, high - low);
      const double keep = (1.0 - std::clamp(ramp, 0.0, 1.0)) * spec.yarn_ext_factor;
      frequency = frequency / spec.factor * (1.0 - keep) + frequency * keep;
    }
    out.frequency[static_cast<size_t>(i)] = frequency;
  }
  if (yarn) {
    out.magnitude *= spec.yarn_attn_factor;
    if (spec.yarn_ext_factor != 0.0) out.magnitude *= 1.0 + 0.1 * std::log(spec.factor);
  }
  return out;
}

std::vector<RopeFrequencies> rope_frequencies(const ModelConfig& config, int64_t n_ctx, double yarn) {
  std::vector<RopeFrequencies> all;
  for (size_t i = 0; i < config.ropes.size(); ++i) {
    RopeSpec spec = config.ropes[i];
    if (yarn > 1 && sees_everything(config, static_cast<int32_t>(i))) {
      spec.scaling = RopeSpec::Scaling::kYarn;
      spec.factor = yarn;
      spec.n_ctx_orig = config.n_ctx_train;
    }
    all.push_back(rope_frequencies(spec, n_ctx));
  }
  return all;
}

Result<double> yarn_factor(const ModelConfig& config, int64_t n_ctx) {
  if (config.n_ctx_train <= 0 || n_ctx <= config.n_ctx_train) return 1.0;
  for (size_t i = 0; i < config.ropes.size(); ++i) {
    const RopeSpec& spec = config.ropes[i];
    const bool is_plain =
        spec.scaling == RopeSpec::Scaling::kNone && spec.freq_factors.empty() && spec.freq_factors_long.empty();
    if (is_plain || !sees_everything(config, static_cast<int32_t>(i))) continue;
    return make_error(Code::kUnsupported,
                      "--extend yarn: found a model whose positions are scaled already (rope.scaling), wanted one "
                      "without; dca and relay work with any");
  }
  return static_cast<double>(n_ctx) / static_cast<double>(config.n_ctx_train);
}

void fill_rope_table(const RopeFrequencies& frequencies, int64_t pos0, int64_t rows, float* table) {
  for (int64_t row = 0; row < rows; ++row) {
    for (const double frequency : frequencies.frequency) {
      const double angle = static_cast<double>(pos0 + row) * frequency;
      *table++ = static_cast<float>(std::cos(angle) * frequencies.magnitude);
      *table++ = static_cast<float>(std::sin(angle) * frequencies.magnitude);
    }
  }
}

}  // namespace lcrun::model
