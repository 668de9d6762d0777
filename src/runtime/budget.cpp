#include "src/runtime/budget.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "src/attention/attention.hpp"
#include "src/attention/block_summaries.hpp"
#include "src/base/cgroup.hpp"
#include "storage/region.hpp"

namespace lcrun::runtime {
namespace {

constexpr int64_t kBlock = storage::kBlockTokens;
constexpr uint64_t kProgramBytes = uint64_t{12} << 20;
constexpr uint64_t kBytesOfVocabularyEntry = 160;  // text, ranks and the tables that find them

attention::KvLayout cache_layout(const model::LayerConfig& layer, const model::CacheOptions& cache) {
  return {layer.n_kv_heads, layer.k_dim, layer.v_dim, model::cached_type(cache.type_k, layer.window),
          model::cached_type(cache.type_v, layer.window)};
}

uint64_t attention_cache(const model::LayerConfig& layer, const model::CacheOptions& cache, int64_t n_tokens) {
  const attention::KvLayout layout = cache_layout(layer, cache);
  int64_t blocks = (n_tokens + kBlock - 1) / kBlock;
  if (layer.window > 0) blocks = std::min(blocks, storage::ring_blocks(layer.window));
  return static_cast<uint64_t>(blocks) * layout.block_bytes();
}

// What a sealed cache has besides.
uint64_t open_blocks(const model::LayerConfig& layer, const model::CacheOptions& cache, int64_t n_tokens) {
  const attention::KvLayout layout = cache_layout(layer, cache);
  if (!layout.is_sealed()) return 0;
  const int64_t blocks = std::min((n_tokens + kBlock - 1) / kBlock, storage::ring_blocks(0));
  return static_cast<uint64_t>(blocks) * layout.open_form().block_bytes();
}

// What the attention keeps of full blocks besides.
uint64_t block_summaries(const model::LayerConfig& layer, int64_t i, const model::CacheOptions& cache,
                         int64_t n_tokens) {
  if (layer.window > 0) return 0;
  uint64_t total = 0;
  const attention::BlockSummaries summaries(cache.attention.get(), i, cache_layout(layer, cache), {});
  for (const storage::RegionSpec& spec : summaries.regions()) {
    total += static_cast<uint64_t>((spec.rows_of(n_tokens) + kBlock - 1) / kBlock) * spec.block_bytes;
  }
  return total;
}

uint64_t batch_blocks(const model::LayerConfig& layer, const model::CacheOptions& cache, int64_t rows) {
  const attention::KvLayout layout = cache_layout(layer, cache);
  return layout.is_sealed() ? static_cast<uint64_t>(rows / kBlock) * layout.open_form().block_bytes() : 0;
}

// State of a recurrent layer: independent of the length. State and convolution history in float.
uint64_t recurrent_state(const model::SsmConfig& ssm) {
  const int64_t conv = std::max<int64_t>(0, ssm.conv_kernel - 1) * (ssm.d_inner + 2 * ssm.n_groups * ssm.d_state);
  return static_cast<uint64_t>(conv + ssm.d_inner * ssm.d_state) * sizeof(float);
}

// The number after "NAME" in a file of "NAME value" lines, or `fallback`.
uint64_t number_in(const char* path, std::string_view name, uint64_t fallback) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    uint64_t value = 0;
    if (word == name && file >> value) return value;
  }
  return fallback;
}

}  // namespace

uint64_t cache_bytes(const model::ModelConfig& config, const model::CacheOptions& cache, int64_t n_tokens) {
  uint64_t total = 0;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const auto& layer = config.layers[i];
    if (layer.n_kv_heads > 0 && layer.k_dim > 0 && layer.mixer == "attention") {
      total += attention_cache(layer, cache, n_tokens) + open_blocks(layer, cache, n_tokens);
      total += block_summaries(layer, static_cast<int64_t>(i), cache, n_tokens);
    } else {
      total += recurrent_state(config.ssm);
    }
  }
  return total;
}

std::vector<uint64_t> append_bytes(const model::ModelConfig& config, const model::CacheOptions& cache) {
  std::vector<uint64_t> bytes;
  for (const auto& layer : config.layers) {
    const bool grows = layer.n_kv_heads > 0 && layer.k_dim > 0 && layer.mixer == "attention" && layer.window == 0;
    if (grows) bytes.push_back(attention_cache(layer, cache, 1));
  }
  return bytes;
}

uint64_t mark_bytes(const model::ModelConfig& config, const model::CacheOptions& cache, int64_t n_tokens) {
  const int64_t n_marks = n_tokens / storage::kMarkSpacing;
  uint64_t total = 0;
  for (const auto& layer : config.layers) {
    if (layer.mixer != "attention") {
      total += static_cast<uint64_t>(n_marks) * recurrent_state(config.ssm);
    } else if (layer.window > 0) {
      const int64_t blocks = std::min(n_tokens / kBlock, n_marks * (layer.window / kBlock + 1));
      total += static_cast<uint64_t>(blocks) * cache_layout(layer, cache).block_bytes();
    }
  }
  return std::min(total, kMarkBytes);
}

int64_t cache_tokens_that_fit(const model::ModelConfig& config, const model::CacheOptions& cache, uint64_t bytes,
                              int64_t limit) {
  int64_t fits = 0;
  for (int64_t low = 1, high = limit; low <= high;) {
    const int64_t middle = low + (high - low) / 2;
    const bool fit = cache_bytes(config, cache, middle) <= bytes;
    if (fit) fits = middle;
    (fit ? low : high) = fit ? middle + 1 : middle - 1;
  }
  return fits;
}

uint64_t packed_weight_bytes(const ggufish::ModelFile& file) {
  const bool tied = file.find_tensor("output.weight") == nullptr;
  uint64_t total = 0;
  for (const auto& tensor : file.tensors()) {
    const bool is_matrix = tensor.view.rows() > 1;
    if (is_matrix && (tensor.name != "token_embd.weight" || tied)) total += tensor.view.size_bytes;
  }
  return total;
}

int64_t blocks_read(const model::ModelConfig& config, int64_t pos) {
  int64_t blocks = 0;
  for (const auto& layer : config.layers) {
    if (layer.mixer != "attention") continue;
    const int64_t first = layer.window > 0 ? std::max<int64_t>(0, pos + 1 - layer.window) : 0;
    blocks += pos / kBlock - first / kBlock + 1;
  }
  return blocks;
}

MemoryPlan plan_memory(const ggufish::ModelFile& file, const model::ModelConfig& config,
                       const model::CacheOptions& cache, int64_t n_ctx, int64_t batch) {
  MemoryPlan plan;
  plan.n_ctx = n_ctx;
  plan.mapped_bytes = file.file_bytes();
  plan.weight_bytes = packed_weight_bytes(file);
  plan.cache_bytes = cache_bytes(config, cache, n_ctx);
  plan.mark_bytes = mark_bytes(config, cache, n_ctx);
  int64_t widest = 0;
  for (const auto& layer : config.layers) {
    const int64_t q = layer.n_heads * layer.k_dim;
    const int64_t kv = layer.n_kv_heads * (layer.k_dim + layer.v_dim);
    widest = std::max({widest, q + kv + layer.n_heads * layer.v_dim, 2 * layer.d_ff});
  }
  // Per row: the stream, its normed copy and what is added; the widest block; int8 copies of inputs.
  const int64_t row_floats = 3 * config.d_model + widest + widest / 4;
  const int64_t rows = std::min(batch, n_ctx) + 1;
  plan.buffer_bytes = static_cast<uint64_t>(rows * row_floats + 3 * config.n_vocab) * sizeof(float);
  // Open blocks of a batch, beyond those that last.
  for (const auto& layer : config.layers) plan.buffer_bytes += batch_blocks(layer, cache, rows);
  plan.other_bytes = kProgramBytes + static_cast<uint64_t>(config.n_vocab) * kBytesOfVocabularyEntry;
  return plan;
}

uint64_t available_memory_bytes() {
  const uint64_t kilobytes = number_in("/proc/meminfo", "MemAvailable:", std::numeric_limits<uint64_t>::max() / 1024);
  return std::min(kilobytes * 1024, cgroup_memory().room);
}

uint64_t private_memory_bytes() { return number_in("/proc/self/status", "RssAnon:", 0) * 1024; }

uint64_t peak_memory_bytes() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace lcrun::runtime
