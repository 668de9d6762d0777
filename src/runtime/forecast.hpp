// Forecast: how fast a run will be on this machine, before it is started.
//
// A probe of a second or two: the first layers of the model (all of them, if they are few) read a short text and decode
// some tokens at two depths, whose cache is copies of what was read. What a token costs whatever the depth, and what
// each token before it adds, follows from the difference, for dense queries and for those of the policy; everything
// else is arithmetic. It is an estimate: a machine that has other work, or gets hot, is slower.
// Thread rule: one driving thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ggufish/model_file.hpp"
#include "src/base/result.hpp"
#include "src/model/model.hpp"

namespace lcrun::runtime {

struct ForecastRequest {
  std::shared_ptr<const ggufish::ModelFile> file;
  model::CacheOptions cache;  // with the attention of the run
  int64_t n_ctx = 0;
  int64_t batch = 512;
  int n_threads = 1;
  int n_threads_batch = 1;
  // Of a cache that is partly on a disk: bytes of it that stay in memory, and where the rest goes.
  uint64_t disk_bytes = 0;
  uint64_t memory_bytes = 0;
  std::string directory;
};

struct Forecast {
  double stream_gbs = 0;      // that memory gives all threads
  double linear_gflops = 0;   // of the products of a prompt
  double disk_gbs = 0;        // 0: there is no disk in it
  uint64_t weight_bytes = 0;  // read for each decoded token; and of the cache, at the end of the context
  uint64_t cache_bytes = 0;
  double prefill_tps_begin = 0;
  double prefill_tps_end = 0;
  double prefill_seconds = 0;  // of the whole context
  double decode_tps_begin = 0;
  double decode_tps_end = 0;
  double probe_ms = 0;
};

// Most memory that the probe takes for weights and cache together.
uint64_t forecast_memory_bytes(const ggufish::ModelFile& file, const model::ModelConfig& config);

// Errors of loading the model; kNoMemory. `config`: that of the file.
Result<Forecast> forecast(const ForecastRequest& request, const model::ModelConfig& config);

// Bytes of cache and index that decoding the token at `pos` reads.
uint64_t cache_bytes_read(const model::ModelConfig& config, const model::CacheOptions& cache, int64_t pos);

}  // namespace lcrun::runtime
