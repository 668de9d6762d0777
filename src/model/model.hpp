// Model: the network. Immutable after load(); forward() reads like a table of contents.
//
// Thread rule: any number of sessions may call the const functions at once, each with its own state and Step.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ggufish/model_file.hpp"
#include "src/base/result.hpp"
#include "src/base/workspace.hpp"
#include "src/model/config.hpp"
#include "src/model/mixer.hpp"
#include "src/model/rope.hpp"
#include "storage/region.hpp"

namespace lcrun::model {

using Token = int32_t;

struct LoadOptions {
  ggufish::LoadMode load_mode = ggufish::LoadMode::kMmap;
  int n_threads = 1;
  int64_t max_layers = 0;  // no more than the first ones, to measure with; 0: all
  // Called with 0..1 while weights are prepared; false cancels (kCancelled). May be empty.
  std::function<bool(double)> progress;
};

// How a sequence wants its steps run.
struct StepOptions {
  CacheOptions cache;
  int64_t max_rows = 512;  // tokens of the largest forward() call
  int n_threads = 1;
  int64_t n_ctx = 0;  // context the session asked for (chooses long RoPE factors); 0 = the trained one
  // Looked at between layers; true ends forward() with kCancelled. May be null.
  const std::atomic<bool>* cancel = nullptr;
};

// Buffers of one sequence's steps, planned once: forward() allocates nothing but KV blocks.
class Step {
 public:
  const StepOptions& options() const { return options_; }
  const attention::AttentionStats& stats() const { return stats_; }
  uint64_t memory_bytes() const;
  // What the next steps' heads attend to is counted there (null: nowhere). It must outlive them.
  void watch(attention::AttnProbe* probe) { probe_ = probe; }
  // Who is shown the plans of the next steps. They must outlive them.
  void show_to(std::vector<attention::PlanObserver*> observers) { observers_ = std::move(observers); }
  // Blocks of 64 tokens that layers which choose what they read choose in the next steps, whatever their index says, as
  // far as their budget goes.
  void force_blocks(std::vector<int32_t> blocks) { forced_blocks_ = std::move(blocks); }
  // Asked rows of the next steps follow leaders, whose choices are kept there (null: each its own). It must outlive
  // them, and is told before each step who leads its first row.
  void follow(attention::LedChoices* led) { led_ = led; }

 private:
  friend class Model;
  StepOptions options_;
  Workspace scratch_;
  kernels::Activations activations_;
  AlignedBuffer hidden_;  // [max_rows, d_model]
  AlignedBuffer rope_;    // tables of all RopeSpecs, one after another
  std::vector<std::span<const float>> rope_views_;
  std::vector<RopeFrequencies> rope_frequencies_;
  attention::AttentionStats stats_;
  attention::AttnProbe* probe_ = nullptr;
  std::vector<attention::PlanObserver*> observers_;
  std::vector<int32_t> forced_blocks_;
  attention::LedChoices* led_ = nullptr;
  std::vector<attention::ChosenBlocks> chosen_;  // [n_layers], of anchors; or empty
};

// A choice of attention completed for a model and a context; null: dense. kInvalidArgument: an unknown name.
Result<std::shared_ptr<const attention::Attention>> attention_for(const ModelConfig& config,
                                                                  const attention::PolicyChoice& choice, int64_t n_ctx);

class Model {
 public:
  static Result<std::shared_ptr<const Model>> load(std::shared_ptr<const ggufish::ModelFile> file,
                                                   const LoadOptions& options);
  ~Model();

  const ModelConfig& config() const;
  const ggufish::ModelFile& file() const;
  uint64_t weight_bytes() const;  // private (packed) copies

  // An empty sequence. kUnsupported / kInvalidArgument when the cache formats do not fit the model.
  Result<storage::SequenceState> new_state(const CacheOptions& cache) const;
  // Gives a state of other index regions, or of none, those of `cache`, made from its keys. Errors of reading them.
  Status rebuild_index(storage::SequenceState& state, const CacheOptions& cache, int64_t n_ctx) const;
  // Bytes of cache that `n_tokens` take (whole blocks).
  uint64_t state_bytes(const CacheOptions& cache, int64_t n_tokens) const;
  // Plans the buffers; kNoMemory when the machine has no room for them.
  Result<Step> plan(const StepOptions& options) const;
  // From now on the step's rows attend by `attention`, which has the readings and the index that it was planned with,
  // and other roles of layers.
  void change_roles(Step& step, std::shared_ptr<const attention::Attention> attention) const;

  // Runs tokens at positions state.tokens().. (at most options.max_rows of them) and appends them to the state. They
  // are text that is read, or `asked` (a question or an answer), and cross no border at which that changes what they
  // attend to (attention::Attention::reading).
  // Returns the final normed rows of the last `wanted` tokens (all of them, if fewer) [wanted, d_model], valid until
  // the next call with this step: of the last layer, the others leave keys and values alone.
  // kInvalidArgument for an id outside the vocabulary (state unchanged). After any other error the state must be
  // cleared or truncated by the caller.
  Result<MatView> forward(std::span<const Token> tokens, storage::SequenceState& state, Step& step, bool asked = false,
                          int64_t wanted = INT64_MAX) const;
  // Logits of such rows.  // hidden [rows, d_model] -> out [rows, n_vocab]
  void logits(MatView hidden, MatView out, Step& step) const;

 private:
  struct Impl;
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lcrun::model
