// TokenMixer: what mixes tokens in a layer (softmax attention, a recurrence). Stateless code over weights; what a
// sequence must keep is declared as regions and owned by the sequence (storage/region.hpp), so saving, truncating
// and forking are written once for all mixers.
//
// Law: any split of a prompt into forward() calls gives the same bits.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ggufish/model_file.hpp"
#include "src/attention/chosen_blocks.hpp"
#include "src/attention/led_choices.hpp"
#include "src/attention/observer.hpp"
#include "src/attention/policy.hpp"
#include "src/attention/probe.hpp"
#include "src/base/result.hpp"
#include "src/base/tensor.hpp"
#include "src/base/workspace.hpp"
#include "src/kernels/matmul.hpp"
#include "src/model/config.hpp"
#include "src/model/rope.hpp"
#include "storage/region.hpp"

namespace lcrun::model {

// Formats of the KV cache and what attention reads of it: choices of the session, not of the model.
struct CacheOptions {
  DType type_k = DType::kF16;
  DType type_v = DType::kF16;
  std::shared_ptr<const attention::Attention> attention = nullptr;  // null: every key
  attention::Slide slide = {};                                      // what is read past the end of the context
  double yarn = 1;  // by which positions of layers that see everything are slowed down (extended())
};

// The format of a layer's cache. What a window needs does not grow with the text: 4 bits would save little there and
// cost as much quality as anywhere, so it is kept in 8.
inline DType cached_type(DType wanted, int64_t window) {
  return window > 0 && wanted == DType::kQ4_0 ? DType::kQ8_0 : wanted;
}

// What one forward step hands to every layer. The caller owns all of it.
struct StepContext {
  int64_t pos0 = 0;   // position of the first row
  bool asks = false;  // the rows are a question or an answer; all of them read alike (Attention::reading)
  attention::AttentionStats* stats = nullptr;
  attention::AttnProbe* probe = nullptr;  // counts what heads attend to; may be null
  std::span<attention::PlanObserver* const> observers = {};
  std::span<const int32_t> forced_blocks = {};     // that layers which choose read, whatever their index says
  std::span<attention::ChosenBlocks> chosen = {};  // by layer: of those whose choice others take over; or none
  attention::LedChoices* led = nullptr;            // where queries follow the first of their group; or null
  int64_t layer = 0;                               // whose turn it is
  CacheOptions cache;
  int n_threads = 1;
  Workspace* scratch = nullptr;                 // shared by layers; each takes and gives back by mark
  kernels::Activations* activations = nullptr;  // quantised inputs of products
  // Per RopeSpec: cos and sin of the step's rows.  // [rows, n_rot/2, 2]
  std::span<const std::span<const float>> rope_tables;
  std::span<const RopeFrequencies> rope_frequencies;  // per RopeSpec
};

class TokenMixer {
 public:
  virtual ~TokenMixer() = default;
  virtual std::vector<storage::RegionSpec> regions(const CacheOptions& cache) const = 0;
  virtual Status check_cache(const CacheOptions& cache) const = 0;
  // Workspace bytes forward() takes for up to max_rows rows.
  virtual uint64_t scratch_bytes(int64_t max_rows, const CacheOptions& cache, int n_threads) const = 0;
  // Widest input of a product inside, for planning Activations.
  virtual int64_t max_product_cols() const = 0;
  // x: normed input [rows, d_model]; out: [up to rows, d_model], of the last rows, if only those are wanted. Appends
  // all rows to the state (reserve, write; the model commits all regions after the last layer).
  virtual Status forward(storage::LayerState& state, const StepContext& step, MatView x, MatView out) const = 0;
  virtual uint64_t memory_bytes() const = 0;  // private copies of weights
  // Makes the rows of an empty index region anew from `tokens` that are there; nothing where there is none.
  virtual Status rebuild_index(storage::LayerState&, const StepContext&, int64_t) const { return {}; }
};

// What a mixer is built from.
struct MixerBuild {
  const ggufish::ModelFile& file;
  const ModelConfig& config;
  int64_t layer;
  int n_threads;
  kernels::WeightArena* arena = nullptr;  // where its matrices go
};

struct MixerSpec {
  const char* name;
  Result<std::unique_ptr<TokenMixer>> (*create)(const MixerBuild& build);
};

// The registry: one file mixer_<name>.cpp each, one word in meson.build.
const MixerSpec* find_mixer(std::string_view name);
std::span<const MixerSpec* const> all_mixers();

}  // namespace lcrun::model
