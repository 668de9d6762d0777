#include "src/model/model.hpp"

#include <algorithm>

#include "quant/format.hpp"
#include "src/base/format.hpp"
#include "src/kernels/ops.hpp"
#include "src/model/arch.hpp"
#include "src/model/ffn.hpp"
#include "src/model/rope.hpp"
#include "src/model/rows.hpp"
#include "src/model/tensors.hpp"

namespace lcrun::model {
namespace {

struct Layer {
  Norm attn_norm;       // before the mixer
  Norm post_attn_norm;  // of what the mixer adds
  Norm ffn_norm;
  Norm post_ffn_norm;
  std::unique_ptr<TokenMixer> mixer;
  std::unique_ptr<FeedForward> ffn;  // null: the layer has none
};

Result<Layer> load_layer(const MixerBuild& build) {
  const ModelConfig& config = build.config;
  const LayerConfig& layer_config = config.layers[static_cast<size_t>(build.layer)];
  const TensorLoader tensors(build.file, format("blk.{}.", build.layer), build.n_threads, build.arena);
  const int64_t n = config.d_model;
  Layer layer;
  if (config.norm_placement != NormPlacement::kAfter) {
    LCRUN_ASSIGN(layer.attn_norm, load_norm(tensors, "attn_norm", n, true));
    const bool has_ffn_norm = layer_config.has_ffn && !config.parallel_ffn;
    if (has_ffn_norm) {
      LCRUN_ASSIGN(layer.ffn_norm, load_norm(tensors, config.ffn_norm, n, true));
    }
  }
  if (config.norm_placement != NormPlacement::kBefore) {
    LCRUN_ASSIGN(layer.post_attn_norm, load_norm(tensors, "post_attention_norm", n, true));
    LCRUN_ASSIGN(layer.post_ffn_norm, load_norm(tensors, "post_ffw_norm", n, true));
  }
  const MixerSpec* spec = find_mixer(layer_config.mixer);
  if (spec == nullptr) {
    return make_error(Code::kUnsupported, "{}: layer {}: no mixer \"{}\"", build.file.path(), build.layer,
                      layer_config.mixer);
  }
  LCRUN_ASSIGN(layer.mixer, spec->create(build));
  if (layer_config.has_ffn) {
    LCRUN_ASSIGN(layer.ffn, create_ffn(build));
  }
  return layer;
}

// A layer that a step does not run has rows all the same: nobody reads them.
Status leave_out(storage::LayerState& state, int64_t tokens) {
  for (storage::Region& region : state.regions) {
    if (!region.spec().has_blocks()) {
      LCRUN_TRY(region.prepare_fixed());
    } else {
      LCRUN_TRY(region.reserve_rows(region.spec().rows_of(tokens) - region.rows()));
    }
    region.release();
  }
  return {};
}

}  // namespace

struct Model::Impl {
  std::shared_ptr<const ggufish::ModelFile> file;
  ModelConfig config;
  TensorView embedding;  // native rows [n_vocab, d_model]
  const quant::QuantOps* embedding_ops = nullptr;
  std::vector<Layer> layers;
  Norm output_norm;
  kernels::Weights output;
  std::vector<float> output_bias;

  void embed(std::span<const Token> tokens, MatView x, int n_threads) const;
  Status run_layer(const Layer& layer, storage::LayerState& state, const StepContext& step, MatView all, int64_t wanted,
                   MatView normed_all, MatView added_all) const;
};

Result<std::shared_ptr<const attention::Attention>> attention_for(const ModelConfig& config,
                                                                  const attention::PolicyChoice& choice,
                                                                  int64_t n_ctx) {
  attention::ModelShape shape;
  shape.n_layers = config.n_layers;
  shape.n_ctx = std::min(n_ctx > 0 ? n_ctx : config.n_ctx_train, attention::kMostTokens);
  shape.n_ctx_train = config.n_ctx_train;
  for (const LayerConfig& layer : config.layers) {
    const bool sees_all = layer.mixer == "attention" && layer.window == 0;
    if (sees_all) shape.head_dim = std::max(shape.head_dim, layer.k_dim);
    shape.kv_heads.push_back(sees_all ? layer.n_kv_heads : 0);
  }
  return attention::resolve_policy(choice, shape);
}

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;
const ModelConfig& Model::config() const { return impl_->config; }
const ggufish::ModelFile& Model::file() const { return *impl_->file; }

Result<std::shared_ptr<const Model>> Model::load(std::shared_ptr<const ggufish::ModelFile> file,
                                                 const LoadOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->file = std::move(file);
  const ggufish::ModelFile& source = *impl->file;
  LCRUN_ASSIGN(impl->config, read_config(source));
  if (options.max_layers > 0 && options.max_layers < impl->config.n_layers) {
    impl->config.n_layers = options.max_layers;
    impl->config.layers.resize(static_cast<size_t>(options.max_layers));
  }
  const ModelConfig& config = impl->config;
  kernels::WeightArena arena;  // its pieces live on in the matrices
  const TensorLoader tensors(source, "", options.n_threads, &arena);
  LCRUN_ASSIGN(impl->embedding, tensors.view("token_embd.weight", config.d_model, config.n_vocab, 1));
  impl->embedding_ops = quant::find_ops(impl->embedding.dtype);

  for (int64_t i = 0; i < config.n_layers; ++i) {
    if (options.progress && !options.progress(static_cast<double>(i) / static_cast<double>(config.n_layers + 1))) {
      return make_error(Code::kCancelled, "{}: loading was stopped", source.path());
    }
    LCRUN_ASSIGN(auto layer, load_layer({source, config, i, options.n_threads, &arena}));
    impl->layers.push_back(std::move(layer));
  }
  LCRUN_ASSIGN(impl->output_norm, load_norm(tensors, "output_norm", config.d_model, true));
  // Models without an output matrix use the embedding for both.
  const char* output = tensors.has("output.weight") ? "output.weight" : "token_embd.weight";
  LCRUN_ASSIGN(impl->output, tensors.matrix(output, config.n_vocab, config.d_model));
  LCRUN_ASSIGN(impl->output_bias, tensors.optional_vector("output.bias", config.n_vocab));
  if (options.progress) options.progress(1.0);
  return std::shared_ptr<const Model>(new Model(std::move(impl)));
}

uint64_t Model::weight_bytes() const {
  uint64_t total = impl_->output.memory_bytes();
  for (const Layer& layer : impl_->layers) {
    total += layer.mixer->memory_bytes() + (layer.ffn ? layer.ffn->memory_bytes() : 0);
  }
  return total;
}

Result<storage::SequenceState> Model::new_state(const CacheOptions& cache) const {
  std::vector<std::vector<storage::RegionSpec>> specs;
  for (const Layer& layer : impl_->layers) {
    LCRUN_TRY(layer.mixer->check_cache(cache));
    specs.push_back(layer.mixer->regions(cache));
  }
  return storage::SequenceState::create(specs);
}

Status Model::rebuild_index(storage::SequenceState& state, const CacheOptions& cache, int64_t n_ctx) const {
  LCRUN_ASSIGN(const auto wanted, new_state(cache));
  state.replace_index(wanted.index_specs());
  const auto frequencies = rope_frequencies(impl_->config, n_ctx, cache.yarn);
  StepContext context;
  context.cache = cache;
  context.rope_frequencies = frequencies;
  for (int64_t i = 0; i < state.n_layers(); ++i) {
    const Layer& layer = impl_->layers[static_cast<size_t>(i)];
    LCRUN_TRY(layer.mixer->rebuild_index(state.layer(i), context, state.tokens()));
  }
  return {};
}

uint64_t Model::state_bytes(const CacheOptions& cache, int64_t n_tokens) const {
  constexpr int64_t kTokens = storage::kBlockTokens;
  uint64_t total = 0;
  for (const Layer& layer : impl_->layers) {
    for (const storage::RegionSpec& spec : layer.mixer->regions(cache)) {
      int64_t blocks = (spec.rows_of(n_tokens) + kTokens - 1) / kTokens;
      if (!spec.has_blocks()) blocks = 1;
      // A ring holds its rows, the block that is half out, and the one being filled.
      if (spec.kind == storage::RegionKind::kRing) blocks = std::min(blocks, storage::ring_blocks(spec.window));
      total += static_cast<uint64_t>(blocks) * spec.block_bytes;
    }
  }
  return total;
}

Result<Step> Model::plan(const StepOptions& options) const {
  const ModelConfig& config = impl_->config;
  if (options.max_rows < 1 || options.n_threads < 1) {
    return make_error(Code::kInvalidArgument, "batch of {} tokens on {} threads: wanted at least 1 of each",
                      options.max_rows, options.n_threads);
  }
  Step step;
  step.options_ = options;
  if (step.options_.n_ctx <= 0) step.options_.n_ctx = config.n_ctx_train;
  const int64_t rows = options.max_rows;
  uint64_t block = 0;
  int64_t cols = config.d_model;
  for (const Layer& layer : impl_->layers) {
    LCRUN_TRY(layer.mixer->check_cache(options.cache));
    block = std::max(block, layer.mixer->scratch_bytes(rows, options.cache, options.n_threads));
    cols = std::max(cols, layer.mixer->max_product_cols());
    if (!layer.ffn) continue;
    block = std::max(block, layer.ffn->scratch_bytes(rows));
    cols = std::max(cols, layer.ffn->max_product_cols());
  }
  // The stream, its normed copy and what a block adds.
  const uint64_t row_buffers = 2 * Workspace::bytes_of<float>(rows * config.d_model);
  LCRUN_TRY(step.scratch_.reserve(block + row_buffers));
  LCRUN_TRY(step.activations_.reserve(rows, cols));
  LCRUN_ASSIGN(step.hidden_, AlignedBuffer::allocate(Workspace::bytes_of<float>(rows * config.d_model)));
  int64_t rope_floats = 0;
  for (const RopeSpec& spec : config.ropes) rope_floats += rows * spec.n_rot;
  LCRUN_ASSIGN(step.rope_, AlignedBuffer::allocate(Workspace::bytes_of<float>(rope_floats)));
  step.rope_views_.resize(config.ropes.size());
  change_roles(step, step.options_.cache.attention);
  step.rope_frequencies_ = rope_frequencies(config, step.options_.n_ctx, options.cache.yarn);
  return step;
}

void Model::change_roles(Step& step, std::shared_ptr<const attention::Attention> attention) const {
  step.options_.cache.attention = std::move(attention);
  step.chosen_.clear();
  const attention::Attention* policy = step.options_.cache.attention.get();
  if (policy == nullptr || policy->roles.plan_from.empty()) return;
  for (int64_t i = 0; i < impl_->config.n_layers; ++i) {
    step.chosen_.emplace_back();
    if (!policy->is_anchor(i)) continue;
    const bool by_head = policy->ask.scope == attention::Scope::kHead || policy->read.scope == attention::Scope::kHead;
    const int64_t scopes = by_head ? impl_->config.layers[static_cast<size_t>(i)].n_kv_heads : 1;
    step.chosen_.back() = {step.options_.max_rows, scopes, std::max(policy->ask.blocks, policy->read.blocks)};
  }
}

uint64_t Step::memory_bytes() const {
  uint64_t chosen = 0;
  for (const auto& one : chosen_) chosen += one.bytes();
  return scratch_.capacity() + hidden_.size() + rope_.size() + activations_.memory_bytes() + chosen;
}

void Model::Impl::embed(std::span<const Token> tokens, MatView x, int n_threads) const {
  for_rows(n_threads, x.rows, [&](int64_t row) {
    const auto id = static_cast<uint64_t>(tokens[static_cast<size_t>(row)]);
    embedding_ops->dequantize(embedding.data + id * embedding.row_bytes, config.d_model, x.row(row));
    if (config.embed_scale != 1.0F) kernels::scale(x.row(row), config.embed_scale, config.d_model);
  });
}

// The last `wanted` rows of x are brought up to date.
Status Model::Impl::run_layer(const Layer& layer, storage::LayerState& state, const StepContext& step, MatView all,
                              int64_t wanted, MatView normed_all, MatView added_all) const {
  const int64_t n = config.d_model;
  const MatView x = last_rows(all, wanted), normed = last_rows(normed_all, wanted),
                added = last_rows(added_all, wanted);
  const auto norm_rows = [&](const Norm& norm, MatView from, MatView to) {
    for_rows(step.n_threads, from.rows,
             [&](int64_t row) { apply_norm(norm, config.norm, config.norm_eps, from.row(row), n, to.row(row)); });
  };
  const auto add_block = [&](const Norm& post_norm) {
    for_rows(step.n_threads, x.rows, [&](int64_t row) {
      if (post_norm.present()) apply_norm(post_norm, config.norm, config.norm_eps, added.row(row), n, added.row(row));
      kernels::add_scaled(x.row(row), added.row(row), config.residual_scale, n);
    });
  };
  norm_rows(layer.attn_norm, all, normed_all);
  Status mixed = layer.mixer->forward(state, step, normed_all, added);
  for (storage::Region& region : state.regions) region.release();
  LCRUN_TRY(std::move(mixed));
  if (x.rows == 0) return {};
  if (!layer.ffn) {
    add_block(layer.post_attn_norm);
    return {};
  }
  add_block(layer.post_attn_norm);
  // A parallel block reads what attention read.
  if (!config.parallel_ffn) norm_rows(layer.ffn_norm, x, normed);
  layer.ffn->forward(step, normed, added);
  add_block(layer.post_ffn_norm);
  return {};
}

namespace {

// Rows at the end of a step that its last layer must attend for: those that are wanted, and who leads them; the last
// leader chooses for tokens to come, too.
int64_t rows_needed(const StepContext& step, int64_t rows, int64_t wanted) {
  wanted = step.probe == nullptr ? std::min(rows, wanted) : rows;  // a probe looks at the queries of all rows
  if (step.led == nullptr) return wanted;
  const int64_t leader = step.led->leader_of(step.pos0 + rows - std::max<int64_t>(wanted, 1));
  return leader >= step.pos0 ? step.pos0 + rows - leader : wanted;
}

}  // namespace

Result<MatView> Model::forward(std::span<const Token> tokens, storage::SequenceState& state, Step& step, bool asked,
                               int64_t wanted) const {
  const ModelConfig& config = impl_->config;
  const auto rows = static_cast<int64_t>(tokens.size());
  if (rows < 1 || rows > step.options_.max_rows) {
    return make_error(Code::kInvalidArgument, "batch: found {} tokens, wanted 1 to {}", rows, step.options_.max_rows);
  }
  for (const Token token : tokens) {
    if (token < 0 || token >= config.n_vocab) {
      return make_error(Code::kInvalidArgument, "token id: found {}, wanted 0 to {}", token, config.n_vocab - 1);
    }
  }
  float* table = step.rope_.as<float>().data();
  for (size_t i = 0; i < config.ropes.size(); ++i) {
    const int64_t size = rows * config.ropes[i].n_rot;
    fill_rope_table(step.rope_frequencies_[i], state.tokens(), rows, table);
    step.rope_views_[i] = {table, static_cast<size_t>(size)};
    table += size;
  }
  StepContext context;
  context.pos0 = state.tokens();
  context.cache = step.options_.cache;
  context.n_threads = step.options_.n_threads;
  context.scratch = &step.scratch_;
  context.activations = &step.activations_;
  context.rope_tables = step.rope_views_;
  context.rope_frequencies = step.rope_frequencies_;
  context.asks = asked;
  context.stats = &step.stats_;
  context.probe = step.probe_;
  context.observers = step.observers_;
  context.forced_blocks = step.forced_blocks_;
  context.led = asked ? step.led_ : nullptr;
  context.chosen = step.chosen_;
  for (attention::ChosenBlocks& chosen : step.chosen_) chosen.begin(context.pos0);
  step.scratch_.reset();
  const int64_t n = config.d_model;
  const MatView x{step.hidden_.as<float>().data(), rows, n, n};
  const MatView normed{step.scratch_.take<float>(rows * n).data(), rows, n, n};
  const MatView added{step.scratch_.take<float>(rows * n).data(), rows, n, n};
  impl_->embed(tokens, x, context.n_threads);
  const int64_t n_run = step.probe_ != nullptr ? step.probe_->layers_to_run(config.n_layers) : config.n_layers;
  for (int64_t i = n_run; i < config.n_layers; ++i) LCRUN_TRY(leave_out(state.layer(i), context.pos0 + rows));
  for (int64_t i = 0; i < n_run; ++i) {
    context.layer = i;
    if (step.options_.cancel != nullptr && step.options_.cancel->load(std::memory_order_relaxed)) {
      return make_error(Code::kCancelled, "stopped");
    }
    const int64_t needed = i + 1 == config.n_layers ? rows_needed(context, rows, wanted) : rows;
    LCRUN_TRY(
        impl_->run_layer(impl_->layers[static_cast<size_t>(i)], state.layer(i), context, x, needed, normed, added));
  }
  state.commit(rows);
  const MatView last = last_rows(x, std::min(rows, wanted));
  for_rows(context.n_threads, last.rows, [&](int64_t row) {
    apply_norm(impl_->output_norm, config.norm, config.norm_eps, last.row(row), n, last.row(row));
  });
  return last;
}

void Model::logits(MatView hidden, MatView out, Step& step) const {
  const ModelConfig& config = impl_->config;
  const int n_threads = step.options_.n_threads;
  step.activations_.set(hidden);
  const kernels::MatmulJob job{&impl_->output, out, impl_->output_bias.empty() ? nullptr : impl_->output_bias.data()};
  kernels::matmul({&job, 1}, step.activations_, n_threads);
  if (config.logit_scale == 1.0F && config.logit_soft_cap == 0.0F) return;
  for_rows(n_threads, out.rows, [&](int64_t row) {
    if (config.logit_scale != 1.0F) kernels::scale(out.row(row), config.logit_scale, config.n_vocab);
    if (config.logit_soft_cap != 0.0F) kernels::soft_cap(out.row(row), config.logit_soft_cap, config.n_vocab);
  });
}

}  // namespace lcrun::model
