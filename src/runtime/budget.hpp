// Memory: what a run would take, what there is, and what this process holds now.
//
// Figures of plan_memory() come from the header alone, before anything is allocated: the cache is exact, buffers and
// packed weights are estimates (within some percent; a test compares them with the real ones).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ggufish/model_file.hpp"
#include "src/base/result.hpp"
#include "src/model/config.hpp"
#include "src/model/mixer.hpp"

namespace lcrun::runtime {

struct MemoryPlan {
  int64_t n_ctx = 0;
  uint64_t mapped_bytes = 0;  // the file; clean pages, given back under pressure
  uint64_t weight_bytes = 0;  // packed copies
  uint64_t cache_bytes = 0;   // for n_ctx tokens
  uint64_t buffer_bytes = 0;  // of a step
  uint64_t other_bytes = 0;   // vocabulary, program

  uint64_t mark_bytes = 0;  // at most, and only where there is room: an edited prompt goes on from them

  uint64_t private_bytes() const { return weight_bytes + cache_bytes + buffer_bytes + other_bytes; }
};

MemoryPlan plan_memory(const ggufish::ModelFile& file, const model::ModelConfig& config,
                       const model::CacheOptions& cache, int64_t n_ctx, int64_t batch);

// Cache of n_tokens, from the hyper-parameters.
uint64_t cache_bytes(const model::ModelConfig& config, const model::CacheOptions& cache, int64_t n_tokens);
// Memory that marks (storage/region.hpp) may take while nothing else needs it, and what they take of it at n_tokens.
constexpr uint64_t kMarkBytes = uint64_t{512} << 20;
uint64_t mark_bytes(const model::ModelConfig& config, const model::CacheOptions& cache, int64_t n_tokens);
// Block bytes of the layers that keep every token, in order: what can be paged (storage/page_store.hpp).
std::vector<uint64_t> append_bytes(const model::ModelConfig& config, const model::CacheOptions& cache);
// Most tokens (up to `limit`) whose cache fits in `bytes`.
int64_t cache_tokens_that_fit(const model::ModelConfig& config, const model::CacheOptions& cache, uint64_t bytes,
                              int64_t limit);
// Packed copies that loading makes.
uint64_t packed_weight_bytes(const ggufish::ModelFile& file);
// Blocks of cache (one layer, 64 tokens, all heads) that decoding a token at position `pos` reads.
int64_t blocks_read(const model::ModelConfig& config, int64_t pos);

// Memory that may still be taken: what the kernel calls available, or less if the cgroup allows less.
uint64_t available_memory_bytes();
// Anonymous memory that the process holds now (0 if the system does not say).
uint64_t private_memory_bytes();
// Most memory the process has held, mapped files included.
uint64_t peak_memory_bytes();

}  // namespace lcrun::runtime
