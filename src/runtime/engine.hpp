// Engine: a model file opened for use, with its network and its text side; and how Options become the settings of
// the parts. Several sessions may share one Engine.
// Thread rule: immutable after load_engine().
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "ggufish/model_file.hpp"
#include "src/base/file.hpp"
#include "src/base/memory_budget.hpp"
#include "src/base/result.hpp"
#include "src/model/model.hpp"
#include "src/runtime/option_parse.hpp"
#include "src/runtime/options.hpp"
#include "src/runtime/sampler.hpp"
#include "src/runtime/session.hpp"
#include "src/text/grammar.hpp"
#include "src/text/tokenizer.hpp"

namespace lcrun::runtime {

struct Engine {
  std::shared_ptr<const ggufish::ModelFile> file;
  std::shared_ptr<const model::Model> model;  // null when only the text side was asked for
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::string chat_template;  // Jinja source, "" = the model has none
  double load_ms = 0;
  std::shared_ptr<MemoryReservation> other;  // memory that is in no arena: vocabulary, tables
};

struct EngineRequest {
  std::string path;
  ggufish::LoadMode load_mode = ggufish::LoadMode::kMmap;
  bool text_only = false;
  uint64_t max_private_bytes = 0;  // refused (kNoMemory) when the weights alone would take more; 0 = no cap
  int n_threads = 1;
  std::function<bool(double)> progress;  // 0..1; false cancels
};

// kBadModel: missing, damaged. kUnsupported: architecture, types, tokenizer. kNoMemory.
Result<Engine> load_engine(const EngineRequest& request, FileSystem& fs);

// Token text of every id; control tokens are empty. For grammars; `vocab` strings.
std::vector<std::string> vocabulary_pieces(const text::Tokenizer& tokenizer);

// --- Options to settings ---------------------------------------------------------------------------------------
// The model of -m, or the cached default (then *is_default). kBadModel when there is neither.
Result<std::string> model_path(const Options& options, const Environment& environment, FileSystem& fs,
                               bool* is_default);
Result<ggufish::LoadMode> load_mode(const Options& options);
Result<model::CacheOptions> cache_options(const Options& options);
attention::PolicyChoice policy_choice(const Options& options);  // without the rows of files (policy_file.hpp)
int decode_threads(const Options& options);
int prompt_threads(const Options& options);
// `seed` is what is used: options.seed, or a new one.
SamplerOptions sampler_options(const Options& options, uint64_t seed);
uint64_t choose_seed(const Options& options);
// Null when no constraint was asked for.
Result<std::shared_ptr<const text::Grammar>> grammar_of(const Options& options, FileSystem& fs);

}  // namespace lcrun::runtime
