#include "src/runtime/engine.hpp"

#include <chrono>
#include <random>

#include "quant/format.hpp"
#include "src/base/format.hpp"
#include "src/base/parallel.hpp"
#include "src/runtime/budget.hpp"
#include "src/runtime/option_values.hpp"

namespace lcrun::runtime {
namespace {

constexpr const char* kDefaultModel = "SmolLM2-135M-Instruct.Q4_1.gguf";
constexpr uint64_t kMaxGrammarBytes = uint64_t{16} << 20;

Result<DType> cache_type(std::string_view option, const std::string& name) {
  const quant::TypeInfo* type = quant::find_type(name);
  if (type == nullptr) return make_error(Code::kInvalidArgument, "{}: found {}, wanted a type", option, name);
  return type->dtype;
}

std::string cache_directory(const Options& options, const Environment& environment) {
  if (!options.model_dir.empty()) return options.model_dir;
  const char* cache = environment("XDG_CACHE_HOME");
  if (cache != nullptr && *cache != '\0') return format("{}/lcrun/models", cache);
  const char* home = environment("HOME");
  return format("{}/.cache/lcrun/models", home == nullptr ? "" : home);
}

Status check_cap(const EngineRequest& request, const ggufish::ModelFile& file) {
  if (request.max_private_bytes == 0) return {};
  const bool copied = request.load_mode == ggufish::LoadMode::kRead || request.load_mode == ggufish::LoadMode::kDirect;
  const uint64_t wanted = packed_weight_bytes(file) + (copied ? file.file_bytes() : 0);
  if (wanted <= request.max_private_bytes) return {};
  return make_error(Code::kNoMemory, "{}: the weights take {} of memory, the cap is {}{}", request.path,
                    bytes_text(wanted), bytes_text(request.max_private_bytes),
                    copied ? "; --load-mode mmap takes less" : "; a model in a smaller format would fit");
}

// Counts what the process has come to hold beside its arenas since `before` was taken.
class OtherMemory {
 public:
  Result<std::shared_ptr<MemoryReservation>> reserve() const {
    const uint64_t now = uncounted();
    const uint64_t more = now > before_ ? now - before_ : 0;
    LCRUN_ASSIGN(auto made, MemoryBudget::process().reserve(Arena::kOther, more));
    return std::make_shared<MemoryReservation>(std::move(made));
  }

 private:
  static uint64_t uncounted() {
    const uint64_t held = private_memory_bytes(), counted = MemoryBudget::process().used();
    return held > counted ? held - counted : 0;
  }
  const uint64_t before_ = uncounted();
};

}  // namespace

Result<Engine> load_engine(const EngineRequest& request, FileSystem& fs) {
  const auto start = std::chrono::steady_clock::now();
  const OtherMemory other;
  Engine engine;
  LCRUN_ASSIGN(engine.file, ggufish::ModelFile::open(request.path, request.load_mode, fs));
  LCRUN_ASSIGN(auto tokenizer, text::Tokenizer::load(*engine.file));
  engine.tokenizer = std::move(tokenizer);
  if (engine.file->meta().has("tokenizer.chat_template")) {
    LCRUN_ASSIGN(const auto source, engine.file->meta().get_string("tokenizer.chat_template"));
    engine.chat_template = std::string(source);
  }
  if (!request.text_only) {
    LCRUN_TRY(check_cap(request, *engine.file));
    model::LoadOptions load;
    load.load_mode = request.load_mode;
    load.n_threads = request.n_threads;
    load.progress = request.progress;
    LCRUN_ASSIGN(engine.model, model::Model::load(engine.file, load));
    if (engine.tokenizer->vocab_size() > engine.model->config().n_vocab) {
      return make_error(Code::kBadModel,
                        "{}: tokenizer.ggml.tokens: found {} tokens, wanted at most the {} rows of "
                        "token_embd.weight",
                        request.path, engine.tokenizer->vocab_size(), engine.model->config().n_vocab);
    }
  }
  engine.file->drop_header();
  LCRUN_TRY(engine.file->status());
  LCRUN_ASSIGN(engine.other, other.reserve());
  const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - start;
  engine.load_ms = taken.count();
  return engine;
}

std::vector<std::string> vocabulary_pieces(const text::Tokenizer& tokenizer) {
  std::vector<std::string> pieces(static_cast<size_t>(tokenizer.vocab_size()));
  for (size_t id = 0; id < pieces.size(); ++id) {
    const auto token = static_cast<Token>(id);
    if (!tokenizer.is_end_of_generation(token)) pieces[id] = tokenizer.piece(token, false);
  }
  return pieces;
}

Result<std::string> model_path(const Options& options, const Environment& environment, FileSystem& fs,
                               bool* is_default) {
  *is_default = false;
  if (!options.model.empty()) return options.model;
  const std::string path = format("{}/{}", cache_directory(options, environment), kDefaultModel);
  if (!fs.exists(path)) {
    return make_error(Code::kBadModel,
                      "no model given, and the default one is not cached at {}; give -m FILE, or "
                      "fetch the default with scripts/fetch_model.py smollm2",
                      path);
  }
  *is_default = true;
  return path;
}

Result<ggufish::LoadMode> load_mode(const Options& options) {
  if (options.load_mode == "none") return ggufish::LoadMode::kRead;
  if (options.load_mode == "dio") return ggufish::LoadMode::kDirect;
  if (options.load_mode == "mlock" || options.load_mode == "mmap+mlock") return ggufish::LoadMode::kMmapLocked;
  return ggufish::LoadMode::kMmap;
}

Result<model::CacheOptions> cache_options(const Options& options) {
  model::CacheOptions cache;
  LCRUN_ASSIGN(cache.type_k, cache_type("--cache-type-k", options.type_k));
  LCRUN_ASSIGN(cache.type_v, cache_type("--cache-type-v", options.type_v));
  return cache;
}

attention::PolicyChoice policy_choice(const Options& options) {
  return {options.attention,   options.prefill, options.attn_budget,  options.attn_index,
          options.attn_layers, options.extend,  options.attn_cadence, nullptr};
}

int decode_threads(const Options& options) {
  return options.threads > 0 ? static_cast<int>(options.threads) : default_thread_count();
}

int prompt_threads(const Options& options) {
  return options.threads_batch > 0 ? static_cast<int>(options.threads_batch) : decode_threads(options);
}

uint64_t choose_seed(const Options& options) {
  if (options.seed >= 0) return static_cast<uint64_t>(options.seed);
  return std::random_device{}();
}

SamplerOptions sampler_options(const Options& options, uint64_t seed) {
  SamplerOptions sampling;
  sampling.temp = static_cast<float>(options.temp);
  sampling.top_k = static_cast<int>(options.top_k);
  sampling.top_p = static_cast<float>(options.top_p);
  sampling.min_p = static_cast<float>(options.min_p);
  sampling.typical_p = static_cast<float>(options.typical_p);
  sampling.repeat_penalty = static_cast<float>(options.repeat_penalty);
  sampling.presence_penalty = static_cast<float>(options.presence_penalty);
  sampling.frequency_penalty = static_cast<float>(options.frequency_penalty);
  sampling.repeat_last_n = static_cast<int>(options.repeat_last_n);
  sampling.seed = seed;
  return sampling;
}

Result<std::shared_ptr<const text::Grammar>> grammar_of(const Options& options, FileSystem& fs) {
  using text::Grammar;
  if (!options.grammar.empty()) return Grammar::parse_gbnf(options.grammar);
  if (!options.json_schema.empty()) return Grammar::from_json_schema(options.json_schema);
  if (!options.grammar_file.empty()) {
    LCRUN_ASSIGN(const std::string source, read_text_file(fs, options.grammar_file, kMaxGrammarBytes));
    return Grammar::parse_gbnf(source);
  }
  if (!options.json_schema_file.empty()) {
    LCRUN_ASSIGN(const std::string schema, read_text_file(fs, options.json_schema_file, kMaxGrammarBytes));
    return Grammar::from_json_schema(schema);
  }
  return std::shared_ptr<const Grammar>();
}

}  // namespace lcrun::runtime
